//! Errors in Anthropic's shape: `{"type":"error","error":{"type","message"},"request_id"}`.

use http::StatusCode;
use serde_json::json;

use crate::emulator::answer::Answer;
use crate::emulator::ids;

/// A refusal, with what Anthropic says about it.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    message: String,
}

impl ApiError {
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, message: message.into() }
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_FOUND, message: message.into() }
    }

    pub(super) fn unauthorised(message: &str) -> Self {
        Self { status: StatusCode::UNAUTHORIZED, message: message.to_owned() }
    }

    pub(super) fn wrong_method() -> Self {
        Self { status: StatusCode::METHOD_NOT_ALLOWED, message: "Method Not Allowed".to_owned() }
    }

    pub(super) fn missing(field: &str) -> Self {
        Self::invalid(format!("{field}: Field required"))
    }

    pub(super) fn wrong_type(field: &str, wanted: &str) -> Self {
        Self::invalid(format!("{field}: Input should be {wanted}"))
    }

    /// What Anthropic says with this status when the fault is its own, or its limits'.
    pub(super) fn canned(status: StatusCode) -> Self {
        let message = match status.as_u16() {
            413 => "Request exceeds the maximum size",
            429 => "This request would exceed your organization's rate limit. Please try again later.",
            529 => "Overloaded",
            400..=499 => "The request was refused.",
            _ => "Internal server error",
        };
        Self { status, message: message.to_owned() }
    }

    fn kind(&self) -> &'static str {
        match self.status.as_u16() {
            401 => "authentication_error",
            403 => "permission_error",
            404 => "not_found_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            529 => "overloaded_error",
            400..=499 => "invalid_request_error",
            504 => "timeout_error",
            _ => "api_error",
        }
    }

    pub(super) fn into_answer(self) -> Answer {
        let error = json!({"type": self.kind(), "message": self.message});
        let document = json!({"type": "error", "error": error, "request_id": ids::next("req_")});
        Answer::json(self.status, &document)
    }
}
