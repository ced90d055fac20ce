//! Google's Gemini API, and Vertex AI's way to the same models, as their references document them.

mod content;
mod embed;
mod error;
mod generate;
mod tools;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use self::error::ApiError;
use super::answer::Answer;
use super::fault::Refusal;
use super::provider::{bearer, header, query};

/// Where the Gemini API is mounted.
pub(super) const BASE_PATH: &str = "/gemini/v1beta";
/// Where Vertex AI is mounted.
pub(super) const VERTEX_PATH: &str = "/vertex";
/// Below it, Google's models for the one project there is.
const PUBLISHER_PATH: &str = "/vertex/v1/projects/emulated/locations/us-central1/publishers/google";
/// Where service accounts get their tokens.
const TOKEN_PATH: &str = "/vertex/token";

/// The models that chat: the first is told how much to think by a number, the second by a word.
const CHAT_MODELS: [&str; 2] = ["gemini-2.5-flash", "gemini-3-pro-preview"];
const EMBEDDING_MODEL: &str = "gemini-embedding-001";

/// Answers one request as Google would.
pub(super) fn answer(head: &Parts, body: &[u8]) -> Answer {
    route(head, body).unwrap_or_else(|error| error.into_answer())
}

/// The error that Google sends with this status when nothing is wrong with the request.
pub(super) fn canned_error(status: StatusCode) -> Answer {
    ApiError::canned(status).into_answer()
}

/// A refusal of a known kind.
pub(super) fn refusal(refusal: Refusal) -> Answer {
    ApiError::of(refusal).into_answer()
}

/// The event that Google sends when a stream fails in the middle.
pub(super) fn error_event() -> Bytes {
    event(&ApiError::canned(StatusCode::SERVICE_UNAVAILABLE).document())
}

fn route(head: &Parts, body: &[u8]) -> Result<Answer, ApiError> {
    let path = head.uri.path();
    if path == TOKEN_PATH {
        return token(body);
    }
    let (rest, version) = if let Some(rest) = path.strip_prefix(BASE_PATH) {
        check_key(head)?;
        (rest, "v1beta")
    } else if let Some(rest) = path.strip_prefix(PUBLISHER_PATH) {
        bearer(head).filter(|token| token.starts_with("ya29.")).ok_or_else(ApiError::bad_token)?;
        (rest, "v1")
    } else {
        return Err(ApiError::not_found());
    };
    let named = rest.strip_prefix("/models/").map(|name| name.split_once(':').unwrap_or((name, "")));
    match (&head.method, rest, named) {
        (&Method::GET, "/models", _) => Ok(models()),
        (&Method::GET, _, Some((model, ""))) if is_known(model) => {
            Ok(Answer::json(StatusCode::OK, &described(model)))
        }
        (&Method::POST, _, Some((model, method))) if is_known(model) => operation(head, model, method, body),
        (_, _, Some((model, _))) if !is_known(model) => Err(ApiError::no_such_model(model, version)),
        _ => Err(ApiError::not_found()),
    }
}

fn operation(head: &Parts, model: &str, method: &str, body: &[u8]) -> Result<Answer, ApiError> {
    let embeds = model == EMBEDDING_MODEL;
    match method {
        "generateContent" if !embeds => generate::answer(model, body),
        "streamGenerateContent" if !embeds => {
            generate::stream(model, body, query(head, "alt").as_deref() == Some("sse"))
        }
        "countTokens" if !embeds => generate::count(model, body),
        "embedContent" if embeds => embed::one(body),
        "batchEmbedContents" if embeds => embed::batch(model, body),
        _ => Err(ApiError::no_such_model(model, "v1beta")),
    }
}

fn check_key(head: &Parts) -> Result<(), ApiError> {
    let key = header(head, "x-goog-api-key").map(str::to_owned).or_else(|| query(head, "key"));
    match key {
        None => Err(ApiError::no_key()),
        Some(key) if key.starts_with("AIza") => Ok(()),
        Some(_) => Err(ApiError::bad_key()),
    }
}

/// A token for a service account's signed request (RFC 7523); the signature is not looked at.
fn token(form: &[u8]) -> Result<Answer, ApiError> {
    let form = String::from_utf8_lossy(form);
    let field = |name: &str| form.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let is_jwt = field("assertion").is_some_and(|jwt| jwt.split('.').count() == 3);
    if field("grant_type") != Some("urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer") || !is_jwt {
        let refused = json!({"error": "invalid_grant", "error_description": "Invalid JWT"});
        return Ok(Answer::json(StatusCode::BAD_REQUEST, &refused));
    }
    let given = json!({"access_token": "ya29.emulated", "expires_in": 3599, "token_type": "Bearer"});
    Ok(Answer::json(StatusCode::OK, &given))
}

fn is_known(model: &str) -> bool {
    CHAT_MODELS.contains(&model) || model == EMBEDDING_MODEL
}

fn models() -> Answer {
    let all: Vec<Value> =
        CHAT_MODELS.iter().chain([&EMBEDDING_MODEL]).map(|model| described(model)).collect();
    Answer::json(StatusCode::OK, &json!({ "models": all }))
}

fn described(model: &str) -> Value {
    let methods: &[&str] = if model == EMBEDDING_MODEL {
        &["embedContent", "batchEmbedContents"]
    } else {
        &["generateContent", "countTokens"]
    };
    json!({
        "name": format!("models/{model}"), "version": "001", "displayName": model, "inputTokenLimit": 1_048_576,
        "outputTokenLimit": 65_536, "supportedGenerationMethods": methods,
    })
}

/// One server-sent event, with the line ends that Google sends.
fn event(document: &Value) -> Bytes {
    Bytes::from(format!("data: {document}\r\n\r\n"))
}
