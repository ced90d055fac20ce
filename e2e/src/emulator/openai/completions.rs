//! `POST /completions`, the older text API.

use bytes::Bytes;
use serde_json::{Value, json};

use super::error::ApiError;
use super::models::{self, Kind};
use super::params::{Params, Streaming};
use super::{DONE, document, event};
use crate::emulator::answer::{Answer, Payload};
use crate::emulator::ids;
use crate::emulator::text::{self, Generated, Usage};

const KNOWN: [&str; 18] = [
    "best_of",
    "echo",
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "max_tokens",
    "model",
    "n",
    "presence_penalty",
    "prompt",
    "seed",
    "stop",
    "stream",
    "stream_options",
    "suffix",
    "temperature",
    "top_p",
    "user",
];
/// What the API generates when the request sets no limit.
const TOKENS_MAX_DEFAULT: u64 = 16;
const CHOICES_MAX: u64 = 128;

/// Answers one request.
pub(super) fn answer(body: &[u8]) -> Result<Answer, ApiError> {
    let params = Params::read(body, &KNOWN)?;
    let model = params.model()?;
    models::check(model, Kind::Completion)?;
    let prompts = prompts(params.required("prompt")?)?;
    params.check_number("temperature", 0.0..=2.0)?;
    params.check_number("top_p", 0.0..=1.0)?;
    let each = params.whole("n", 1..=CHOICES_MAX)?.unwrap_or(1);
    let tokens_max = params.whole("max_tokens", 1..=u64::MAX)?.unwrap_or(TOKENS_MAX_DEFAULT);
    let streaming = params.streaming()?;

    let prompt_tokens = prompts.iter().map(|p| text::tokens(p).len()).sum();
    let choices: Vec<Generated> =
        prompts.iter().flat_map(|p| (0..each).map(|_| text::reply(p, Some(tokens_max)))).collect();
    let completion_tokens = choices.iter().map(|c| text::tokens(&c.text).len()).sum();
    let usage = Usage::new(prompt_tokens, completion_tokens);
    Ok(match streaming {
        Streaming::Off => whole(model, &choices, usage),
        Streaming::On { usage: wanted } => stream(model, &choices, wanted.then_some(usage)),
    })
}

/// A string or an array of strings; token arrays are not emulated.
fn prompts(value: &Value) -> Result<Vec<String>, ApiError> {
    let wrong = || ApiError::wrong_type("prompt", "a string or an array of strings");
    match value {
        Value::String(text) => Ok(vec![text.clone()]),
        Value::Array(texts) if !texts.is_empty() => {
            texts.iter().map(|text| text.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
        }
        _ => Err(wrong()),
    }
}

fn choice(index: usize, text: &str, finish_reason: Option<&str>) -> Value {
    json!({ "index": index, "text": text, "logprobs": null, "finish_reason": finish_reason })
}

fn whole(model: &str, choices: &[Generated], usage: Usage) -> Answer {
    let choices: Vec<Value> =
        choices.iter().enumerate().map(|(index, c)| choice(index, &c.text, Some(c.finish_reason))).collect();
    document(&json!({
        "id": ids::next("cmpl-"),
        "object": "text_completion",
        "created": ids::created(),
        "model": model,
        "choices": choices,
        "usage": usage,
    }))
}

fn stream(model: &str, choices: &[Generated], usage: Option<Usage>) -> Answer {
    let (id, created) = (ids::next("cmpl-"), ids::created());
    let chunk = |choices: &[Value], last_usage: Option<Usage>| {
        let mut chunk = json!({
            "id": id,
            "object": "text_completion",
            "created": created,
            "model": model,
            "choices": choices,
        });
        if usage.is_some() {
            chunk["usage"] = json!(last_usage);
        }
        event(&chunk)
    };
    let mut events = Vec::new();
    for (index, generated) in choices.iter().enumerate() {
        for token in text::tokens(&generated.text) {
            events.push(chunk(&[choice(index, token, None)], None));
        }
        events.push(chunk(&[choice(index, "", Some(generated.finish_reason))], None));
    }
    if usage.is_some() {
        events.push(chunk(&[], usage));
    }
    events.push(Bytes::from_static(DONE));
    Answer::ok(Payload::Events(events))
}
