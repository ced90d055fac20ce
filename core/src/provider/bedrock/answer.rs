//! Whole answers.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::chat::{ChatAnswer, Finish, Thought, TokenUsage, ToolUse};
use crate::provider::Malformed;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Found {
    output: Output,
    stop_reason: Option<String>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Output {
    message: Message,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    content: Vec<Block>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Block {
    text: Option<String>,
    tool_use: Option<FoundUse>,
    reasoning_content: Option<FoundThought>,
    citations_content: Option<Cited>,
}

/// Text with the places that it is from.
#[derive(Deserialize)]
struct Cited {
    #[serde(default)]
    content: Vec<CitedText>,
}

#[derive(Deserialize)]
struct CitedText {
    text: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FoundUse {
    tool_use_id: String,
    name: String,
    input: Box<RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FoundThought {
    reasoning_text: Option<ReasoningText>,
    redacted_content: Option<String>,
}

#[derive(Deserialize)]
struct ReasoningText {
    #[serde(default)]
    text: String,
    signature: Option<String>,
}

#[derive(Debug, Deserialize, Clone, Copy)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the names are Amazon's")]
pub(super) struct Usage {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_write_input_tokens: Option<u64>,
}

/// Bedrock counts cached tokens apart.
impl From<Usage> for TokenUsage {
    fn from(usage: Usage) -> Self {
        let cache_read = usage.cache_read_input_tokens.unwrap_or(0);
        let cache_write = usage.cache_write_input_tokens.unwrap_or(0);
        let uncached = usage.input_tokens.unwrap_or(0);
        let input = uncached.saturating_add(cache_read).saturating_add(cache_write);
        let output = usage.output_tokens.unwrap_or(0);
        Self { input, cache_read, cache_write, output, reasoning: 0 }
    }
}

/// Why an answer ended, in words that all protocols have.
pub(super) fn finish(stop_reason: &str) -> Finish {
    match stop_reason {
        "max_tokens" | "model_context_window_exceeded" => Finish::Length,
        "tool_use" => Finish::ToolUse,
        "guardrail_intervened" | "content_filtered" => Finish::Refusal,
        _ => Finish::Stop,
    }
}

/// Reads an answer. It names neither itself nor its model.
pub fn read_answer(body: &[u8]) -> Result<ChatAnswer, Malformed> {
    let found: Found = serde_json::from_slice(body).map_err(|_| Malformed)?;
    let (mut text, mut thoughts, mut tool_uses) = (String::new(), Vec::new(), Vec::new());
    for block in found.output.message.content {
        text.push_str(&block.text.unwrap_or_default());
        let cited = block.citations_content.into_iter().flat_map(|cited| cited.content);
        text.extend(cited.filter_map(|piece| piece.text));
        if let Some(FoundUse { tool_use_id: id, name, input }) = block.tool_use {
            tool_uses.push(ToolUse { id, name, input, signature: None });
        }
        if let Some(thought) = block.reasoning_content {
            let ReasoningText { text, signature } =
                thought.reasoning_text.unwrap_or(ReasoningText { text: String::new(), signature: None });
            thoughts.push(Thought { text, signature, redacted: thought.redacted_content });
        }
    }
    Ok(ChatAnswer {
        id: String::new(),
        model: String::new(),
        text,
        thoughts,
        tool_uses,
        finish: finish(found.stop_reason.as_deref().unwrap_or_default()),
        usage: found.usage.map(TokenUsage::from).unwrap_or_default(),
        logprobs: None,
    })
}
