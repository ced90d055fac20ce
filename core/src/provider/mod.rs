//! Translation between the protocols of chat: pure, bytes in and bytes out.
//!
//! Each protocol is read into and written from one canonical form ([`crate::chat`]), so that a
//! further protocol costs two translations and not two for each that is there. What a request
//! asks for and the other side has no word for is refused by the name of its field, unless the
//! operator chose to have it left out ([`Fit`]): an answer to something else than was asked is
//! worse than none.

mod anthropic;
mod bedrock;
mod choices;
mod claude;
mod document;
mod embedding;
mod ernie;
mod exchange;
mod failure;
mod fit;
mod gemini;
mod openai;
mod responses;
mod schema;
mod stream;
mod vendor;
mod words;

use crate::chat::{ChatAnswer, ChatRequest};
use crate::reply::Reply;
use crate::route::{Endpoint, Protocol};

pub use bedrock::{FrameDecoder, FrameError};
pub use choices::{CHOICES_MAX, ChoicesTranslator};
pub use embedding::{EmbeddingApi, embeds_nothing};
pub use exchange::Exchange;
pub use failure::{Failure, hidden_failure, read_failure};
pub use fit::Fit;
pub use openai::{Repeated, adapt as adapt_openai_request, ask_for_usage, one_by_one, without_usage};
pub use responses::{Echo, items_of, join_items, previous_of};
pub use stream::StreamTranslator;
pub use vendor::{Credential, Dialect, ReasoningField, TokenLimitField, Vendor};

/// The form in which a caller asks for a chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Front {
    /// OpenAI's chat completions.
    Chat,
    /// OpenAI's older completions.
    Completions,
    /// OpenAI's responses.
    Responses,
    /// Anthropic's messages.
    Messages,
}

impl Front {
    /// The form of an endpoint's requests; none where it is not about chats.
    #[must_use]
    pub const fn of(endpoint: Endpoint) -> Option<Self> {
        match endpoint {
            Endpoint::ChatCompletions => Some(Self::Chat),
            Endpoint::Messages => Some(Self::Messages),
            Endpoint::Completions => Some(Self::Completions),
            Endpoint::Responses => Some(Self::Responses),
            Endpoint::Embeddings | Endpoint::Models => None,
        }
    }
}

/// The form in which a provider takes requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OpenAI's chat completions.
    OpenAi,
    /// Anthropic's messages.
    Anthropic,
    /// Google's `generateContent`.
    Gemini,
    /// Amazon's `Converse`.
    Bedrock,
    /// Baidu's classic chat.
    Ernie,
}

impl Format {
    /// What it is called in documentation.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "OpenAI's",
            Self::Anthropic => "Anthropic's",
            Self::Gemini => "Google's `generateContent`",
            Self::Bedrock => "Amazon's `Converse`",
            Self::Ernie => "Baidu's, classic",
        }
    }

    /// Whether one request to a model gets as many answers as it asks for.
    #[must_use]
    pub fn gives_several(self, model: &str) -> bool {
        self == Self::Gemini && gemini::gives_several(model)
    }

    /// Whether a caller's request can pass as it is to a provider of this dialect.
    #[must_use]
    pub const fn takes(self, front: Front, dialect: &Dialect) -> bool {
        match (self, front) {
            (Self::OpenAi, Front::Chat) | (Self::Anthropic, Front::Messages) => true,
            (Self::OpenAi, Front::Completions) => dialect.completions,
            (Self::OpenAi, Front::Responses) => dialect.responses,
            _ => false,
        }
    }
}

/// A request for a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The body.
    pub body: Vec<u8>,
    /// The tool that stands for a schema of the answer, where the provider knows none.
    pub schema_tool: Option<String>,
}

/// An answer that is not one in its protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// Reads a caller's request.
///
/// # Errors
/// `invalid_request` with the path of a field that is wrong, or that no other protocol has.
pub fn read_request(front: Front, body: &[u8], fit: &mut Fit) -> Result<ChatRequest, Reply> {
    let request = match front {
        Front::Chat => openai::read_request(body, fit),
        Front::Completions => openai::read_completions_request(body, fit),
        Front::Responses => responses::read_request(body, fit),
        Front::Messages => anthropic::read_request(body, fit),
    }?;
    fit.has_read(front);
    Ok(request)
}

/// Reads an Anthropic request to count its tokens, where `max_tokens` may be missing.
///
/// # Errors
/// As [`read_request`].
pub fn read_count_request(body: &[u8]) -> Result<ChatRequest, Reply> {
    anthropic::read_count_request(body, &mut Fit::lenient())
}

/// Writes a request for a provider that speaks `format`.
///
/// # Errors
/// `invalid_request` with the field that the provider has no word for, as the caller of
/// [`read_request`] wrote it.
pub fn write_request(
    format: Format,
    dialect: &Dialect,
    request: ChatRequest,
    fit: &mut Fit,
) -> Result<Written, Reply> {
    written(format, dialect, request, fit).map_err(|refusal| fit.in_callers_words(refusal))
}

fn written(
    format: Format,
    dialect: &Dialect,
    mut request: ChatRequest,
    fit: &mut Fit,
) -> Result<Written, Reply> {
    let schema_tool = if dialect.schemas { None } else { schema::as_tool(&mut request, fit)? };
    let body = match format {
        Format::OpenAi => openai::write_request(&request, dialect, fit),
        Format::Anthropic => anthropic::write_request(&request, fit),
        Format::Gemini => gemini::write_request(&request, fit),
        Format::Bedrock => bedrock::write_request(&request, fit),
        Format::Ernie => ernie::write_request(&request, fit),
    }?;
    Ok(Written { body, schema_tool })
}

/// Reads a provider's whole answer, or all of those that came as one. One that does not name itself
/// or its model has the names that it was asked by.
///
/// # Errors
/// It is not an answer in `format`.
pub fn read_answers(format: Format, exchange: &Exchange, body: &[u8]) -> Result<Vec<ChatAnswer>, Malformed> {
    let mut answers = match format {
        Format::OpenAi => vec![openai::read_answer(body)?],
        Format::Anthropic => vec![anthropic::read_answer(body)?],
        Format::Gemini => gemini::read_answers(&exchange.request_id, body)?,
        Format::Bedrock => vec![bedrock::read_answer(body)?],
        Format::Ernie => vec![ernie::read_answer(&exchange.request_id, body)?],
    };
    for answer in &mut answers {
        schema::restore(exchange.schema_tool.as_deref(), answer);
        for (told, known) in [(&mut answer.id, &exchange.request_id), (&mut answer.model, &exchange.model)] {
            if told.is_empty() {
                told.clone_from(known);
            }
        }
    }
    Ok(answers)
}

/// Writes whole answers for a caller: for one of OpenAI's older APIs as the choices of one, for
/// others the first.
#[must_use]
pub fn write_answers(front: Front, exchange: &Exchange, answers: &[ChatAnswer]) -> Vec<u8> {
    match (front, answers) {
        (Front::Completions, answers) => openai::write_completions_answers(answers, exchange),
        (Front::Responses, [answer, ..]) => responses::write_answer(answer, exchange),
        (Front::Messages, [answer, ..]) => anthropic::write_answer(answer),
        (_, answers) => openai::write_answers(answers, exchange.created),
    }
}

/// The kind of an error in `protocol`'s words, whichever of the two it was in.
#[must_use]
pub fn error_kind(protocol: Protocol, kind: &str) -> &str {
    match (protocol, kind) {
        (Protocol::OpenAi, "overloaded_error") => "service_unavailable_error",
        (Protocol::OpenAi, "not_found_error" | "request_too_large") => "invalid_request_error",
        (Protocol::Anthropic, "service_unavailable_error") => "overloaded_error",
        (Protocol::Anthropic, "rate_limit_exceeded" | "requests" | "tokens" | "insufficient_quota") => {
            "rate_limit_error"
        }
        (
            _,
            "api_error"
            | "authentication_error"
            | "invalid_request_error"
            | "permission_error"
            | "rate_limit_error"
            | "timeout_error",
        )
        | (
            Protocol::Anthropic,
            "billing_error" | "not_found_error" | "overloaded_error" | "request_too_large",
        ) => kind,
        (Protocol::OpenAi, other) => other,
        (Protocol::Anthropic, _) => "api_error",
    }
}
