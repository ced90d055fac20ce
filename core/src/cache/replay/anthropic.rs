//! Anthropic's messages.

use serde_json::{Map, Value, json};

use super::pieces::pieces;
use super::{Outline, each_data};

/// What decides whether a message is kept.
pub fn outline(document: &Value) -> Option<Outline> {
    let blocks = document.get("content")?.as_array()?;
    let kind = |block: &Value, kind: &str| block.get("type").and_then(Value::as_str) == Some(kind);
    let texts = blocks.iter().filter(|block| kind(block, "text"));
    let reason = document.get("stop_reason").and_then(Value::as_str)?;
    Some(Outline {
        text: texts.filter_map(|block| block.get("text")?.as_str()).collect(),
        has_tools: blocks.iter().any(|block| kind(block, "tool_use")),
        ended_well: matches!(reason, "end_turn" | "stop_sequence" | "max_tokens" | "tool_use")
            && document.get("type").and_then(Value::as_str) == Some("message"),
    })
}

/// The message that a whole stream comes to; `None` for one that failed or was cut.
pub fn fold(stream: &[u8]) -> Option<Value> {
    let mut folded = Folded::default();
    let mut good = true;
    each_data(stream, |data| {
        if !folded.done {
            good &= serde_json::from_slice(data).is_ok_and(|event: Value| folded.take(&event).is_some());
        }
    });
    (good && folded.done).then_some(())?;
    folded.message.insert("content".to_owned(), Value::Array(folded.blocks));
    Some(Value::Object(folded.message))
}

#[derive(Default)]
struct Folded {
    message: Map<String, Value>,
    blocks: Vec<Value>,
    /// JSON text of the open tool use's input.
    input: String,
    done: bool,
}

impl Folded {
    fn take(&mut self, event: &Value) -> Option<()> {
        match event.get("type")?.as_str()? {
            "message_start" => self.message = event.get("message")?.as_object()?.clone(),
            "content_block_start" => {
                self.input.clear();
                self.blocks.push(event.get("content_block")?.clone());
            }
            "content_block_delta" => self.delta(event.get("delta")?)?,
            "content_block_stop" if !self.input.is_empty() => {
                let input = serde_json::from_str(&self.input).ok()?;
                self.blocks.last_mut()?.as_object_mut()?.insert("input".to_owned(), input);
            }
            "message_delta" => {
                for (key, value) in event.get("delta")?.as_object()? {
                    self.message.insert(key.clone(), value.clone());
                }
                let usage = event.get("usage").and_then(Value::as_object).into_iter().flatten();
                if let Some(known) = self.message.get_mut("usage").and_then(Value::as_object_mut) {
                    known.extend(usage.map(|(key, value)| (key.clone(), value.clone())));
                }
            }
            "message_stop" => self.done = true,
            "error" => return None,
            // `ping`, the end of a block without input, and what is to come.
            _ => {}
        }
        Some(())
    }

    fn delta(&mut self, delta: &Value) -> Option<()> {
        let block = self.blocks.last_mut()?.as_object_mut()?;
        let (name, piece) = match delta.get("type")?.as_str()? {
            "text_delta" => ("text", delta.get("text")?.as_str()?),
            "thinking_delta" => ("thinking", delta.get("thinking")?.as_str()?),
            "signature_delta" => ("signature", delta.get("signature")?.as_str()?),
            "input_json_delta" => {
                self.input.push_str(delta.get("partial_json")?.as_str()?);
                return Some(());
            }
            _ => return None,
        };
        match block.entry(name).or_insert_with(|| json!("")) {
            Value::String(text) => text.push_str(piece),
            _ => return None,
        }
        Some(())
    }
}

/// The events of a message.
pub fn events(document: &Value) -> Option<Vec<Vec<u8>>> {
    let mut opening = document.as_object()?.clone();
    let usage = opening.get("usage").cloned().unwrap_or_default();
    for (name, value) in
        [("content", json!([])), ("stop_reason", Value::Null), ("stop_sequence", Value::Null)]
    {
        opening.insert(name.to_owned(), value);
    }
    let mut events = vec![frame("message_start", json!({"message": opening}))];
    for (index, block) in document.get("content")?.as_array()?.iter().enumerate() {
        block_events(index, block, &mut events)?;
    }
    let delta =
        json!({"stop_reason": document.get("stop_reason"), "stop_sequence": document.get("stop_sequence")});
    events.push(frame("message_delta", json!({"delta": delta, "usage": usage})));
    events.push(frame("message_stop", json!({})));
    Some(events)
}

fn block_events(index: usize, block: &Value, events: &mut Vec<Vec<u8>>) -> Option<()> {
    let mut opening = block.as_object()?.clone();
    let mut deltas = Vec::new();
    let mut tell = |name: &str, kind: &str| {
        if let Some(Value::String(text)) = opening.get_mut(name) {
            let text = std::mem::take(text);
            deltas.extend(pieces(&text).into_iter().map(|piece| json!({"type": kind, name: piece})));
        }
    };
    match block.get("type")?.as_str()? {
        "text" => tell("text", "text_delta"),
        "thinking" => {
            tell("thinking", "thinking_delta");
            tell("signature", "signature_delta");
        }
        "tool_use" => {
            let input = opening.insert("input".to_owned(), json!({}))?;
            deltas.push(json!({"type": "input_json_delta", "partial_json": input.to_string()}));
        }
        _ => {}
    }
    events.push(frame("content_block_start", json!({"index": index, "content_block": opening})));
    events.extend(
        deltas.into_iter().map(|delta| frame("content_block_delta", json!({"index": index, "delta": delta}))),
    );
    events.push(frame("content_block_stop", json!({"index": index})));
    Some(())
}

fn frame(name: &str, mut event: Value) -> Vec<u8> {
    if let Some(event) = event.as_object_mut() {
        event.insert("type".to_owned(), json!(name));
    }
    format!("event: {name}\ndata: {event}\n\n").into_bytes()
}
