//! `POST /messages` and `POST /messages/count_tokens`.

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::content::Prompt;
use super::error::ApiError;
use super::params::Params;
use super::{MODELS, event, tools};
use crate::emulator::answer::{Answer, Payload};
use crate::emulator::{ids, text};

const KNOWN: [&str; 14] = [
    "max_tokens",
    "messages",
    "metadata",
    "model",
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

/// A generated answer: a text, or the use of a tool.
struct Generated {
    text: String,
    tool: Option<(String, Value)>,
    stop_reason: &'static str,
    stop_sequence: Option<String>,
}

impl Generated {
    fn tokens(&self) -> usize {
        let input = self.tool.iter().map(|(_, input)| text::tokens(&input.to_string()).len()).sum::<usize>();
        text::tokens(&self.text).len() + input
    }
}

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
    let tool = tools::chosen(&params, &prompt.last_text, prompt.is_tool_result)?;
    let generated = generate(&prompt, tool, &stops, tokens_max);
    let id = ids::next("msg_");
    Ok(if params.flag("stream")? {
        Answer { status: StatusCode::OK, payload: Payload::Events(stream(&id, model, &prompt, &generated)) }
    } else {
        whole(&id, model, &prompt, &generated)
    })
}

/// Counts the tokens of one request.
pub(super) fn count(body: &[u8]) -> Result<Answer, ApiError> {
    let params = Params::read(body, &COUNTED)?;
    model(&params)?;
    check_system(&params)?;
    let prompt = Prompt::read(params.required("messages")?)?;
    Ok(Answer::json(StatusCode::OK, &json!({"input_tokens": prompt.tokens})))
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

fn generate(prompt: &Prompt, tool: Option<String>, stops: &[&str], tokens_max: u64) -> Generated {
    if let Some(name) = tool {
        let input = json!({"text": prompt.last_text, "numbers": [1, 2]});
        return Generated {
            text: "I use a tool.".to_owned(),
            tool: Some((name, input)),
            stop_reason: "tool_use",
            stop_sequence: None,
        };
    }
    let said = match prompt.images {
        0 => prompt.last_text.clone(),
        images => format!("{} ({images} pictures)", prompt.last_text),
    };
    let reply = text::reply(&said, Some(tokens_max));
    let mut generated =
        Generated { text: reply.text, tool: None, stop_reason: "end_turn", stop_sequence: None };
    if reply.finish_reason == "length" {
        generated.stop_reason = "max_tokens";
    }
    if let Some((at, stop)) = stops.iter().filter_map(|s| Some((generated.text.find(s)?, s))).min() {
        generated.text.truncate(at);
        generated.stop_reason = "stop_sequence";
        generated.stop_sequence = Some((*stop).to_owned());
    }
    generated
}

fn usage(prompt: &Prompt, output: usize) -> Value {
    json!({
        "input_tokens": prompt.tokens, "output_tokens": output,
        "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "service_tier": "standard",
    })
}

fn whole(id: &str, model: &str, prompt: &Prompt, generated: &Generated) -> Answer {
    let mut content = vec![json!({"type": "text", "text": generated.text})];
    if let Some((name, input)) = &generated.tool {
        content.push(json!({"type": "tool_use", "id": ids::next("toolu_"), "name": name, "input": input}));
    }
    Answer::json(
        StatusCode::OK,
        &json!({
            "id": id, "type": "message", "role": "assistant", "model": model, "content": content,
            "stop_reason": generated.stop_reason, "stop_sequence": generated.stop_sequence,
            "usage": usage(prompt, generated.tokens()),
        }),
    )
}

/// The events in the order that Anthropic documents.
fn stream(id: &str, model: &str, prompt: &Prompt, generated: &Generated) -> Vec<Bytes> {
    let message = json!({
        "id": id, "type": "message", "role": "assistant", "model": model, "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": usage(prompt, 1),
    });
    let mut events = vec![event("message_start", &json!({"type": "message_start", "message": message}))];
    let mut block = |index: usize, start: &Value, deltas: Vec<Value>| {
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
    };
    let text_delta = |piece: &&str| json!({"type": "text_delta", "text": piece});
    let words = text::tokens(&generated.text).iter().map(text_delta).collect();
    block(0, &json!({"type": "text", "text": ""}), words);
    if let Some((name, input)) = &generated.tool {
        let start = json!({"type": "tool_use", "id": ids::next("toolu_"), "name": name, "input": {}});
        let json_delta = |piece: &str| json!({"type": "input_json_delta", "partial_json": piece});
        let input = input.to_string();
        let pieces = text::tokens(&input).into_iter().map(json_delta);
        block(1, &start, std::iter::once(json_delta("")).chain(pieces).collect());
    }
    let stop = json!({"stop_reason": generated.stop_reason, "stop_sequence": generated.stop_sequence});
    let usage = json!({"output_tokens": generated.tokens()});
    events.push(event("message_delta", &json!({"type": "message_delta", "delta": stop, "usage": usage})));
    events.push(event("message_stop", &json!({"type": "message_stop"})));
    events
}
