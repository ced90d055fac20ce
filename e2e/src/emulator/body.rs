//! The response body: all at once on the fast path, chunk by chunk where a fault paces or cuts it.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;
use tokio::time::{Sleep, sleep};

use super::fault::Fault;
use super::log::{Outcome, Ticket};
use super::socket::Connection;

/// Size of the slices that a paced JSON answer is cut into.
const SLICE_BYTES: usize = 64;

/// A body that reports to its [`Ticket`] what it handed over.
#[derive(Debug)]
pub(super) struct AnswerBody {
    chunks: std::vec::IntoIter<Bytes>,
    exact_bytes: Option<u64>,
    pace: Option<Pace>,
    ticket: Ticket,
}

/// Where a body stops, until stalled answers are released.
#[derive(Debug)]
struct Stall {
    after: usize,
    released: Pin<Box<OwnedNotified>>,
}

/// What a paced body needs of the server.
pub(super) struct PacedBy<'a> {
    /// What the provider sends for an error in a stream.
    pub(super) error_event: Bytes,
    /// The connection to reset, if the fault asks for it.
    pub(super) connection: &'a Arc<Connection>,
    /// Wakes what is stalled.
    pub(super) release: &'a Arc<Notify>,
}

/// How a fault changes the sending of a body.
#[derive(Debug)]
struct Pace {
    first_delay: Option<Duration>,
    chunk_delay: Option<Duration>,
    sleeping: Option<Pin<Box<Sleep>>>,
    delayed_chunk: bool,
    truncate_after: Option<usize>,
    flushed: bool,
    stall: Option<Stall>,
    error_after: Option<(usize, Bytes)>,
    reset: Option<Arc<Connection>>,
}

impl AnswerBody {
    /// A body known to its last byte.
    pub(super) fn whole(bytes: Bytes, ticket: Ticket) -> Self {
        let exact_bytes = Some(bytes.len() as u64);
        Self { chunks: vec![bytes].into_iter(), exact_bytes, pace: None, ticket }
    }

    /// A stream of chunks whose length the headers do not say.
    pub(super) fn stream(chunks: Vec<Bytes>, ticket: Ticket) -> Self {
        Self { chunks: chunks.into_iter(), exact_bytes: None, pace: None, ticket }
    }

    /// The same body under a fault.
    pub(super) fn paced(mut self, fault: &Fault, by: PacedBy<'_>) -> Self {
        if self.exact_bytes.is_some() {
            let whole: Bytes = self.chunks.next().unwrap_or_default();
            let slices: Vec<Bytes> = whole.chunks(SLICE_BYTES).map(|slice| whole.slice_ref(slice)).collect();
            self.chunks = slices.into_iter();
        }
        if self.exact_bytes.is_none() {
            self.chunks = rearranged(self.chunks.collect(), fault).into_iter();
        }
        self.pace = Some(Pace {
            first_delay: fault.first_chunk_delay_ms.map(Duration::from_millis),
            chunk_delay: fault.chunk_delay_ms.map(Duration::from_millis),
            sleeping: None,
            delayed_chunk: false,
            truncate_after: fault.truncate_after_chunks,
            flushed: false,
            stall: fault
                .stall_after_chunks
                .map(|after| Stall { after, released: Box::pin(by.release.clone().notified_owned()) }),
            error_after: fault.error_in_stream_after_chunks.map(|n| (n, by.error_event)),
            reset: fault.reset.then(|| by.connection.clone()),
        });
        self
    }

    fn next_chunk(&mut self) -> Option<Result<Frame<Bytes>, io::Error>> {
        let Some(chunk) = self.chunks.next() else {
            self.ticket.end(Outcome::Complete);
            return None;
        };
        self.ticket.chunk_sent();
        if self.exact_bytes.is_some() && self.chunks.as_slice().is_empty() {
            self.ticket.end(Outcome::Complete);
        }
        Some(Ok(Frame::data(chunk)))
    }
}

/// The chunks in the order, and as often, as a fault wants them.
fn rearranged(mut chunks: Vec<Bytes>, fault: &Fault) -> Vec<Bytes> {
    if let Some(at) = fault.swap_chunk.filter(|at| at + 1 < chunks.len()) {
        chunks.swap(at, at + 1);
    }
    if let Some(at) = fault.duplicate_chunk.filter(|at| *at < chunks.len()) {
        chunks.insert(at, chunks[at].clone());
    }
    chunks
}

impl Pace {
    /// Ready when the next chunk may go out; in a stall, when that is over.
    fn poll_turn(&mut self, sent: usize, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(stall) = self.stall.as_mut().filter(|stall| sent >= stall.after) {
            std::task::ready!(stall.released.as_mut().poll(cx));
            self.stall = None;
        }
        let first = self.first_delay.filter(|_| sent == 0);
        let Some(delay) = first.or(self.chunk_delay) else {
            return Poll::Ready(());
        };
        if !self.delayed_chunk {
            self.delayed_chunk = true;
            self.sleeping = Some(Box::pin(sleep(delay)));
        }
        if let Some(sleeping) = &mut self.sleeping {
            std::task::ready!(sleeping.as_mut().poll(cx));
            self.sleeping = None;
        }
        self.delayed_chunk = false;
        self.first_delay = None;
        Poll::Ready(())
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        let sent = this.ticket.chunks_sent();
        if let Some(pace) = &mut this.pace {
            std::task::ready!(pace.poll_turn(sent, cx));
            if pace.truncate_after.is_some_and(|n| sent >= n) {
                if !pace.flushed {
                    // hyper flushes what it holds when a body is pending; an error would drop it.
                    pace.flushed = true;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                this.ticket.end(Outcome::CutByFault);
                if let Some(connection) = &pace.reset {
                    connection.reset_on_close();
                }
                return Poll::Ready(Some(Err(io::Error::other("cut by a fault"))));
            }
            if let Some((after, event)) = &mut pace.error_after
                && sent >= *after
            {
                let event = std::mem::take(event);
                this.chunks = Vec::new().into_iter();
                this.pace = None;
                this.ticket.end(Outcome::CutByFault);
                return Poll::Ready(Some(Ok(Frame::data(event))));
            }
        }
        Poll::Ready(this.next_chunk())
    }

    fn is_end_stream(&self) -> bool {
        self.exact_bytes == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        let left: u64 = self.chunks.as_slice().iter().map(|c| c.len() as u64).sum();
        match self.exact_bytes {
            Some(_) => SizeHint::with_exact(left),
            None => SizeHint::default(),
        }
    }
}
