//! Requests that want the same answer at the same time share one call to the provider.
//!
//! The call runs on a task of its own and writes what comes into a flight; everybody, the caller
//! who began it too, reads from there. Whoever leaves leaves alone; when all have left, the call
//! is dropped. A flight keeps what came for those who join later, up to [`FLIGHT_BYTES_MAX`]; a
//! longer answer goes on at the pace of its slowest reader, and nobody joins it any more.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use http_body::{Body, Frame};
use tidegate_core::reply::Reply;

/// Most of an answer that is kept for those who join later, in bytes.
pub const FLIGHT_BYTES_MAX: usize = 4 << 20;
/// Most flights that others can join; beyond it every request makes its own call.
pub const FLIGHTS_MAX: usize = 4096;
/// Most readers of one flight.
pub const READERS_MAX: usize = 1024;

/// Status and headers of an answer, or why there is none.
pub type Head = Result<(StatusCode, HeaderMap), Reply>;
/// What two requests have in common that one answer does for.
type Key = [u8; 32];

#[derive(Debug, Default)]
struct State {
    head: Option<Head>,
    chunks: Vec<Bytes>,
    bytes: usize,
    /// Chunks that all readers have had and that were let go.
    dropped: usize,
    overflown: bool,
    ended: bool,
    readers: Vec<Option<Place>>,
    writer: Option<Waker>,
}

/// Where a reader is.
#[derive(Debug, Default)]
struct Place {
    /// Chunks it has had.
    at: usize,
    waker: Option<Waker>,
}

/// An answer on its way.
#[derive(Debug, Default)]
pub struct Flight {
    state: Mutex<State>,
}

/// One reader of a flight; as a body, the rest of the answer.
#[derive(Debug)]
pub struct Reader {
    flight: Arc<Flight>,
    slot: usize,
}

/// The side that fills a flight. Ends it when dropped.
#[derive(Debug)]
pub struct Writer {
    flight: Arc<Flight>,
}

/// Who one is on a flight.
#[derive(Debug)]
pub enum Joined {
    /// The first: makes the call and writes.
    Leader(Writer, Reader),
    /// A later one: only reads.
    Follower(Reader),
}

/// The flights that can be joined.
#[derive(Debug, Default)]
pub struct Flights {
    table: Mutex<HashMap<Key, Arc<Flight>>>,
}

impl Flights {
    /// Joins the flight under `key`, or begins one.
    #[must_use]
    pub fn join(&self, key: &Key) -> Joined {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reader) = table.get(key).and_then(Flight::join) {
            return Joined::Follower(reader);
        }
        let (writer, reader) = begin();
        if table.len() < FLIGHTS_MAX || table.contains_key(key) {
            table.insert(*key, writer.flight.clone());
        }
        Joined::Leader(writer, reader)
    }

    /// A reader of the flight under `key`, if there is one to join.
    #[must_use]
    pub fn follow(&self, key: &Key) -> Option<Reader> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner).get(key).and_then(Flight::join)
    }

    /// Nobody joins this writer's flight any more.
    pub fn close(&self, key: &Key, writer: &Writer) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if table.get(key).is_some_and(|flight| Arc::ptr_eq(flight, &writer.flight)) {
            table.remove(key);
        }
    }
}

/// A flight that nobody else can join.
#[must_use]
pub fn begin() -> (Writer, Reader) {
    let flight = Arc::new(Flight::default());
    flight.lock().readers.push(Some(Place::default()));
    (Writer { flight: flight.clone() }, Reader { flight, slot: 0 })
}

impl Flight {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A reader from the start, if it is not too late and somebody is still reading.
    fn join(self: &Arc<Self>) -> Option<Reader> {
        let mut state = self.lock();
        let alive = state.ended || state.readers.iter().any(Option::is_some);
        if state.overflown || !alive {
            return None;
        }
        let slot = match state.readers.iter().position(Option::is_none) {
            Some(free) => free,
            None if state.readers.len() < READERS_MAX => {
                state.readers.push(None);
                state.readers.len() - 1
            }
            None => return None,
        };
        *state.readers.get_mut(slot)? = Some(Place::default());
        drop(state);
        Some(Reader { flight: self.clone(), slot })
    }
}

impl State {
    fn wake_readers(&mut self) {
        for waker in self.readers.iter_mut().flatten().filter_map(|place| place.waker.take()) {
            waker.wake();
        }
    }

    fn wake_writer(&mut self) {
        if let Some(waker) = self.writer.take() {
            waker.wake();
        }
    }

    /// Lets go of what everybody has had, once nobody can join.
    fn trim(&mut self) {
        let slowest = self.readers.iter().flatten().map(|place| place.at).min();
        let done = slowest.unwrap_or(self.dropped + self.chunks.len()).saturating_sub(self.dropped);
        let gone: usize = self.chunks.drain(..done.min(self.chunks.len())).map(|chunk| chunk.len()).sum();
        self.dropped += done;
        self.bytes -= gone;
    }
}

impl Writer {
    /// Says how the answer begins, or that there is none.
    pub fn head(&self, head: Head) {
        let mut state = self.flight.lock();
        state.head = Some(head);
        state.wake_readers();
    }

    /// Adds a piece, and waits while too much is on its way. `false` when nobody reads any more.
    pub async fn push(&self, chunk: Bytes) -> bool {
        poll_fn(|cx| self.poll_room(cx)).await && {
            let mut state = self.flight.lock();
            state.bytes += chunk.len();
            state.chunks.push(chunk);
            state.overflown |= state.bytes > FLIGHT_BYTES_MAX;
            state.wake_readers();
            true
        }
    }

    fn poll_room(&self, cx: &Context<'_>) -> Poll<bool> {
        let mut state = self.flight.lock();
        if state.readers.iter().all(Option::is_none) {
            return Poll::Ready(false);
        }
        if state.overflown {
            state.trim();
        }
        if state.bytes <= FLIGHT_BYTES_MAX {
            return Poll::Ready(true);
        }
        state.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Waits until nobody reads any more.
    pub async fn abandoned(&self) {
        poll_fn(|cx| {
            let mut state = self.flight.lock();
            if state.readers.iter().all(Option::is_none) {
                return Poll::Ready(());
            }
            state.writer = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// The whole answer, if it was kept.
    #[must_use]
    pub fn whole(&self) -> Option<Bytes> {
        let state = self.flight.lock();
        (!state.overflown).then(|| joined(&state.chunks))
    }

    /// The answer is complete, or as complete as it will be.
    pub fn end(&self) {
        let mut state = self.flight.lock();
        state.ended = true;
        state.wake_readers();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.end();
    }
}

fn joined(chunks: &[Bytes]) -> Bytes {
    match chunks {
        [one] => one.clone(),
        many => many
            .iter()
            .fold(BytesMut::new(), |mut all, chunk| {
                all.extend_from_slice(chunk);
                all
            })
            .freeze(),
    }
}

impl Reader {
    /// How the answer begins; `None` if the call ended without a word.
    pub async fn head(&self) -> Option<Head> {
        poll_fn(|cx| {
            let mut state = self.flight.lock();
            if state.head.is_some() || state.ended {
                return Poll::Ready(state.head.clone());
            }
            self.wait(&mut state, cx)
        })
        .await
    }

    fn wait<T>(&self, state: &mut State, cx: &Context<'_>) -> Poll<T> {
        if let Some(place) = state.readers.get_mut(self.slot).and_then(Option::as_mut) {
            place.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    fn poll_chunk(&self, cx: &Context<'_>) -> Poll<Option<Bytes>> {
        let mut guard = self.flight.lock();
        let state = &mut *guard;
        let Some(place) = state.readers.get_mut(self.slot).and_then(Option::as_mut) else {
            return Poll::Ready(None);
        };
        if let Some(chunk) = place.at.checked_sub(state.dropped).and_then(|at| state.chunks.get(at)) {
            place.at += 1;
            let chunk = chunk.clone();
            if state.overflown {
                state.wake_writer();
            }
            return Poll::Ready(Some(chunk));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        self.wait(state, cx)
    }

    /// The rest of the answer in one piece.
    pub async fn rest(self) -> Bytes {
        let mut chunks = Vec::new();
        while let Some(chunk) = poll_fn(|cx| self.poll_chunk(cx)).await {
            chunks.push(chunk);
        }
        joined(&chunks)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.flight.lock();
        if let Some(place) = state.readers.get_mut(self.slot) {
            *place = None;
        }
        state.wake_writer();
    }
}

impl Body for Reader {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.poll_chunk(cx).map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const KEY: Key = [7; 32];

    fn lead(flights: &Flights) -> (Writer, Reader) {
        match flights.join(&KEY) {
            Joined::Leader(writer, reader) => (writer, reader),
            Joined::Follower(_) => panic!("a flight is there already"),
        }
    }

    fn follow(flights: &Flights) -> Reader {
        match flights.join(&KEY) {
            Joined::Follower(reader) => reader,
            Joined::Leader(..) => panic!("no flight is there"),
        }
    }

    fn good() -> Head {
        Ok((StatusCode::OK, HeaderMap::new()))
    }

    #[tokio::test]
    async fn all_read_the_same_whenever_they_join() {
        let flights = Flights::default();
        let (writer, first) = lead(&flights);
        let second = follow(&flights);
        assert!(second.head().now_or_never().is_none(), "nothing has come");
        writer.head(good());
        assert!(writer.push(Bytes::from_static(b"a")).await);
        let third = follow(&flights);
        assert!(writer.push(Bytes::from_static(b"b")).await);
        writer.end();
        let late = follow(&flights);
        assert_eq!(late.head().await, Some(good()));
        for reader in [first, second, third, late] {
            assert_eq!(reader.rest().await, "ab");
        }
        assert_eq!(writer.whole().as_deref(), Some(&b"ab"[..]));
        flights.close(&KEY, &writer);
        drop(lead(&flights));
    }

    #[tokio::test]
    async fn a_leader_that_leaves_takes_nobody_along_and_the_last_one_ends_the_call() {
        let flights = Flights::default();
        let (writer, first) = lead(&flights);
        let second = follow(&flights);
        drop(first);
        assert!(writer.abandoned().now_or_never().is_none());
        assert!(writer.push(Bytes::from_static(b"a")).await);
        drop(second);
        assert!(writer.abandoned().now_or_never().is_some());
        assert!(!writer.push(Bytes::from_static(b"b")).await);
        drop(lead(&flights));
    }

    #[tokio::test]
    async fn a_writer_that_falls_ends_its_flight() {
        let flights = Flights::default();
        let (writer, reader) = lead(&flights);
        drop(writer);
        assert_eq!(reader.head().await, None);
        assert!(reader.rest().await.is_empty());
    }

    #[tokio::test]
    async fn a_long_answer_is_bounded_and_goes_at_the_slowest_readers_pace() {
        let flights = Flights::default();
        let (writer, fast) = lead(&flights);
        let slow = follow(&flights);
        let chunk = Bytes::from(vec![1; FLIGHT_BYTES_MAX]);
        assert!(writer.push(chunk.clone()).await);
        assert!(writer.push(chunk.clone()).await);
        assert!(matches!(flights.join(&KEY), Joined::Leader(..)), "too late to join");
        let mut blocked = Box::pin(writer.push(chunk.clone()));
        assert!((&mut blocked).now_or_never().is_none());
        let read = |reader: &Reader| poll_fn(|cx| reader.poll_chunk(cx)).now_or_never();
        assert!(read(&fast).is_some() && read(&fast).is_some());
        assert!((&mut blocked).now_or_never().is_none(), "the slow one has had nothing");
        assert!(read(&slow).is_some() && read(&slow).is_some());
        assert_eq!(blocked.now_or_never(), Some(true));
        assert!(writer.whole().is_none());
        writer.end();
        assert_eq!(fast.rest().await.len(), FLIGHT_BYTES_MAX);
        assert_eq!(slow.rest().await.len(), FLIGHT_BYTES_MAX);
    }

    #[tokio::test]
    async fn flights_and_their_readers_are_bounded() {
        let flights = Flights::default();
        let (_writer, _reader) = lead(&flights);
        let readers: Vec<_> = (1..READERS_MAX).map(|_| follow(&flights)).collect();
        assert!(matches!(flights.join(&KEY), Joined::Leader(..)));
        drop(readers);
        let mut kept = Vec::new();
        for i in 0..FLIGHTS_MAX + 10 {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&i.to_le_bytes());
            kept.push(flights.join(&key));
        }
        assert_eq!(flights.table.lock().expect("lock").len(), FLIGHTS_MAX);
    }
}
