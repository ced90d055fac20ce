//! `POST /chat/completions`.

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

use super::content::Prompt;
use super::error::ApiError;
use super::models::{self, Kind};
use super::params::{Params, Streaming};
use super::{DONE, document, event, tools};
use crate::emulator::answer::{Answer, Payload};
use crate::emulator::fault::Refusal;
use crate::emulator::ids;
use crate::emulator::script::{Asked, End};
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
const CHOICES_MAX: u64 = 128;
const STOPS_MAX: usize = 4;
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
    let (names, choice) = tools::offered(&params)?;
    let asked = Asked {
        text: prompt.last_text,
        is_tool_result: prompt.is_tool_result,
        images: prompt.images,
        tools: names,
        choice,
        as_json: wants_json(&params)?,
        tokens_max: newer.or(older),
        stops: stops(&params)?,
        ..Asked::default()
    };
    if asked.is_too_long() {
        return Err(ApiError::of(Refusal::ContextLength));
    }
    let said = asked.answer();
    if !said.calls.is_empty() {
        return Ok(tools::answer(model, &said.calls, prompt.tokens, streaming));
    }
    let finish_reason = if said.end == End::Length { "length" } else { "stop" };
    let generated = Generated { text: said.text, finish_reason };
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
    Answer::ok(Payload::Events(events))
}

/// Whether `response_format` asks for JSON; a schema must have a name.
fn wants_json(params: &Params) -> Result<bool, ApiError> {
    let Some(format) = params.get("response_format") else { return Ok(false) };
    match format["type"].as_str() {
        Some("text") => Ok(false),
        Some("json_object") => Ok(true),
        Some("json_schema") if format["json_schema"]["name"].is_string() => Ok(true),
        Some("json_schema") => Err(ApiError::missing("response_format.json_schema.name")),
        _ => Err(ApiError::wrong_type(
            "response_format.type",
            "one of 'text', 'json_object' and 'json_schema'",
        )),
    }
}

/// `stop`: a text, or a list of up to four.
fn stops(params: &Params) -> Result<Vec<&str>, ApiError> {
    let wrong = || ApiError::wrong_type("stop", "a string or an array of at most 4 strings");
    match params.get("stop") {
        None => Ok(Vec::new()),
        Some(Value::String(stop)) => Ok(vec![stop]),
        Some(Value::Array(stops)) if stops.len() <= STOPS_MAX => {
            stops.iter().map(|stop| stop.as_str().ok_or_else(wrong)).collect()
        }
        Some(_) => Err(wrong()),
    }
}
