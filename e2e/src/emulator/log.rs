//! The bounded log of what reached the emulator and how each answer ended.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use http::{HeaderMap, Method};
use serde::Serialize;

use super::answer::Payload;
use super::stats::{Bill, Stats};

/// Requests remembered; the oldest goes first.
pub const REQUESTS_MAX: usize = 1024;
/// Bytes of a request body remembered.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// Headers whose values are never kept whole.
const SECRET_HEADERS: [&str; 5] = ["authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie"];
/// Secrets shorter than this are hidden whole, since four characters would give too much away.
const SECRET_TAIL_MIN: usize = 12;

/// How the answer to a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It has not ended.
    InFlight,
    /// The whole answer was handed to the connection.
    Complete,
    /// The client closed the connection before the end.
    ClientLeft,
    /// A fault ended it early.
    CutByFault,
}

/// One request as the emulator saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RequestRecord {
    /// Counts up from 0 in order of arrival.
    pub id: u64,
    /// The HTTP method.
    pub method: String,
    /// The path, with the query if there was one.
    pub path: String,
    /// Name and value in order of arrival; of a secret only the last four characters.
    pub headers: Vec<(String, String)>,
    /// The body as text, cut at [`BODY_BYTES_MAX`].
    pub body: String,
    /// The status answered, once it is known.
    pub status: Option<u16>,
    /// Chunks of the body handed to the connection.
    pub chunks_sent: usize,
    /// How the answer ended.
    pub outcome: Outcome,
    /// When it ended, in microseconds of the Unix epoch.
    pub ended_us: Option<u64>,
}

impl RequestRecord {
    /// The first value of a header; `name` in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

#[derive(Debug, Default)]
struct Entries {
    next_id: u64,
    records: VecDeque<RequestRecord>,
}

/// The log of one emulator.
#[derive(Debug)]
pub(super) struct RequestLog {
    keep: bool,
    entries: Mutex<Entries>,
}

impl RequestLog {
    pub(super) fn new(keep: bool) -> Self {
        Self { keep, entries: Mutex::default() }
    }

    /// Remembers a request; `None` when nothing is kept.
    pub(super) fn open(&self, method: &Method, path: &str, headers: &HeaderMap, body: &[u8]) -> Option<u64> {
        if !self.keep {
            return None;
        }
        let body = String::from_utf8_lossy(&body[..body.len().min(BODY_BYTES_MAX)]).into_owned();
        let headers = headers.iter().map(|(n, v)| shown(n.as_str(), v.as_bytes())).collect();
        let mut entries = self.lock();
        let id = entries.next_id;
        entries.next_id += 1;
        if entries.records.len() == REQUESTS_MAX {
            entries.records.pop_front();
        }
        entries.records.push_back(RequestRecord {
            id,
            method: method.to_string(),
            path: path.to_owned(),
            headers,
            body,
            status: None,
            chunks_sent: 0,
            outcome: Outcome::InFlight,
            ended_us: None,
        });
        Some(id)
    }

    pub(super) fn all(&self) -> Vec<RequestRecord> {
        self.lock().records.iter().cloned().collect()
    }

    pub(super) fn clear(&self) -> usize {
        let mut entries = self.lock();
        let cleared = entries.records.len();
        entries.records.clear();
        cleared
    }

    fn update(&self, id: u64, change: impl FnOnce(&mut RequestRecord)) {
        let mut entries = self.lock();
        let Some(first) = entries.records.front().map(|r| r.id) else {
            return;
        };
        let Some(index) = id.checked_sub(first).and_then(|i| usize::try_from(i).ok()) else {
            return;
        };
        if let Some(record) = entries.records.get_mut(index) {
            change(record);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn shown(name: &str, value: &[u8]) -> (String, String) {
    let value = String::from_utf8_lossy(value).into_owned();
    if !SECRET_HEADERS.contains(&name) {
        return (name.to_owned(), value);
    }
    let count = value.chars().count();
    let tail_from = if count < SECRET_TAIL_MIN { count } else { count - 4 };
    let tail: String = value.chars().skip(tail_from).collect();
    (name.to_owned(), format!("***{tail}"))
}

/// Follows one request to its end. Dropped before [`Ticket::end`], it records that the client left:
/// hyper drops the handler and the body of a connection that is gone.
#[derive(Debug)]
pub(super) struct Ticket {
    log: Arc<RequestLog>,
    stats: Arc<Stats>,
    id: Option<u64>,
    chunks_sent: usize,
    bill: Option<Bill>,
    ended: bool,
}

impl Ticket {
    pub(super) fn new(log: Arc<RequestLog>, stats: Arc<Stats>, id: Option<u64>) -> Self {
        stats.requests_total.add_one();
        Self { log, stats, id, chunks_sent: 0, bill: None, ended: false }
    }

    pub(super) fn answered(&mut self, status: u16, payload: &Payload) {
        if let Some(id) = self.id {
            self.log.update(id, |r| r.status = Some(status));
            self.bill = payload.bill();
        }
    }

    pub(super) fn chunk_sent(&mut self) {
        self.chunks_sent += 1;
        if let Some(id) = self.id {
            let chunks_sent = self.chunks_sent;
            self.log.update(id, |r| r.chunks_sent = chunks_sent);
        }
    }

    pub(super) fn chunks_sent(&self) -> usize {
        self.chunks_sent
    }

    pub(super) fn end(&mut self, outcome: Outcome) {
        if self.ended {
            return;
        }
        self.ended = true;
        self.stats.finished_total.add_one();
        if outcome == Outcome::ClientLeft {
            self.stats.clients_left_total.add_one();
        }
        match (outcome, self.bill) {
            (Outcome::Complete, Some(bill)) => self.stats.whole.add(bill),
            (Outcome::ClientLeft, Some(bill)) => {
                // The first event of a stream has no token yet, each further one has one.
                let sent = (self.chunks_sent as u64).saturating_sub(1);
                self.stats.left.add(Bill { completion: sent.min(bill.completion), ..bill });
            }
            _ => {}
        }
        if let Some(id) = self.id {
            let ended_us = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
            self.log.update(id, |r| {
                r.outcome = outcome;
                r.ended_us = u64::try_from(ended_us).ok();
            });
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.end(Outcome::ClientLeft);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log_with(count: usize) -> Arc<RequestLog> {
        let log = Arc::new(RequestLog::new(true));
        for _ in 0..count {
            log.open(&Method::GET, "/openai/v1/models", &HeaderMap::new(), b"");
        }
        log
    }

    #[test]
    fn the_oldest_goes_when_it_is_full() {
        let log = log_with(REQUESTS_MAX + 3);
        let all = log.all();
        assert_eq!(all.len(), REQUESTS_MAX);
        assert_eq!(all[0].id, 3);
        log.update(1, |r| r.status = Some(200));
        log.update(3, |r| r.status = Some(404));
        assert_eq!(log.all()[0].status, Some(404));
    }

    #[test]
    fn a_dropped_ticket_means_the_client_left() {
        let log = log_with(2);
        let stats = Arc::new(Stats::default());
        drop(Ticket::new(log.clone(), stats.clone(), Some(0)));
        let mut finished = Ticket::new(log.clone(), stats.clone(), Some(1));
        finished.chunk_sent();
        finished.end(Outcome::Complete);
        drop(finished);
        let outcomes: Vec<_> = log.all().iter().map(|r| r.outcome).collect();
        assert_eq!(outcomes, [Outcome::ClientLeft, Outcome::Complete]);
        assert_eq!(stats.snapshot().clients_left_total, 1);
        assert_eq!(stats.snapshot().in_flight, 0);
    }

    #[test]
    fn secrets_are_cut() {
        assert_eq!(shown("authorization", b"Bearer sk-secret-abcd").1, "***abcd");
        assert_eq!(shown("x-api-key", b"short").1, "***");
        assert_eq!(shown("accept", b"text/plain").1, "text/plain");
    }
}
