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
    /// Makes sampling repeatable, as far as the provider can.
    pub seed: Option<i64>,
    /// -2 to 2, per occurrence of a token.
    pub frequency_penalty: Option<f64>,
    /// -2 to 2, once for a token that occurred.
    pub presence_penalty: Option<f64>,
    /// Log probabilities: how many alternatives are wanted beside each token; none are wanted at
    /// all without it.
    pub logprobs: Option<u64>,
    /// What the answer's text must be.
    pub format: OutputFormat,
    /// How much the model thinks before it answers; its own habit without it.
    pub reasoning: Option<Reasoning>,
    /// Answers wanted beside the first.
    pub alternatives: u64,
}

/// What an answer's text must be.
#[derive(Debug, Clone, Default)]
pub enum OutputFormat {
    /// Any text.
    #[default]
    Text,
    /// Some JSON object.
    Json,
    /// JSON of this schema.
    Schema(OutputSchema),
}

/// A schema that an answer must follow.
#[derive(Debug, Clone)]
pub struct OutputSchema {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// JSON Schema, as written.
    pub schema: Box<RawValue>,
    /// Whether the answer must follow it to the letter.
    pub strict: bool,
}

/// How much a model thinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reasoning {
    /// Not at all.
    Off,
    /// In words.
    Effort(Effort),
    /// At most so many tokens.
    Budget(u64),
}

/// How much a model thinks, in OpenAI's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// As little as it can.
    Minimal,
    /// Little.
    Low,
    /// Some.
    Medium,
    /// Much.
    High,
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
    /// Sound.
    Audio(Audio),
    /// A document.
    Document(Document),
    /// What the model thought before it went on.
    Thought(Thought),
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

impl Image {
    /// The picture at a URL, or in it: `data:image/png;base64,...`; `None` where data is not in
    /// base64.
    #[must_use]
    pub fn of_url(url: &str) -> Option<Self> {
        let Some(inline) = url.strip_prefix("data:") else { return Some(Self::Url(url.to_owned())) };
        let (media_type, data) = inline.split_once(";base64,")?;
        Some(Self::Base64 { media_type: media_type.to_owned(), data: data.to_owned() })
    }
}

/// Sound in the request itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audio {
    /// As in `wav`.
    pub format: String,
    /// Base64, as the caller wrote it.
    pub data: String,
}

/// A document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its title or file name.
    pub name: Option<String>,
    /// What is in it.
    pub source: DocumentSource,
}

/// Where a document is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DocumentSource {
    /// In the request itself.
    Base64 {
        /// As in `application/pdf`.
        media_type: String,
        /// Base64, as the caller wrote it.
        data: String,
    },
    /// In the request itself, as plain text.
    Text(String),
    /// Somewhere else.
    Url(String),
}

/// What a model thought. Providers sign it, and want it back with the signature.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Thought {
    /// The text; empty when the provider keeps it secret.
    pub text: String,
    /// The provider's seal on it.
    pub signature: Option<String>,
    /// What the provider sends in place of a thought that it keeps secret.
    pub redacted: Option<String>,
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
    /// The provider's seal on the thought that led to it (Gemini).
    pub signature: Option<String>,
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
    /// Whether inputs must follow the schema to the letter.
    pub strict: bool,
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
