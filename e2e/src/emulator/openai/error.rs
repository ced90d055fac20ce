//! Errors in OpenAI's shape: `{"error":{"message","type","param","code"}}`.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::emulator::answer::Answer;
use crate::emulator::fault::Refusal;

/// A refusal, with what OpenAI says about it.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    kind: &'static str,
    message: String,
    param: Option<String>,
    code: Option<&'static str>,
    headers: Vec<(&'static str, &'static str)>,
}

const INVALID_REQUEST: &str = "invalid_request_error";

impl ApiError {
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            kind: INVALID_REQUEST,
            message: message.into(),
            param: None,
            code: None,
            headers: Vec::new(),
        }
    }

    pub(super) fn param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    pub(super) fn code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    pub(super) fn missing(param: &str) -> Self {
        Self::invalid(format!("Missing required parameter: '{param}'."))
            .param(param)
            .code("missing_required_parameter")
    }

    pub(super) fn wrong_type(param: &str, wanted: &str) -> Self {
        Self::invalid(format!("Invalid type for '{param}': expected {wanted}."))
            .param(param)
            .code("invalid_type")
    }

    pub(super) fn broken_json() -> Self {
        Self::invalid(
            "We could not parse the JSON body of your request. (HINT: This likely means you \
             aren't using your HTTP library correctly. The OpenAI API expects a JSON payload, \
             but what was sent was not valid JSON.)",
        )
    }

    pub(super) fn no_such_model(model: &str) -> Self {
        Self::invalid(format!("The model `{model}` does not exist or you do not have access to it."))
            .code("model_not_found")
            .status(StatusCode::NOT_FOUND)
    }

    pub(super) fn no_such_url(method: &Method, path: &str) -> Self {
        Self::invalid(format!("Invalid URL ({method} {path})")).status(StatusCode::NOT_FOUND)
    }

    pub(super) fn wrong_method(method: &Method, path: &str) -> Self {
        Self::invalid(format!("Not allowed to {method} on {path}."))
            .code("method_not_supported")
            .status(StatusCode::METHOD_NOT_ALLOWED)
    }

    pub(super) fn no_key() -> Self {
        Self::invalid(
            "You didn't provide an API key. You need to provide your API key in an Authorization \
             header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).",
        )
        .status(StatusCode::UNAUTHORIZED)
    }

    pub(super) fn bad_key(key: &str) -> Self {
        let shown: String = key.chars().take(3).collect();
        Self::invalid(format!("Incorrect API key provided: {shown}***."))
            .code("invalid_api_key")
            .status(StatusCode::UNAUTHORIZED)
    }

    /// A refusal of a known kind.
    pub(super) fn of(refusal: Refusal) -> Self {
        match refusal {
            Refusal::RateLimit => Self {
                headers: vec![
                    ("retry-after", "7"),
                    ("x-ratelimit-limit-requests", "500"),
                    ("x-ratelimit-remaining-requests", "0"),
                    ("x-ratelimit-reset-requests", "7s"),
                ],
                ..Self::canned(StatusCode::TOO_MANY_REQUESTS)
            },
            Refusal::Quota => Self {
                kind: "insufficient_quota",
                code: Some("insufficient_quota"),
                message: "You exceeded your current quota, please check your plan and billing details.".to_owned(),
                ..Self::canned(StatusCode::TOO_MANY_REQUESTS)
            },
            Refusal::Overloaded => Self::canned(StatusCode::SERVICE_UNAVAILABLE),
            Refusal::ContextLength => Self::invalid(
                "This model's maximum context length is 128000 tokens. However, your messages resulted in 200000 \
                 tokens. Please reduce the length of the messages.",
            )
            .param("messages")
            .code("context_length_exceeded"),
        }
    }

    /// What a provider says with this status when the fault is its own, or its limits'.
    pub(super) fn canned(status: StatusCode) -> Self {
        let (kind, message, code) = match status.as_u16() {
            401 => (INVALID_REQUEST, "Incorrect API key provided.", Some("invalid_api_key")),
            404 => (INVALID_REQUEST, "The model does not exist.", Some("model_not_found")),
            413 => (INVALID_REQUEST, "The request is too large.", None),
            429 => (
                "requests",
                "Rate limit reached for requests. Please try again later.",
                Some("rate_limit_exceeded"),
            ),
            503 => ("server_error", "The engine is currently overloaded.", None),
            400..=499 => (INVALID_REQUEST, "The request was refused.", None),
            _ => (
                "server_error",
                "The server had an error while processing your request. Sorry about that!",
                None,
            ),
        };
        Self { status, kind, message: message.to_owned(), param: None, code, headers: Vec::new() }
    }

    pub(super) fn document(&self) -> Value {
        json!({ "error": {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        }})
    }

    pub(super) fn into_answer(self) -> Answer {
        let answer = Answer::json(self.status, &self.document());
        self.headers.iter().fold(answer, |answer, (name, value)| answer.with_header(name, *value))
    }
}
