//! The `verified` mode: answers are served only where observed outcomes keep the share of wrong ones
//! among them under a bound.
//!
//! The idea is vCache's (Schroeder et al., arXiv 2502.03771): model the probability that a cached
//! answer is right from what a lookup sees, learn it online by asking the provider when unsure, and
//! use the cautious end of the estimate. Where this differs:
//!
//! - vCache fits one curve of similarity for each entry alone. Most entries of a real cache are
//!   looked up a few times, so here one model is shared and each entry moves it by a term of its own,
//!   which is shrunk towards zero while little is known of the entry (empirical Bayes).
//! - Besides the cosine, the model sees how far the next other answer is and how the neighbours vote.
//! - vCache bounds wrong answers among all prompts by drawing at random whether to explore. Here the
//!   bound is on the answers served, which is stricter, and what is served follows from the evidence
//!   alone; a share of what is served is audited in its stead.

use super::decision::{Decision, Reason};
use super::evidence::{Evidence, FEATURES};
use super::logistic::{Logistic, sigmoid};

/// Outcomes that are kept; older ones give way.
pub const OBSERVATIONS_MAX: usize = 2048;
/// Outcomes below which nothing is served.
pub const OBSERVATIONS_MIN: usize = 100;
/// Outcomes after which the model is fitted anew.
const FIT_EVERY: usize = 50;
/// Standard errors that are taken off the estimate.
const CAUTION: f64 = 0.5;
/// Looks at an entry that weigh as much as the prior belief that it is like all others.
const SHRINKAGE: f64 = 4.0;
/// Share of audits below which one no longer stands for more served answers.
const AUDIT_SHARE_MIN: f64 = 0.02;
/// Most looks at one entry that are counted; later ones let the earlier fade.
const TRIED_MAX: u16 = 64;

/// The largest share of wrong answers among those served: above 0, at most 0.5.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct ErrorBound(f64);

impl ErrorBound {
    /// `None` outside (0, 0.5].
    #[must_use]
    pub fn new(share: f64) -> Option<Self> {
        (share > 0.0 && share <= 0.5).then_some(Self(share))
    }

    /// As a share.
    #[must_use]
    pub const fn share(self) -> f64 {
        self.0
    }
}

/// What was seen of one entry, in 6 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Record {
    pub(super) tried: u16,
    /// Sum of outcomes less their estimates.
    pub(super) surplus: f32,
}

impl Record {
    /// How often its answer was compared with a fresh one, up to a bound.
    #[must_use]
    pub const fn tried(&self) -> u16 {
        self.tried
    }

    /// Log odds by which this entry differs from all others.
    fn shift(&self) -> f64 {
        let known = f64::from(self.tried);
        SHRINKAGE * f64::from(self.surplus) / (known + SHRINKAGE)
    }

    fn add(&mut self, surplus: f64) {
        if self.tried >= TRIED_MAX {
            self.tried /= 2;
            self.surplus /= 2.0;
        }
        self.tried += 1;
        self.surplus += surplus as f32;
    }
}

/// One outcome: what a lookup saw, and whether the stored answer was right.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    pub(super) features: [f64; FEATURES],
    pub(super) right: bool,
    /// It was served, and stands for all that were served and not audited.
    pub(super) audited: bool,
}

impl Outcome {
    /// The outcome of evidence that nothing was learned from.
    #[must_use]
    pub const fn of(evidence: &Evidence, right: bool) -> Self {
        Self { features: evidence.features, right, audited: false }
    }

    /// Whether the stored answer was right.
    #[must_use]
    pub const fn is_right(&self) -> bool {
        self.right
    }

    /// Cosine of the two prompts.
    #[must_use]
    pub const fn similarity(&self) -> f32 {
        let [.., similarity] = self.features;
        similarity as f32
    }
}

/// What was learned of one tenant's lookups: some 100 KiB when full.
#[derive(Debug, Clone, PartialEq)]
pub struct Verifier {
    bound: ErrorBound,
    audit_share: f64,
    model: Logistic,
    /// Least cautious estimate that is served; above 1 nothing is.
    cut: f64,
    pub(super) observations: Vec<Outcome>,
    pub(super) oldest: usize,
    since_fit: usize,
}

impl Verifier {
    /// One that knows nothing and serves nothing; `audit_share` of what it will serve is audited.
    #[must_use]
    pub fn new(bound: ErrorBound, audit_share: f64) -> Self {
        Self {
            bound,
            audit_share,
            model: Logistic::new(),
            cut: f64::INFINITY,
            observations: Vec::new(),
            oldest: 0,
            since_fit: 0,
        }
    }

    /// Decides; `record` is the chosen entry's, `draw` is uniform in [0, 1).
    #[must_use]
    pub fn decide(&self, evidence: &Evidence, record: &Record, draw: f64) -> Decision {
        let confidence = self.cautious(&evidence.features, record.shift());
        if confidence >= self.cut {
            Decision::Serve { confidence, audit: draw < self.audit_share }
        } else {
            Decision::Explore(Reason::Unsure)
        }
    }

    /// Learns whether the chosen entry's answer was right, from a fresh answer or from feedback. Gives
    /// what another verifier can [`Self::adopt`].
    pub fn learn(&mut self, evidence: &Evidence, record: &mut Record, right: bool) -> Outcome {
        let estimate = sigmoid(self.model.linear(&evidence.features));
        let audited = self.cautious(&evidence.features, record.shift()) >= self.cut;
        record.add(f64::from(u8::from(right)) - estimate);
        let outcome = Outcome { features: evidence.features, right, audited };
        self.adopt(outcome);
        outcome
    }

    /// Learns an outcome that was observed elsewhere.
    pub fn adopt(&mut self, outcome: Outcome) {
        self.observe(outcome);
        self.since_fit += 1;
        if self.since_fit >= FIT_EVERY {
            self.fit();
        }
    }

    /// How many outcomes it rests on.
    #[must_use]
    pub fn observations(&self) -> usize {
        self.observations.len()
    }

    /// Least estimate that is served now; `None` while nothing is.
    #[must_use]
    pub fn least_confidence(&self) -> Option<f64> {
        (self.cut <= 1.0).then_some(self.cut)
    }

    pub(super) fn observe(&mut self, observation: Outcome) {
        if self.observations.len() < OBSERVATIONS_MAX {
            self.observations.push(observation);
            return;
        }
        if let Some(place) = self.observations.get_mut(self.oldest) {
            *place = observation;
        }
        self.oldest = (self.oldest + 1) % OBSERVATIONS_MAX;
    }

    pub(super) fn fit(&mut self) {
        self.since_fit = 0;
        self.model.fit(self.observations.iter().map(|seen| (&seen.features, seen.right)));
        self.cut = self.lowest_cut();
    }

    fn cautious(&self, features: &[f64; FEATURES], shift: f64) -> f64 {
        sigmoid(self.model.linear(features) + shift - CAUTION * self.model.standard_error(features))
    }

    /// The lowest cut above which both the expected and the observed share of wrong answers are within
    /// the bound.
    fn lowest_cut(&self) -> f64 {
        if self.observations.len() < OBSERVATIONS_MIN {
            return f64::INFINITY;
        }
        let stands_for = |seen: &Outcome| match seen.audited {
            true => 1.0 / self.audit_share.max(AUDIT_SHARE_MIN),
            false => 1.0,
        };
        let estimates = self.observations.iter().map(|seen| (self.cautious(&seen.features, 0.0), seen));
        let mut ranked: Vec<(f64, &Outcome)> = estimates.collect();
        ranked.sort_unstable_by(|(a, _), (b, _)| b.total_cmp(a));
        let (mut weight, mut expected, mut cut) = (0.0, 0.0, f64::INFINITY);
        let (mut seen, mut wrong) = (0.0, 0.0);
        for (estimate, observation) in ranked {
            weight += stands_for(observation);
            expected += stands_for(observation) * (1.0 - estimate);
            seen += 1.0;
            wrong += f64::from(u8::from(!observation.right));
            // Half an error more than was seen, so that few outcomes prove little.
            if expected <= self.bound.0 * weight && wrong + 0.5 <= self.bound.0 * (seen + 1.0) {
                cut = estimate;
            }
        }
        cut
    }
}
