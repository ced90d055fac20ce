//! What a provider answers, before faults and HTTP get hold of it.

use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;

/// A provider's answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) payload: Payload,
}

/// The body of an [`Answer`].
#[derive(Debug)]
pub(super) enum Payload {
    /// One JSON document.
    Json(Bytes),
    /// The events of an SSE stream, each with its closing blank line.
    Events(Vec<Bytes>),
    /// Bytes that a fault asked for, sent as they are.
    Raw(Bytes),
}

impl Payload {
    pub(super) fn content_type(&self) -> &'static str {
        match self {
            Self::Json(_) => "application/json",
            Self::Events(_) => "text/event-stream; charset=utf-8",
            Self::Raw(_) => "text/plain; charset=utf-8",
        }
    }
}

impl Answer {
    pub(super) fn json(status: StatusCode, document: &Value) -> Self {
        Self { status, payload: Payload::Json(Bytes::from(document.to_string())) }
    }
}
