//! `POST /messages` and `POST /messages/count_tokens`.

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::content::Prompt;
use super::error::ApiError;
use super::params::{Params, only};
use super::{MODELS, event, tools};
use crate::emulator::answer::{Answer, Payload};
use crate::emulator::script::{Asked, End, Said};
use crate::emulator::{ids, text};

const KNOWN: [&str; 15] = [
    "max_tokens",
    "messages",
    "metadata",
    "model",
    "output_config",
    "service_tier",
    "stop_sequences",
    "stream",
    "system",
    "temperature",
    "thinking",
    "tool_choice",
    "tools",
    "top_k",
    "top_p",
];
const COUNTED: [&str; 6] = ["messages", "model", "system", "thinking", "tool_choice", "tools"];
const TOP_K_MAX: f64 = 1_000_000.0;
/// The seal on the emulated model's thoughts.
const SEAL: &str = "c2VhbA==";

/// What the model says before it uses a tool.
const BEFORE_TOOLS: &str = "I use a tool.";

/// Answers one request.
pub(super) fn answer(body: &[u8]) -> Result<Answer, ApiError> {
    let params = Params::read(body, &KNOWN)?;
    let model = model(&params)?;
    let tokens_max = params.whole("max_tokens")?;
    let prompt = Prompt::read(params.required("messages")?)?;
    check_system(&params)?;
    params.check_number("temperature", 0.0..=1.0)?;
    params.check_number("top_p", 0.0..=1.0)?;
    params.check_number("top_k", 0.0..=TOP_K_MAX)?;
    let stops = params.texts("stop_sequences")?;
    let (tools, choice) = tools::offered(&params)?;
    let asked = Asked {
        text: prompt.heard.last_text.clone(),
        is_tool_result: prompt.heard.is_tool_result,
        images: prompt.heard.images,
        tools,
        choice,
        as_json: wants_json(&params)?,
        thinks: params.get("thinking").is_some_and(|thinking| thinking["type"] == "enabled"),
        tokens_max: Some(tokens_max),
        stops,
    };
    if asked.thinks {
        prompt.check_thoughts()?;
    }
    if asked.is_too_long() {
        return Err(ApiError::invalid("prompt is too long: 200001 tokens > 200000 maximum"));
    }
    let mut said = asked.answer();
    if said.end == End::Tools {
        BEFORE_TOOLS.clone_into(&mut said.text);
    }
    let id = ids::next("msg_");
    Ok(if params.flag("stream")? {
        Answer::ok(Payload::Events(stream(&id, model, &prompt, &said)))
    } else {
        whole(&id, model, &prompt, &said)
    })
}

/// Counts the tokens of one request.
pub(super) fn count(body: &[u8]) -> Result<Answer, ApiError> {
    let params = Params::read(body, &COUNTED)?;
    model(&params)?;
    check_system(&params)?;
    let prompt = Prompt::read(params.required("messages")?)?;
    Ok(Answer::json(StatusCode::OK, &json!({"input_tokens": prompt.heard.tokens})))
}

fn model(params: &Params) -> Result<&str, ApiError> {
    let model = params.text("model")?;
    if MODELS.contains(&model) { Ok(model) } else { Err(ApiError::not_found(format!("model: {model}"))) }
}

fn check_system(params: &Params) -> Result<(), ApiError> {
    let is_text = |block: &Value| block["type"] == "text" && block["text"].is_string();
    match params.get("system") {
        None | Some(Value::String(_)) => Ok(()),
        Some(Value::Array(blocks)) if blocks.iter().all(is_text) => Ok(()),
        Some(_) => Err(ApiError::wrong_type("system", "a valid string or a list of text blocks")),
    }
}

/// Whether `output_config` asks for JSON, which needs a schema.
fn wants_json(params: &Params) -> Result<bool, ApiError> {
    let Some(config) = params.get("output_config") else { return Ok(false) };
    let config = config.as_object().ok_or_else(|| ApiError::wrong_type("output_config", "an object"))?;
    only(config, &["effort", "format"], "output_config.")?;
    match config.get("format") {
        None => Ok(false),
        Some(format) if format["type"] == "json_schema" && format["schema"].is_object() => Ok(true),
        Some(_) => Err(ApiError::missing("output_config.format.schema")),
    }
}

fn stop_reason(said: &Said) -> &'static str {
    match said.end {
        End::Natural => "end_turn",
        End::Length => "max_tokens",
        End::Stop(_) => "stop_sequence",
        End::Tools => "tool_use",
    }
}

fn stop_sequence(said: &Said) -> Option<&str> {
    if let End::Stop(text) = &said.end { Some(text) } else { None }
}

fn usage(prompt: &Prompt, output: usize) -> Value {
    json!({
        "input_tokens": prompt.heard.tokens, "output_tokens": output,
        "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "service_tier": "standard",
    })
}

fn whole(id: &str, model: &str, prompt: &Prompt, said: &Said) -> Answer {
    let mut content = Vec::new();
    if let Some(thought) = &said.thought {
        content.push(json!({"type": "thinking", "thinking": thought, "signature": SEAL}));
    }
    content.push(json!({"type": "text", "text": said.text}));
    content.extend(said.calls.iter().map(
        |(name, input)| json!({"type": "tool_use", "id": ids::next("toolu_"), "name": name, "input": input}),
    ));
    Answer::json(
        StatusCode::OK,
        &json!({
            "id": id, "type": "message", "role": "assistant", "model": model, "content": content,
            "stop_reason": stop_reason(said), "stop_sequence": stop_sequence(said),
            "usage": usage(prompt, said.tokens()),
        }),
    )
}

/// The events in the order that Anthropic documents.
fn stream(id: &str, model: &str, prompt: &Prompt, said: &Said) -> Vec<Bytes> {
    let message = json!({
        "id": id, "type": "message", "role": "assistant", "model": model, "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": usage(prompt, 1),
    });
    let mut events = vec![event("message_start", &json!({"type": "message_start", "message": message}))];
    let mut index = 0;
    let mut block = |start: &Value, deltas: Vec<Value>| {
        let started = json!({"type": "content_block_start", "index": index, "content_block": start});
        events.push(event("content_block_start", &started));
        if index == 0 {
            events.push(event("ping", &json!({"type": "ping"})));
        }
        for delta in deltas {
            let document = json!({"type": "content_block_delta", "index": index, "delta": delta});
            events.push(event("content_block_delta", &document));
        }
        events.push(event("content_block_stop", &json!({"type": "content_block_stop", "index": index})));
        index += 1;
    };
    if let Some(thought) = &said.thought {
        let words =
            text::tokens(thought).into_iter().map(|word| json!({"type": "thinking_delta", "thinking": word}));
        let seal = json!({"type": "signature_delta", "signature": SEAL});
        block(&json!({"type": "thinking", "thinking": "", "signature": ""}), words.chain([seal]).collect());
    }
    let words = text::tokens(&said.text).into_iter().map(|word| json!({"type": "text_delta", "text": word}));
    block(&json!({"type": "text", "text": ""}), words.collect());
    for (name, input) in &said.calls {
        let start = json!({"type": "tool_use", "id": ids::next("toolu_"), "name": name, "input": {}});
        let json_delta = |piece: &str| json!({"type": "input_json_delta", "partial_json": piece});
        let input = input.to_string();
        let pieces = text::tokens(&input).into_iter().map(json_delta);
        block(&start, std::iter::once(json_delta("")).chain(pieces).collect());
    }
    let stop = json!({"stop_reason": stop_reason(said), "stop_sequence": stop_sequence(said)});
    let usage = json!({"output_tokens": said.tokens()});
    events.push(event("message_delta", &json!({"type": "message_delta", "delta": stop, "usage": usage})));
    events.push(event("message_stop", &json!({"type": "message_stop"})));
    events
}
