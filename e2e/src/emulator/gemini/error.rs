//! Errors in Google's shape: `{"error":{"code","message","status","details"}}`.

use http::StatusCode;
use serde_json::{Value, json};

use crate::emulator::answer::Answer;
use crate::emulator::fault::Refusal;
use crate::emulator::strict::{Mistake, MistakeKind};

/// What a refused caller is told to wait, in seconds.
const RETRY_SECONDS: u64 = 7;

/// A refusal, with what Google says about it.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    message: String,
    details: Vec<Value>,
}

impl ApiError {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), details: Vec::new() }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(super) fn no_such_model(model: &str, version: &str) -> Self {
        let message = format!(
            "models/{model} is not found for API version {version}, or is not supported for this method. Call \
             ListModels to see the list of available models and their supported methods."
        );
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub(super) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "Requested entity was not found.")
    }

    pub(super) fn no_key() -> Self {
        let message = "Method doesn't allow unregistered callers (callers without established identity). Please use \
                       API Key or other form of API consumer identity to call this API.";
        Self::new(StatusCode::FORBIDDEN, message)
    }

    pub(super) fn bad_key() -> Self {
        let mut error = Self::invalid("API key not valid. Please pass a valid API key.");
        error.details.push(json!({
            "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID",
            "domain": "googleapis.com", "metadata": {"service": "generativelanguage.googleapis.com"},
        }));
        error
    }

    pub(super) fn bad_token() -> Self {
        let message = "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or \
                       other valid authentication credential.";
        Self::new(StatusCode::UNAUTHORIZED, message)
    }

    /// What Google says with this status when the fault is its own, or its limits'.
    pub(super) fn canned(status: StatusCode) -> Self {
        let message = match status.as_u16() {
            429 => return Self::of(Refusal::RateLimit),
            401 => return Self::bad_token(),
            404 => return Self::not_found(),
            503 => "The model is overloaded. Please try again later.",
            400..=499 => "The request was refused.",
            _ => {
                "An internal error has occurred. Please retry or report in https://developers.generativeai.google/guide/troubleshooting"
            }
        };
        Self::new(status, message)
    }

    /// A refusal of a known kind.
    pub(super) fn of(refusal: Refusal) -> Self {
        let exhausted = |kind: &str, detail: Value| {
            let mut error = Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                format!(
                    "You exceeded your current quota, please check your plan and billing details. {kind}"
                ),
            );
            error.details.push(detail);
            error
        };
        match refusal {
            Refusal::RateLimit => exhausted(
                "Please retry in 7s.",
                json!({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": format!("{RETRY_SECONDS}s")}),
            ),
            Refusal::Quota => exhausted(
                "Quota exceeded for metric: generate_content_free_tier_requests, limit: 250",
                json!({
                    "@type": "type.googleapis.com/google.rpc.QuotaFailure",
                    "violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}],
                }),
            ),
            Refusal::Overloaded => Self::canned(StatusCode::SERVICE_UNAVAILABLE),
            Refusal::ContextLength => Self::invalid(
                "The input token count (2000000) exceeds the maximum number of tokens allowed (1048576).",
            ),
        }
    }

    fn name(&self) -> &'static str {
        match self.status.as_u16() {
            400 | 413 => "INVALID_ARGUMENT",
            401 => "UNAUTHENTICATED",
            403 => "PERMISSION_DENIED",
            404 => "NOT_FOUND",
            429 => "RESOURCE_EXHAUSTED",
            503 | 529 => "UNAVAILABLE",
            504 => "DEADLINE_EXCEEDED",
            400..=499 => "FAILED_PRECONDITION",
            _ => "INTERNAL",
        }
    }

    pub(super) fn document(&self) -> Value {
        let mut error = json!({"code": self.status.as_u16(), "message": self.message, "status": self.name()});
        if !self.details.is_empty() {
            error["details"] = json!(self.details);
        }
        json!({ "error": error })
    }

    pub(super) fn into_answer(self) -> Answer {
        Answer::json(self.status, &self.document())
    }
}

impl From<Mistake> for ApiError {
    fn from(mistake: Mistake) -> Self {
        let Mistake { path, kind } = mistake;
        let (place, name) = path.rsplit_once('.').unwrap_or(("", &path));
        Self::invalid(match kind {
            MistakeKind::NotJson => "Invalid JSON payload received. Unexpected token.".to_owned(),
            MistakeKind::Unknown => {
                format!(
                    "Invalid JSON payload received. Unknown name \"{name}\" at '{place}': Cannot find field."
                )
            }
            MistakeKind::Missing => format!("* GenerateContentRequest.{path}: required field is missing"),
            MistakeKind::Type(wanted) => format!("Invalid value at '{path}': expected {wanted}"),
            MistakeKind::Value(sentence) => format!("* GenerateContentRequest.{path}: {sentence}"),
        })
    }
}
