//! Whether a near answer is served: from a fixed cosine on, or as far as experience allows.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tidegate_core::cache::semantic::guard::{Features, compare};
use tidegate_core::cache::semantic::{Decision, ErrorBound, Evidence, Record, Threshold, Verifier};

use crate::embedding::Embedding;
use crate::keys::random;

/// Tenants with experience of their own; the others are served nothing but the same words.
const TENANTS_MAX: usize = 256;
/// Share of what may be served that is asked for again all the same, to learn from it.
const AUDIT_SHARE: f64 = 0.02;
/// Cosine from which on two answers in different words say the same, if the guard agrees.
const ANSWERS_SAME: f32 = 0.9;

/// How it is decided; the value of `mode:`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mode {
    /// By the threshold.
    Static,
    /// By what was learned, with at most this share of wrong answers.
    Verified(ErrorBound),
}

/// What was learned, by tenant.
#[derive(Debug, Default)]
pub struct Trust {
    verifiers: Mutex<HashMap<Box<str>, Verifier>>,
}

impl Trust {
    /// Decides about an answer of `tenant` that the guard lets pass.
    #[must_use]
    pub fn decide(
        &self,
        mode: Mode,
        tenant: &str,
        threshold: f32,
        evidence: &Evidence,
        record: &Record,
    ) -> Decision {
        let Mode::Verified(bound) = mode else {
            return Threshold { similarity: threshold, audit_share: 0.0 }.decide(evidence, 0.0);
        };
        let fresh = Verifier::new(bound, AUDIT_SHARE);
        let verifiers = self.verifiers.lock().unwrap_or_else(PoisonError::into_inner);
        // Without randomness everything that could be audited is.
        verifiers.get(tenant).unwrap_or(&fresh).decide(evidence, record, random::draw().unwrap_or(0.0))
    }

    /// Learns whether the stored answer would have been right.
    pub fn learn(
        &self,
        bound: ErrorBound,
        tenant: &str,
        evidence: &Evidence,
        record: &Mutex<Record>,
        right: bool,
    ) {
        let mut verifiers = self.verifiers.lock().unwrap_or_else(PoisonError::into_inner);
        if !verifiers.contains_key(tenant) && verifiers.len() >= TENANTS_MAX {
            return;
        }
        let verifier = verifiers.entry(tenant.into()).or_insert_with(|| Verifier::new(bound, AUDIT_SHARE));
        verifier.learn(evidence, &mut record.lock().unwrap_or_else(PoisonError::into_inner), right);
    }
}

/// Whether two answers are the same but for case and white space.
#[must_use]
pub fn same_words(a: &str, b: &str) -> bool {
    let words = |text: &str| text.split_whitespace().map(str::to_lowercase).collect::<Vec<_>>();
    words(a) == words(b)
}

/// Whether two answers in different words say the same.
#[must_use]
pub fn same_meaning(a: (&str, &Embedding), b: (&str, &Embedding)) -> bool {
    let cosine: f32 = a.1.vector.iter().zip(b.1.vector.iter()).map(|(x, y)| x * y).sum();
    cosine >= ANSWERS_SAME && compare(&Features::of(a.0), &Features::of(b.0)).is_ok()
}

#[cfg(test)]
mod tests {
    use tidegate_core::cache::semantic::Candidate;

    use super::*;

    fn evidence(similarity: f32) -> Evidence {
        let candidate = Candidate { similarity, answer: 1, guard: Ok(()) };
        Evidence::weigh(&[candidate]).expect("passes")
    }

    #[test]
    fn a_threshold_serves_at_once_and_experience_only_after_it_was_made() {
        let (trust, record) = (Trust::default(), Mutex::new(Record::default()));
        let decide = |mode, similarity| {
            let record = *record.lock().expect("lock");
            trust.decide(mode, "t", 0.85, &evidence(similarity), &record)
        };
        assert!(matches!(decide(Mode::Static, 0.9), Decision::Serve { audit: false, .. }));
        assert!(matches!(decide(Mode::Static, 0.8), Decision::Explore(_)));
        let bound = ErrorBound::new(0.05).expect("a bound");
        assert!(matches!(decide(Mode::Verified(bound), 0.99), Decision::Explore(_)));
        for _ in 0..2000 {
            trust.learn(bound, "t", &evidence(0.97), &record, true);
            trust.learn(bound, "t", &evidence(0.6), &record, false);
        }
        let fresh = Record::default();
        let verified = |tenant| trust.decide(Mode::Verified(bound), tenant, 0.85, &evidence(0.98), &fresh);
        assert!(matches!(verified("t"), Decision::Serve { .. }));
        assert!(matches!(verified("another"), Decision::Explore(_)), "tenants learn apart");
    }

    #[test]
    fn case_and_space_make_no_other_answer() {
        assert!(same_words("Yes,  it is.\n", "yes, it IS."));
        assert!(!same_words("Yes", "No"));
    }
}
