//! LLM requests: as the filter reads them, enough to decide and nothing kept; and whole chats
//! in no provider's words, for translation.

mod canonical;
mod json;
mod request;
mod tokens;

pub use canonical::{
    ChatAnswer, ChatRequest, Finish, Image, Part, ResultPart, Role, StreamError, StreamEvent, TokenUsage,
    Tool, ToolChoice, ToolUse, Turn,
};
pub use json::{DEPTH_MAX, JsonError, Tape, VALUES_MAX};
pub use request::RequestView;
pub use tokens::{estimate_request_tokens, estimate_tokens};
