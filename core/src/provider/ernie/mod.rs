//! Baidu's classic chat API (`wenxinworkshop`), with access tokens. The newer one, v2, speaks
//! OpenAI's protocol.

mod answer;
mod write;

pub(super) use answer::{Reader, read_answer};
pub(super) use write::write_request;
