//! `embedding`: the model that turns texts into vectors.

use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use serde::Deserialize;

use super::Check;
use super::breaker::millis;
use super::value::Span;
use crate::embedding::settings::{PRESETS, Preset};
use crate::embedding::{Pooling, Remote, Settings};
use crate::secret::Secret;

/// Where scripts/setup puts the models.
const MODELS: &str = "${TIDEGATE_MODELS:-.tools/models}";
/// Where scripts/setup puts ONNX Runtime.
const LIBRARY: &str = "${ORT_DYLIB_PATH:-.tools/onnxruntime/libonnxruntime.so}";
/// Longest prefix, in bytes.
const PREFIX_BYTES_MAX: usize = 256;

/// Longest that a request waits for its embedding unless said otherwise.
const DEADLINE: Duration = Duration::from_millis(50);
/// The same where it comes from elsewhere.
const REMOTE_DEADLINE: Duration = Duration::from_millis(500);
/// Calls at once of a model elsewhere unless said otherwise.
const REMOTE_CALLS: usize = 4;
/// Longest text of a model elsewhere unless said otherwise, in tokens.
const REMOTE_TOKENS: usize = 8192;

/// What servers' models give unless they are asked for fewer numbers, from OpenAI's, Zhipu's and
/// Alibaba's references.
const REMOTE_DIMENSIONS: [(&str, u32); 6] = [
    ("text-embedding-3-small", 1536),
    ("text-embedding-3-large", 3072),
    ("text-embedding-ada-002", 1536),
    ("embedding-3", 2048),
    ("embedding-2", 1024),
    ("text-embedding-v4", 1024),
];

/// The section as it may be written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Document {
    r#type: Option<Kind>,
    base_url: Option<String>,
    api_key: Option<Secret>,
    enabled: Option<bool>,
    model: Option<String>,
    model_path: Option<String>,
    tokenizer_path: Option<String>,
    library_path: Option<String>,
    pooling: Option<PoolingName>,
    prefix: Option<String>,
    pad_id: Option<u32>,
    dimension: Option<u32>,
    max_tokens: Option<u32>,
    threads: Option<u32>,
    queue: Option<u32>,
    deadline: Option<Span>,
    memo: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    /// A model in this process; so unless there is a `base_url`.
    Onnx,
    /// A server with OpenAI's API.
    Openai,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum PoolingName {
    Mean,
    Cls,
}

/// Checks the section. Whether the files are there is found out at the start, which goes on
/// without them.
pub fn validate(mut document: Document, check: &mut Check<'_>) -> Settings {
    if document.r#type.unwrap_or(Kind::Openai) == Kind::Openai && document.base_url.is_some() {
        document.r#type = Some(Kind::Openai);
        document.dimension = document.dimension.or_else(|| {
            let known = |(model, _): &&(&str, u32)| document.model.as_deref() == Some(*model);
            REMOTE_DIMENSIONS.iter().find(known).map(|(_, dimension)| *dimension)
        });
    }
    let remote = remote(&document, check);
    let Document {
        r#type: _,
        base_url: _,
        api_key: _,
        enabled,
        model,
        model_path,
        tokenizer_path,
        library_path,
        pooling,
        prefix,
        pad_id,
        dimension,
        max_tokens,
        threads,
        queue,
        deadline,
        memo,
    } = document;
    let is_remote = remote.is_some();
    let [default, ..] = PRESETS;
    let preset = if is_remote { default } else { preset(model.as_deref(), &model_path, dimension, check) };
    let file =
        |given: Option<String>, name| given.unwrap_or_else(|| format!("{MODELS}/{}/{name}", preset.folder));
    let model_path = path("embedding.model_path", file(model_path, "model.onnx"), check);
    let beside = model_path.with_file_name("tokenizer.json");
    let tokenizer_path =
        tokenizer_path.map_or(beside, |given| path("embedding.tokenizer_path", given, check));
    let prefix = prefix.unwrap_or_else(|| preset.prefix.to_owned());
    if prefix.len() > PREFIX_BYTES_MAX {
        check.problems.add("embedding.prefix", format!("is longer than {PREFIX_BYTES_MAX} bytes"));
    }
    let mut within = |name: &str, value: Option<u32>, default: usize, range, unit| {
        let value = value.map_or(default, |value| usize::try_from(value).unwrap_or(usize::MAX));
        check.problems.within(&format!("embedding.{name}"), value, range, unit)
    };
    Settings {
        enabled: enabled.unwrap_or(true),
        remote,
        dimension: within("dimension", dimension, preset.dimension, 1..=8192, ""),
        tokens_max: within(
            "max_tokens",
            max_tokens,
            if is_remote { REMOTE_TOKENS } else { preset.tokens_max },
            8..=32_768,
            " tokens",
        ),
        threads: within("threads", threads, if is_remote { REMOTE_CALLS } else { 1 }, 1..=64, " threads"),
        queue: within("queue", queue, 256, 1..=65_536, " texts"),
        memo: within("memo", memo, 4096, 0..=1_000_000, " texts"),
        deadline: Duration::from_millis(check.problems.within(
            "embedding.deadline",
            millis(deadline.map_or(if is_remote { REMOTE_DEADLINE } else { DEADLINE }, |span| span.0)),
            1..=60_000,
            " milliseconds (1ms to 1m)",
        )),
        model: model.unwrap_or_else(|| preset.model.to_owned()),
        model_path,
        tokenizer_path,
        library_path: path(
            "embedding.library_path",
            library_path.unwrap_or_else(|| LIBRARY.to_owned()),
            check,
        ),
        pooling: match pooling {
            Some(PoolingName::Mean) => Pooling::Mean,
            Some(PoolingName::Cls) => Pooling::Cls,
            None => preset.pooling,
        },
        prefix,
        pad_id: pad_id.unwrap_or(preset.pad_id),
    }
}

/// Where the model is, if it is elsewhere.
fn remote(document: &Document, check: &mut Check<'_>) -> Option<Remote> {
    let Document { r#type, base_url, api_key, model, dimension, .. } = document;
    if *r#type != Some(Kind::Openai) {
        for (name, is_there) in [("base_url", base_url.is_some()), ("api_key", api_key.is_some())] {
            if is_there {
                check
                    .problems
                    .add(format!("embedding.{name}"), "is for `type: openai`; add that, or remove it");
            }
        }
        return None;
    }
    let files = [
        ("model_path", document.model_path.is_some()),
        ("tokenizer_path", document.tokenizer_path.is_some()),
        ("library_path", document.library_path.is_some()),
        ("pooling", document.pooling.is_some()),
        ("pad_id", document.pad_id.is_some()),
    ];
    for (name, _) in files.into_iter().filter(|(_, is_there)| *is_there) {
        check.problems.add(format!("embedding.{name}"), "is for a model in this process; remove it");
    }
    check.problems.required("embedding.model", model.as_ref(), "`model: text-embedding-3-small`");
    check.problems.required("embedding.dimension", *dimension, "`dimension: 1536`");
    let text = check.problems.required("embedding.base_url", base_url.clone(), EXAMPLE)?;
    let text = check.expanded("embedding.base_url", &text);
    let text = text.trim_end_matches('/').trim_end_matches("/embeddings");
    let base_url = text.parse::<Uri>().ok().filter(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
            && uri.query().is_none()
    });
    let Some(base_url) = base_url else {
        check.problems.add("embedding.base_url", format!("must be a URL, as in {EXAMPLE}"));
        return None;
    };
    let api_key = api_key.as_ref().map(|key| check.key("embedding.api_key".to_owned(), key));
    Some(Remote { base_url, api_key })
}

const EXAMPLE: &str = "`base_url: https://api.openai.com/v1`";

/// What is known of the model. One that is not known by name needs its file and its dimension.
fn preset(
    model: Option<&str>,
    model_path: &Option<String>,
    dimension: Option<u32>,
    check: &mut Check<'_>,
) -> Preset {
    let [default, ..] = PRESETS;
    let Some(name) = model else { return default };
    if let Some(known) = PRESETS.into_iter().find(|preset| preset.model == name) {
        return known;
    }
    if name.is_empty() || name.len() > 128 || !name.bytes().all(|b| b.is_ascii_graphic()) {
        check.problems.add("embedding.model", "must be a model's name, 1 to 128 visible ASCII characters");
    } else if model_path.is_none() || dimension.is_none() {
        let known = PRESETS.map(|preset| preset.model).join(", ");
        check.problems.add(
            "embedding.model",
            format!("`{name}` is not one of {known}; give its model_path and dimension too"),
        );
    }
    default
}

fn path(field: &str, text: String, check: &mut Check<'_>) -> PathBuf {
    check.expanded(field, &text).into()
}

#[cfg(test)]
mod tests {
    use super::super::{Env, parse};
    use super::*;

    /// From the model cards: E5 wants `query: ` and pads with 1; BGE pools the first token.
    #[test]
    fn each_family_comes_with_its_pooling_and_prefix_which_can_be_set_for_others() {
        let settings =
            |yaml: &str| parse(&format!("embedding: {yaml}"), &Env::new()).expect("valid").embedding;
        for (model, pooling, prefix, pad_id, dimension) in [
            ("all-MiniLM-L6-v2", Pooling::Mean, "", 0, 384),
            ("multilingual-e5-small", Pooling::Mean, "query: ", 1, 384),
            ("bge-small-en-v1.5", Pooling::Cls, "", 0, 384),
            ("bge-small-zh-v1.5", Pooling::Cls, "", 0, 512),
            ("gte-small", Pooling::Mean, "", 0, 384),
        ] {
            let found = settings(&format!("{{model: {model}}}"));
            let shape = (found.pooling, found.prefix.as_str(), found.pad_id, found.dimension);
            assert_eq!(shape, (pooling, prefix, pad_id, dimension), "{model}");
            assert!(found.tokenizer_path.ends_with("tokenizer.json"), "{model}");
        }
        let own = settings(
            "{model: mine, model_path: m.onnx, dimension: 768, pooling: cls, prefix: 'passage: ', pad_id: 3}",
        );
        let shape = (own.pooling, own.prefix.as_str(), own.pad_id, own.dimension);
        assert_eq!(shape, (Pooling::Cls, "passage: ", 3, 768));
        assert_eq!(own.tokenizer_path, PathBuf::from("tokenizer.json"), "beside the model");
    }

    #[test]
    fn a_model_elsewhere_needs_its_address_and_shape_and_has_no_files() {
        let yaml = "embedding: {type: openai, base_url: 'https://h/v4/embeddings', api_key: '${K}', model: m, dimension: 3}";
        let env = Env::from([("K".to_owned(), "sk-1".to_owned())]);
        let settings = parse(yaml, &env).unwrap_or_else(|problems| panic!("{problems}")).embedding;
        let remote = settings.remote.expect("remote");
        assert_eq!((remote.base_url.to_string().as_str(), settings.dimension), ("https://h/v4", 3));
        assert_eq!(remote.api_key.expect("a key").expose(), "sk-1");
        assert_eq!((settings.deadline, settings.threads), (REMOTE_DEADLINE, REMOTE_CALLS));
        let known =
            parse("embedding: {base_url: 'http://h', model: embedding-3}", &env).expect("valid").embedding;
        assert_eq!((known.remote.is_some(), known.dimension), (true, 2048));
        for (section, words) in [
            ("{type: openai}", "embedding.base_url: is missing"),
            ("{type: openai, base_url: 'http://h'}", "embedding.dimension: is missing"),
            ("{base_url: 'http://h', model: unheard-of}", "embedding.dimension: is missing"),
            ("{type: openai, base_url: 'h:1', model: m, dimension: 3}", "embedding.base_url: must be a URL"),
            (
                "{type: openai, base_url: 'http://h', model: m, dimension: 3, pooling: cls}",
                "embedding.pooling: is for",
            ),
            ("{type: onnx, base_url: 'http://h'}", "embedding.base_url: is for `type: openai`"),
            ("{type: other}", "embedding.type: unknown variant"),
        ] {
            let problems =
                parse(&format!("embedding: {section}"), &Env::new()).expect_err(section).to_string();
            assert!(problems.contains(words), "{section}: {problems}");
        }
    }
}
