//! The conversation, checked as OpenAI checks it.

use serde_json::Value;

use super::error::ApiError;
use crate::emulator::text;

const ROLES: [&str; 6] = ["developer", "system", "user", "assistant", "tool", "function"];
/// Tokens that each message costs beside its text.
const MESSAGE_TOKENS: usize = 4;

/// What the emulator needs to know of the messages.
pub(super) struct Prompt {
    /// What the user said last, or what a tool gave.
    pub(super) last_text: String,
    pub(super) is_tool_result: bool,
    pub(super) images: usize,
    pub(super) tokens: usize,
}

impl Prompt {
    pub(super) fn read(messages: &Value) -> Result<Self, ApiError> {
        let messages =
            messages.as_array().ok_or_else(|| ApiError::wrong_type("messages", "an array of objects"))?;
        if messages.is_empty() {
            return Err(ApiError::invalid(
                "Invalid 'messages': empty array. Expected an array with minimum length 1, but got \
                 an empty array instead.",
            )
            .param("messages")
            .code("empty_array"));
        }
        let mut prompt = Self { last_text: String::new(), is_tool_result: false, images: 0, tokens: 0 };
        let mut waiting: Vec<&str> = Vec::new();
        for (index, message) in messages.iter().enumerate() {
            let role = role(message, index)?;
            let text = content(message, role, index)?;
            prompt.tokens += MESSAGE_TOKENS + text::tokens(&text).len();
            let id = message["tool_call_id"].as_str();
            if role == "tool" && !id.is_some_and(|id| waiting.contains(&id)) {
                return Err(ApiError::invalid(
                    "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with \
                     'tool_calls'.",
                )
                .param(format!("messages[{index}].role")));
            }
            if let Some(calls) = message["tool_calls"].as_array() {
                waiting = calls.iter().filter_map(|call| call["id"].as_str()).collect();
            }
            if matches!(role, "user" | "tool") {
                let parts = message["content"].as_array().map(Vec::as_slice).unwrap_or_default();
                prompt.images = parts.iter().filter(|part| part["type"] == "image_url").count();
                prompt.is_tool_result = role == "tool";
                prompt.last_text = text;
            }
        }
        Ok(prompt)
    }
}

fn role(message: &Value, index: usize) -> Result<&str, ApiError> {
    let param = format!("messages[{index}].role");
    let role = message.get("role").ok_or_else(|| ApiError::missing(&param))?;
    let role = role.as_str().ok_or_else(|| ApiError::wrong_type(&param, "a string"))?;
    if ROLES.contains(&role) {
        return Ok(role);
    }
    Err(ApiError::invalid(format!(
        "Invalid value: '{role}'. Supported values are: '{}'.",
        ROLES.join("', '")
    ))
    .param(param)
    .code("invalid_value"))
}

/// The text of a message: a string, or the text parts of an array.
fn content(message: &Value, role: &str, index: usize) -> Result<String, ApiError> {
    let param = format!("messages[{index}].content");
    match message.get("content") {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Array(parts)) => {
            let texts = parts.iter().filter_map(|p| p.get("text").and_then(Value::as_str));
            Ok(texts.collect())
        }
        None | Some(Value::Null) if role == "assistant" => Ok(String::new()),
        None | Some(Value::Null) => Err(ApiError::missing(&param)),
        Some(_) => Err(ApiError::wrong_type(&param, "a string or an array of parts")),
    }
}
