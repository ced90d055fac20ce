//! `embedding`: the model that turns texts into vectors.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::Check;
use super::breaker::millis;
use super::value::Span;
use crate::embedding::settings::{PRESETS, Preset};
use crate::embedding::{Pooling, Settings};

/// Where scripts/setup puts the models.
const MODELS: &str = "${TIDEGATE_MODELS:-.tools/models}";
/// Where scripts/setup puts ONNX Runtime.
const LIBRARY: &str = "${ORT_DYLIB_PATH:-.tools/onnxruntime/libonnxruntime.so}";
/// Longest prefix, in bytes.
const PREFIX_BYTES_MAX: usize = 256;

/// The section as it may be written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Document {
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

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum PoolingName {
    Mean,
    Cls,
}

/// Checks the section. Whether the files are there is found out at the start, which goes on
/// without them.
pub fn validate(document: Document, check: &mut Check<'_>) -> Settings {
    let Document {
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
    let preset = preset(model.as_deref(), &model_path, dimension, check);
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
        dimension: within("dimension", dimension, preset.dimension, 1..=8192, ""),
        tokens_max: within("max_tokens", max_tokens, preset.tokens_max, 8..=32_768, " tokens"),
        threads: within("threads", threads, 1, 1..=64, " threads"),
        queue: within("queue", queue, 256, 1..=65_536, " texts"),
        memo: within("memo", memo, 4096, 0..=1_000_000, " texts"),
        deadline: Duration::from_millis(check.problems.within(
            "embedding.deadline",
            millis(deadline.map_or(Duration::from_millis(50), |span| span.0)),
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
}
