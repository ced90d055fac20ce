//! Whether a near answer is served: from a fixed cosine on, or as far as experience allows; and what
//! was found out about answers that were served.

mod audits;
mod kept;
mod marks;

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tidegate_core::cache::semantic::guard::{Features, compare};
use tidegate_core::cache::semantic::{Decision, ErrorBound, Evidence, Outcome, Record, Threshold, Verifier};

pub use self::audits::{Audits, TenantAudit};
pub use self::kept::Kept;

use self::marks::Marks;
use super::entry::Name;
use crate::embedding::Embedding;
use crate::keys::random;

/// Tenants with experience of their own; the others are served nothing but the same words.
const TENANTS_MAX: usize = 256;
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

impl Mode {
    /// The value of `mode:`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Verified(_) => "verified",
        }
    }
}

/// What was learned, by tenant.
#[derive(Debug)]
pub struct Trust {
    mode: Mode,
    /// Share of what may be served that is asked for again all the same, to learn from it.
    audit_rate: f64,
    verifiers: Mutex<HashMap<Box<str>, Verifier>>,
    /// Tenants of which something was learned that is not kept yet.
    unkept: Mutex<HashSet<Box<str>>>,
    marks: Mutex<Marks>,
    /// What was found out by asking again.
    pub audits: Audits,
}

impl Trust {
    /// Nothing learned yet.
    #[must_use]
    pub fn new(mode: Mode, audit_rate: f64) -> Self {
        Self {
            mode,
            audit_rate,
            verifiers: Mutex::default(),
            unkept: Mutex::default(),
            marks: Mutex::default(),
            audits: Audits::default(),
        }
    }

    fn verifiers(&self) -> MutexGuard<'_, HashMap<Box<str>, Verifier>> {
        self.verifiers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn marks(&self) -> MutexGuard<'_, Marks> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides about an answer of `tenant` that the guard lets pass.
    #[must_use]
    pub fn decide(&self, tenant: &str, threshold: f32, evidence: &Evidence, record: &Record) -> Decision {
        // Without randomness everything that could be audited is.
        let draw = random::draw().unwrap_or(0.0);
        match self.mode {
            Mode::Static => {
                Threshold { similarity: threshold, audit_share: self.audit_rate }.decide(evidence, draw)
            }
            Mode::Verified(bound) => match self.verifiers().get(tenant) {
                Some(verifier) => verifier.decide(evidence, record, draw),
                None => Verifier::new(bound, self.audit_rate).decide(evidence, record, draw),
            },
        }
    }

    /// Learns whether the stored answer would have been right; what other gateways may learn from it.
    pub fn learn(
        &self,
        tenant: &str,
        evidence: &Evidence,
        record: &Mutex<Record>,
        right: bool,
    ) -> Option<Outcome> {
        let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
        self.with(tenant, |verifier| verifier.learn(evidence, &mut record, right))
    }

    /// Learns what another gateway found out.
    pub fn adopt(&self, tenant: &str, outcome: Outcome) {
        self.with(tenant, |verifier| verifier.adopt(outcome));
    }

    fn with<T>(&self, tenant: &str, work: impl FnOnce(&mut Verifier) -> T) -> Option<T> {
        let Mode::Verified(bound) = self.mode else { return None };
        let mut verifiers = self.verifiers();
        if !verifiers.contains_key(tenant) && verifiers.len() >= TENANTS_MAX {
            return None;
        }
        let verifier =
            verifiers.entry(tenant.into()).or_insert_with(|| Verifier::new(bound, self.audit_rate));
        let value = work(verifier);
        drop(verifiers);
        self.changed(tenant);
        Some(value)
    }

    fn changed(&self, tenant: &str) {
        self.unkept.lock().unwrap_or_else(PoisonError::into_inner).insert(tenant.into());
    }

    /// Counts what asking again came to.
    pub fn audited(&self, tenant: &str, right: bool) {
        self.audits.add(tenant, right);
        self.changed(tenant);
    }

    /// Remembers what an answer was served on, in case it is said to be wrong.
    pub fn served(&self, name: Name, tenant: &str, evidence: Evidence) {
        self.marks().served(name, tenant, evidence);
    }

    /// An answer was said to be wrong. If it was served in place of another one here, that is learned:
    /// for whom, and what other gateways may learn from it.
    pub fn said_wrong(&self, name: Name) -> Option<(Box<str>, Outcome)> {
        let (tenant, evidence) = self.marks().said_wrong(name)?;
        let mut record = Record::default();
        let learned = self.with(&tenant, |verifier| verifier.learn(&evidence, &mut record, false));
        let outcome = learned.unwrap_or_else(|| Outcome::of(&evidence, false));
        Some((tenant, outcome))
    }

    /// Serves the answer of this name from now on only to prompts nearer than `similarity`.
    pub fn raise(&self, name: Name, similarity: f32) {
        self.marks().raise(name, similarity);
    }

    /// Whether an answer of this name may be served at this similarity, as far as was said of it.
    #[must_use]
    pub fn allows(&self, name: Name, similarity: f32) -> bool {
        self.marks().allows(name, similarity)
    }

    /// How many outcomes decide for a tenant, by tenant.
    #[must_use]
    pub fn observations(&self) -> HashMap<Box<str>, usize> {
        self.verifiers().iter().map(|(tenant, verifier)| (tenant.clone(), verifier.observations())).collect()
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

    use super::super::shared::Space;
    use super::*;

    fn evidence(similarity: f32) -> Evidence {
        let candidate = Candidate { similarity, answer: 1, guard: Ok(()) };
        Evidence::weigh(&[candidate]).expect("passes")
    }

    fn verified() -> Trust {
        Trust::new(Mode::Verified(ErrorBound::new(0.05).expect("a bound")), 0.0)
    }

    fn decides(trust: &Trust, tenant: &str, similarity: f32) -> Decision {
        trust.decide(tenant, 0.85, &evidence(similarity), &Record::default())
    }

    fn teach(trust: &Trust) -> Vec<Outcome> {
        let record = Mutex::default();
        (0..1000)
            .flat_map(|_| {
                [(0.97, true), (0.6, false)]
                    .map(|(at, right)| trust.learn("t", &evidence(at), &record, right))
            })
            .flatten()
            .collect()
    }

    #[test]
    fn a_threshold_serves_at_once_and_experience_only_after_it_was_made() {
        let fixed = Trust::new(Mode::Static, 0.0);
        assert!(matches!(decides(&fixed, "t", 0.9), Decision::Serve { audit: false, .. }));
        assert!(matches!(decides(&fixed, "t", 0.8), Decision::Explore(_)));
        let trust = verified();
        assert!(matches!(decides(&trust, "t", 0.99), Decision::Explore(_)));
        teach(&trust);
        assert!(matches!(decides(&trust, "t", 0.98), Decision::Serve { .. }));
        assert!(matches!(decides(&trust, "another", 0.98), Decision::Explore(_)), "tenants learn apart");
    }

    #[test]
    fn a_share_of_what_a_threshold_would_serve_is_audited_if_so_configured() {
        let trust = Trust::new(Mode::Static, 1.0);
        assert!(matches!(decides(&trust, "t", 0.9), Decision::Serve { audit: true, .. }));
    }

    #[test]
    fn experience_survives_a_restart_and_reaches_other_gateways_but_not_another_model() {
        let (trust, space) = (verified(), Space([1; 8]));
        let outcomes = teach(&trust);
        trust.audited("t", false);
        let kept = trust.to_keep(space);
        assert_eq!(kept.len(), 1);
        assert!(trust.to_keep(space).is_empty(), "only what changed");

        let text = serde_json::to_string(&kept).expect("JSON");
        let again: Vec<Kept> = serde_json::from_str(&text).expect("the same");
        let restarted = verified();
        restarted.restore(again.clone(), space);
        assert!(matches!(decides(&restarted, "t", 0.98), Decision::Serve { .. }));
        assert_eq!(restarted.audits.total().wrong, 1);
        let changed = verified();
        changed.restore(again, Space([2; 8]));
        assert!(matches!(decides(&changed, "t", 0.98), Decision::Explore(_)));
        assert_eq!(changed.audits.total().checked, 0);

        let other = verified();
        outcomes.into_iter().for_each(|outcome| other.adopt("t", outcome));
        assert!(matches!(decides(&other, "t", 0.98), Decision::Serve { .. }));
    }

    #[test]
    fn a_wrong_answer_is_not_served_at_that_distance_again_and_is_learned_from() {
        let trust = verified();
        let name = Name::of(&[1; 32]);
        assert!(trust.said_wrong(name).is_none(), "it was not served");
        trust.served(name, "t", evidence(0.9));
        assert!(trust.allows(name, 0.9));
        let (tenant, outcome) = trust.said_wrong(name).expect("served");
        assert_eq!((&*tenant, outcome.is_right(), outcome.similarity()), ("t", false, 0.9));
        assert!(!trust.allows(name, 0.9) && trust.allows(name, 0.95));
        assert_eq!(trust.observations().get("t"), Some(&1));
        assert!(trust.said_wrong(name).is_none(), "once");
    }

    #[test]
    fn case_and_space_make_no_other_answer() {
        assert!(same_words("Yes,  it is.\n", "yes, it IS."));
        assert!(!same_words("Yes", "No"));
    }
}
