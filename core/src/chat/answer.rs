//! An answer in no provider's words, whole or step by step.

use serde_json::value::RawValue;

use super::canonical::{Thought, ToolUse};

/// A whole answer.
#[derive(Debug, Clone)]
pub struct ChatAnswer {
    /// The provider's id of it.
    pub id: String,
    /// The model that gave it.
    pub model: String,
    /// All text, put together.
    pub text: String,
    /// What it thought before.
    pub thoughts: Vec<Thought>,
    /// Tools it asks for, in order.
    pub tool_uses: Vec<ToolUse>,
    /// Why it ended.
    pub finish: Finish,
    /// What it used.
    pub usage: TokenUsage,
    /// Log probabilities of the text's tokens, in OpenAI's form.
    pub logprobs: Option<Box<RawValue>>,
}

/// Why an answer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finish {
    /// By itself, or at a stop text that the provider does not name.
    Stop,
    /// At this stop text.
    StopText(String),
    /// At the bound on tokens.
    Length,
    /// To let the caller run tools.
    ToolUse,
    /// The provider's rules forbid more.
    Refusal,
}

/// Token counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TokenUsage {
    /// Tokens of the prompt, cached ones included.
    pub input: u64,
    /// Of these, read from the provider's prompt cache.
    pub cache_read: u64,
    /// Of these, written to it.
    pub cache_write: u64,
    /// Tokens of the answer, those it thought included.
    pub output: u64,
    /// Of these, those it thought.
    pub reasoning: u64,
}

impl std::ops::Add for TokenUsage {
    type Output = Self;

    /// What two answers used together.
    fn add(self, other: Self) -> Self {
        Self {
            input: self.input.saturating_add(other.input),
            cache_read: self.cache_read.saturating_add(other.cache_read),
            cache_write: self.cache_write.saturating_add(other.cache_write),
            output: self.output.saturating_add(other.output),
            reasoning: self.reasoning.saturating_add(other.reasoning),
        }
    }
}

impl std::iter::Sum for TokenUsage {
    fn sum<I: Iterator<Item = Self>>(usages: I) -> Self {
        usages.fold(Self::default(), std::ops::Add::add)
    }
}

/// A step of a streamed answer.
#[derive(Debug, Clone)]
pub enum StreamEvent {
    /// The answer begins.
    Start {
        /// The provider's id of it.
        id: String,
        /// The model that gives it.
        model: String,
    },
    /// More text.
    Text(String),
    /// More of what it thinks.
    Thought(String),
    /// The provider's seal on the thought so far, which ends it.
    ThoughtSignature(String),
    /// A thought that the provider keeps secret, whole.
    RedactedThought(String),
    /// Log probabilities of the last text's tokens, in OpenAI's form.
    Logprobs(Box<RawValue>),
    /// A use of a tool begins.
    ToolStart {
        /// The provider's number of it.
        index: u64,
        /// Names the use.
        id: String,
        /// The tool.
        name: String,
        /// The provider's seal on the thought that led to it (Gemini).
        signature: Option<String>,
    },
    /// More of the JSON text of a tool's input.
    ToolInput {
        /// The provider's number of the use.
        index: u64,
        /// A piece, split anywhere.
        json: String,
    },
    /// The answer is complete.
    Finish(Finish),
    /// What it used so far; later counts replace earlier ones.
    Usage(TokenUsage),
    /// A sign of life.
    Ping,
    /// The stream is over, and well.
    End,
    /// The stream is over, and not well.
    Error(StreamError),
}

/// What a provider says of its failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamError {
    /// Its kind, in the words of either protocol.
    pub kind: String,
    /// For people.
    pub message: String,
    /// OpenAI's `code`, or one of ours.
    pub code: Option<String>,
}
