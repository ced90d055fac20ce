//! The circuit breaker of one route, as a value: closed, open, half-open with gradual recovery.
//!
//! Closed, it counts failures over a sliding window (two half-windows) and opens when they reach
//! `failure_threshold` and are nearly all of what was observed since the first of them
//! ([`FAILING_MIN`]): ten failures among ten thousand successes are noise, and where half succeeds,
//! breaking harms as many as it spares. Open, it refuses for `recovery_timeout`. Half-open, it admits
//! `recovery_increment` of the traffic, more at each step; a step is passed by
//! `failure_threshold * recovery_increment` successes, so closing takes about as many successes
//! as opening took failures. One failed probe opens it again.

mod cell;

pub use cell::CELL_BYTES;

use crate::policy::BreakerPolicy;

/// Where a breaker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed { half_start_ms: u64, now: Counts, before: Counts },
    Open { since_ms: u64 },
    HalfOpen { step: u32, offered: u32, passed: u32 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Counts {
    failures: u32,
    successes: u32,
}

/// A breaker's state, without its settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breaker {
    state: State,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { state: State::Closed { half_start_ms: 0, now: Counts::default(), before: Counts::default() } }
    }
}

/// Whether a request may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It may; its failure counts, its success counts in bulk.
    Pass,
    /// It may, and its outcome decides on the recovery: report it either way.
    Probe,
    /// It may not; worth trying again after this many milliseconds.
    Refuse(u64),
}

/// A state as reported to operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Everything passes.
    Closed,
    /// Part of the traffic passes.
    HalfOpen,
    /// Nothing passes.
    Open,
}

impl Phase {
    /// The value of `gateway_circuit_breaker_state`: 0 closed, 1 half-open, 2 open.
    #[must_use]
    pub const fn gauge(self) -> u8 {
        match self {
            Self::Closed => 0,
            Self::HalfOpen => 1,
            Self::Open => 2,
        }
    }
}

/// Share of the requests that must fail, from the first failure within the window on.
const FAILING_MIN: f64 = 0.85;

/// Shortest advice to a caller refused while half-open, in milliseconds.
const HALF_OPEN_RETRY_MS: u64 = 1_000;

impl Breaker {
    /// The state as operators see it.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        match self.state {
            State::Closed { .. } => Phase::Closed,
            State::Open { .. } => Phase::Open,
            State::HalfOpen { .. } => Phase::HalfOpen,
        }
    }

    /// When it opened, if it is open.
    #[must_use]
    pub const fn opened_ms(&self) -> Option<u64> {
        match self.state {
            State::Open { since_ms } => Some(since_ms),
            State::Closed { .. } | State::HalfOpen { .. } => None,
        }
    }

    /// Whether forgetting this breaker would lose nothing.
    #[must_use]
    pub fn is_idle(&self, now_ms: u64, policy: &BreakerPolicy) -> bool {
        match self.state {
            State::Closed { half_start_ms, .. } => now_ms.saturating_sub(half_start_ms) >= policy.window_ms,
            _ => false,
        }
    }

    /// Decides on a request. Changes nothing while closed.
    pub fn admit(&mut self, now_ms: u64, policy: &BreakerPolicy) -> Admission {
        match self.state {
            State::Closed { .. } => Admission::Pass,
            State::Open { since_ms } => {
                // A clock set back must not prolong the time-out.
                let waited = now_ms.saturating_sub(since_ms.min(now_ms));
                if waited < policy.recovery_timeout_ms {
                    return Admission::Refuse(policy.recovery_timeout_ms - waited);
                }
                self.state = State::HalfOpen { step: 1, offered: 0, passed: 0 };
                self.offer(policy)
            }
            State::HalfOpen { .. } => self.offer(policy),
        }
    }

    /// Counts one failure, and `successes` that happened since the last report, if the request
    /// was admitted as [`Admission::Pass`]; a failed probe opens the breaker again.
    pub fn record_failure(&mut self, was_probe: bool, successes: u32, now_ms: u64, policy: &BreakerPolicy) {
        self.record_failure_from(FAILING_MIN, was_probe, successes, now_ms, policy);
    }

    /// The same, where a share of failures of `failing_min` opens it.
    pub fn record_failure_from(
        &mut self,
        failing_min: f64,
        was_probe: bool,
        successes: u32,
        now_ms: u64,
        policy: &BreakerPolicy,
    ) {
        match &mut self.state {
            State::Closed { half_start_ms, now, before } => {
                rotate(half_start_ms, now, before, now_ms, policy);
                let earlier = now.failures.saturating_add(before.failures);
                now.failures = now.failures.saturating_add(1);
                // What went well before the first failure is no excuse for what follows it.
                let counted = if earlier == 0 { 0 } else { successes };
                now.successes = now.successes.saturating_add(counted);
                let failures = earlier.saturating_add(1);
                let all = failures.saturating_add(now.successes).saturating_add(before.successes);
                let is_most = f64::from(failures) >= failing_min * f64::from(all);
                if failures >= policy.failure_threshold && is_most {
                    self.state = State::Open { since_ms: now_ms };
                }
            }
            State::HalfOpen { .. } if was_probe => self.state = State::Open { since_ms: now_ms },
            // What was on its way before the breaker opened says nothing about the recovery.
            State::HalfOpen { .. } | State::Open { .. } => {}
        }
    }

    /// Counts one probe that succeeded.
    pub fn record_probe_success(&mut self, now_ms: u64, policy: &BreakerPolicy) {
        let State::HalfOpen { step, offered, passed } = &mut self.state else {
            return;
        };
        *passed = passed.saturating_add(1);
        if *passed < successes_per_step(policy) {
            return;
        }
        if share_per_mille(*step, policy) == 1000 {
            self.state =
                State::Closed { half_start_ms: now_ms, now: Counts::default(), before: Counts::default() };
        } else {
            (*step, *offered, *passed) = (step.saturating_add(1), 0, 0);
        }
    }

    /// Admits an even share of what is offered, the first one included.
    fn offer(&mut self, policy: &BreakerPolicy) -> Admission {
        let State::HalfOpen { step, offered, .. } = &mut self.state else {
            return Admission::Pass;
        };
        let share = share_per_mille(*step, policy);
        let due = |offered: u32| (u64::from(offered) * share).div_ceil(1000);
        let before = due(*offered);
        *offered = offered.saturating_add(1);
        if due(*offered) > before { Admission::Probe } else { Admission::Refuse(HALF_OPEN_RETRY_MS) }
    }
}

/// Share of the traffic admitted at `step`, 1 to 1000.
fn share_per_mille(step: u32, policy: &BreakerPolicy) -> u64 {
    ((f64::from(step) * policy.recovery_increment * 1000.0).round() as u64).clamp(1, 1000)
}

fn successes_per_step(policy: &BreakerPolicy) -> u32 {
    ((f64::from(policy.failure_threshold) * policy.recovery_increment).ceil() as u32).max(1)
}

/// Moves the two half-windows on to `now_ms`.
fn rotate(
    half_start_ms: &mut u64,
    now: &mut Counts,
    before: &mut Counts,
    now_ms: u64,
    policy: &BreakerPolicy,
) {
    let half_ms = (policy.window_ms / 2).max(1);
    let age_ms = now_ms.abs_diff(*half_start_ms);
    if age_ms < half_ms {
        return;
    }
    *before = if age_ms < 2 * half_ms { *now } else { Counts::default() };
    *now = Counts::default();
    *half_start_ms = now_ms;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICY: BreakerPolicy = BreakerPolicy {
        failure_threshold: 10,
        window_ms: 10_000,
        recovery_timeout_ms: 30_000,
        recovery_increment: 0.2,
    };

    fn opened(now_ms: u64) -> Breaker {
        let mut breaker = Breaker::default();
        for _ in 0..POLICY.failure_threshold {
            assert_eq!(breaker.admit(now_ms, &POLICY), Admission::Pass);
            breaker.record_failure(false, 0, now_ms, &POLICY);
        }
        assert_eq!(breaker.phase(), Phase::Open);
        breaker
    }

    #[test]
    fn opens_at_the_threshold_and_says_how_long() {
        let mut breaker = opened(1_000);
        assert_eq!(breaker.admit(1_000, &POLICY), Admission::Refuse(30_000));
        assert_eq!(breaker.admit(30_999, &POLICY), Admission::Refuse(1));
        assert_eq!(breaker.admit(31_000, &POLICY), Admission::Probe);
    }

    #[test]
    fn failures_among_many_successes_are_noise() {
        let mut breaker = Breaker::default();
        for _ in 0..100 {
            breaker.record_failure(false, 99, 1_000, &POLICY);
        }
        assert_eq!(breaker.phase(), Phase::Closed);
    }

    #[test]
    fn where_a_part_succeeds_it_stays_closed_and_what_came_before_does_not_count() {
        let mut breaker = Breaker::default();
        for _ in 0..100 {
            breaker.record_failure(false, 1, 1_000, &POLICY);
        }
        assert_eq!(breaker.phase(), Phase::Closed);
        let mut breaker = Breaker::default();
        breaker.record_failure(false, 10_000, 1_000, &POLICY);
        for _ in 1..POLICY.failure_threshold {
            assert_eq!(breaker.phase(), Phase::Closed);
            breaker.record_failure(false, 0, 1_000, &POLICY);
        }
        assert_eq!(breaker.phase(), Phase::Open);
    }

    #[test]
    fn failures_spread_over_more_than_the_window_do_not_add_up() {
        let mut breaker = Breaker::default();
        for i in 0..100 {
            breaker.record_failure(false, 0, i * 2_000, &POLICY);
        }
        assert_eq!(breaker.phase(), Phase::Closed);
    }

    #[test]
    fn recovery_goes_by_steps_of_the_increment() {
        let mut breaker = opened(0);
        let mut admitted_by_step = Vec::new();
        for _ in 0..5 {
            let mut admitted = 0;
            let mut probe = breaker;
            for _ in 0..100 {
                admitted += u32::from(probe.admit(30_000, &POLICY) == Admission::Probe);
            }
            admitted_by_step.push(admitted);
            let _ = breaker.admit(30_000, &POLICY);
            breaker.record_probe_success(30_000, &POLICY);
            breaker.record_probe_success(30_000, &POLICY);
        }
        assert_eq!(admitted_by_step, [20, 40, 60, 80, 100]);
        assert_eq!(breaker.phase(), Phase::Closed);
    }

    #[test]
    fn one_failed_probe_opens_again_but_a_late_failure_does_not() {
        let mut breaker = opened(0);
        let _ = breaker.admit(30_000, &POLICY);
        breaker.record_failure(false, 0, 30_001, &POLICY);
        assert_eq!(breaker.phase(), Phase::HalfOpen);
        breaker.record_failure(true, 0, 30_002, &POLICY);
        assert_eq!(breaker.phase(), Phase::Open);
        assert_eq!(breaker.admit(30_003, &POLICY), Admission::Refuse(29_999));
    }

    proptest! {
        #[test]
        fn an_open_breaker_always_comes_back_to_a_probe(
            events in prop::collection::vec((0u8..4, 0u64..20_000), 0..200)
        ) {
            let (mut breaker, mut now) = (opened(0), 0u64);
            for (event, gap) in events {
                now += gap;
                match event {
                    0 => { let _ = breaker.admit(now, &POLICY); }
                    1 => breaker.record_failure(true, 0, now, &POLICY),
                    2 => breaker.record_failure(false, 3, now, &POLICY),
                    _ => breaker.record_probe_success(now, &POLICY),
                }
                prop_assert_eq!(Breaker::decode(&breaker.encode(7), 7), Some(breaker));
            }
            let later = now + POLICY.recovery_timeout_ms;
            let within: Vec<_> = (0..6).map(|_| breaker.admit(later, &POLICY)).collect();
            prop_assert!(within.iter().any(|a| matches!(a, Admission::Pass | Admission::Probe)));
        }
    }
}
