//! A local model's answer as an event stream.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use tidegate_core::reply::{Code, Reply};
use tidegate_core::route::Protocol;

use super::answer::Writer;
use super::model::Piece;
use super::worker::Answer;
use super::{PromisedUsage, gone};
use crate::llm::front::refusal::error_event;
use crate::llm::idle::IdleTimer;
use crate::llm::metrics::{Observation, Outcome};

/// Turns pieces into events. Dropping it cancels the generation.
#[derive(Debug)]
pub struct LocalStream {
    writer: Writer,
    answer: Answer,
    usage: PromisedUsage,
    idle: IdleTimer,
    observation: Observation,
    opened: bool,
    ended: bool,
}

impl LocalStream {
    /// An answer that has started; `idle` is the longest wait between two pieces.
    #[must_use]
    pub const fn new(
        writer: Writer,
        answer: Answer,
        usage: PromisedUsage,
        idle: Duration,
        observation: Observation,
    ) -> Self {
        let idle = IdleTimer::new(idle);
        Self { writer, answer, usage, idle, observation, opened: false, ended: false }
    }

    /// The event of a piece; empty for a piece without one.
    fn event(&mut self, piece: Result<Piece, Reply>) -> Bytes {
        match piece {
            Ok(Piece::Started { .. }) => Bytes::new(),
            Ok(Piece::Text(text)) => {
                self.observation.first_token();
                self.usage.usage.completion_tokens += 1;
                self.writer.piece(&text)
            }
            Ok(Piece::Done { finish, completion_tokens }) => {
                self.usage.usage.completion_tokens = completion_tokens;
                self.observation.usage(self.usage.usage);
                self.end(Outcome::Ok);
                self.writer.closing(finish, self.usage.wanted.then_some(self.usage.usage))
            }
            Err(reply) => {
                self.end(Outcome::of_code(reply.code));
                error_event(&reply, Protocol::OpenAi, "")
            }
        }
    }

    fn end(&mut self, outcome: Outcome) {
        self.ended = true;
        self.observation.ended(outcome);
    }

    fn too_slow(&self) -> Reply {
        let ms = self.idle.limit().as_millis();
        Reply::new(Code::UpstreamTimeout, format!("The local model produced nothing for {ms} ms."))
    }
}

impl Drop for LocalStream {
    /// What was generated for a caller that left was generated all the same.
    fn drop(&mut self) {
        if !self.ended {
            self.observation.usage(self.usage.usage);
        }
    }
}

impl Body for LocalStream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = &mut *self;
        if !std::mem::replace(&mut this.opened, true)
            && let Some(opening) = this.writer.opening()
        {
            return Poll::Ready(Some(Ok(Frame::data(opening))));
        }
        while !this.ended {
            let piece = match this.answer.poll_recv(cx) {
                Poll::Ready(piece) => {
                    this.idle.stop();
                    piece.unwrap_or_else(|| Err(gone()))
                }
                Poll::Pending => {
                    ready!(this.idle.poll(cx));
                    Err(this.too_slow())
                }
            };
            let event = this.event(piece);
            if !event.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(event))));
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}
