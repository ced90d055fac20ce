//! A provider's event stream on its way to the caller: pulled only as fast as the caller
//! reads, watched for its end, and never cut without a word.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body::{Body, Frame};
use hyper::body::Incoming;
use tidegate_core::provider::{FrameDecoder, without_usage};
use tidegate_core::reply::{Code, Reply};
use tidegate_core::route::Protocol;
use tidegate_core::routing::is_about_model;
use tidegate_core::sse::{Scanner, Usage};

use super::hold::Hold;
use crate::llm::front::refusal::error_event;
use crate::llm::idle::IdleTimer;
use crate::llm::metrics::{Observation, Outcome};

/// What is said for a server that leaves it out after a complete answer.
const DONE: &[u8] = b"data: [DONE]\n\n";
/// How the data of a last event ends.
const LAST: [&[u8]; 2] = [b"}", b"[DONE]"];

/// A watched stream. Dropping it drops the provider's connection with it, which is how a
/// caller's disconnect stops the provider's work.
#[derive(Debug)]
pub struct WatchedStream {
    upstream: Incoming,
    provider: Box<str>,
    idle: IdleTimer,
    scanner: Scanner,
    frames: Option<FrameDecoder>,
    hold: Hold,
    hides_usage: bool,
    observation: Observation,
    errors: ErrorStyle,
    ended: bool,
}

/// How the gateway's own error event is written.
#[derive(Debug)]
pub struct ErrorStyle {
    /// In this protocol.
    pub protocol: Protocol,
    /// For this request.
    pub request_id: Box<str>,
}

/// How a provider's stream comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// As events of a protocol that callers speak too.
    Known,
    /// As events of another.
    Foreign,
    /// As Amazon's frames.
    Frames,
}

/// Why a stream ended before its time.
enum Cut {
    Closed,
    Idle,
    Garbled,
}

impl WatchedStream {
    /// Watches `upstream`; `idle` is the longest wait between two chunks.
    #[must_use]
    pub fn new(
        upstream: Incoming,
        source: Source,
        provider: &str,
        idle: Duration,
        observation: Observation,
        errors: ErrorStyle,
    ) -> Self {
        Self {
            upstream,
            provider: provider.into(),
            idle: IdleTimer::new(idle),
            scanner: if source == Source::Known { Scanner::new() } else { Scanner::foreign() },
            frames: (source == Source::Frames).then(FrameDecoder::default),
            hold: Hold::default(),
            hides_usage: false,
            observation,
            errors,
            ended: false,
        }
    }

    /// The same without the event that tells the usage, which the caller did not ask for.
    #[must_use]
    pub const fn hiding_usage(mut self) -> Self {
        self.hides_usage = true;
        self
    }

    fn pass(&mut self, chunk: Bytes) -> Bytes {
        let Some(frames) = &mut self.frames else { return self.pass_events(chunk) };
        let mut events = Vec::new();
        let opened = frames.push(&chunk, &mut events);
        let mut passed = self.pass_events(events.into());
        if opened.is_err() {
            passed = [passed, self.cut(&Cut::Garbled)].concat().into();
        }
        passed
    }

    fn pass_events(&mut self, chunk: Bytes) -> Bytes {
        self.scanner.push(&chunk);
        if self.scanner.events() > 0 {
            self.observation.first_token();
        }
        let passed = self.hold.push(chunk);
        let stripped = self.hides_usage.then(|| without_usage(&passed)).flatten();
        stripped.map_or(passed, Bytes::from)
    }

    /// The provider closed the stream: at its end, after an error of its own, or too early. Some
    /// leave out the blank line that would make the last event one, or say no end after a complete
    /// answer; `properly` tells that from a connection that broke.
    fn close(&mut self, properly: bool) -> Bytes {
        let rest = self.hold.rest();
        let mut outcome = self.scanner.end();
        if LAST.iter().any(|end| rest.trim_ascii().ends_with(end)) && !(outcome.done || outcome.error) {
            self.scanner.push(b"\n\n");
            outcome = self.scanner.end();
            outcome.error = false;
        }
        let unsaid = !(outcome.done || outcome.error || self.scanner.is_mid_event());
        let is_silent_end = properly && unsaid;
        if is_silent_end && self.errors.protocol == Protocol::OpenAi && self.scanner.is_finished() {
            self.scanner.push(DONE);
            self.end(Outcome::Ok);
            return [with_blank_line(&rest), Bytes::from_static(DONE)].concat().into();
        }
        if outcome.done {
            self.end(if outcome.error { Outcome::ServerError } else { Outcome::Ok });
            return with_blank_line(&rest);
        }
        if outcome.error {
            self.end(Outcome::ServerError);
            return Bytes::new();
        }
        self.cut(&Cut::Closed)
    }

    /// The error event that takes the place of what will not come.
    fn cut(&mut self, cut: &Cut) -> Bytes {
        let provider = &self.provider;
        let reply = match cut {
            Cut::Closed => Reply::new(
                Code::UpstreamStreamInterrupted,
                format!(
                    "Provider {provider} broke the stream off before its end; what came so far is incomplete."
                ),
            ),
            Cut::Garbled => Reply::new(
                Code::UpstreamError,
                format!("Provider {provider} sent what is no event stream; what came so far is incomplete."),
            ),
            Cut::Idle => Reply::new(
                Code::UpstreamTimeout,
                format!(
                    "Provider {provider} sent nothing for {} ms; what came so far is incomplete.",
                    self.idle.limit().as_millis()
                ),
            ),
        };
        tracing::warn!(provider = &**provider, code = reply.code.as_str(), "stream cut");
        self.end(Outcome::of_code(reply.code));
        error_event(&reply, self.errors.protocol, &self.errors.request_id)
    }

    /// What came by, in the provider's numbers if it gave them. Of a stream that was left it may
    /// have given those of the prompt alone; one that failed before it said anything cost nothing.
    fn account(&mut self, was_left: bool) {
        let seen = self.scanner.end();
        match seen.usage {
            Some(usage) if seen.done => self.observation.usage(usage),
            Some(usage) => {
                let completion_tokens = usage.completion_tokens.max(seen.events);
                self.observation.usage(Usage { completion_tokens, ..usage });
            }
            None if was_left || seen.events > u64::from(seen.error) => self.observation.seen(seen.events),
            None => {}
        }
    }

    fn end(&mut self, outcome: Outcome) {
        self.ended = true;
        let failure = String::from_utf8_lossy(self.scanner.failure());
        if is_about_model(StatusCode::SERVICE_UNAVAILABLE.as_u16(), &failure) {
            self.observation.blame_model();
        }
        self.observation.ended(outcome);
        self.account(false);
    }
}

fn with_blank_line(line: &[u8]) -> Bytes {
    if line.trim_ascii().is_empty() {
        return Bytes::new();
    }
    let mut event = BytesMut::from(line.trim_ascii());
    event.extend_from_slice(b"\n\n");
    event.freeze()
}

impl Body for WatchedStream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = &mut *self;
        while !this.ended {
            let bytes = match Pin::new(&mut this.upstream).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    this.idle.stop();
                    frame.into_data().map_or_else(|_| Bytes::new(), |chunk| this.pass(chunk))
                }
                Poll::Ready(None) => this.close(true),
                Poll::Ready(Some(Err(_))) => this.close(false),
                Poll::Pending => {
                    ready!(this.idle.poll(cx));
                    this.cut(&Cut::Idle)
                }
            };
            if !bytes.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

impl Drop for WatchedStream {
    /// Many callers hang up as soon as they have read the end, good or bad; that is no
    /// cancellation.
    fn drop(&mut self) {
        let seen = self.scanner.end();
        match self.ended {
            false if seen.error => self.end(Outcome::ServerError),
            false if seen.done => self.end(Outcome::Ok),
            false => self.account(true),
            true => {}
        }
    }
}
