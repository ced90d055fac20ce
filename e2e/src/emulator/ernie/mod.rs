//! Baidu's classic chat API (`wenxinworkshop`) with its access tokens, and version 2 of the API,
//! which is OpenAI's under another roof, as their references document them.

mod chat;
mod content;
mod embed;
mod error;

use bytes::Bytes;
use http::StatusCode;
use http::request::Parts;
use serde_json::json;

use self::error::ApiError;
use super::answer::Answer;
use super::fault::Refusal;
use super::openai;
use super::provider::{bearer, query};

/// Where the classic API is mounted.
pub(super) const BASE_PATH: &str = "/ernie";
/// Where version 2 is mounted.
pub(super) const V2_PATH: &str = "/ernie/v2";
const TOKEN_PATH: &str = "/oauth/2.0/token";
const WORKSHOP: &str = "/rpc/2.0/ai_custom/v1/wenxinworkshop/";
/// What version 2's keys begin with.
const V2_KEY_PREFIX: &str = "bce-v3/";

/// The one application there is, its secret, and the token it gets.
const CLIENT_ID: &str = "ernie-key-0123456789";
const CLIENT_SECRET: &str = "ernie-secret-0123456789";
const ACCESS_TOKEN: &str = "24.emulated";
/// Thirty days.
const TOKEN_SECONDS: u64 = 2_592_000;

/// The names of the models in addresses.
const CHAT_MODELS: [&str; 3] = ["completions_pro", "completions", "ernie_speed"];
const EMBEDDING_MODEL: &str = "embedding-v1";

/// Answers one request as Baidu would.
pub(super) fn answer(head: &Parts, body: &[u8]) -> Answer {
    let path = head.uri.path();
    if let Some(endpoint) = path.strip_prefix(V2_PATH) {
        return newer(head, endpoint, body);
    }
    let rest = path.strip_prefix(BASE_PATH).unwrap_or_default();
    if rest == TOKEN_PATH {
        return token(head);
    }
    classic(head, rest, body).unwrap_or_else(|error| error.into_answer())
}

/// The error that Baidu sends with this status when nothing is wrong with the request.
pub(super) fn canned_error(status: StatusCode) -> Answer {
    ApiError::canned(status).into_answer()
}

/// A refusal of a known kind.
pub(super) fn refusal(refusal: Refusal) -> Answer {
    ApiError::of(refusal).into_answer()
}

/// The event that Baidu sends when a stream fails in the middle.
pub(super) fn error_event() -> Bytes {
    Bytes::from(format!("data: {}\n\n", ApiError::of(Refusal::Overloaded).document()))
}

fn token(head: &Parts) -> Answer {
    let refused = |why: &str| {
        let document = json!({"error": "invalid_client", "error_description": why});
        Answer::json(StatusCode::UNAUTHORIZED, &document)
    };
    if query(head, "grant_type").as_deref() != Some("client_credentials") {
        let document = json!({"error": "unsupported_grant_type", "error_description": "The authorization grant type is not supported"});
        return Answer::json(StatusCode::BAD_REQUEST, &document);
    }
    match (query(head, "client_id").as_deref(), query(head, "client_secret").as_deref()) {
        (Some(CLIENT_ID), Some(CLIENT_SECRET)) => {
            let given = json!({"access_token": ACCESS_TOKEN, "expires_in": TOKEN_SECONDS, "scope": "public"});
            Answer::json(StatusCode::OK, &given)
        }
        (Some(CLIENT_ID), _) => refused("Client authentication failed"),
        _ => refused("unknown client id"),
    }
}

fn classic(head: &Parts, rest: &str, body: &[u8]) -> Result<Answer, ApiError> {
    if query(head, "access_token").as_deref() != Some(ACCESS_TOKEN) {
        return Err(ApiError::bad_token());
    }
    match rest.strip_prefix(WORKSHOP).and_then(|rest| rest.split_once('/')) {
        Some(("chat", model)) if CHAT_MODELS.contains(&model) => chat::answer(body),
        Some(("embeddings", EMBEDDING_MODEL)) => embed::answer(body),
        _ => Err(ApiError::no_such_method()),
    }
}

fn newer(head: &Parts, endpoint: &str, body: &[u8]) -> Answer {
    if bearer(head).is_some_and(|key| key.starts_with(V2_KEY_PREFIX)) {
        return openai::operation(&head.method, endpoint, body);
    }
    let error = json!({
        "code": "invalid_iam_token", "message": "Unauthorized: invalid iam token", "type": "invalid_request_error",
    });
    Answer::json(StatusCode::UNAUTHORIZED, &json!({"error": error, "id": super::ids::next("as-")}))
}
