//! Translation between the protocols of chat: pure, bytes in and bytes out.
//!
//! Each protocol is read into and written from one canonical form ([`crate::chat`]), so that a
//! further protocol costs two translations and not two for each that is there. What a request
//! asks for and the other side has no word for is refused by the name of its field: an answer
//! to something else than was asked is worse than none.

mod anthropic;
mod document;
mod openai;
mod stream;

use crate::chat::{ChatAnswer, ChatRequest};
use crate::reply::Reply;
use crate::route::Protocol;

pub use stream::{StreamStyle, StreamTranslator};

/// How OpenAI's protocol is written for a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenLimitField {
    /// `max_tokens`: what compatible servers know.
    MaxTokens,
    /// `max_completion_tokens`: what OpenAI's own newer models insist on.
    MaxCompletionTokens,
}

/// An answer that is not one in its protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// Reads a caller's request in `protocol`.
///
/// # Errors
/// `invalid_request` with the path of a field that is wrong, or that no other protocol has.
pub fn read_request(protocol: Protocol, body: &[u8]) -> Result<ChatRequest, Reply> {
    match protocol {
        Protocol::OpenAi => openai::read_request(body),
        Protocol::Anthropic => anthropic::read_request(body),
    }
}

/// Reads an Anthropic request to count its tokens, where `max_tokens` may be missing.
///
/// # Errors
/// As [`read_request`].
pub fn read_count_request(body: &[u8]) -> Result<ChatRequest, Reply> {
    anthropic::read_count_request(body)
}

/// Writes a request for a provider that speaks `protocol`.
///
/// # Errors
/// `invalid_request` with the field that the protocol has no word for.
pub fn write_request(
    protocol: Protocol,
    request: &ChatRequest,
    limit: TokenLimitField,
) -> Result<Vec<u8>, Reply> {
    match protocol {
        Protocol::OpenAi => openai::write_request(request, limit),
        Protocol::Anthropic => anthropic::write_request(request),
    }
}

/// Reads a provider's whole answer.
///
/// # Errors
/// It is not an answer in `protocol`.
pub fn read_answer(protocol: Protocol, body: &[u8]) -> Result<ChatAnswer, Malformed> {
    match protocol {
        Protocol::OpenAi => openai::read_answer(body),
        Protocol::Anthropic => anthropic::read_answer(body),
    }
}

/// Writes a whole answer for a caller; `created` is in Unix seconds.
#[must_use]
pub fn write_answer(protocol: Protocol, answer: &ChatAnswer, created: u64) -> Vec<u8> {
    match protocol {
        Protocol::OpenAi => openai::write_answer(answer, created),
        Protocol::Anthropic => anthropic::write_answer(answer),
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
