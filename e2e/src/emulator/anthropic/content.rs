//! The conversation, checked as Anthropic checks it.

use serde_json::{Map, Value};

use super::error::ApiError;
use super::params::only;
use crate::emulator::heard::Heard;

/// Tokens that each message costs beside its text.
const MESSAGE_TOKENS: usize = 4;
/// Tokens of a picture.
const IMAGE_TOKENS: usize = 100;
const BLOCKS: [(&str, &[&str]); 6] = [
    ("thinking", &["type", "thinking", "signature"]),
    ("redacted_thinking", &["type", "data"]),
    ("text", &["type", "text", "cache_control", "citations"]),
    ("image", &["type", "source", "cache_control"]),
    ("tool_use", &["type", "id", "name", "input", "cache_control"]),
    ("tool_result", &["type", "tool_use_id", "content", "is_error", "cache_control"]),
];

/// What the emulator needs to know of the messages.
#[derive(Debug, Default)]
pub(super) struct Prompt {
    pub(super) heard: Heard,
    /// Whether there was a thought since the user's last question.
    thought: bool,
    /// Where since then a tool was used without one.
    thoughtless_use: Option<String>,
}

impl Prompt {
    pub(super) fn read(messages: &Value) -> Result<Self, ApiError> {
        let list = messages.as_array().ok_or_else(|| ApiError::wrong_type("messages", "a valid list"))?;
        if list.is_empty() {
            return Err(ApiError::invalid("messages: at least one message is required"));
        }
        let mut prompt = Self::default();
        for (index, message) in list.iter().enumerate() {
            prompt.message(index, message)?;
        }
        if prompt.heard.waits() {
            return Err(unanswered(list.len()));
        }
        Ok(prompt)
    }

    /// Refuses to go on thinking about uses of tools that have lost the thought behind them.
    pub(super) fn check_thoughts(&self) -> Result<(), ApiError> {
        self.thoughtless_use.as_ref().map_or(Ok(()), |path| {
            Err(ApiError::invalid(format!(
                "{path}type: Expected `thinking` or `redacted_thinking`, but found `tool_use`. When `thinking` is \
                 enabled, a final `assistant` message must start with a thinking block"
            )))
        })
    }

    fn message(&mut self, index: usize, message: &Value) -> Result<(), ApiError> {
        let path = format!("messages.{index}.");
        let object = message.as_object().ok_or_else(|| ApiError::wrong_type(&path, "an object"))?;
        only(object, &["role", "content"], &path)?;
        let role = object.get("role").and_then(Value::as_str).unwrap_or_default();
        if !matches!(role, "user" | "assistant") {
            return Err(ApiError::invalid(format!("{path}role: Input should be 'user' or 'assistant'")));
        }
        if index == 0 && role != "user" {
            return Err(ApiError::invalid("messages: first message must use the \"user\" role"));
        }
        self.heard.tokens += MESSAGE_TOKENS;
        let waiting = self.heard.begin(role == "user");
        let mut results = Vec::new();
        match object.get("content") {
            Some(Value::String(said)) => self.heard.say(role == "user", said),
            Some(Value::Array(blocks)) if !blocks.is_empty() => {
                for (at, block) in blocks.iter().enumerate() {
                    self.block(role, block, &format!("{path}content.{at}."), &mut results)?;
                }
            }
            Some(Value::Array(_)) | None => {
                return Err(ApiError::invalid(format!("{path}content: Field required")));
            }
            Some(_) => return Err(ApiError::wrong_type(&format!("{path}content"), "a valid list")),
        }
        if role == "user" && results.is_empty() {
            (self.thought, self.thoughtless_use) = (false, None);
        }
        if waiting.iter().any(|id| !results.contains(id)) {
            return Err(unanswered(index));
        }
        match results.iter().find(|id| !waiting.contains(id)) {
            Some(id) => Err(ApiError::invalid(format!(
                "{path}content: unexpected `tool_use_id` found in `tool_result` blocks: {id}"
            ))),
            None => Ok(()),
        }
    }

    fn block(
        &mut self,
        role: &str,
        block: &Value,
        path: &str,
        results: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        let object = block.as_object().ok_or_else(|| ApiError::wrong_type(path, "an object"))?;
        let kind = object.get("type").and_then(Value::as_str).unwrap_or_default();
        let (_, fields) = BLOCKS.iter().find(|(name, _)| *name == kind).ok_or_else(|| {
            ApiError::invalid(format!(
                "{path}type: Input tag '{kind}' does not match any of the expected tags"
            ))
        })?;
        only(object, fields, path)?;
        match (kind, role) {
            ("text", _) => {
                let said = string(object, "text", path)?;
                if said.is_empty() {
                    return Err(ApiError::invalid("messages: text content blocks must be non-empty"));
                }
                self.heard.say(role == "user", said);
            }
            ("thinking", "assistant") => {
                string(object, "signature", path)?;
                self.thought = true;
            }
            ("redacted_thinking", "assistant") => {
                string(object, "data", path)?;
                self.thought = true;
            }
            ("image", "user") => self.image(object, path)?,
            ("tool_use", "assistant") => {
                string(object, "name", path)?;
                if !object.get("input").is_some_and(Value::is_object) {
                    return Err(ApiError::wrong_type(&format!("{path}input"), "a valid dictionary"));
                }
                self.heard.use_tool(string(object, "id", path)?);
                if !self.thought {
                    self.thoughtless_use.get_or_insert_with(|| path.to_owned());
                }
            }
            ("tool_result", "user") => {
                results.push(string(object, "tool_use_id", path)?.to_owned());
                self.heard.is_tool_result = true;
                self.heard.say(true, &result_text(object.get("content")));
            }
            _ => return Err(ApiError::invalid(format!("{path}type: not allowed for role {role}"))),
        }
        Ok(())
    }

    fn image(&mut self, object: &Map<String, Value>, path: &str) -> Result<(), ApiError> {
        let source = object.get("source").and_then(Value::as_object);
        let source = source.ok_or_else(|| ApiError::missing(&format!("{path}source")))?;
        let path = format!("{path}source.");
        match source.get("type").and_then(Value::as_str) {
            Some("base64") => {
                let media_type = string(source, "media_type", &path)?;
                if !matches!(media_type, "image/jpeg" | "image/png" | "image/gif" | "image/webp") {
                    return Err(ApiError::wrong_type(&format!("{path}media_type"), "an image's type"));
                }
                string(source, "data", &path)?;
            }
            Some("url") => {
                string(source, "url", &path)?;
            }
            _ => return Err(ApiError::wrong_type(&format!("{path}type"), "'base64' or 'url'")),
        }
        self.heard.show(IMAGE_TOKENS);
        Ok(())
    }
}

fn unanswered(index: usize) -> ApiError {
    ApiError::invalid(format!(
        "messages.{index}: `tool_use` ids were found without `tool_result` blocks immediately after"
    ))
}

fn string<'a>(object: &'a Map<String, Value>, name: &str, path: &str) -> Result<&'a str, ApiError> {
    let value = object.get(name).ok_or_else(|| ApiError::missing(&format!("{path}{name}")))?;
    value.as_str().ok_or_else(|| ApiError::wrong_type(&format!("{path}{name}"), "a valid string"))
}

fn result_text(content: Option<&Value>) -> String {
    match content {
        Some(Value::String(said)) => said.clone(),
        Some(Value::Array(blocks)) => blocks.iter().filter_map(|b| b["text"].as_str()).collect(),
        _ => String::new(),
    }
}
