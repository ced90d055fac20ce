//! `POST /chat/completions`.

use bytes::Bytes;
use http::StatusCode;
use serde::Serialize;
use serde_json::Value;

use super::error::ApiError;
use super::models::{self, Kind};
use super::params::{Params, Streaming};
use super::{DONE, document, event, tools};
use crate::emulator::answer::{Answer, Payload};
use crate::emulator::ids;
use crate::emulator::text::{self, Generated, Usage};

const KNOWN: [&str; 35] = [
    "audio",
    "frequency_penalty",
    "function_call",
    "functions",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "max_tokens",
    "messages",
    "metadata",
    "modalities",
    "model",
    "n",
    "parallel_tool_calls",
    "prediction",
    "presence_penalty",
    "prompt_cache_key",
    "prompt_cache_retention",
    "reasoning_effort",
    "response_format",
    "safety_identifier",
    "seed",
    "service_tier",
    "stop",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "user",
    "verbosity",
    "web_search_options",
];
const ROLES: [&str; 6] = ["developer", "system", "user", "assistant", "tool", "function"];
const CHOICES_MAX: u64 = 128;
/// Tokens that each message costs beside its text.
const MESSAGE_TOKENS: usize = 4;
const FINGERPRINT: &str = "fp_emulated";

#[derive(Serialize)]
struct Completion<'a> {
    id: String,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: Vec<Choice<'a>>,
    usage: Usage,
    service_tier: &'static str,
    system_fingerprint: &'static str,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: u64,
    message: Message<'a>,
    logprobs: Option<()>,
    finish_reason: &'static str,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
    refusal: Option<()>,
    annotations: [(); 0],
}

#[derive(Serialize)]
struct Chunk<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    service_tier: &'static str,
    system_fingerprint: &'static str,
    choices: &'a [ChunkChoice<'a>],
    /// Absent unless usage is asked for; then null in every chunk but the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<Usage>>,
}

#[derive(Serialize)]
struct ChunkChoice<'a> {
    index: u64,
    delta: Delta<'a>,
    logprobs: Option<()>,
    finish_reason: Option<&'static str>,
}

#[derive(Serialize, Default)]
struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
}

/// Answers one request.
pub(super) fn answer(body: &[u8]) -> Result<Answer, ApiError> {
    let params = Params::read(body, &KNOWN)?;
    let model = params.model()?;
    let prompt = Prompt::read(params.required("messages")?)?;
    models::check(model, Kind::Chat)?;
    params.check_number("temperature", 0.0..=2.0)?;
    params.check_number("top_p", 0.0..=1.0)?;
    params.check_number("frequency_penalty", -2.0..=2.0)?;
    params.check_number("presence_penalty", -2.0..=2.0)?;
    let choices = params.whole("n", 1..=CHOICES_MAX)?.unwrap_or(1);
    let newer = params.whole("max_completion_tokens", 1..=u64::MAX)?;
    let older = params.whole("max_tokens", 1..=u64::MAX)?;
    let streaming = params.streaming()?;
    if let Some(name) = tools::forced(&params)? {
        return Ok(tools::answer(model, &name, &prompt.last_user_text, prompt.tokens, streaming));
    }

    let generated = text::reply(&prompt.last_user_text, newer.or(older));
    let completion_tokens = text::tokens(&generated.text).len();
    let each = usize::try_from(choices).unwrap_or(1);
    let usage = Usage::new(prompt.tokens, completion_tokens * each);
    Ok(match streaming {
        Streaming::Off => whole(model, &generated, choices, usage),
        Streaming::On { usage: wanted } => stream(model, &generated, choices, wanted.then_some(usage)),
    })
}

fn whole(model: &str, generated: &Generated, choices: u64, usage: Usage) -> Answer {
    let choice = |index| Choice {
        index,
        message: Message { role: "assistant", content: &generated.text, refusal: None, annotations: [] },
        logprobs: None,
        finish_reason: generated.finish_reason,
    };
    document(&Completion {
        id: ids::next("chatcmpl-"),
        object: "chat.completion",
        created: ids::created(),
        model,
        choices: (0..choices).map(choice).collect(),
        usage,
        service_tier: "default",
        system_fingerprint: FINGERPRINT,
    })
}

/// A role chunk, the content token by token and a finish chunk for each choice, then the usage.
fn stream(model: &str, generated: &Generated, choices: u64, usage: Option<Usage>) -> Answer {
    let id = ids::next("chatcmpl-");
    let created = ids::created();
    let chunk = |choices: &[ChunkChoice<'_>], usage| {
        event(&Chunk {
            id: &id,
            object: "chat.completion.chunk",
            created,
            model,
            service_tier: "default",
            system_fingerprint: FINGERPRINT,
            choices,
            usage,
        })
    };
    let null_usage = usage.map(|_| None);
    let tokens = text::tokens(&generated.text);
    let mut events: Vec<Bytes> = Vec::with_capacity(tokens.len() + 4);
    for index in 0..choices {
        let mut say = |delta, finish_reason| {
            let choice = ChunkChoice { index, delta, logprobs: None, finish_reason };
            events.push(chunk(&[choice], null_usage));
        };
        say(Delta { role: Some("assistant"), content: Some("") }, None);
        for token in &tokens {
            say(Delta { role: None, content: Some(token) }, None);
        }
        say(Delta::default(), Some(generated.finish_reason));
    }
    if let Some(usage) = usage {
        events.push(chunk(&[], Some(Some(usage))));
    }
    events.push(Bytes::from_static(DONE));
    Answer { status: StatusCode::OK, payload: Payload::Events(events) }
}

/// What the emulator needs to know of the messages.
struct Prompt {
    last_user_text: String,
    tokens: usize,
}

impl Prompt {
    fn read(messages: &Value) -> Result<Self, ApiError> {
        let messages =
            messages.as_array().ok_or_else(|| ApiError::wrong_type("messages", "an array of objects"))?;
        if messages.is_empty() {
            return Err(ApiError::invalid(
                "Invalid 'messages': empty array. Expected an array with minimum length 1, but got \
                 an empty array instead.",
            )
            .param("messages")
            .code("empty_array"));
        }
        let mut prompt = Self { last_user_text: String::new(), tokens: 0 };
        for (index, message) in messages.iter().enumerate() {
            let role = role(message, index)?;
            let text = content(message, role, index)?;
            prompt.tokens += MESSAGE_TOKENS + text::tokens(&text).len();
            if role == "user" {
                prompt.last_user_text = text;
            }
        }
        Ok(prompt)
    }
}

fn role(message: &Value, index: usize) -> Result<&str, ApiError> {
    let param = format!("messages[{index}].role");
    let role = message.get("role").ok_or_else(|| ApiError::missing(&param))?;
    let role = role.as_str().ok_or_else(|| ApiError::wrong_type(&param, "a string"))?;
    if ROLES.contains(&role) {
        return Ok(role);
    }
    Err(ApiError::invalid(format!(
        "Invalid value: '{role}'. Supported values are: '{}'.",
        ROLES.join("', '")
    ))
    .param(param)
    .code("invalid_value"))
}

/// The text of a message: a string, or the text parts of an array.
fn content(message: &Value, role: &str, index: usize) -> Result<String, ApiError> {
    let param = format!("messages[{index}].content");
    match message.get("content") {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Array(parts)) => {
            let texts = parts.iter().filter_map(|p| p.get("text").and_then(Value::as_str));
            Ok(texts.collect())
        }
        None | Some(Value::Null) if role == "assistant" => Ok(String::new()),
        None | Some(Value::Null) => Err(ApiError::missing(&param)),
        Some(_) => Err(ApiError::wrong_type(&param, "a string or an array of parts")),
    }
}
