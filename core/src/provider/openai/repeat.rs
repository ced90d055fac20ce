//! A request for several answers for a model that speaks OpenAI's protocol and gives one at a time.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::adapt::Members;
use super::completions::check_prompts;
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
    prompt: Option<Box<RawValue>>,
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

/// The texts of a list of prompts; none where it is one, in text or in tokens.
fn texts(prompt: Option<&RawValue>) -> Option<Vec<Box<RawValue>>> {
    let list: Vec<Box<RawValue>> = serde_json::from_str(prompt?.get()).ok()?;
    list.iter().all(|item| item.get().starts_with('"')).then_some(list)
}

/// Takes a request of the chat or the older completions apart. With a seed, each has one of its
/// own, or all answers would be the same; all else stays as the caller wrote it. Of several prompts
/// each is asked in turn, with all its answers.
///
/// # Errors
/// `invalid_request` with the field that is wrong.
pub fn one_by_one(body: &[u8]) -> Result<Repeated, Reply> {
    let asked: Asked = document::read(body)?;
    let count = alternatives(asked.n, &mut Fit::strict())? + 1;
    if asked.best_of.is_some_and(|best_of| best_of != count) {
        return Err(wrong("best_of", "the same as n"));
    }
    let texts = texts(asked.prompt.as_deref());
    if let Some(texts) = &texts {
        check_prompts(texts.len(), count - 1)?;
    }
    let prompts: Vec<_> = texts.iter().flatten().map(Some).collect();
    let prompts = if prompts.is_empty() { vec![None] } else { prompts };
    let seed_of = |index: u64| {
        let seed = asked.seed?.wrapping_add(index.cast_signed());
        RawValue::from_string(seed.to_string()).ok()
    };
    let seeds: Vec<_> = (0..count).map(seed_of).collect();
    let mut bodies = Vec::with_capacity(prompts.len() * seeds.len());
    if let Some(mut members) = Members::read(body) {
        members.remove(&SEVERAL);
        for (prompt, seed) in prompts.iter().flat_map(|prompt| seeds.iter().map(move |seed| (prompt, seed))) {
            for (name, value) in [("prompt", prompt.map(|text| &**text)), ("seed", seed.as_deref())] {
                if let Some(value) = value {
                    members.set(name, value);
                }
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
    fn each_of_several_prompts_is_asked_in_turn() {
        let bodies = repeated(r#"{"model":"m","prompt":["\u0061", "b"],"n":2,"seed":5}"#);
        let one = |prompt: &str, seed| format!(r#"{{"model":"m","prompt":{prompt},"seed":{seed}}}"#);
        let a = r#""\u0061""#;
        assert_eq!(bodies, Ok(vec![one(a, 5), one(a, 6), one("\"b\"", 5), one("\"b\"", 6)]));
        let tokens = r#"{"model":"m","prompt":[1,2]}"#;
        assert_eq!(repeated(tokens), Ok(vec![tokens.to_owned()]), "one prompt, in tokens");
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_field() {
        let prompts = |count| format!(r#""n":2,"prompt":[{}]"#, vec![r#""a""#; count].join(","));
        for (rest, field) in [
            (r#""n":9"#, "n"),
            (r#""n":0"#, "n"),
            (r#""n":2,"best_of":3"#, "best_of"),
            (r#""prompt":[]"#, "prompt"),
            (&prompts(17), "prompt"),
        ] {
            let reply = repeated(&format!(r#"{{"model":"m",{rest}}}"#)).expect_err(rest);
            assert_eq!(reply.param.as_deref(), Some(field), "{rest}");
        }
        assert_eq!(repeated(&format!(r#"{{"model":"m",{}}}"#, prompts(16))).map(|b| b.len()), Ok(32));
    }
}
