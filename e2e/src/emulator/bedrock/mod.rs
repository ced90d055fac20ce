//! Amazon Bedrock's runtime as its reference documents it: `Converse`, `ConverseStream` and the
//! embedding models behind `InvokeModel`, signed or with a bearer key.

mod content;
mod converse;
mod embed;
mod error;
mod frames;
mod sigv4;
mod tools;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, StatusCode};
use serde_json::json;

use self::error::ApiError;
use super::answer::Answer;
use super::fault::Refusal;
use super::provider::{bearer, decoded};

/// Where the API is mounted.
pub(super) const BASE_PATH: &str = "/bedrock";
/// What Bedrock's own keys begin with.
const KEY_PREFIX: &str = "bedrock-api-key-";
/// The models that converse.
const CHAT_MODELS: [&str; 2] = ["anthropic.claude-sonnet-4-5-20250929-v1:0", "amazon.nova-pro-v1:0"];

/// Answers one request as Bedrock would.
pub(super) fn answer(head: &Parts, body: &[u8]) -> Answer {
    route(head, body).unwrap_or_else(|error| error.into_answer())
}

/// The error that Bedrock sends with this status when nothing is wrong with the request.
pub(super) fn canned_error(status: StatusCode) -> Answer {
    ApiError::canned(status).into_answer()
}

/// A refusal of a known kind.
pub(super) fn refusal(refusal: Refusal) -> Answer {
    ApiError::of(refusal).into_answer()
}

/// The frame that Bedrock sends when a stream fails in the middle.
pub(super) fn error_event() -> Bytes {
    frames::exception(
        "serviceUnavailableException",
        &json!({"message": "Bedrock is unable to process your request."}),
    )
}

fn route(head: &Parts, body: &[u8]) -> Result<Answer, ApiError> {
    let rest = head.uri.path().strip_prefix(BASE_PATH).and_then(|rest| rest.strip_prefix("/model/"));
    let (model, operation) = rest.and_then(|rest| rest.rsplit_once('/')).ok_or_else(ApiError::not_found)?;
    if head.method != Method::POST {
        return Err(ApiError::not_found());
    }
    match bearer(head) {
        Some(key) if key.starts_with(KEY_PREFIX) => {}
        Some(_) => {
            return Err(ApiError::forbidden(
                "AccessDeniedException",
                "Authentication failed: Please make sure your API Key is valid.",
            ));
        }
        None => sigv4::check(head, body)?,
    }
    let model = decoded(model);
    match operation {
        "converse" if CHAT_MODELS.contains(&model.as_str()) => converse::answer(&model, body),
        "converse-stream" if CHAT_MODELS.contains(&model.as_str()) => converse::stream(&model, body),
        "invoke" => embed::answer(&model, body),
        "converse" | "converse-stream" => Err(ApiError::invalid("The provided model identifier is invalid.")),
        _ => Err(ApiError::not_found()),
    }
}
