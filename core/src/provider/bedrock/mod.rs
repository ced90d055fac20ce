//! Amazon Bedrock's `Converse` and `ConverseStream`.

mod answer;
mod frames;
mod stream_read;
mod write;

pub(super) use answer::read_answer;
pub use frames::{FrameDecoder, FrameError};
pub(super) use stream_read::Reader;
pub(super) use write::write_request;
