//! Anthropic's Messages API, version 2023-06-01.

mod answer;
mod content;
mod read;
mod stream_read;
mod stream_write;
mod write;

pub(super) use answer::{read_answer, write_answer};
pub(super) use read::{read_count_request, read_request};
pub(super) use stream_read::Reader;
pub(super) use stream_write::Writer;
pub(super) use write::write_request;
