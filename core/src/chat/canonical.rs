//! A chat in no provider's words: what every front protocol is read into and every provider's
//! request is written from, and back. Its shape is Anthropic's (turns of parts, the system text
//! apart), because OpenAI's flat list of messages can be rebuilt from it and not the reverse.

use serde_json::value::RawValue;

/// A request.
#[derive(Debug, Clone, Default)]
pub struct ChatRequest {
    /// The model asked for.
    pub model: String,
    /// System texts, in order.
    pub system: Vec<String>,
    /// The conversation; neighbouring turns differ in role.
    pub turns: Vec<Turn>,
    /// Most tokens to generate.
    pub tokens_max: Option<u64>,
    /// Sampling temperature, in the caller's protocol's range.
    pub temperature: Option<f64>,
    /// Nucleus.
    pub top_p: Option<f64>,
    /// Most likely tokens considered.
    pub top_k: Option<u64>,
    /// Texts that end the answer.
    pub stops: Vec<String>,
    /// Whether the caller wants events.
    pub stream: bool,
    /// Whether the caller asked for usage in the stream, where its protocol makes that a question.
    pub include_usage: bool,
    /// Tools the model may use.
    pub tools: Vec<Tool>,
    /// Whether it must, may or must not use them.
    pub tool_choice: Option<ToolChoice>,
    /// Whether several tools may be used in one turn.
    pub parallel_tools: Option<bool>,
    /// An opaque id of the end user.
    pub user: Option<String>,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The caller, and the tools it ran.
    User,
    /// The model.
    Assistant,
}

/// What one side says before the other speaks.
#[derive(Debug, Clone)]
pub struct Turn {
    /// Who.
    pub role: Role,
    /// What, in order; never empty.
    pub parts: Vec<Part>,
}

/// A piece of a turn.
#[derive(Debug, Clone)]
pub enum Part {
    /// Text.
    Text(String),
    /// A picture.
    Image(Image),
    /// The model asks for a tool.
    ToolUse(ToolUse),
    /// What a tool gave.
    ToolResult {
        /// The use it answers.
        id: String,
        /// Its texts and pictures.
        content: Vec<ResultPart>,
        /// Whether the tool failed.
        failed: bool,
    },
}

/// A piece of a tool's result.
#[derive(Debug, Clone)]
pub enum ResultPart {
    /// Text.
    Text(String),
    /// A picture.
    Image(Image),
}

/// A picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Image {
    /// In the request itself.
    Base64 {
        /// As in `image/png`.
        media_type: String,
        /// Base64, as the caller wrote it.
        data: String,
    },
    /// Somewhere else.
    Url(String),
}

/// One use of a tool.
#[derive(Debug, Clone)]
pub struct ToolUse {
    /// Names the use, so that its result can.
    pub id: String,
    /// The tool.
    pub name: String,
    /// A JSON object, digits and order as written.
    pub input: Box<RawValue>,
}

/// A tool.
#[derive(Debug, Clone)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// JSON Schema of its input, as written.
    pub schema: Box<RawValue>,
}

/// How freely the model uses tools.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolChoice {
    /// As it likes.
    Auto,
    /// Not at all.
    None,
    /// At least one.
    Any,
    /// This one.
    Named(String),
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct ChatAnswer {
    /// The provider's id of it.
    pub id: String,
    /// The model that gave it.
    pub model: String,
    /// All text, put together.
    pub text: String,
    /// Tools it asks for, in order.
    pub tool_uses: Vec<ToolUse>,
    /// Why it ended.
    pub finish: Finish,
    /// What it used.
    pub usage: TokenUsage,
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
    /// Tokens of the answer.
    pub output: u64,
}

/// A step of a streamed answer.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// A use of a tool begins.
    ToolStart {
        /// The provider's number of it.
        index: u64,
        /// Names the use.
        id: String,
        /// The tool.
        name: String,
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
