//! A request for several answers for a model that speaks OpenAI's protocol and gives one at a time.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::adapt::Members;
use super::read::alternatives;
use crate::provider::Fit;
use crate::provider::document::{self, wrong};
use crate::reply::Reply;

/// Fields that ask for several answers.
const SEVERAL: [&str; 2] = ["n", "best_of"];

/// Requests for one answer each, instead of one for several.
#[derive(Debug)]
pub struct Repeated {
    /// Their bodies.
    pub bodies: Vec<Vec<u8>>,
    /// The model.
    pub model: String,
    /// Whether the caller wants events.
    pub stream: bool,
    /// Whether it asked for usage in them.
    pub include_usage: bool,
}

#[derive(Deserialize)]
struct Asked {
    model: String,
    n: Option<u64>,
    best_of: Option<u64>,
    seed: Option<i64>,
    stream: Option<bool>,
    stream_options: Option<Options>,
}

#[derive(Deserialize)]
struct Options {
    include_usage: Option<bool>,
}

/// Takes a request of the chat or the older completions apart. With a seed, each has one of its
/// own, or all answers would be the same; all else stays as the caller wrote it.
///
/// # Errors
/// `invalid_request` with the field that is wrong.
pub fn one_by_one(body: &[u8]) -> Result<Repeated, Reply> {
    let asked: Asked = document::read(body)?;
    let count = alternatives(asked.n, &mut Fit::strict())? + 1;
    if asked.best_of.is_some_and(|best_of| best_of != count) {
        return Err(wrong("best_of", "the same as n"));
    }
    let seed_of = |index: u64| {
        let seed = asked.seed?.wrapping_add(index.cast_signed());
        RawValue::from_string(seed.to_string()).ok()
    };
    let seeds: Vec<_> = (0..count).map(seed_of).collect();
    let mut bodies = Vec::with_capacity(seeds.len());
    if let Some(mut members) = Members::read(body) {
        members.remove(&SEVERAL);
        for seed in &seeds {
            if let Some(seed) = seed {
                members.set("seed", seed);
            }
            bodies.extend(members.write(body.len()));
        }
    }
    Ok(Repeated {
        bodies,
        model: asked.model,
        stream: asked.stream.unwrap_or(false),
        include_usage: asked.stream_options.and_then(|options| options.include_usage).unwrap_or(false),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repeated(body: &str) -> Result<Vec<String>, Reply> {
        let bodies = one_by_one(body.as_bytes())?.bodies.into_iter();
        Ok(bodies.map(|body| String::from_utf8(body).expect("UTF-8")).collect())
    }

    #[test]
    fn each_asks_for_one_answer_with_a_seed_of_its_own() {
        let bodies = repeated(r#"{"model":"m","n":2,"best_of":2,"x":1e999,"seed":5,"prompt":"a"}"#);
        assert_eq!(
            bodies,
            Ok([5, 6]
                .map(|seed| format!(r#"{{"model":"m","x":1e999,"seed":{seed},"prompt":"a"}}"#))
                .to_vec())
        );
        let bodies = repeated(r#"{"model":"m","n":3,"prompt":"a"}"#);
        assert_eq!(bodies, Ok(vec![r#"{"model":"m","prompt":"a"}"#.to_owned(); 3]));
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_field() {
        for (rest, field) in [(r#""n":9"#, "n"), (r#""n":0"#, "n"), (r#""n":2,"best_of":3"#, "best_of")] {
            let reply = repeated(&format!(r#"{{"model":"m",{rest}}}"#)).expect_err(rest);
            assert_eq!(reply.param.as_deref(), Some(field), "{rest}");
        }
    }
}
