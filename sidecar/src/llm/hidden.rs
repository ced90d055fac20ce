//! Attempts that failed and that no caller saw, because somebody else answered then: counted and
//! told like what filters observe, so that a provider's incident is found before callers notice.
//!
//! Bounded: what is beyond the rows of one batch is counted together, without attributes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tidegate_core::event::{Attributes, EVENTS_MAX, ErrorEvent, ROW_SIGNATURES_MAX, ROWS_MAX, TrafficRow};
use tidegate_core::incident::{ErrorText, Signature, Source, StatusClass};

/// Signatures whose words were told lately.
const KNOWN_MAX: usize = 1024;
/// Time after which words are told again, in milliseconds: whoever heard them may have forgotten.
const KNOWN_MS: u64 = 60_000;
/// Failures beyond the signatures told apart in a row.
const ANY_OTHER: Signature = Signature(0);

/// What has not been told yet.
#[derive(Debug, Default)]
pub struct HiddenFailures {
    inner: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    rows: BTreeMap<Attributes, Vec<(Signature, u64)>>,
    events: Vec<ErrorEvent>,
    known: BTreeSet<Signature>,
    known_since_ms: u64,
    number: u64,
}

/// A failure as its caller would have seen it.
#[derive(Debug, Clone, Copy)]
pub struct Unseen<'a> {
    /// Its status.
    pub status: u16,
    /// Whether it came inside a stream.
    pub in_stream: bool,
    /// The beginning of its body, or the error event of its stream.
    pub words: &'a str,
}

impl HiddenFailures {
    /// Notes an attempt that failed; `attributes` are the request's, with the provider that failed.
    pub fn note(&self, attributes: Attributes, unseen: Unseen<'_>, now_ms: u64) {
        let Unseen { status, in_stream, words } = unseen;
        let source = if in_stream { Source::Stream } else { Source::Provider };
        let read = ErrorText::read(words);
        let template = read.template();
        let signature = Signature::of(StatusClass::of(Some(status)), source, &read.codes, &template);
        let mut waiting = self.lock();
        if waiting.is_news(signature, now_ms) && waiting.events.len() < EVENTS_MAX {
            waiting.number += 1;
            let event = ErrorEvent {
                number: waiting.number,
                at_ms: now_ms,
                status,
                source,
                codes: read.codes,
                template,
                signature,
                attributes: attributes.clone(),
            };
            waiting.events.push(event);
        }
        waiting.count(attributes, signature);
    }

    /// Takes what is to be told, if there is anything.
    pub fn take(&self) -> Option<(Vec<ErrorEvent>, Vec<TrafficRow>)> {
        let mut waiting = self.lock();
        if waiting.rows.is_empty() {
            return None;
        }
        let row = |(attributes, failures): (Attributes, Vec<(Signature, u64)>)| {
            let requests = failures.iter().map(|(_, count)| count).sum();
            TrafficRow { attributes, requests, failures, hidden: true }
        };
        let rows = std::mem::take(&mut waiting.rows).into_iter().map(row).collect();
        Some((std::mem::take(&mut waiting.events), rows))
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn is_news(&mut self, signature: Signature, now_ms: u64) -> bool {
        if now_ms.abs_diff(self.known_since_ms) >= KNOWN_MS {
            self.known.clear();
            self.known_since_ms = now_ms;
        }
        let is_new = !self.known.contains(&signature);
        if is_new && self.known.len() < KNOWN_MAX {
            self.known.insert(signature);
        }
        is_new
    }

    fn count(&mut self, attributes: Attributes, signature: Signature) {
        let is_told_apart = self.rows.contains_key(&attributes) || self.rows.len() < ROWS_MAX;
        let failures =
            self.rows.entry(if is_told_apart { attributes } else { Attributes::new() }).or_default();
        let known = failures.iter().any(|(s, _)| *s == signature);
        let signature = if known || failures.len() < ROW_SIGNATURES_MAX { signature } else { ANY_OTHER };
        match failures.iter_mut().find(|(s, _)| *s == signature) {
            Some((_, count)) => *count += 1,
            None => failures.push((signature, 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use tidegate_core::event::Attribute;
    use tidegate_core::incident::enforcement::slice;

    use super::*;

    fn unseen(words: &str) -> Unseen<'_> {
        Unseen { status: 503, in_stream: false, words }
    }

    #[test]
    fn failures_are_counted_and_their_words_told_once() {
        let hidden = HiddenFailures::default();
        assert!(hidden.take().is_none());
        let of = |provider| slice(Attribute::Provider, provider);
        for provider in ["a", "a", "b"] {
            hidden.note(of(provider), unseen("engine 17 is overloaded"), 1_000);
        }
        let (events, rows) = hidden.take().expect("there are some");
        assert_eq!(events.len(), 1);
        assert!(!events[0].template.contains("17"), "{:?}", events[0].template);
        assert!(rows.iter().all(|row| row.hidden));
        assert_eq!(rows.iter().map(|row| row.requests).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(rows[0].failures, [(events[0].signature, 2)]);
        hidden.note(of("a"), unseen("engine 18 is overloaded"), 2_000);
        assert_eq!(hidden.take().map(|(events, rows)| (events.len(), rows.len())), Some((0, 1)));
        hidden.note(of("a"), unseen("engine 18 is overloaded"), 2_000 + KNOWN_MS);
        assert_eq!(hidden.take().map(|(events, _)| events.len()), Some(1), "told again");
    }

    #[test]
    fn a_flood_is_bounded_and_loses_no_count() {
        let hidden = HiddenFailures::default();
        let flood = 2 * ROWS_MAX + EVENTS_MAX;
        for i in 0..flood {
            let words = format!("error {}", "x".repeat(i));
            hidden.note(slice(Attribute::Tenant, &format!("t{i}")), unseen(&words), 1_000);
        }
        let (events, rows) = hidden.take().expect("there are some");
        assert!(events.len() <= EVENTS_MAX && rows.len() <= ROWS_MAX + 1);
        assert!(rows.iter().all(|row| row.failures.len() <= ROW_SIGNATURES_MAX + 1));
        assert_eq!(rows.iter().map(|row| row.requests).sum::<u64>(), flood as u64);
    }
}
