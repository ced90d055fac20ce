//! What a provider answers, before faults and HTTP get hold of it.

use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;

use super::stats::Bill;

/// A provider's answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) payload: Payload,
    /// Headers of this answer alone.
    pub(super) headers: Vec<(&'static str, String)>,
}

/// The body of an [`Answer`].
#[derive(Debug)]
pub(super) enum Payload {
    /// One JSON document.
    Json(Bytes),
    /// The events of an SSE stream, each with its closing blank line.
    Events(Vec<Bytes>),
    /// The frames of a stream in Amazon's encoding.
    Frames(Vec<Bytes>),
    /// Bytes that a fault asked for, sent as they are.
    Raw(Bytes),
}

impl Payload {
    /// What it costs, if it says so.
    pub(super) fn bill(&self) -> Option<Bill> {
        let usage = |bytes: &[u8]| {
            let document: Value = serde_json::from_slice(bytes).ok()?;
            let number = |name: &str| document["usage"][name].as_u64();
            Some(Bill {
                prompt: number("prompt_tokens")?,
                completion: number("completion_tokens").unwrap_or(0),
            })
        };
        match self {
            Self::Json(bytes) => usage(bytes),
            Self::Events(events) => events
                .iter()
                .rev()
                .take(2)
                .find_map(|event| usage(event.strip_prefix(b"data: ")?.trim_ascii())),
            Self::Frames(_) | Self::Raw(_) => None,
        }
    }

    pub(super) fn content_type(&self) -> &'static str {
        match self {
            Self::Json(_) => "application/json",
            Self::Events(_) => "text/event-stream; charset=utf-8",
            Self::Frames(_) => "application/vnd.amazon.eventstream",
            Self::Raw(_) => "text/plain; charset=utf-8",
        }
    }
}

impl Answer {
    /// A 200 with this body.
    pub(super) fn ok(payload: Payload) -> Self {
        Self { status: StatusCode::OK, payload, headers: Vec::new() }
    }

    pub(super) fn json(status: StatusCode, document: &Value) -> Self {
        let payload = Payload::Json(Bytes::from(document.to_string()));
        Self { status, payload, headers: Vec::new() }
    }

    /// The same with one more header.
    pub(super) fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}
