//! A circuit breaker as the textbooks have it, to compare with: it knows whether a request failed by its
//! status, and nothing else. Closed, it opens after `failure_threshold` failures in a row (Nygard,
//! "Release It!", 2007), or when at least as many requests were seen within the window and half of
//! them failed (the defaults of resilience4j and Hystrix). Open, it refuses everything for
//! `recovery_timeout`. Half-open, it lets requests through: the first that fails opens it again, as many
//! as opened it close it.

use std::collections::VecDeque;

use tidegate_core::policy::BreakerPolicy;

/// Failing share of a window from which it opens.
const FAILING_MIN: f64 = 0.5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed { in_a_row: u32 },
    Open { since_ms: u64 },
    HalfOpen { passed: u32 },
}

/// One breaker.
#[derive(Debug)]
pub(crate) struct Classic {
    state: State,
    /// Times and outcomes within the window.
    seen: VecDeque<(u64, bool)>,
}

impl Default for Classic {
    fn default() -> Self {
        Self { state: State::Closed { in_a_row: 0 }, seen: VecDeque::new() }
    }
}

impl Classic {
    /// Whether a request may pass.
    pub(crate) fn admits(&mut self, now_ms: u64, policy: &BreakerPolicy) -> bool {
        if let State::Open { since_ms } = self.state {
            if now_ms < since_ms + policy.recovery_timeout_ms {
                return false;
            }
            self.state = State::HalfOpen { passed: 0 };
        }
        true
    }

    /// How a request that passed has ended.
    pub(crate) fn note(&mut self, failed: bool, now_ms: u64, policy: &BreakerPolicy) {
        self.state = match self.state {
            State::Closed { in_a_row } => {
                let in_a_row = if failed { in_a_row + 1 } else { 0 };
                self.seen.push_back((now_ms, failed));
                while self.seen.front().is_some_and(|(at_ms, _)| at_ms + policy.window_ms <= now_ms) {
                    self.seen.pop_front();
                }
                let failures = self.seen.iter().filter(|(_, failed)| *failed).count();
                let is_half = self.seen.len() >= policy.failure_threshold as usize
                    && failures as f64 >= FAILING_MIN * self.seen.len() as f64;
                if in_a_row >= policy.failure_threshold || is_half {
                    self.seen.clear();
                    State::Open { since_ms: now_ms }
                } else {
                    State::Closed { in_a_row }
                }
            }
            State::HalfOpen { .. } if failed => State::Open { since_ms: now_ms },
            State::HalfOpen { passed } if passed + 1 >= policy.failure_threshold => {
                State::Closed { in_a_row: 0 }
            }
            State::HalfOpen { passed } => State::HalfOpen { passed: passed + 1 },
            open @ State::Open { .. } => open,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: BreakerPolicy = BreakerPolicy {
        failure_threshold: 3,
        window_ms: 1_000,
        recovery_timeout_ms: 500,
        recovery_increment: 1.0,
    };

    fn fed(outcomes: &[bool]) -> Classic {
        let mut breaker = Classic::default();
        for (outcome, now_ms) in outcomes.iter().zip(0..) {
            if breaker.admits(now_ms, &POLICY) {
                breaker.note(*outcome, now_ms, &POLICY);
            }
        }
        breaker
    }

    #[test]
    fn it_opens_for_failures_in_a_row_and_for_half_of_a_window() {
        assert_eq!(fed(&[false, false, false, false, true, true, true]).state, State::Open { since_ms: 6 });
        assert_eq!(fed(&[false, true, true]).state, State::Open { since_ms: 2 });
        assert_eq!(fed(&[false, false, true, false, true]).state, State::Closed { in_a_row: 1 });
    }

    #[test]
    fn it_asks_again_after_its_time_and_one_failure_is_enough() {
        let mut breaker = fed(&[true, true, true]);
        assert!(!breaker.admits(501, &POLICY) && breaker.admits(502, &POLICY));
        breaker.note(true, 502, &POLICY);
        assert!(!breaker.admits(1_001, &POLICY) && breaker.admits(1_002, &POLICY));
        (0..3).for_each(|_| breaker.note(false, 1_003, &POLICY));
        assert_eq!(breaker.state, State::Closed { in_a_row: 0 });
    }
}
