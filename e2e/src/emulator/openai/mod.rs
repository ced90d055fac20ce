//! The OpenAI API as its reference documents it, as far as a gateway in front of it can tell.

mod chat;
mod completions;
mod content;
mod embeddings;
mod error;
mod models;
mod params;
mod tools;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde::Serialize;

use self::error::ApiError;
use super::answer::{Answer, Payload};
use super::fault::Refusal;
use super::ids;

/// Where the API is mounted.
pub(super) const BASE_PATH: &str = "/openai/v1";

/// The last event of a stream that went well.
const DONE: &[u8] = b"data: [DONE]\n\n";

/// Answers one request as OpenAI would.
pub(super) fn answer(head: &Parts, body: &[u8]) -> Answer {
    let path = head.uri.path();
    let Some(endpoint) = path.strip_prefix(BASE_PATH) else {
        return ApiError::no_such_url(&head.method, path).into_answer();
    };
    let keyed = check_key(&head.headers);
    keyed.and_then(|()| route(&head.method, endpoint, body)).unwrap_or_else(|error| error.into_answer())
}

/// Answers one request of somebody who was let in, whoever runs the API.
pub(super) fn operation(method: &Method, endpoint: &str, body: &[u8]) -> Answer {
    route(method, endpoint, body).unwrap_or_else(|error| error.into_answer())
}

/// The error that OpenAI sends with this status when nothing is wrong with the request.
pub(super) fn canned_error(status: StatusCode) -> Answer {
    ApiError::canned(status).into_answer()
}

/// A refusal of a known kind.
pub(super) fn refusal(refusal: Refusal) -> Answer {
    ApiError::of(refusal).into_answer()
}

/// The event that OpenAI sends when a stream fails in the middle.
pub(super) fn error_event() -> Bytes {
    event(&ApiError::canned(StatusCode::INTERNAL_SERVER_ERROR).document())
}

/// The headers that every OpenAI answer carries.
pub(super) fn add_headers(headers: &mut HeaderMap) {
    const VERSION: HeaderName = HeaderName::from_static("openai-version");
    const PROCESSING_MS: HeaderName = HeaderName::from_static("openai-processing-ms");
    const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
    headers.insert(VERSION, HeaderValue::from_static("2020-10-01"));
    headers.insert(PROCESSING_MS, HeaderValue::from_static("1"));
    if let Ok(id) = HeaderValue::from_str(&ids::next("req_")) {
        headers.insert(REQUEST_ID, id);
    }
}

fn route(method: &Method, endpoint: &str, body: &[u8]) -> Result<Answer, ApiError> {
    let (wanted, operation): (Method, &dyn Fn() -> Result<Answer, ApiError>) = match endpoint {
        "/chat/completions" => (Method::POST, &|| chat::answer(body)),
        "/completions" => (Method::POST, &|| completions::answer(body)),
        "/embeddings" => (Method::POST, &|| embeddings::answer(body)),
        "/models" => (Method::GET, &|| Ok(models::list())),
        _ => match endpoint.strip_prefix("/models/") {
            Some(id) => (Method::GET, &move || models::one(id)),
            None => return Err(ApiError::no_such_url(method, endpoint)),
        },
    };
    if *method != wanted {
        return Err(ApiError::wrong_method(method, endpoint));
    }
    operation()
}

fn check_key(headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(value) = headers.get(http::header::AUTHORIZATION) else {
        return Err(ApiError::no_key());
    };
    let key = value.to_str().ok().and_then(|v| v.strip_prefix("Bearer ")).unwrap_or_default();
    if key.starts_with("sk-") { Ok(()) } else { Err(ApiError::bad_key(key)) }
}

/// One server-sent event.
fn event(document: &impl Serialize) -> Bytes {
    let mut bytes = b"data: ".to_vec();
    // The documents here are maps with string keys, which always serialise.
    if serde_json::to_writer(&mut bytes, document).is_err() {
        bytes.extend_from_slice(b"{}");
    }
    bytes.extend_from_slice(b"\n\n");
    Bytes::from(bytes)
}

/// A 200 with one JSON document.
fn document(document: &impl Serialize) -> Answer {
    let bytes = serde_json::to_vec(document).unwrap_or_default();
    Answer::ok(Payload::Json(Bytes::from(bytes)))
}
