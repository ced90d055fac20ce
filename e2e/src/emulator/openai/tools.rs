//! Tool calls.

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::error::ApiError;
use super::params::{Params, Streaming};
use super::{DONE, event};
use crate::emulator::answer::{Answer, Payload};
use crate::emulator::script::Choice;
use crate::emulator::{ids, text};

/// The functions' names, and which of them may be called.
pub(super) fn offered(params: &Params) -> Result<(Vec<String>, Choice), ApiError> {
    let tools = params.get("tools").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut names = Vec::with_capacity(tools.len());
    for (index, tool) in tools.iter().enumerate() {
        let missing = || ApiError::missing(&format!("tools[{index}].function.name"));
        names.push(tool["function"]["name"].as_str().ok_or_else(missing)?.to_owned());
    }
    let Some(choice) = params.get("tool_choice") else { return Ok((names, Choice::Auto)) };
    if names.is_empty() {
        let why =
            "Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are specified.";
        return Err(ApiError::invalid(why).param("tool_choice"));
    }
    let choice = match choice {
        Value::String(mode) if mode == "auto" => Choice::Auto,
        Value::String(mode) if mode == "none" => Choice::Never,
        Value::String(mode) if mode == "required" => Choice::Any,
        Value::Object(_) => {
            let wanted = choice["function"]["name"].as_str().unwrap_or_default();
            if !names.iter().any(|name| name == wanted) {
                return Err(ApiError::invalid("Tool choice not found in 'tools'.").param("tool_choice"));
            }
            Choice::Named(wanted.to_owned())
        }
        _ => return Err(ApiError::wrong_type("tool_choice", "a mode or an object")),
    };
    Ok((names, choice))
}

/// The answer that makes these calls.
pub(super) fn answer(model: &str, calls: &[(String, Value)], tokens: usize, streaming: Streaming) -> Answer {
    let written: Vec<Call> = calls.iter().map(Call::new).collect();
    let output: usize = written.iter().map(|call| text::tokens(&call.arguments).len()).sum();
    let usage = json!({
        "prompt_tokens": tokens, "completion_tokens": output, "total_tokens": tokens + output,
    });
    let id = ids::next("chatcmpl-");
    let Streaming::On { usage: wanted } = streaming else {
        let calls: Vec<Value> = written.iter().map(Call::whole).collect();
        let message = json!({"role": "assistant", "content": null, "refusal": null, "tool_calls": calls});
        let choice = json!({"index": 0, "message": message, "logprobs": null, "finish_reason": "tool_calls"});
        let document = json!({
            "id": id, "object": "chat.completion", "created": ids::created(), "model": model,
            "choices": [choice], "usage": usage,
        });
        return Answer::json(StatusCode::OK, &document);
    };
    let chunk = |choices: Value, usage: Value| {
        event(&json!({
            "id": id, "object": "chat.completion.chunk", "created": ids::created(), "model": model,
            "choices": choices, "usage": usage,
        }))
    };
    let say = |delta: Value, finish: Option<&str>| {
        chunk(json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}]), Value::Null)
    };
    let mut events: Vec<Bytes> = vec![say(json!({"role": "assistant", "content": null}), None)];
    for (index, call) in written.iter().enumerate() {
        events.extend(call.pieces(index).map(|piece| say(json!({"tool_calls": [piece]}), None)));
    }
    events.push(say(json!({}), Some("tool_calls")));
    if wanted {
        events.push(chunk(json!([]), usage));
    }
    events.push(Bytes::from_static(DONE));
    Answer::ok(Payload::Events(events))
}

/// A call as it is written.
struct Call<'a> {
    id: String,
    name: &'a str,
    arguments: String,
}

impl<'a> Call<'a> {
    fn new((name, input): &'a (String, Value)) -> Self {
        Self { id: ids::next("call_"), name, arguments: input.to_string() }
    }

    fn whole(&self) -> Value {
        let function = json!({"name": self.name, "arguments": self.arguments});
        json!({"id": self.id, "type": "function", "function": function})
    }

    /// The call itself, then its arguments token by token.
    fn pieces(&self, index: usize) -> impl Iterator<Item = Value> {
        let function = json!({"name": self.name, "arguments": ""});
        let begun = json!({"index": index, "id": self.id, "type": "function", "function": function});
        let piece = move |piece: &str| json!({"index": index, "function": {"arguments": piece}});
        std::iter::once(begun).chain(text::tokens(&self.arguments).into_iter().map(piece))
    }
}
