//! A provider's event stream.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::answer::{UsageFound, finish};
use crate::chat::{Finish, StreamError, StreamEvent, TokenUsage};
use crate::provider::Malformed;
use crate::provider::document::{Piece, TextOr};

/// Most tools of one answer.
const TOOLS_MAX: u64 = 1024;

/// Reads events one by one.
#[derive(Debug, Default)]
pub struct Reader {
    started: bool,
    /// Tool calls seen, which providers number from 0.
    tools: u64,
}

#[derive(Deserialize)]
struct Chunk {
    id: Option<String>,
    model: Option<String>,
    choices: Option<Vec<Choice>>,
    usage: Option<UsageFound>,
    error: Option<ErrorFound>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    index: u64,
    delta: Option<Delta>,
    finish_reason: Option<String>,
    logprobs: Option<Box<RawValue>>,
}

#[derive(Deserialize, Default)]
struct Delta {
    content: Option<TextOr<Piece>>,
    refusal: Option<String>,
    reasoning_content: Option<String>,
    reasoning: Option<String>,
    tool_calls: Option<Vec<Call>>,
}

#[derive(Deserialize)]
struct Call {
    #[serde(default)]
    index: u64,
    id: Option<String>,
    function: Option<Function>,
}

#[derive(Deserialize)]
struct Function {
    name: Option<String>,
    arguments: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ErrorFound {
    Object { r#type: Option<String>, message: Option<String>, code: Option<serde_json::Value> },
    Text(String),
}

impl Reader {
    /// Reads the data of one event.
    pub fn read(&mut self, data: &[u8], each: &mut dyn FnMut(StreamEvent)) -> Result<(), Malformed> {
        if data.trim_ascii() == b"[DONE]" {
            each(StreamEvent::End);
            return Ok(());
        }
        let chunk: Chunk = serde_json::from_slice(data).map_err(|_| Malformed)?;
        if let Some(error) = chunk.error {
            each(StreamEvent::Error(error.into()));
            return Ok(());
        }
        if chunk.choices.is_none() && chunk.usage.is_none() {
            return Err(Malformed);
        }
        if !std::mem::replace(&mut self.started, true) {
            let (id, model) = (chunk.id.unwrap_or_default(), chunk.model.unwrap_or_default());
            each(StreamEvent::Start { id, model });
        }
        if let Some(usage) = chunk.usage {
            each(StreamEvent::Usage(TokenUsage::from(usage)));
        }
        let first = chunk.choices.unwrap_or_default().into_iter().find(|choice| choice.index == 0);
        let Some(choice) = first else { return Ok(()) };
        let delta = choice.delta.unwrap_or_default();
        let thought = delta.reasoning_content.or(delta.reasoning);
        if let Some(thought) = thought.filter(|text| !text.is_empty()) {
            each(StreamEvent::Thought(thought));
        }
        let content = delta.content.map(TextOr::joined);
        for text in [content, delta.refusal].into_iter().flatten().filter(|text| !text.is_empty()) {
            each(StreamEvent::Text(text));
        }
        if let Some(logprobs) = choice.logprobs.filter(|l| l.get() != "null") {
            each(StreamEvent::Logprobs(logprobs));
        }
        for call in delta.tool_calls.unwrap_or_default() {
            self.call(call, each)?;
        }
        if let Some(reason) = choice.finish_reason {
            each(StreamEvent::Finish(match finish(&reason) {
                Finish::Stop if self.tools > 0 => Finish::ToolUse,
                finish => finish,
            }));
        }
        Ok(())
    }

    /// The first delta of a call names it; a name repeated in later ones adds nothing.
    fn call(&mut self, call: Call, each: &mut dyn FnMut(StreamEvent)) -> Result<(), Malformed> {
        let index = call.index;
        let Function { name, arguments } = call.function.unwrap_or(Function { name: None, arguments: None });
        if index >= self.tools {
            let name = name.filter(|_| index < TOOLS_MAX).ok_or(Malformed)?;
            self.tools = index + 1;
            let id = call.id.filter(|id| !id.is_empty()).unwrap_or_else(|| format!("call_{index}"));
            each(StreamEvent::ToolStart { index, id, name, signature: None });
        }
        if let Some(json) = arguments.filter(|json| !json.is_empty()) {
            each(StreamEvent::ToolInput { index, json });
        }
        Ok(())
    }
}

impl From<ErrorFound> for StreamError {
    fn from(found: ErrorFound) -> Self {
        match found {
            ErrorFound::Object { r#type, message, code } => Self {
                kind: r#type.unwrap_or_default(),
                message: message.unwrap_or_default(),
                code: code.and_then(|code| code.as_str().map(str::to_owned)),
            },
            ErrorFound::Text(message) => Self { kind: String::new(), message, code: None },
        }
    }
}
