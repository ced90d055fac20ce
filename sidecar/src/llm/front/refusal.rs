//! Refusals as answers to LLM requests, whole and as the last event of a stream.

use axum::response::Response;
use bytes::{Bytes, BytesMut};
use http::HeaderValue;
use http::header::HeaderName;
use tidegate_core::reply::{Code, Reply};
use tidegate_core::route::Protocol;

use crate::refusal;

/// Tells OpenAI's clients whether trying again can help, whatever the status suggests.
pub const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// Writes a refusal as a complete response; `request_id` stands in Anthropic's body.
#[must_use]
pub fn refuse(reply: &Reply, protocol: Protocol, request_id: &str) -> Response {
    let mut response = refusal::refuse(reply, protocol, request_id);
    if may_pass_by_itself(reply.code) {
        response.headers_mut().insert(SHOULD_RETRY, HeaderValue::from_static("true"));
    }
    response
}

/// A refusal as an event of a stream in `protocol`.
#[must_use]
pub fn error_event(reply: &Reply, protocol: Protocol, request_id: &str) -> Bytes {
    let body = reply.body(protocol, request_id);
    let prefix: &[u8] = match protocol {
        Protocol::OpenAi => b"data: ",
        Protocol::Anthropic => b"event: error\ndata: ",
    };
    let mut event = BytesMut::with_capacity(prefix.len() + body.len() + 2);
    event.extend_from_slice(prefix);
    event.extend_from_slice(&body);
    event.extend_from_slice(b"\n\n");
    event.freeze()
}

/// Faults of a connection or of a moment: the same request may succeed on the next attempt.
const fn may_pass_by_itself(code: Code) -> bool {
    matches!(code, Code::UpstreamUnreachable | Code::UpstreamReset | Code::UpstreamTimeout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_when_to_come_back_only_if_it_knows() {
        let busy =
            refuse(&Reply::new(Code::LocalModelBusy, "busy").retry_after_ms(1500), Protocol::OpenAi, "");
        assert_eq!(busy.status(), 429);
        assert_eq!(busy.headers()["retry-after"], "2");
        assert_eq!(busy.headers()["retry-after-ms"], "1500");
        assert_eq!(busy.headers()["x-should-retry"], "true");

        let reset = refuse(&Reply::new(Code::UpstreamReset, "reset"), Protocol::OpenAi, "");
        assert_eq!(reset.status(), 502);
        assert_eq!(reset.headers()["x-should-retry"], "true");

        let wrong = refuse(&Reply::new(Code::InvalidRequest, "wrong"), Protocol::OpenAi, "");
        assert!(wrong.headers().get("x-should-retry").is_none());
        assert!(wrong.headers().get("retry-after").is_none());
    }
}
