//! OpenAI's Chat Completions API.

mod adapt;
mod answer;
mod completions;
mod message;
mod read;
mod repeat;
mod stream_read;
mod stream_write;
mod usage;
mod write;
mod write_message;

pub use adapt::adapt;
pub(super) use answer::{read_answer, write_answers};
pub(super) use completions::{CompletionsWriter, read_completions_request, write_completions_answers};
pub(super) use read::read_request;
pub use repeat::{Repeated, one_by_one};
pub(super) use stream_read::Reader;
pub(super) use stream_write::{End, Writer, write_end};
pub use usage::{ask_for_usage, without_usage};
pub(super) use write::write_request;
