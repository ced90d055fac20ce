//! LLM requests: as the filter reads them, enough to decide and nothing kept; and whole chats
//! in no provider's words, for translation.

mod answer;
mod canonical;
mod json;
mod request;
mod tokens;

pub use answer::{ChatAnswer, Finish, StreamError, StreamEvent, TokenUsage};
pub use canonical::{
    Audio, ChatRequest, Document, DocumentSource, Effort, Image, OutputFormat, OutputSchema, Part, Reasoning,
    ResultPart, Role, Thought, Tool, ToolChoice, ToolUse, Turn,
};
pub use json::{DEPTH_MAX, JsonError, Tape, VALUES_MAX};
pub use request::{OutputBound, RequestView};
pub use tokens::{estimate_json_tokens, estimate_prompt_tokens, estimate_request_tokens, estimate_tokens};
