//! `idempotency-key`: the same key with the same request gives the same answer, and asks a
//! provider once. A request that repeats one that is still under way waits for its answer.
//!
//! Kept are complete answers that are no streams, each for [`TTL`]; a failure is forgotten, so
//! that the same key can be tried again. As Stripe does it, and as
//! draft-ietf-httpapi-idempotency-key-header describes it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, Limited};
use sha2::{Digest, Sha256};
use tidegate_core::reply::{Code, Reply};
use tokio::sync::watch;
use tokio::time::Instant;

use super::upstream::is_event_stream;

/// How long an answer is kept.
const TTL: Duration = Duration::from_secs(600);
/// Most keys known at once; beyond it the oldest answers go.
const KEYS_MAX: usize = 4096;
/// Most bytes of kept answers.
const BYTES_MAX: usize = 32 << 20;
/// Largest answer that is kept, in bytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Longest key, in bytes.
const KEY_BYTES_MAX: usize = 255;
/// What "too many at once" asks the caller to wait, in milliseconds.
const FULL_RETRY_MS: u64 = 1_000;

type Hash = [u8; 32];

/// An answer as it was given.
#[derive(Debug, Clone)]
struct Kept {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

#[derive(Debug)]
enum State {
    /// Somebody asks; whoever repeats the request waits for the sender to go.
    Asking(watch::Receiver<()>),
    Answered(Box<Kept>),
}

#[derive(Debug)]
struct Entry {
    request: Hash,
    state: State,
    since: Instant,
}

#[derive(Debug, Default)]
struct Table {
    entries: BTreeMap<Hash, Entry>,
    bytes: usize,
}

/// The keys known now.
#[derive(Debug, Default)]
pub struct Idempotency {
    table: Mutex<Table>,
}

/// What is to be done with a request.
#[derive(Debug)]
pub enum Claim<'a> {
    /// Nobody has asked this before.
    Ask(Asking<'a>),
    /// It has been answered.
    Answered(Response),
}

/// The right to answer a key; given up when it is dropped without an answer.
#[derive(Debug)]
pub struct Asking<'a> {
    known: &'a Idempotency,
    key: Hash,
    done: watch::Sender<()>,
}

/// A key of one tenant for one path: others cannot meet it.
#[must_use]
pub fn key_of(tenant: &str, path: &str, key: &[u8]) -> Hash {
    let mut hasher = Sha256::new();
    for part in [tenant.as_bytes(), path.as_bytes(), key] {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// Checks a key's length.
///
/// # Errors
/// `invalid_header`.
pub fn check(key: &[u8]) -> Result<(), Reply> {
    if (1..=KEY_BYTES_MAX).contains(&key.len()) {
        return Ok(());
    }
    let message = format!("Header idempotency-key must have 1 to {KEY_BYTES_MAX} bytes.");
    Err(Reply::new(Code::InvalidHeader, message).with_param("idempotency-key"))
}

impl Idempotency {
    /// Claims `key` for the request with this body; waits while somebody else asks the same.
    ///
    /// # Errors
    /// `idempotency_key_reused` for another body; `no_provider_available` when too many are
    /// under way.
    pub async fn claim(&self, key: Hash, body: &[u8]) -> Result<Claim<'_>, Reply> {
        let request: Hash = Sha256::digest(body).into();
        loop {
            let mut waiting = match self.look(key, request)? {
                Looked::Claimed(done) => return Ok(Claim::Ask(Asking { known: self, key, done })),
                Looked::Answered(kept) => return Ok(Claim::Answered(respond(*kept))),
                Looked::Wait(waiting) => waiting,
            };
            // Ends when the one who asks is done, well or not.
            while waiting.changed().await.is_ok() {}
        }
    }

    fn look(&self, key: Hash, request: Hash) -> Result<Looked, Reply> {
        let mut table = self.lock();
        table.forget_old(Instant::now());
        if let Some(entry) = table.entries.get(&key) {
            if entry.request != request {
                let message =
                    "This idempotency-key was used for another request; use a new key for a new request.";
                return Err(Reply::new(Code::IdempotencyKeyReused, message).with_param("idempotency-key"));
            }
            return Ok(match &entry.state {
                State::Asking(waiting) => Looked::Wait(waiting.clone()),
                State::Answered(kept) => Looked::Answered(kept.clone()),
            });
        }
        if !table.make_room(0) {
            let message = "Too many requests with an idempotency-key are under way.";
            return Err(Reply::new(Code::NoProviderAvailable, message).retry_after_ms(FULL_RETRY_MS));
        }
        let (done, waiting) = watch::channel(());
        let entry = Entry { request, state: State::Asking(waiting), since: Instant::now() };
        table.entries.insert(key, entry);
        Ok(Looked::Claimed(done))
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Looked {
    Claimed(watch::Sender<()>),
    Answered(Box<Kept>),
    Wait(watch::Receiver<()>),
}

impl Asking<'_> {
    /// Keeps a good whole answer for whoever repeats the request, and gives it back.
    pub async fn answered(self, response: Response) -> Response {
        if !response.status().is_success() || is_event_stream(response.headers()) {
            return response;
        }
        let (head, body) = response.into_parts();
        // What does not fit has a length that says so: answers are whole by now.
        let length = http_body::Body::size_hint(&body).exact().unwrap_or(u64::MAX);
        if length > ANSWER_BYTES_MAX as u64 {
            return Response::from_parts(head, body);
        }
        let Ok(body) = Limited::new(body, ANSWER_BYTES_MAX).collect().await else {
            return Response::from_parts(head, Body::empty());
        };
        let body = body.to_bytes();
        let kept = Kept { status: head.status, headers: head.headers.clone(), body: body.clone() };
        let mut table = self.known.lock();
        if table.make_room(body.len())
            && let Some(entry) = table.entries.get_mut(&self.key)
        {
            entry.state = State::Answered(Box::new(kept));
            table.bytes += body.len();
        }
        drop(table);
        Response::from_parts(head, Body::from(body))
    }
}

impl Drop for Asking<'_> {
    /// Without an answer the key is free again. The sender goes after this, and wakes all who
    /// wait.
    fn drop(&mut self) {
        let mut table = self.known.lock();
        if table.entries.get(&self.key).is_some_and(|entry| matches!(entry.state, State::Asking(_))) {
            table.entries.remove(&self.key);
        }
        let _ = self.done.send(());
    }
}

impl Table {
    fn forget_old(&mut self, now: Instant) {
        let is_old = |entry: &Entry| {
            matches!(entry.state, State::Answered(_)) && now.duration_since(entry.since) >= TTL
        };
        while let Some(key) = self.entries.iter().find(|(_, entry)| is_old(entry)).map(|(key, _)| *key) {
            self.remove(&key);
        }
    }

    /// Makes room for one more key or answer; false when all there are is under way.
    fn make_room(&mut self, bytes: usize) -> bool {
        while self.entries.len() >= KEYS_MAX || self.bytes + bytes > BYTES_MAX {
            let answered = self.entries.iter().filter(|(_, e)| matches!(e.state, State::Answered(_)));
            let Some(oldest) = answered.min_by_key(|(_, entry)| entry.since).map(|(key, _)| *key) else {
                return false;
            };
            self.remove(&oldest);
        }
        true
    }

    fn remove(&mut self, key: &Hash) {
        if let Some(Entry { state: State::Answered(kept), .. }) = self.entries.remove(key) {
            self.bytes -= kept.body.len();
        }
    }
}

fn respond(kept: Kept) -> Response {
    let mut response = Response::new(Body::from(kept.body));
    *response.status_mut() = kept.status;
    *response.headers_mut() = kept.headers;
    response.headers_mut().insert("idempotent-replayed", http::HeaderValue::from_static("true"));
    response
}
