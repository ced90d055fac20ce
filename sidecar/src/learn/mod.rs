//! The learning loop: what filters observe becomes counts by slice and cluster, those become
//! explanations, and those, by the operator's rules, policies. [`Learner`] is the loop without
//! clock and IO; [`run`] drives it.

mod cases;
mod hidden;
mod ledger;
mod limit_rate;
mod run;
mod seen;
#[cfg(test)]
mod tests;
mod understanding;

use std::collections::BTreeSet;
use std::sync::Arc;

use tidegate_core::event::{PolicyNote, TrafficRow};
use tidegate_core::incident::attribution::Observed;
use tidegate_core::incident::enforcement::contains;
use tidegate_core::incident::proposal::{Action, dooms};
use tidegate_core::policy::BreakerPolicy;

use self::cases::{Case, Cases, Past};
pub use self::hidden::tell as tell_hidden;
use self::ledger::Ledger;
pub use self::run::{run, understand};
pub use self::seen::Seen;
pub use self::understanding::{About, Understanding};
use crate::bus::Envelope;
use crate::config::policy::{Incidents, Mode};
use crate::policies::{Book, Limits, Proposal, Record};

/// Share of a slice's failures from which a policy that holds them answers them all.
const ANSWERED_MIN: f64 = 0.8;
/// The past in which that is looked at, in milliseconds.
const ANSWERED_MS: u64 = 5_000;

/// What is to be done about the policies.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// Make a policy, or keep the one that stands alive.
    Propose(Box<Proposal>),
    /// A limit's rate.
    Rate {
        /// The policy.
        id: String,
        /// Requests per second.
        rate: f64,
    },
    /// A cluster has become worse: nothing is to be done, but to be told.
    Grew {
        /// The cluster.
        cluster_id: String,
        /// How bad it is, in words.
        text: String,
    },
    /// A limit that nothing comes near any more.
    Lift {
        /// The policy.
        id: String,
    },
}

/// Carries decisions out: whether filters have to hear of it, and the limits that were lifted.
pub fn carry_out(
    decisions: Vec<Decision>,
    book: &mut Book,
    limits: Limits,
    now_ms: u64,
) -> (bool, Vec<Record>) {
    let (mut is_news, mut lifted) = (false, Vec::new());
    for decision in decisions {
        match decision {
            Decision::Propose(proposal) => is_news |= book.propose(*proposal, limits, now_ms),
            Decision::Rate { id, rate } => {
                book.set_rate(&id, rate);
                is_news = true;
            }
            Decision::Grew { cluster_id, text } => book.grew(&cluster_id, text, now_ms),
            Decision::Lift { id } => lifted.extend(book.lift(&id, now_ms)),
        }
    }
    (is_news || !lifted.is_empty(), lifted)
}

/// What the loop goes by; it may change while it runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Rules and bounds.
    pub incidents: Incidents,
    /// Thresholds and times of a break.
    pub breaker: BreakerPolicy,
}

/// Which models only one provider has, so that a slice of that provider can be told to filters.
pub type OnlyModels<'a> = &'a dyn Fn(&str) -> Vec<String>;

/// The loop's memory.
pub struct Learner<U> {
    understanding: U,
    ledger: Ledger,
    cases: Cases,
    limits: limit_rate::LimitRates,
    /// It hears of the traffic.
    is_informed: bool,
}

impl<U: Understanding> Learner<U> {
    /// A loop that knows nothing yet.
    pub fn new(understanding: U) -> Self {
        Self {
            understanding,
            ledger: Ledger::default(),
            cases: Cases::default(),
            limits: limit_rate::LimitRates::default(),
            is_informed: true,
        }
    }

    /// Takes a new batch in, after its errors were understood, and gives what policies did.
    pub fn take(&mut self, envelope: Envelope, now_ms: u64) -> Vec<PolicyNote> {
        let batch = envelope.batch;
        for event in &batch.events {
            if let Some(cluster) = self.understanding.cluster_of(event.signature) {
                self.cases.hear(&cluster, event.status);
            }
        }
        for row in &batch.traffic {
            self.count(row, now_ms);
        }
        batch.policies
    }

    fn count(&mut self, row: &TrafficRow, now_ms: u64) {
        let mut failures: Vec<(Arc<str>, u64)> = Vec::with_capacity(row.failures.len());
        for (signature, count) in &row.failures {
            // The words of a signature come with its first event; what is counted before says only
            // that it is no success.
            let cluster = self.understanding.cluster_of(*signature).unwrap_or_else(|| Arc::from(""));
            self.cases.count(&cluster, now_ms);
            failures.push((cluster, *count));
        }
        if !row.attributes.is_empty() {
            self.ledger.add(row, &failures, now_ms);
        }
    }

    /// Says whether the loop hears of the traffic at all; where other sidecars hear of it, those
    /// decide.
    pub fn set_informed(&mut self, is_informed: bool) {
        self.is_informed = is_informed;
    }

    /// What is to be done now; `standing` are the policies there are.
    pub fn decide(
        &mut self,
        standing: &[Record],
        settings: &Settings,
        only_models: OnlyModels<'_>,
        now_ms: u64,
    ) -> Vec<Decision> {
        self.ledger.expire(now_ms);
        if !self.is_informed {
            return Vec::new();
        }
        let stirring: Vec<(&Case, About)> = self
            .cases
            .stirring(now_ms)
            .filter_map(|case| Some((case, self.understanding.about(case.cluster(), now_ms)?)))
            .collect();
        let dooming: BTreeSet<Arc<str>> = stirring
            .iter()
            .filter(|(_, about)| dooms(about.kind, about.class))
            .map(|(case, _)| Arc::clone(case.cluster()))
            .collect();
        let past = Past { ledger: &self.ledger, dooming: &dooming, now_ms };
        let mut proposals: Vec<Proposal> = Vec::new();
        for (case, about) in &stirring {
            for proposal in case.propose(about, past, settings, only_models) {
                let is_futile = proposal.action == Action::Limit
                    && self.limits.is_futile(&proposal.cluster_id, &proposal.explanation.scope, now_ms);
                let is_broken = is_within_a_break(&proposal, standing, &proposals);
                if !is_futile && !is_broken && !is_answered(&proposal, standing, past) {
                    proposals.push(proposal);
                }
            }
        }
        let grown: Vec<(Arc<str>, f64)> =
            stirring.iter().map(|(case, about)| (Arc::clone(case.cluster()), about.severity)).collect();
        let mut decisions: Vec<Decision> =
            grown.into_iter().filter_map(|(cluster, severity)| self.cases.grew(&cluster, severity)).collect();
        let proposals = proposals.into_iter().map(|proposal| Decision::Propose(Box::new(proposal)));
        decisions.extend(proposals);
        decisions.extend(self.limits.adjust(standing, &self.ledger, settings, now_ms));
        decisions
    }

    /// The incident behind a policy is over: what it did is forgotten.
    pub fn forget(&mut self, cluster: &str) {
        self.ledger.forget(cluster);
        self.cases.forget(cluster);
    }
}

/// Whether a standing policy on the same cluster answers nearly all of these failures already: then
/// they are those of its canaries. One that is wider takes its place, and is not meant.
fn is_answered(proposal: &Proposal, standing: &[Record], past: Past<'_>) -> bool {
    let scope = &proposal.explanation.scope;
    let is_beside = |record: &&Record| {
        record.cluster_id == proposal.cluster_id
            && !contains(&record.scope, scope)
            && !contains(scope, &record.scope)
    };
    let mut beside = standing.iter().filter(is_beside).peekable();
    if beside.peek().is_none() {
        return false;
    }
    let rows = past.rows(&proposal.cluster_id, ANSWERED_MS);
    let failures = |within: &dyn Fn(&Observed<'_>) -> bool| -> u64 {
        rows.iter().filter(|row| row.lies_in(scope) && within(row)).map(|row| row.failures).sum()
    };
    let all = failures(&|_| true);
    beside.any(|record| failures(&|row| row.lies_in(&record.scope)) as f64 >= ANSWERED_MIN * all as f64)
}

/// Whether the slice is broken for another cluster already, or about to be: one that fails in several
/// ways is broken once.
fn is_within_a_break(proposal: &Proposal, standing: &[Record], proposals: &[Proposal]) -> bool {
    let scope = &proposal.explanation.scope;
    let breaks = |action, mode| action == Action::Break && mode == Mode::Enforce;
    let is_another = |cluster: &str| cluster != proposal.cluster_id;
    let is_closed = |record: &Record| matches!(record.state.as_str(), "open" | "half_open");
    proposal.action == Action::Break
        && (standing.iter().any(|record| {
            is_another(&record.cluster_id)
                && breaks(record.action, record.mode)
                && !record.silenced
                && is_closed(record)
                && contains(&record.scope, scope)
        }) || proposals.iter().any(|other| {
            is_another(&other.cluster_id)
                && breaks(other.action, other.mode)
                && contains(&other.explanation.scope, scope)
        }))
}
