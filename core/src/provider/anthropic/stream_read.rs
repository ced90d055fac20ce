//! A provider's event stream.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::answer::{UsageFound, finish};
use crate::chat::{StreamError, StreamEvent};
use crate::provider::Malformed;

/// Reads events one by one; keeps the counts so far, and which use of a tool is open.
#[derive(Debug, Default)]
pub struct Reader {
    usage: UsageFound,
    open_tool: Option<u64>,
}

#[derive(Deserialize)]
struct Found {
    r#type: Option<String>,
    index: Option<u64>,
    message: Option<Message>,
    content_block: Option<Block>,
    delta: Option<Delta>,
    usage: Option<UsageFound>,
    error: Option<ErrorFound>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    id: String,
    #[serde(default)]
    model: String,
    usage: Option<UsageFound>,
}

#[derive(Deserialize)]
struct Block {
    r#type: String,
    text: Option<String>,
    id: Option<String>,
    name: Option<String>,
    input: Option<Box<RawValue>>,
    thinking: Option<String>,
    data: Option<String>,
}

#[derive(Deserialize, Default)]
struct Delta {
    r#type: Option<String>,
    text: Option<String>,
    partial_json: Option<String>,
    thinking: Option<String>,
    signature: Option<String>,
    stop_reason: Option<String>,
    stop_sequence: Option<String>,
}

/// Also in OpenAI's shape: that is how the gateway tells a stream's translator of a fault.
#[derive(Deserialize)]
struct ErrorFound {
    r#type: Option<String>,
    message: Option<String>,
    code: Option<serde_json::Value>,
}

impl Reader {
    /// Reads the data of one event. Kinds of events that are not known are left out, as
    /// Anthropic advises.
    pub fn read(&mut self, data: &[u8], each: &mut dyn FnMut(StreamEvent)) -> Result<(), Malformed> {
        let found: Found = serde_json::from_slice(data).map_err(|_| Malformed)?;
        if let Some(error) = found.error {
            each(StreamEvent::Error(StreamError {
                kind: error.r#type.unwrap_or_default(),
                message: error.message.unwrap_or_default(),
                code: error.code.and_then(|code| code.as_str().map(str::to_owned)),
            }));
            return Ok(());
        }
        let index = found.index.unwrap_or(0);
        match found.r#type.as_deref().ok_or(Malformed)? {
            "message_start" => {
                let Message { id, model, usage } = found.message.ok_or(Malformed)?;
                each(StreamEvent::Start { id, model });
                self.count(usage, each);
            }
            "content_block_start" => self.start(index, found.content_block.ok_or(Malformed)?, each),
            "content_block_delta" => self.delta(index, found.delta.ok_or(Malformed)?, each),
            "message_delta" => {
                self.count(found.usage, each);
                let delta = found.delta.unwrap_or_default();
                if let Some(reason) = &delta.stop_reason {
                    each(StreamEvent::Finish(finish(Some(reason), delta.stop_sequence)));
                }
            }
            "message_stop" => each(StreamEvent::End),
            "ping" => each(StreamEvent::Ping),
            _ => {}
        }
        Ok(())
    }

    fn count(&mut self, usage: Option<UsageFound>, each: &mut dyn FnMut(StreamEvent)) {
        if let Some(usage) = usage {
            self.usage = usage.over(self.usage);
            each(StreamEvent::Usage(self.usage.total()));
        }
    }

    /// Tools that Anthropic runs itself are blocks of other types, and no business of callers
    /// who speak another protocol.
    fn start(&mut self, index: u64, block: Block, each: &mut dyn FnMut(StreamEvent)) {
        self.open_tool = None;
        match (block.r#type.as_str(), block.text, block.id, block.name) {
            ("text", Some(text), ..) if !text.is_empty() => each(StreamEvent::Text(text)),
            ("tool_use", _, Some(id), Some(name)) => {
                self.open_tool = Some(index);
                each(StreamEvent::ToolStart { index, id, name, signature: None });
                if let Some(input) = block.input.filter(|input| input.get() != "{}") {
                    each(StreamEvent::ToolInput { index, json: input.get().to_owned() });
                }
            }
            ("thinking", ..) => {
                if let Some(text) = block.thinking.filter(|text| !text.is_empty()) {
                    each(StreamEvent::Thought(text));
                }
            }
            ("redacted_thinking", ..) => each(StreamEvent::RedactedThought(block.data.unwrap_or_default())),
            _ => {}
        }
    }

    fn delta(&self, index: u64, delta: Delta, each: &mut dyn FnMut(StreamEvent)) {
        match (delta.r#type.as_deref(), delta.text, delta.partial_json) {
            (Some("text_delta"), Some(text), _) if !text.is_empty() => each(StreamEvent::Text(text)),
            (Some("input_json_delta"), _, Some(json))
                if !json.is_empty() && self.open_tool == Some(index) =>
            {
                each(StreamEvent::ToolInput { index, json });
            }
            (Some("thinking_delta"), ..) => {
                if let Some(text) = delta.thinking.filter(|text| !text.is_empty()) {
                    each(StreamEvent::Thought(text));
                }
            }
            (Some("signature_delta"), ..) => {
                if let Some(signature) = delta.signature.filter(|text| !text.is_empty()) {
                    each(StreamEvent::ThoughtSignature(signature));
                }
            }
            _ => {}
        }
    }
}
