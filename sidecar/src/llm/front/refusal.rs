//! A [`Reply`] as an HTTP response in OpenAI's shape.

use axum::body::Body;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use tidegate_core::reply::{Code, Reply};
use tidegate_core::route::Protocol;

/// Tells OpenAI's clients whether trying again can help, whatever the status suggests.
pub const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// Writes a refusal as a complete response, with `retry-after` where there is a time to wait.
#[must_use]
pub fn refuse(reply: &Reply) -> Response {
    let mut response = Response::new(Body::from(reply.body(Protocol::OpenAi, "")));
    *response.status_mut() = status_of(reply.code);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if may_pass_by_itself(reply.code) {
        headers.insert(SHOULD_RETRY, HeaderValue::from_static("true"));
    }
    add_retry_headers(headers, reply);
    response
}

/// A refusal as an event of OpenAI's stream protocol.
#[must_use]
pub fn error_event(reply: &Reply) -> Bytes {
    let body = reply.body(Protocol::OpenAi, "");
    let mut event = BytesMut::with_capacity(body.len() + 8);
    event.extend_from_slice(b"data: ");
    event.extend_from_slice(&body);
    event.extend_from_slice(b"\n\n");
    event.freeze()
}

/// The status of a code; the codes are ours, so an impossible one is our own fault.
fn status_of(code: Code) -> StatusCode {
    StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// Faults of a connection or of a moment: the same request may succeed on the next attempt.
const fn may_pass_by_itself(code: Code) -> bool {
    matches!(code, Code::UpstreamUnreachable | Code::UpstreamReset | Code::UpstreamTimeout)
}

fn add_retry_headers(headers: &mut HeaderMap, reply: &Reply) {
    for (name, value) in reply.retry_headers() {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_when_to_come_back_only_if_it_knows() {
        let busy = refuse(&Reply::new(Code::LocalModelBusy, "busy").retry_after_ms(1500));
        assert_eq!(busy.status(), 429);
        assert_eq!(busy.headers()["retry-after"], "2");
        assert_eq!(busy.headers()["retry-after-ms"], "1500");
        assert_eq!(busy.headers()["x-should-retry"], "true");

        let reset = refuse(&Reply::new(Code::UpstreamReset, "reset"));
        assert_eq!(reset.status(), 502);
        assert_eq!(reset.headers()["x-should-retry"], "true");

        let wrong = refuse(&Reply::new(Code::InvalidRequest, "wrong"));
        assert!(wrong.headers().get("x-should-retry").is_none());
        assert!(wrong.headers().get("retry-after").is_none());
    }
}
