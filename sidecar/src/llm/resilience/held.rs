//! The beginning of a stream, held back until its first token: an error before it is a failed
//! attempt, although the status was 200.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body as AnyBody;
use axum::response::Response;
use bytes::Bytes;
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use tidegate_core::route::Protocol;
use tidegate_core::routing::{FaultKind, StreamStart, StreamStartKind, classify};
use tokio::time::{Instant, timeout_at};

use crate::llm::upstream::is_event_stream;

/// Most bytes held back.
const HELD_BYTES_MAX: usize = 64 << 10;
/// How long is waited for the first token after the first byte: a model that thinks for longer
/// must not look dead to the caller.
const FIRST_TOKEN_WAIT: Duration = Duration::from_secs(2);
/// The status that an error event stands for, when it says nothing else.
const EVENT_STATUS: u16 = 400;

/// How an answer begins.
pub enum Begun {
    /// It may go to the caller.
    Well(Response),
    /// With an error of this kind.
    Error(FaultKind, Response),
}

/// Waits for the beginning of an answer in `protocol`. What is no event stream has begun.
pub async fn begin(response: Response, protocol: Protocol) -> Begun {
    if !is_event_stream(response.headers()) {
        return Begun::Well(response);
    }
    let (head, mut body) = response.into_parts();
    let mut start = StreamStart::new(protocol);
    let mut held = VecDeque::new();
    let mut bytes = 0;
    let mut until: Option<Instant> = None;
    let mut kind = StreamStartKind::Preamble;
    while kind == StreamStartKind::Preamble && bytes < HELD_BYTES_MAX {
        let frame = match until {
            None => body.frame().await,
            Some(until) => match timeout_at(until, body.frame()).await {
                Ok(frame) => frame,
                Err(_) => break,
            },
        };
        let Some(Ok(frame)) = frame else { break };
        let Ok(chunk) = frame.into_data() else { continue };
        kind = start.push(&chunk);
        bytes += chunk.len();
        until.get_or_insert_with(|| Instant::now() + FIRST_TOKEN_WAIT);
        held.push_back(chunk);
    }
    let fault = (kind == StreamStartKind::Error).then(|| fault_of(&held));
    let response = Response::from_parts(head, AnyBody::new(Held { held, rest: body }));
    match fault {
        Some(fault) => Begun::Error(fault, response),
        None => Begun::Well(response),
    }
}

/// The kind of an error event, by its words. A stream that was accepted is no wrong request.
fn fault_of(held: &VecDeque<Bytes>) -> FaultKind {
    let text: String = held.iter().map(|chunk| String::from_utf8_lossy(chunk)).collect();
    if text.contains("rate_limit") {
        return FaultKind::RateLimit;
    }
    if text.contains("upstream_timeout") || text.contains("timeout_error") {
        return FaultKind::Timeout;
    }
    match classify(EVENT_STATUS, &text) {
        FaultKind::Request => FaultKind::Server,
        kind => kind,
    }
}

/// What was held back, and then the rest.
struct Held {
    held: VecDeque<Bytes>,
    rest: AnyBody,
}

impl Body for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match self.held.pop_front() {
            Some(chunk) => Poll::Ready(Some(Ok(Frame::data(chunk)))),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_empty() && self.rest.is_end_stream()
    }
}
