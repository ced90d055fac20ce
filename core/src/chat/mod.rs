//! LLM requests as the filter reads them: enough to decide, nothing kept.

mod json;
mod request;

pub use json::{DEPTH_MAX, JsonError, Tape, VALUES_MAX};
pub use request::RequestView;
