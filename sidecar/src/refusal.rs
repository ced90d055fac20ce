//! What the sidecar itself answers: refusals in the caller's protocol, and JSON.

use axum::body::Body;
use axum::response::Response;
use http::header::{ALLOW, CONTENT_TYPE, HeaderName};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use tidegate_core::reply::{Code, Reply};
use tidegate_core::route::Protocol;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A refusal as a response, with `retry-after` where there is something to wait for.
#[must_use]
pub fn refuse(reply: &Reply, protocol: Protocol, request_id: &str) -> Response {
    let mut response = Response::new(Body::from(reply.body(protocol, request_id)));
    *response.status_mut() =
        StatusCode::from_u16(reply.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    for (name, value) in reply.retry_headers() {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    response
}

/// A refusal on a path of the gateway's own, which all speak OpenAI's dialect.
#[must_use]
pub fn refuse_here(reply: &Reply) -> Response {
    refuse(reply, Protocol::OpenAi, "")
}

/// `value` as a JSON response.
#[must_use]
pub fn json(status: StatusCode, value: &impl Serialize) -> Response {
    let Ok(body) = serde_json::to_vec(value) else {
        return refuse_here(&Reply::new(Code::InternalError, "the answer could not be written as JSON"));
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// A response without a body.
#[must_use]
pub fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// Nothing answers at this path.
#[must_use]
pub fn not_found(protocol: Protocol, request_id: &str) -> Response {
    refuse(&Reply::new(Code::NotFound, "nothing answers at this path"), protocol, request_id)
}

/// The path exists, but not for this method; `allow` names those it exists for.
#[must_use]
pub fn method_not_allowed(protocol: Protocol, request_id: &str, allow: Option<HeaderValue>) -> Response {
    let reply =
        Reply::new(Code::MethodNotAllowed, "this path does not take this method; see the allow header");
    let mut response = refuse(&reply, protocol, request_id);
    if let Some(allow) = allow {
        response.headers_mut().insert(ALLOW, allow);
    }
    response
}
