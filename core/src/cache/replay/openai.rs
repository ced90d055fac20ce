//! OpenAI's chat completions.

use serde_json::{Map, Value, json};

use super::pieces::pieces;
use super::{Outline, each_data};
use crate::chat::estimate_tokens;

/// Members of a message that are texts told in pieces.
const TEXTS: [&str; 3] = ["content", "reasoning_content", "refusal"];

/// What decides whether a completion is kept.
pub fn outline(document: &Value) -> Option<Outline> {
    let [choice] = &document.get("choices")?.as_array()?[..] else { return None };
    let message = choice.get("message")?.as_object()?;
    let reason = choice.get("finish_reason").and_then(Value::as_str)?;
    let filled = |name: &str| message.get(name).is_some_and(|value| !value.is_null() && *value != json!([]));
    Some(Outline {
        text: message.get("content").and_then(Value::as_str).unwrap_or_default().to_owned(),
        has_tools: filled("tool_calls") || filled("function_call"),
        ended_well: matches!(reason, "stop" | "length" | "tool_calls" | "function_call")
            && !filled("refusal")
            && document.get("error").is_none(),
    })
}

/// The completion that a whole stream comes to; `None` for one that failed or was cut.
pub fn fold(stream: &[u8]) -> Option<Value> {
    let mut folded = Folded::default();
    let mut good = true;
    each_data(stream, |data| {
        if data == b"[DONE]" {
            folded.done = true;
        } else if !folded.done {
            good &= serde_json::from_slice(data).is_ok_and(|chunk: Value| folded.take(chunk).is_some());
        }
    });
    (good && folded.done).then(|| folded.document())
}

#[derive(Default)]
struct Folded {
    head: Map<String, Value>,
    message: Map<String, Value>,
    tools: Vec<Value>,
    finish: Value,
    usage: Value,
    done: bool,
}

impl Folded {
    fn take(&mut self, mut chunk: Value) -> Option<()> {
        let chunk = chunk.as_object_mut()?;
        if chunk.contains_key("error") {
            return None;
        }
        if let Some(usage) = chunk.remove("usage").filter(Value::is_object) {
            self.usage = usage;
        }
        let choices = chunk.remove("choices")?;
        for (key, value) in std::mem::take(chunk) {
            self.head.entry(key).or_insert(value);
        }
        for choice in choices.as_array()? {
            if choice.get("index").and_then(Value::as_u64).unwrap_or(0) != 0 {
                return None;
            }
            if let Some(reason) = choice.get("finish_reason").filter(|reason| !reason.is_null()) {
                self.finish = reason.clone();
            }
            self.add(choice.get("delta").and_then(Value::as_object)?)?;
        }
        Some(())
    }

    fn add(&mut self, delta: &Map<String, Value>) -> Option<()> {
        for (key, value) in delta {
            match (key.as_str(), value) {
                (_, Value::Null) => {}
                ("tool_calls", calls) => {
                    for call in calls.as_array()? {
                        self.tool(call)?;
                    }
                }
                (name, Value::String(piece)) if TEXTS.contains(&name) => {
                    match self.message.entry(name).or_insert_with(|| json!("")) {
                        Value::String(text) => text.push_str(piece),
                        _ => return None,
                    }
                }
                (name, value) => {
                    self.message.insert(name.to_owned(), value.clone());
                }
            }
        }
        Some(())
    }

    fn tool(&mut self, call: &Value) -> Option<()> {
        let index = usize::try_from(call.get("index")?.as_u64()?).ok()?;
        if index == self.tools.len() {
            self.tools.push(json!({"id": "", "type": "function", "function": {"name": "", "arguments": ""}}));
        }
        let tool = self.tools.get_mut(index)?;
        if let Some(id) = call.get("id").filter(|id| id.is_string()) {
            *tool.get_mut("id")? = id.clone();
        }
        for name in ["name", "arguments"] {
            let piece = call.pointer(&format!("/function/{name}")).and_then(Value::as_str);
            if let (Some(piece), Some(Value::String(text))) =
                (piece, tool.pointer_mut(&format!("/function/{name}")))
            {
                text.push_str(piece);
            }
        }
        Some(())
    }

    fn document(mut self) -> Value {
        self.message.entry("role").or_insert_with(|| json!("assistant"));
        self.message.entry("content").or_insert(Value::Null);
        self.message.entry("refusal").or_insert(Value::Null);
        if !self.tools.is_empty() {
            self.message.insert("tool_calls".to_owned(), Value::Array(self.tools));
        }
        let content = self.message.get("content").and_then(Value::as_str).unwrap_or_default();
        if self.usage.is_null() {
            // Nobody asked the provider for it; callers of the whole answer expect some.
            let tokens = estimate_tokens(content);
            self.usage = json!({"prompt_tokens": 0, "completion_tokens": tokens, "total_tokens": tokens});
        }
        let choice =
            json!({"index": 0, "message": self.message, "logprobs": null, "finish_reason": self.finish});
        self.head.insert("object".to_owned(), json!("chat.completion"));
        self.head.insert("choices".to_owned(), json!([choice]));
        self.head.insert("usage".to_owned(), self.usage);
        Value::Object(self.head)
    }
}

/// The events of a completion.
pub fn events(document: &Value, include_usage: bool) -> Option<Vec<Vec<u8>>> {
    let choice = document.pointer("/choices/0")?;
    let message = choice.get("message")?.as_object()?;
    let mut head = document.as_object()?.clone();
    head.remove("choices");
    let usage = head.remove("usage").unwrap_or_default();
    head.insert("object".to_owned(), json!("chat.completion.chunk"));
    let chunk = |choices: Value, usage: Option<&Value>| {
        let mut chunk = head.clone();
        chunk.insert("choices".to_owned(), choices);
        if let Some(usage) = usage {
            chunk.insert("usage".to_owned(), usage.clone());
        }
        frame(&Value::Object(chunk))
    };
    let say = |delta: Value, finish: &Value| {
        chunk(json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}]), None)
    };
    let mut events = vec![say(json!({"role": "assistant", "content": ""}), &Value::Null)];
    for name in ["reasoning_content", "content"] {
        let text = message.get(name).and_then(Value::as_str).unwrap_or_default();
        events.extend(pieces(text).into_iter().map(|piece| say(json!({name: piece}), &Value::Null)));
    }
    let tools = message.get("tool_calls").and_then(Value::as_array);
    for (index, tool) in tools.into_iter().flatten().enumerate() {
        let mut tool = tool.as_object()?.clone();
        tool.insert("index".to_owned(), json!(index));
        events.push(say(json!({"tool_calls": [tool]}), &Value::Null));
    }
    events.push(say(json!({}), choice.get("finish_reason")?));
    if include_usage {
        events.push(chunk(json!([]), Some(&usage)));
    }
    events.push(b"data: [DONE]\n\n".to_vec());
    Some(events)
}

fn frame(chunk: &Value) -> Vec<u8> {
    format!("data: {chunk}\n\n").into_bytes()
}
