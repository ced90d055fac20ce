//! Errors in Baidu's shape: `{"error_code","error_msg"}`, mostly in an answer whose status is 200.

use http::StatusCode;
use serde_json::{Value, json};

use crate::emulator::answer::Answer;
use crate::emulator::fault::Refusal;
use crate::emulator::ids;
use crate::emulator::strict::{Mistake, MistakeKind};

/// A refusal, with what Baidu says about it.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    code: u32,
    message: String,
}

impl ApiError {
    fn new(code: u32, message: impl Into<String>) -> Self {
        Self { status: StatusCode::OK, code, message: message.into() }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(336_003, message)
    }

    pub(super) fn bad_token() -> Self {
        Self::new(110, "Access token invalid or no longer valid")
    }

    pub(super) fn no_such_method() -> Self {
        Self::new(3, "Unsupported openapi method")
    }

    /// What Baidu says with this status when the fault is its own, or its limits'.
    pub(super) fn canned(status: StatusCode) -> Self {
        let error = match status.as_u16() {
            401 => Self::bad_token(),
            404 => Self::no_such_method(),
            429 => Self::of(Refusal::RateLimit),
            400..=499 => Self::new(336_001, "the request was refused"),
            _ => Self::new(336_000, "Internal error, please try again"),
        };
        Self { status, ..error }
    }

    /// A refusal of a known kind.
    pub(super) fn of(refusal: Refusal) -> Self {
        match refusal {
            Refusal::RateLimit => Self::new(18, "Open api qps request limit reached"),
            Refusal::Quota => Self::new(17, "Open api daily request limit reached"),
            Refusal::Overloaded => {
                Self::new(336_100, "the server is temporarily unavailable, please try again later")
            }
            Refusal::ContextLength => {
                Self::new(336_103, "the length of prompt tokens is too long: max input token length is 20000")
            }
        }
    }

    pub(super) fn document(&self) -> Value {
        json!({"error_code": self.code, "error_msg": self.message, "id": ids::next("as-")})
    }

    pub(super) fn into_answer(self) -> Answer {
        Answer::json(self.status, &self.document())
    }
}

impl From<Mistake> for ApiError {
    fn from(mistake: Mistake) -> Self {
        let Mistake { path, kind } = mistake;
        match kind {
            MistakeKind::NotJson => Self::new(336_002, "Invalid JSON"),
            MistakeKind::Unknown => Self::new(336_001, format!("unknown parameter {path}")),
            MistakeKind::Missing => Self::invalid(format!("{path} is missing")),
            MistakeKind::Type(wanted) => Self::invalid(format!("the type of {path} must be {wanted}")),
            MistakeKind::Value(sentence) => Self::invalid(format!("{path} {sentence}")),
        }
    }
}
