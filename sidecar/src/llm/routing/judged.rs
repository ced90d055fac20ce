//! What is believed of the health of a provider, or of one of its models: two things, because a
//! model that is ill says nothing about its sisters, and a server that is gone takes all of its
//! models with it.

use tidegate_core::breaker::{Admission, Breaker, Phase};
use tidegate_core::policy::BreakerPolicy;
use tidegate_core::routing::AdaptiveLimit;

use super::state::Standing;
use crate::llm::metrics::Outcome;

/// Share of the requests that must fail before a provider is passed by: that refuses nobody, so half is
/// enough.
const FAILING_MIN: f64 = 0.5;

/// What the end of a request says about one of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// Nothing.
    Nothing,
    /// It answers, if only to refuse.
    Answered,
    /// It gave an answer.
    Well,
    /// It has too much to do, and says so.
    Busy,
    /// It failed.
    Failed,
    /// It failed in a way that too much to do may explain.
    Overloaded,
}

impl Judgement {
    /// What the end of a request says about the provider, and about the model. `of_model`: the
    /// provider said that it is the model's trouble alone. `sisters_fail`: so do other models of
    /// it, without which an error that it answers is taken for the model's.
    #[must_use]
    pub const fn of(outcome: Outcome, of_model: bool, sisters_fail: bool) -> (Self, Self) {
        match outcome {
            Outcome::Ok => (Self::Well, Self::Well),
            Outcome::ClientError if of_model => (Self::Answered, Self::Failed),
            Outcome::ClientError => (Self::Answered, Self::Answered),
            Outcome::RateLimited => (Self::Nothing, Self::Busy),
            Outcome::Timeout => (Self::Nothing, Self::Overloaded),
            Outcome::ServerError if of_model => (Self::Answered, Self::Overloaded),
            Outcome::ServerError if sisters_fail => (Self::Overloaded, Self::Overloaded),
            Outcome::ServerError => (Self::Nothing, Self::Overloaded),
            Outcome::Unreachable | Outcome::Interrupted => (Self::Failed, Self::Nothing),
            Outcome::Cancelled => (Self::Nothing, Self::Nothing),
        }
    }
}

/// The request that a judgement is about.
#[derive(Debug, Clone, Copy)]
pub struct Heard {
    /// Whether it was to find out about a recovery.
    pub probe: bool,
    /// Requests that were on their way when it left, itself included.
    pub in_flight: u32,
    /// How long it took, in milliseconds.
    pub waited_ms: u64,
    /// When it ended, in milliseconds of the routing clock.
    pub now_ms: u64,
}

/// A breaker, and a limit on requests in flight that adapts itself.
#[derive(Debug)]
pub struct Judged {
    breaker: Breaker,
    successes: u32,
    limit: AdaptiveLimit,
}

impl Judged {
    /// One that nothing is known of; `concurrency_max` is the limit that it begins with.
    #[must_use]
    pub fn new(concurrency_max: u32) -> Self {
        let limit = AdaptiveLimit::new(concurrency_max);
        Self { breaker: Breaker::default(), successes: 0, limit }
    }

    /// Forgets what was learnt of its concurrency.
    pub fn relearn(&mut self, concurrency_max: u32) {
        self.limit = AdaptiveLimit::new(concurrency_max);
    }

    /// What is believed about its health.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.breaker.phase()
    }

    /// Requests in flight that it can take, as far as is known.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.limit.limit()
    }

    /// Whether it should be asked; counts as an offer to one that recovers.
    pub fn standing(&mut self, in_flight: u32, now_ms: u64, policy: &BreakerPolicy) -> Standing {
        match self.breaker.admit(now_ms, policy) {
            Admission::Refuse(_) => Standing::PassedBy,
            Admission::Probe => Standing::Probe,
            Admission::Pass if self.limit.admits(in_flight) => Standing::Well,
            Admission::Pass => Standing::PassedBy,
        }
    }

    /// Takes note of how a request ended.
    pub fn hear(&mut self, judgement: Judgement, heard: &Heard, policy: &BreakerPolicy) {
        let Heard { in_flight, waited_ms, now_ms, .. } = *heard;
        match judgement {
            Judgement::Nothing => {}
            Judgement::Answered => self.success(heard, policy),
            Judgement::Well => {
                self.limit.success(in_flight);
                self.success(heard, policy);
            }
            Judgement::Busy => self.limit.overload(in_flight, waited_ms, now_ms),
            Judgement::Failed => self.failure(heard, policy),
            Judgement::Overloaded => {
                self.limit.overload(in_flight, waited_ms, now_ms);
                self.failure(heard, policy);
            }
        }
    }

    fn success(&mut self, heard: &Heard, policy: &BreakerPolicy) {
        if heard.probe {
            self.breaker.record_probe_success(heard.now_ms, policy);
        } else {
            self.successes = self.successes.saturating_add(1);
        }
    }

    fn failure(&mut self, heard: &Heard, policy: &BreakerPolicy) {
        let successes = std::mem::take(&mut self.successes);
        self.breaker.record_failure_from(FAILING_MIN, heard.probe, successes, heard.now_ms, policy);
    }
}
