//! OpenAI's Responses API towards callers, for providers that chat.

mod items;
mod object;
mod read;
mod stream_write;

pub use object::{Echo, write_answer};
pub use read::{items_of, join_items, previous_of, read_request};
pub use stream_write::Writer;
