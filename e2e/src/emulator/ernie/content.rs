//! The conversation, checked as Baidu checks it: an odd number of messages, of both sides in turn.

use serde_json::Value;

use super::error::ApiError;
use crate::emulator::strict::Object;
use crate::emulator::text;

/// What the emulator needs to know of the messages.
#[derive(Debug, Default)]
pub(super) struct Prompt {
    pub(super) last_text: String,
    pub(super) is_tool_result: bool,
    pub(super) tokens: usize,
}

impl Prompt {
    pub(super) fn read(messages: &[Value]) -> Result<Self, ApiError> {
        if messages.is_empty() {
            return Err(ApiError::invalid(
                "the max length of current question is 0, messages must not be empty",
            ));
        }
        if messages.len().is_multiple_of(2) {
            return Err(ApiError::invalid("the length of messages must be an odd number"));
        }
        let mut prompt = Self::default();
        let mut called: Option<&str> = None;
        for (index, message) in messages.iter().enumerate() {
            let path = format!("messages[{index}]");
            let message = Object::read(message, &path, &["role", "content", "name", "function_call"])?;
            let (role, content) = (message.text("role")?, message.text("content")?);
            let expected: &[&str] = if index % 2 == 0 { &["user", "function"] } else { &["assistant"] };
            if !expected.contains(&role) {
                return Err(ApiError::invalid(format!(
                    "the role of message with {} index in the messages must be {}",
                    if index % 2 == 0 { "odd" } else { "even" },
                    expected.join(" or ")
                )));
            }
            if role == "function" && called != Some(message.text("name")?) {
                return Err(ApiError::invalid(
                    "the name of a function message must be that of the function_call before it",
                ));
            }
            let call = message.object("function_call", &["name", "arguments", "thoughts"])?;
            called = call.map(|call| call.text("arguments").and(call.text("name"))).transpose()?;
            if content.is_empty() && called.is_none() {
                return Err(ApiError::invalid("the content of message must not be empty"));
            }
            prompt.tokens += text::tokens(content).len();
            (prompt.last_text, prompt.is_tool_result) = (content.to_owned(), role == "function");
        }
        Ok(prompt)
    }
}
