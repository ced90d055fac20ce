//! Anthropic's API as its reference documents it, as far as a gateway in front of it can tell.

mod content;
mod error;
mod messages;
mod params;
mod tools;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde_json::{Value, json};

use self::error::ApiError;
use super::answer::Answer;
use super::fault::Refusal;
use super::ids;

/// Where the API is mounted.
pub(super) const BASE_PATH: &str = "/anthropic/v1";

/// The versions of the API: the first that lasted, and the one that the official clients ask for.
const VERSIONS: [&str; 2] = ["2023-06-01", "2026-10-21"];
/// The models on offer.
const MODELS: [&str; 2] = ["claude-sonnet-4-5", "claude-haiku-4-5"];

/// Answers one request as Anthropic would.
pub(super) fn answer(head: &Parts, body: &[u8]) -> Answer {
    route(&head.method, head.uri.path(), &head.headers, body).unwrap_or_else(|error| error.into_answer())
}

/// The error that Anthropic sends with this status when nothing is wrong with the request.
pub(super) fn canned_error(status: StatusCode) -> Answer {
    ApiError::canned(status).into_answer()
}

/// A refusal of a known kind.
pub(super) fn refusal(refusal: Refusal) -> Answer {
    match refusal {
        Refusal::RateLimit => {
            let answer = canned_error(StatusCode::TOO_MANY_REQUESTS).with_header("retry-after", "7");
            answer.with_header("anthropic-ratelimit-requests-reset", "2026-01-01T00:00:07Z")
        }
        Refusal::Overloaded => {
            canned_error(StatusCode::from_u16(529).unwrap_or(StatusCode::SERVICE_UNAVAILABLE))
        }
        Refusal::Quota => {
            let why = "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to \
                       upgrade or purchase credits.";
            ApiError::invalid(why).into_answer()
        }
        Refusal::ContextLength => {
            ApiError::invalid("prompt is too long: 200001 tokens > 200000 maximum").into_answer()
        }
    }
}

/// The event that Anthropic sends when a stream fails in the middle.
pub(super) fn error_event() -> Bytes {
    event("error", &json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}))
}

/// The headers that every Anthropic answer carries.
pub(super) fn add_headers(headers: &mut HeaderMap) {
    const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
    const REMAINING: HeaderName = HeaderName::from_static("anthropic-ratelimit-requests-remaining");
    headers.insert(REMAINING, HeaderValue::from_static("999"));
    if let Ok(id) = HeaderValue::from_str(&ids::next("req_")) {
        headers.insert(REQUEST_ID, id);
    }
}

fn route(method: &Method, path: &str, headers: &HeaderMap, body: &[u8]) -> Result<Answer, ApiError> {
    let endpoint = path.strip_prefix(BASE_PATH).unwrap_or_default();
    let (wanted, operation): (Method, &dyn Fn() -> Result<Answer, ApiError>) = match endpoint {
        "/messages" => (Method::POST, &|| messages::answer(body)),
        "/messages/count_tokens" => (Method::POST, &|| messages::count(body)),
        "/models" => (Method::GET, &|| Ok(models())),
        _ => return Err(ApiError::not_found("Not found")),
    };
    if *method != wanted {
        return Err(ApiError::wrong_method());
    }
    check_headers(headers)?;
    operation()
}

fn check_headers(headers: &HeaderMap) -> Result<(), ApiError> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match text("x-api-key") {
        None => return Err(ApiError::unauthorised("x-api-key header is required")),
        Some(key) if !key.starts_with("sk-ant-") => return Err(ApiError::unauthorised("invalid x-api-key")),
        Some(_) => {}
    }
    match text("anthropic-version") {
        None => Err(ApiError::invalid("anthropic-version: header is required")),
        Some(version) if VERSIONS.contains(&version) => Ok(()),
        Some(other) => {
            Err(ApiError::invalid(format!("anthropic-version: \"{other}\" is not a valid version")))
        }
    }
}

fn models() -> Answer {
    let described = MODELS.map(
        |id| json!({"type": "model", "id": id, "display_name": id, "created_at": "2025-10-01T00:00:00Z"}),
    );
    let document = json!({
        "data": described, "has_more": false, "first_id": MODELS[0], "last_id": MODELS[MODELS.len() - 1],
    });
    Answer::json(StatusCode::OK, &document)
}

/// One server-sent event.
fn event(name: &str, document: &Value) -> Bytes {
    Bytes::from(format!("event: {name}\ndata: {document}\n\n"))
}
