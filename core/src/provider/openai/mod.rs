//! OpenAI's Chat Completions API.

mod answer;
mod read;
mod stream_read;
mod stream_write;
mod write;

pub(super) use answer::{read_answer, write_answer};
pub(super) use read::read_request;
pub(super) use stream_read::Reader;
pub(super) use stream_write::Writer;
pub(super) use write::write_request;
