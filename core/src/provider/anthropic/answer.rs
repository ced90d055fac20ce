//! Whole answers.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::chat::{ChatAnswer, Finish, Thought, TokenUsage, ToolUse};
use crate::provider::{Malformed, document};

#[derive(Deserialize)]
struct Found {
    #[serde(default)]
    id: String,
    #[serde(default)]
    model: String,
    content: Vec<FoundBlock>,
    stop_reason: Option<String>,
    stop_sequence: Option<String>,
    usage: Option<UsageFound>,
}

#[derive(Deserialize)]
struct FoundBlock {
    r#type: String,
    text: Option<String>,
    id: Option<String>,
    name: Option<String>,
    input: Option<Box<RawValue>>,
    thinking: Option<String>,
    signature: Option<String>,
    data: Option<String>,
}

/// Usage as reported; a stream's later counts leave out what they do not change.
#[derive(Debug, Deserialize, Default, Clone, Copy)]
#[expect(clippy::struct_field_names, reason = "the names are Anthropic's")]
pub(super) struct UsageFound {
    pub(super) input_tokens: Option<u64>,
    pub(super) output_tokens: Option<u64>,
    pub(super) cache_read_input_tokens: Option<u64>,
    pub(super) cache_creation_input_tokens: Option<u64>,
}

impl UsageFound {
    /// These counts over earlier ones.
    pub(super) fn over(self, earlier: Self) -> Self {
        Self {
            input_tokens: self.input_tokens.or(earlier.input_tokens),
            output_tokens: self.output_tokens.or(earlier.output_tokens),
            cache_read_input_tokens: self.cache_read_input_tokens.or(earlier.cache_read_input_tokens),
            cache_creation_input_tokens: self
                .cache_creation_input_tokens
                .or(earlier.cache_creation_input_tokens),
        }
    }

    /// Anthropic counts cached tokens apart.
    pub(super) fn total(self) -> TokenUsage {
        let cache_read = self.cache_read_input_tokens.unwrap_or(0);
        let cache_write = self.cache_creation_input_tokens.unwrap_or(0);
        let uncached = self.input_tokens.unwrap_or(0);
        let input = uncached.saturating_add(cache_read).saturating_add(cache_write);
        TokenUsage { input, cache_read, cache_write, output: self.output_tokens.unwrap_or(0), reasoning: 0 }
    }
}

/// Why an answer ended, in words that all protocols have.
pub(super) fn finish(stop_reason: Option<&str>, stop_sequence: Option<String>) -> Finish {
    match (stop_reason, stop_sequence) {
        (Some("stop_sequence"), Some(text)) => Finish::StopText(text),
        (Some("max_tokens" | "model_context_window_exceeded"), _) => Finish::Length,
        (Some("tool_use"), _) => Finish::ToolUse,
        (Some("refusal"), _) => Finish::Refusal,
        _ => Finish::Stop,
    }
}

/// Reads an answer. Blocks that no other protocol has a word for are left out.
pub fn read_answer(body: &[u8]) -> Result<ChatAnswer, Malformed> {
    let found: Found = serde_json::from_slice(body).map_err(|_| Malformed)?;
    let (mut text, mut tool_uses, mut thoughts) = (String::new(), Vec::new(), Vec::new());
    for block in found.content {
        match (block.r#type.as_str(), block.text, block.id, block.name, block.input) {
            ("text", Some(piece), ..) => text.push_str(&piece),
            ("tool_use", _, Some(id), Some(name), Some(input)) => {
                tool_uses.push(ToolUse { id, name, input, signature: None });
            }
            ("text" | "tool_use", ..) => return Err(Malformed),
            ("thinking", ..) => {
                let text = block.thinking.unwrap_or_default();
                thoughts.push(Thought { text, signature: block.signature, redacted: None });
            }
            ("redacted_thinking", ..) => {
                thoughts.push(Thought { redacted: block.data, ..Thought::default() });
            }
            _ => {}
        }
    }
    Ok(ChatAnswer {
        id: found.id,
        model: found.model,
        text,
        thoughts,
        tool_uses,
        finish: finish(found.stop_reason.as_deref(), found.stop_sequence),
        usage: found.usage.unwrap_or_default().total(),
        logprobs: None,
    })
}

#[derive(Serialize)]
struct Message<'a> {
    id: &'a str,
    r#type: &'static str,
    role: &'static str,
    model: &'a str,
    content: Vec<Block<'a>>,
    stop_reason: &'static str,
    stop_sequence: Option<&'a str>,
    usage: UsageWritten,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block<'a> {
    Text {
        text: &'a str,
    },
    Thinking {
        thinking: &'a str,
        signature: &'a str,
    },
    RedactedThinking {
        data: &'a str,
    },
    ToolUse {
        id: &'a str,
        name: &'a str,
        input: &'a RawValue,
        /// Gemini's seal, which its own callers send back.
        #[serde(skip_serializing_if = "Option::is_none")]
        signature: Option<&'a str>,
    },
}

/// Usage as written.
#[derive(Serialize)]
#[expect(clippy::struct_field_names, reason = "the names are Anthropic's")]
pub(super) struct UsageWritten {
    input_tokens: u64,
    cache_creation_input_tokens: u64,
    cache_read_input_tokens: u64,
    output_tokens: u64,
}

impl From<TokenUsage> for UsageWritten {
    fn from(usage: TokenUsage) -> Self {
        let TokenUsage { input, cache_read, cache_write, output, reasoning: _ } = usage;
        Self {
            input_tokens: input.saturating_sub(cache_read).saturating_sub(cache_write),
            cache_creation_input_tokens: cache_write,
            cache_read_input_tokens: cache_read,
            output_tokens: output,
        }
    }
}

/// `stop_reason` and `stop_sequence`.
pub(super) fn stop(finish: &Finish) -> (&'static str, Option<&str>) {
    match finish {
        Finish::Stop => ("end_turn", None),
        Finish::StopText(text) => ("stop_sequence", Some(text)),
        Finish::Length => ("max_tokens", None),
        Finish::ToolUse => ("tool_use", None),
        Finish::Refusal => ("refusal", None),
    }
}

/// Writes an answer. A thought of another provider has no seal, which is written as an empty one.
pub fn write_answer(answer: &ChatAnswer) -> Vec<u8> {
    let text = Some(answer.text.as_str()).filter(|text| !text.is_empty());
    let (stop_reason, stop_sequence) = stop(&answer.finish);
    let thoughts = answer.thoughts.iter().map(|thought| match &thought.redacted {
        Some(data) => Block::RedactedThinking { data },
        None => Block::Thinking {
            thinking: &thought.text,
            signature: thought.signature.as_deref().unwrap_or_default(),
        },
    });
    let tools = answer.tool_uses.iter().map(|tool| Block::ToolUse {
        id: &tool.id,
        name: &tool.name,
        input: &tool.input,
        signature: tool.signature.as_deref(),
    });
    document::write(&Message {
        id: &answer.id,
        r#type: "message",
        role: "assistant",
        model: &answer.model,
        content: thoughts.chain(text.map(|text| Block::Text { text })).chain(tools).collect(),
        stop_reason,
        stop_sequence,
        usage: answer.usage.into(),
    })
}
