//! Errors in Amazon's shape: the exception's name in a header, and `{"message"}`.

use http::StatusCode;
use serde_json::json;

use crate::emulator::answer::Answer;
use crate::emulator::fault::Refusal;
use crate::emulator::strict::{Mistake, MistakeKind};

/// A refusal, with what Amazon says about it.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    name: &'static str,
    message: String,
}

impl ApiError {
    fn new(status: StatusCode, name: &'static str, message: impl Into<String>) -> Self {
        Self { status, name, message: message.into() }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "ValidationException", message)
    }

    pub(super) fn forbidden(name: &'static str, message: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, name, message)
    }

    pub(super) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "UnknownOperationException", "Unknown operation")
    }

    /// What Amazon says with this status when the fault is its own, or its limits'.
    pub(super) fn canned(status: StatusCode) -> Self {
        let (name, message) = match status.as_u16() {
            401 | 403 => {
                ("AccessDeniedException", "You don't have access to the model with the specified model ID.")
            }
            404 => (
                "ResourceNotFoundException",
                "Could not resolve the foundation model from the provided model identifier.",
            ),
            408 => (
                "ModelTimeoutException",
                "Model has timed out in processing the request. Try your request again.",
            ),
            424 => ("ModelErrorException", "The model produced an error. Try your request again."),
            429 => ("ThrottlingException", "Too many requests, please wait before trying again."),
            503 => ("ServiceUnavailableException", "Bedrock is unable to process your request."),
            400..=499 => ("ValidationException", "The request was refused."),
            _ => (
                "InternalServerException",
                "The system encountered an unexpected error during processing. Try your request again.",
            ),
        };
        Self::new(status, name, message)
    }

    /// A refusal of a known kind.
    pub(super) fn of(refusal: Refusal) -> Self {
        match refusal {
            Refusal::RateLimit => Self::canned(StatusCode::TOO_MANY_REQUESTS),
            Refusal::Overloaded => Self::canned(StatusCode::SERVICE_UNAVAILABLE),
            Refusal::Quota => Self::new(
                StatusCode::BAD_REQUEST,
                "ServiceQuotaExceededException",
                "Your request exceeds the service quota for your account.",
            ),
            Refusal::ContextLength => Self::invalid("Input is too long for requested model."),
        }
    }

    pub(super) fn into_answer(self) -> Answer {
        let name = format!("{}:http://internal.amazon.com/coral/com.amazon.bedrock/", self.name);
        Answer::json(self.status, &json!({ "message": self.message })).with_header("x-amzn-errortype", name)
    }
}

impl From<Mistake> for ApiError {
    fn from(mistake: Mistake) -> Self {
        let Mistake { path, kind } = mistake;
        match kind {
            MistakeKind::NotJson => Self::new(
                StatusCode::BAD_REQUEST,
                "SerializationException",
                "Unexpected token in the request body",
            ),
            MistakeKind::Unknown => Self::invalid(format!(
                "Malformed input request: #: extraneous key [{path}] is not permitted, please reformat your input and try again."
            )),
            MistakeKind::Missing => Self::invalid(format!(
                "1 validation error detected: Value at '{path}' failed to satisfy constraint: Member must not be null"
            )),
            MistakeKind::Type(wanted) => Self::new(
                StatusCode::BAD_REQUEST,
                "SerializationException",
                format!("{path} can not be converted to {wanted}"),
            ),
            MistakeKind::Value(sentence) => Self::invalid(format!(
                "1 validation error detected: Value at '{path}' failed to satisfy constraint: Member {sentence}"
            )),
        }
    }
}
