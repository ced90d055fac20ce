//! The conversation, checked as Bedrock checks it.

use serde_json::Value;

use super::error::ApiError;
use crate::emulator::heard::Heard;
use crate::emulator::strict::{Mistake, Object};

/// Tokens of a picture.
const IMAGE_TOKENS: usize = 100;
const BLOCK_FIELDS: [&str; 8] =
    ["text", "image", "document", "toolUse", "toolResult", "reasoningContent", "guardContent", "cachePoint"];

/// What the emulator needs to know of the messages.
#[derive(Debug, Default)]
pub(super) struct Prompt {
    pub(super) heard: Heard,
    /// Whether tools are spoken of.
    pub(super) has_tools: bool,
}

impl Prompt {
    pub(super) fn read(messages: &[Value]) -> Result<Self, ApiError> {
        let mut prompt = Self::default();
        let mut last_role = "assistant";
        for (index, message) in messages.iter().enumerate() {
            let path = format!("messages.{index}");
            let message = Object::read(message, &path, &["role", "content"])?;
            let role = message.text("role")?;
            match (index, role) {
                (_, "user") | (1.., "assistant") => {}
                (0, "assistant") => {
                    return Err(ApiError::invalid(
                        "A conversation must start with a user message. Try again with a conversation that starts with \
                         a user message.",
                    ));
                }
                _ => {
                    let why = "must satisfy enum value set: [user, assistant]";
                    return Err(Mistake::value(&message.at("role"), why).into());
                }
            }
            if role == last_role {
                return Err(ApiError::invalid(format!(
                    "{path}: roles must alternate between \"user\" and \"assistant\", but found multiple \"{role}\" roles in a row"
                )));
            }
            last_role = role;
            prompt.message(role, message.list("content")?, &path)?;
        }
        if messages.is_empty() || last_role != "user" {
            return Err(ApiError::invalid("The conversation must end with a user message."));
        }
        Ok(prompt)
    }

    /// The texts of `system`, counted among the prompt's tokens.
    pub(super) fn add_system(&mut self, blocks: &[Value]) -> Result<(), ApiError> {
        for (index, block) in blocks.iter().enumerate() {
            let block =
                Object::read(block, &format!("system.{index}"), &["text", "guardContent", "cachePoint"])?;
            self.heard.say(false, block.optional_text("text")?.unwrap_or_default());
        }
        Ok(())
    }

    fn message(&mut self, role: &str, content: &[Value], path: &str) -> Result<(), ApiError> {
        if content.is_empty() {
            return Err(ApiError::invalid(format!(
                "The content field in the Message object at {path} is empty. Add a ContentBlock object to the content field and try again."
            )));
        }
        let waiting = self.heard.begin(role == "user");
        let mut results = Vec::new();
        for (index, block) in content.iter().enumerate() {
            self.block(role, block, &format!("{path}.content.{index}"), &mut results)?;
        }
        let unanswered: Vec<&str> =
            waiting.iter().filter(|id| !results.contains(id)).map(String::as_str).collect();
        if !unanswered.is_empty() {
            return Err(ApiError::invalid(format!(
                "Expected toolResult blocks at {path}.content for the following Ids: {}",
                unanswered.join(", ")
            )));
        }
        if results.iter().any(|id| !waiting.contains(id)) {
            return Err(ApiError::invalid(format!(
                "The number of toolResult blocks at {path}.content exceeds the number of toolUse blocks of previous turn."
            )));
        }
        Ok(())
    }

    fn block(
        &mut self,
        role: &str,
        block: &Value,
        path: &str,
        results: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        let block = Object::read(block, path, &BLOCK_FIELDS)?;
        if BLOCK_FIELDS.iter().filter(|name| block.get(name).is_some()).count() != 1 {
            return Err(ApiError::invalid(format!(
                "The ContentBlock object at {path} must set exactly one key."
            )));
        }
        if let Some(said) = block.optional_text("text")? {
            if said.trim().is_empty() {
                return Err(ApiError::invalid(format!(
                    "The text field in the ContentBlock object at {path} is blank. Add text to the text field, and try again."
                )));
            }
            self.heard.say(role == "user", said);
        }
        if let Some(image) = block.object("image", &["format", "source"])? {
            if !matches!(image.text("format")?, "png" | "jpeg" | "gif" | "webp") {
                let why = "must satisfy enum value set: [png, jpeg, gif, webp]";
                return Err(Mistake::value(&image.at("format"), why).into());
            }
            let source = image.object("source", &["bytes", "s3Location"])?;
            source.map_or(Ok(""), |source| source.text("bytes"))?;
            self.heard.show(IMAGE_TOKENS);
        }
        if let Some(document) =
            block.object("document", &["format", "name", "source", "context", "citations"])?
        {
            document.text("format")?;
            document.text("name")?;
            self.heard.tokens += IMAGE_TOKENS;
        }
        if let Some(tool) = block.object("toolUse", &["toolUseId", "name", "input", "type"])? {
            tool.text("name")?;
            tool.required("input")?;
            self.has_tools = true;
            self.heard.use_tool(tool.text("toolUseId")?);
        }
        if let Some(result) = block.object("toolResult", &["toolUseId", "content", "status", "type"])? {
            results.push(result.text("toolUseId")?.to_owned());
            (self.has_tools, self.heard.is_tool_result) = (true, true);
            for (index, part) in result.list("content")?.iter().enumerate() {
                let known = ["text", "json", "image", "document", "video"];
                let part = Object::read(part, &format!("{path}.toolResult.content.{index}"), &known)?;
                self.heard.say(role == "user", part.optional_text("text")?.unwrap_or_default());
            }
        }
        Ok(())
    }
}
