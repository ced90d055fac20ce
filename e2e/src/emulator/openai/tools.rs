//! Tool calls: the emulated model makes one when the request forces it to.

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::error::ApiError;
use super::params::{Params, Streaming};
use super::{DONE, event};
use crate::emulator::answer::{Answer, Payload};
use crate::emulator::{ids, text};

/// The name of the function to call, if one must be called.
pub(super) fn forced(params: &Params) -> Result<Option<String>, ApiError> {
    let Some(choice) = params.get("tool_choice") else { return Ok(None) };
    let tools = params.get("tools").and_then(Value::as_array).filter(|tools| !tools.is_empty());
    let Some(tools) = tools else {
        let why =
            "Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are specified.";
        return Err(ApiError::invalid(why).param("tool_choice"));
    };
    let name = |tool: &Value| tool["function"]["name"].as_str().map(str::to_owned);
    match choice {
        Value::String(mode) if mode == "auto" || mode == "none" => Ok(None),
        Value::String(mode) if mode == "required" => {
            tools.first().and_then(name).map(Some).ok_or_else(|| ApiError::missing("tools[0].function.name"))
        }
        Value::Object(_) => {
            let wanted = choice["function"]["name"].as_str();
            let found = tools.iter().filter_map(name).find(|name| Some(name.as_str()) == wanted);
            found
                .map(Some)
                .ok_or_else(|| ApiError::invalid("Tool choice not found in 'tools'.").param("tool_choice"))
        }
        _ => Err(ApiError::wrong_type("tool_choice", "a mode or an object")),
    }
}

/// The answer that calls `name`.
pub(super) fn answer(model: &str, name: &str, prompt: &str, tokens: usize, streaming: Streaming) -> Answer {
    let arguments = json!({"text": prompt, "numbers": [1, 2]}).to_string();
    let output = text::tokens(&arguments).len();
    let usage = json!({
        "prompt_tokens": tokens, "completion_tokens": output, "total_tokens": tokens + output,
    });
    let (id, call_id) = (ids::next("chatcmpl-"), ids::next("call_"));
    let Streaming::On { usage: wanted } = streaming else {
        let function = json!({"name": name, "arguments": arguments});
        let call = json!({"id": call_id, "type": "function", "function": function});
        let message = json!({"role": "assistant", "content": null, "refusal": null, "tool_calls": [call]});
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
    let begun =
        json!({"index": 0, "id": call_id, "type": "function", "function": {"name": name, "arguments": ""}});
    let mut events = vec![say(json!({"role": "assistant", "content": null, "tool_calls": [begun]}), None)];
    for piece in text::tokens(&arguments) {
        let call = json!({"index": 0, "function": {"arguments": piece}});
        events.push(say(json!({"tool_calls": [call]}), None));
    }
    events.push(say(json!({}), Some("tool_calls")));
    events.extend(wanted.then(|| chunk(json!([]), usage)));
    events.push(Bytes::from_static(DONE));
    Answer { status: StatusCode::OK, payload: Payload::Events(events) }
}
