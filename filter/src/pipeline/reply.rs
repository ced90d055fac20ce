//! Answers that the filter gives itself.

use tidegate_core::cache::Entry;
use tidegate_core::reply::Reply;
use tidegate_core::route::Protocol;
use tidegate_core::wire::header;

/// Header pairs of an answer.
pub type Headers = Vec<(&'static str, String)>;

/// A complete answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalReply {
    /// HTTP status.
    pub status: u16,
    /// Headers, without the status.
    pub headers: Headers,
    /// Body.
    pub body: Vec<u8>,
    /// Short name for Envoy's access log (`%RESPONSE_CODE_DETAILS%`).
    pub details: &'static str,
}

impl LocalReply {
    /// A refusal in the caller's protocol.
    #[must_use]
    pub fn refusal(reply: &Reply, protocol: Protocol, request_id: &str) -> Self {
        let mut headers = vec![("content-type", "application/json".to_owned())];
        headers.extend(reply.retry_headers());
        Self {
            status: reply.code.status(),
            headers,
            body: reply.body(protocol, request_id),
            details: reply.code.as_str(),
        }
    }

    /// A stored answer.
    #[must_use]
    pub fn hit(entry: &Entry<'_>, now_ms: u64) -> Self {
        let mut headers = vec![
            ("content-type", entry.kind.content_type().to_owned()),
            (header::CACHE, "hit".to_owned()),
            (header::CACHE_LAYER, "l1".to_owned()),
            ("age", entry.age_s(now_ms).to_string()),
        ];
        for (name, value) in [(header::PROVIDER, entry.provider), (header::MODEL, entry.model)] {
            if let (false, Ok(value)) = (value.is_empty(), std::str::from_utf8(value)) {
                headers.push((name, value.to_owned()));
            }
        }
        Self { status: 200, headers, body: entry.body.to_vec(), details: "cache_hit" }
    }
}
