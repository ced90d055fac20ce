//! The learning loop: what filters observe becomes counts by slice and cluster, those become
//! explanations, and those, by the operator's rules, policies. [`Learner`] is the loop without
//! clock and IO; [`run`] drives it.

mod cases;
mod hidden;
mod ledger;
mod limit_rate;
mod run;
#[cfg(test)]
mod tests;
mod understanding;

use std::collections::VecDeque;
use std::sync::Arc;

use tidegate_core::event::{PolicyNote, TrafficRow};
use tidegate_core::incident::attribution::Observed;
use tidegate_core::incident::enforcement::contains;
use tidegate_core::incident::proposal::Action;
use tidegate_core::policy::BreakerPolicy;

use self::cases::Cases;
pub use self::hidden::tell as tell_hidden;
use self::ledger::Ledger;
pub use self::run::run;
pub use self::understanding::{About, Understanding};
use crate::bus::Envelope;
use crate::config::policy::Incidents;
use crate::policies::{Proposal, Record};

/// Share of a slice's failures from which a policy that holds them answers them all.
const ANSWERED_MIN: f64 = 0.8;
/// The past in which that is looked at, in seconds.
const ANSWERED_S: u64 = 5;
/// VMs whose last batch is remembered.
const VMS_MAX: usize = 1024;

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
    /// A limit that nothing comes near any more.
    Lift {
        /// The policy.
        id: String,
    },
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
    /// The last batch of each VM, the one heard of longest ago first.
    batches: VecDeque<(String, u64)>,
    limits: limit_rate::LimitRates,
}

impl<U: Understanding> Learner<U> {
    /// A loop that knows nothing yet.
    pub fn new(understanding: U) -> Self {
        Self {
            understanding,
            ledger: Ledger::default(),
            cases: Cases::default(),
            batches: VecDeque::new(),
            limits: limit_rate::LimitRates::default(),
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

    /// Whether a batch has not come before.
    pub fn is_new(&mut self, envelope: &Envelope) -> bool {
        let (vm, number) = (envelope.vm.clone(), envelope.batch.number);
        let known = self.batches.iter().position(|(name, _)| *name == vm);
        let last = known.and_then(|at| self.batches.remove(at)).map_or(0, |(_, last)| last);
        if known.is_none() && self.batches.len() >= VMS_MAX {
            self.batches.pop_front();
        }
        self.batches.push_back((vm, last.max(number)));
        number > last
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
            self.ledger.add(row, &failures, now_ms / 1000);
        }
    }

    /// What is to be done now; `standing` are the policies there are.
    pub fn decide(
        &mut self,
        standing: &[Record],
        settings: &Settings,
        only_models: OnlyModels<'_>,
        now_ms: u64,
    ) -> Vec<Decision> {
        self.ledger.expire(now_ms / 1000);
        let mut decisions: Vec<Decision> = Vec::new();
        for case in self.cases.stirring(now_ms) {
            let Some(about) = self.understanding.about(case.cluster(), now_ms) else { continue };
            let proposals = case.propose(&about, &self.ledger, settings, only_models, now_ms);
            let is_hopeful = |proposal: &Proposal| {
                proposal.action != Action::Limit
                    || !self.limits.is_futile(&proposal.cluster_id, &proposal.explanation.scope, now_ms)
            };
            let is_answered = |proposal: &Proposal| self.is_answered(proposal, standing, now_ms);
            let proposals =
                proposals.into_iter().filter(is_hopeful).filter(|proposal| !is_answered(proposal));
            decisions.extend(proposals.map(|proposal| Decision::Propose(Box::new(proposal))));
        }
        decisions.extend(self.limits.adjust(standing, &self.ledger, settings, now_ms));
        decisions
    }

    /// Whether a standing policy on the same cluster answers nearly all of these failures already: then
    /// they are those of its canaries. One that is wider takes its place, and is not meant.
    fn is_answered(&self, proposal: &Proposal, standing: &[Record], now_ms: u64) -> bool {
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
        let rows = self.ledger.window(&proposal.cluster_id, ANSWERED_S, now_ms / 1000);
        let failures = |within: &dyn Fn(&Observed<'_>) -> bool| -> u64 {
            rows.iter().filter(|row| row.lies_in(scope) && within(row)).map(|row| row.failures).sum()
        };
        let all = failures(&|_| true);
        beside.any(|record| failures(&|row| row.lies_in(&record.scope)) as f64 >= ANSWERED_MIN * all as f64)
    }

    /// The incident behind a policy is over: what it did is forgotten.
    pub fn forget(&mut self, cluster: &str) {
        self.ledger.forget(cluster);
        self.cases.forget(cluster);
    }
}
