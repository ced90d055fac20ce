//! Google's `generateContent`, as the Gemini API (v1beta) and Vertex AI (v1) have it.

mod answer;
mod content;
mod partial;
mod stream_read;
mod write;

pub(super) use answer::read_answers;
pub(super) use stream_read::Reader;
pub(super) use write::{gives_several, write_request};
