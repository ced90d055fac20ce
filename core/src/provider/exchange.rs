//! What an answer needs to know of the request it is for.

use super::Echo;

/// One exchange between a caller and a provider of another protocol.
#[derive(Debug, Clone, Default)]
pub struct Exchange {
    /// When the answer was made, in Unix seconds.
    pub created: u64,
    /// Whether the caller wants usage in a stream, where its protocol makes that a question.
    pub include_usage: bool,
    /// The request's id.
    pub request_id: String,
    /// The model asked for: some providers do not name it in their answers.
    pub model: String,
    /// The tool whose use is the answer, from [`super::Written`].
    pub schema_tool: Option<String>,
    /// Responses API: the answer's own id, as in `resp_1`.
    pub answer_id: String,
    /// Responses API: what the answer repeats of the request.
    pub echo: Echo,
}
