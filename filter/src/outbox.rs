//! What one VM has to tell of failures and policies until its next batch. Bounded: the oldest
//! event gives way, and is counted.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tidegate_core::event::{EVENTS_MAX, ErrorEvent, PolicyNote};
use tidegate_core::incident::Signature;
use tidegate_core::incident::enforcement::POLICIES_MAX;
use tidegate_core::policy::SamplerPolicy;

/// Signatures remembered as known.
const KNOWN_MAX: usize = 1024;
/// Time after which all signatures are new again, in milliseconds: the sidecar may have forgotten
/// them, or another one may have taken its place.
const KNOWN_MS: u64 = 60_000;

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offered {
    /// It waits to be sent.
    Kept,
    /// It waits to be sent, and the oldest gave way.
    Displaced,
}

/// One VM's outbox.
#[derive(Debug, Default)]
pub struct Outbox {
    events: VecDeque<ErrorEvent>,
    notes: BTreeMap<String, PolicyNote>,
    known: BTreeSet<Signature>,
    known_since_ms: u64,
    /// Share of an event that is due, so that a sample is even.
    due: f64,
    number: u64,
}

impl Outbox {
    /// Whether an event of this signature is to be made: always the first, then a sample.
    pub fn wants(&mut self, signature: Signature, sampler: &SamplerPolicy, now_ms: u64) -> bool {
        if now_ms.abs_diff(self.known_since_ms) >= KNOWN_MS {
            self.known.clear();
            self.known_since_ms = now_ms;
        }
        if !self.known.contains(&signature) {
            if self.known.len() < KNOWN_MAX {
                self.known.insert(signature);
            }
            return true;
        }
        self.due += sampler.sampling_rate;
        if self.due < 1.0 {
            return false;
        }
        self.due -= 1.0;
        true
    }

    /// Numbers an event and keeps it for the next batch.
    pub fn push(&mut self, mut event: ErrorEvent, sampler: &SamplerPolicy) -> Offered {
        self.number += 1;
        event.number = self.number;
        let is_full = self.events.len() >= sampler.buffer_size as usize;
        if is_full {
            self.events.pop_front();
        }
        self.events.push_back(event);
        if is_full { Offered::Displaced } else { Offered::Kept }
    }

    /// Changes the note on a policy.
    pub fn note(&mut self, id: &str, change: impl FnOnce(&mut PolicyNote)) {
        if let Some(note) = self.notes.get_mut(id) {
            change(note);
        } else if self.notes.len() < POLICIES_MAX {
            let mut note =
                PolicyNote { id: id.to_owned(), refused: 0, probes_ok: 0, probes_failed: 0, phase: 0 };
            change(&mut note);
            self.notes.insert(id.to_owned(), note);
        }
    }

    /// Whether something waits that should not wait for long.
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        !self.events.is_empty() || !self.notes.is_empty()
    }

    /// Takes the oldest events, as many as a batch holds, and all notes.
    pub fn take(&mut self) -> (Vec<ErrorEvent>, Vec<PolicyNote>) {
        let count = self.events.len().min(EVENTS_MAX);
        let notes = std::mem::take(&mut self.notes);
        (self.events.drain(..count).collect(), notes.into_values().collect())
    }
}

#[cfg(test)]
mod tests {
    use tidegate_core::incident::Source;

    use super::*;

    fn sampler(sampling_rate: f64, buffer_size: u32) -> SamplerPolicy {
        SamplerPolicy { sampling_rate, buffer_size, region_headers: vec![] }
    }

    fn event() -> ErrorEvent {
        ErrorEvent {
            number: 0,
            at_ms: 0,
            status: 500,
            source: Source::Provider,
            codes: vec![],
            template: String::new(),
            signature: Signature(1),
            attributes: Default::default(),
        }
    }

    #[test]
    fn a_new_signature_is_always_wanted_and_a_known_one_at_its_rate() {
        let mut outbox = Outbox::default();
        let sampler = sampler(0.05, 10);
        assert!(outbox.wants(Signature(1), &sampler, 1_000_000));
        let wanted = (0..1000).filter(|_| outbox.wants(Signature(1), &sampler, 1_000_000)).count();
        assert!((49..=51).contains(&wanted), "{wanted}");
        assert!(outbox.wants(Signature(2), &sampler, 1_000_000));
        assert!(outbox.wants(Signature(1), &sampler, 1_000_000 + KNOWN_MS), "forgotten with time");
    }

    #[test]
    fn the_oldest_event_gives_way() {
        let mut outbox = Outbox::default();
        let sampler = sampler(1.0, 2);
        let offered: Vec<Offered> = (0..3).map(|_| outbox.push(event(), &sampler)).collect();
        assert_eq!(offered, [Offered::Kept, Offered::Kept, Offered::Displaced]);
        let (events, _) = outbox.take();
        assert_eq!(events.iter().map(|e| e.number).collect::<Vec<_>>(), [2, 3]);
        assert!(!outbox.is_urgent());
    }

    #[test]
    fn a_batch_takes_what_it_holds_and_the_rest_waits() {
        let mut outbox = Outbox::default();
        for _ in 0..EVENTS_MAX + 1 {
            outbox.push(event(), &sampler(1.0, 1000));
        }
        outbox.note("p", |note| note.refused += 2);
        let (events, notes) = outbox.take();
        assert_eq!((events.len(), notes[0].refused), (EVENTS_MAX, 2));
        assert!(outbox.is_urgent());
    }
}
