//! What a policy does to one slice, as a value in a shared cell: a break with probes and a
//! recovery by steps, or a limit.
//!
//! A break begins open and refuses for `recovery_timeout`, but for canaries: one of every
//! [`CANARY_EVERY`] requests goes through, or of [`CANARY_EVERY_SLOW`] where these are longer apart
//! than [`CANARY_APART_MS`], so that a slice need not wait for the end of the time-out to be found
//! well. Where canaries follow each other closely, a refusal may wait for the
//! next one to come back: if it succeeds, nobody was refused in vain.
//!
//! After the time-out, or after a canary that came back well, [`PROBES`] requests are let through,
//! no more until they are answered: half a slice sent into a fault that takes a minute to show
//! would be half a slice lost. Then the share admitted grows by `recovery_increment` with each
//! step. While nothing has succeeded, one failed probe begins again; afterwards it takes a run of
//! failures that is no chance ([`tally`]), so that a slice of which a part fails is not kept
//! closed. What was sent before the slice turned well says nothing.
//!
//! After the last step everything passes, but the gate goes on watching for another
//! `recovery_timeout`: such a run closes it at once, so that a slice that flaps is not learnt anew
//! each time. Then it is passed, and says so.

mod cell;
mod tally;
#[cfg(test)]
mod tests;

use self::tally::Tally;
use super::enforcement::Measure;

pub use self::cell::GATE_BYTES;

/// Probes out at a time at the beginning of a recovery, and canaries at any time.
pub const PROBES: u32 = 3;
/// Of so many requests of a broken slice one is let through all the same.
pub const CANARY_EVERY: u32 = 40;
/// The same for a slice with little traffic.
pub const CANARY_EVERY_SLOW: u32 = 24;
/// When a canary is late, in milliseconds after the last.
const CANARY_APART_MS: u32 = 3_000;
/// Longest that a refusal waits for what canaries and probes find, in milliseconds.
pub const WAIT_MS: u64 = 4_000;
/// Probes without an answer for this long are taken for lost, in milliseconds.
const PROBES_LOST_MS: u64 = 120_000;
/// Advice to a caller refused while others probe, in milliseconds.
const PROBING_RETRY_MS: u64 = 1_000;
/// Requests a limit lets through at once: a tenth of a second's worth, but at least one.
const BURST_NS: u64 = 100_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open {
        since_ms: u64,
        canaries: Canaries,
    },
    Probing {
        since_ms: u64,
        out: u32,
        tally: Tally,
    },
    Recovering {
        since_ms: u64,
        step: u32,
        offered: u32,
        passed: u32,
        tally: Tally,
    },
    Watching {
        since_ms: u64,
        tally: Tally,
    },
    Passed,
    /// The time at which the next request is due (GCRA, ITU-T I.371).
    Limited {
        due_ns: u64,
    },
}

/// The canaries of an open gate. Times count from when it opened, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Canaries {
    /// Requests refused since the last one.
    refused: u32,
    /// On their way.
    out: u32,
    /// When the last one was sent.
    sent: u32,
    /// How long after it the next one is expected; 0 before the first.
    apart: u32,
    /// When the last one of those that failed was sent.
    failed: u32,
    /// Those that came to nothing and are to be sent again.
    owed: u32,
}

/// One policy's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gate {
    state: State,
}

/// Whether a request may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    /// It may.
    Pass,
    /// It may, as one of the few that find out how the slice does.
    Canary,
    /// It may, as part of the share that is admitted again; its outcome is to be told.
    Probe,
    /// It may not.
    Refuse {
        /// Worth trying again after this many milliseconds.
        retry_ms: u64,
        /// The refusal may wait and ask again ([`Gate::ask_again`]): there will be news soon.
        waits: bool,
    },
}

/// A gate as operators see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GatePhase {
    /// Refuses.
    Open,
    /// Lets a part through to see how it fares.
    HalfOpen,
    /// Lets everything through and watches.
    Watching,
    /// The slice has recovered.
    Passed,
    /// Limits.
    Limiting,
}

impl GatePhase {
    /// Its number in a [`crate::event::PolicyNote`].
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Passed => 0,
            Self::HalfOpen => 1,
            Self::Open => 2,
            Self::Limiting => 3,
            Self::Watching => 4,
        }
    }
}

impl Gate {
    /// A policy's gate when it is first looked at.
    #[must_use]
    pub fn new(measure: &Measure, now_ns: u64) -> Self {
        let state = match measure {
            Measure::Break { .. } | Measure::Close => open(now_ns),
            Measure::Limit { .. } => State::Limited { due_ns: 0 },
            Measure::Advise => State::Passed,
        };
        Self { state }
    }

    /// Where it is.
    #[must_use]
    pub const fn phase(&self) -> GatePhase {
        match self.state {
            State::Open { .. } => GatePhase::Open,
            State::Probing { .. } | State::Recovering { .. } => GatePhase::HalfOpen,
            State::Watching { .. } => GatePhase::Watching,
            State::Passed => GatePhase::Passed,
            State::Limited { .. } => GatePhase::Limiting,
        }
    }

    /// Decides on a request of the slice.
    pub fn admit(&mut self, measure: &Measure, now_ns: u64) -> Passage {
        self.decide(measure, now_ns, None)
    }

    /// Decides on a request whose refusal has waited since `since_ns`.
    pub fn ask_again(&mut self, measure: &Measure, since_ns: u64, now_ns: u64) -> Passage {
        self.decide(measure, now_ns, Some(since_ns / 1_000_000))
    }

    fn decide(&mut self, measure: &Measure, now_ns: u64, waiting_ms: Option<u64>) -> Passage {
        let now_ms = now_ns / 1_000_000;
        let waits = waiting_ms.is_none_or(|since_ms| now_ms.saturating_sub(since_ms) < WAIT_MS);
        match (&mut self.state, measure) {
            (_, Measure::Close) => Passage::Refuse { retry_ms: u64::MAX, waits: false },
            (State::Open { since_ms, canaries }, Measure::Break { recovery_timeout_ms, .. }) => {
                let opened_ms = *since_ms;
                // A clock set back must not prolong it.
                let left_ms = recovery_timeout_ms.saturating_sub(now_ms.abs_diff(opened_ms));
                if opened_ms > now_ms || left_ms == 0 {
                    self.state = State::Probing { since_ms: now_ms, out: 1, tally: Tally::default() };
                    return Passage::Canary;
                }
                let at = after(opened_ms, now_ms);
                let waits = match waiting_ms {
                    None if canaries.is_due(at) => return Passage::Canary,
                    None => canaries.are_close(),
                    Some(since_ms) => waits && canaries.are_worth_waiting_for(after(opened_ms, since_ms), at),
                };
                Passage::Refuse { retry_ms: left_ms, waits }
            }
            (State::Probing { since_ms, out, tally }, Measure::Break { .. }) => {
                if now_ms.abs_diff(*since_ms) >= PROBES_LOST_MS {
                    (*since_ms, *out) = (now_ms, 0);
                }
                if *out >= PROBES {
                    return Passage::Refuse { retry_ms: PROBING_RETRY_MS, waits: waits && tally.good > 0 };
                }
                *out += 1;
                Passage::Canary
            }
            (State::Recovering { step, offered, .. }, Measure::Break { recovery_increment, .. }) => {
                let share = share_per_mille(*step, *recovery_increment);
                let due = |offered: u32| (u64::from(offered) * share).div_ceil(1000);
                let before = due(*offered);
                *offered = offered.saturating_add(1);
                if due(*offered) > before {
                    return Passage::Probe;
                }
                Passage::Refuse { retry_ms: PROBING_RETRY_MS, waits }
            }
            (State::Watching { since_ms, .. }, Measure::Break { recovery_timeout_ms, .. }) => {
                if now_ms.abs_diff(*since_ms) < *recovery_timeout_ms {
                    return Passage::Probe;
                }
                self.state = State::Passed;
                Passage::Pass
            }
            (State::Limited { due_ns }, Measure::Limit { rate }) => admit_limited(due_ns, *rate, now_ns),
            (State::Passed, _) | (_, Measure::Advise) => Passage::Pass,
            // The policy's measure has changed under the gate.
            _ => {
                *self = Self::new(measure, now_ns);
                if matches!(measure, Measure::Break { .. }) {
                    Passage::Refuse { retry_ms: PROBING_RETRY_MS, waits: false }
                } else {
                    Passage::Pass
                }
            }
        }
    }

    /// Lets a request through that it would refuse, because another policy sends it as a canary: two
    /// slices that overlap would else keep each other's canaries back.
    pub fn join(&mut self, now_ns: u64) {
        match &mut self.state {
            State::Open { since_ms, canaries } => canaries.send(after(*since_ms, now_ns / 1_000_000)),
            State::Probing { out, .. } => *out = out.saturating_add(1),
            State::Recovering { .. } | State::Watching { .. } | State::Passed | State::Limited { .. } => {}
        }
    }

    /// Tells how a request that was sent at `sent_ns` as a canary or a probe ended.
    pub fn probed(&mut self, succeeded: bool, sent_ns: u64, measure: &Measure, now_ns: u64) {
        let Measure::Break { recovery_increment, successes_per_step, .. } = measure else {
            return;
        };
        let sent_ms = sent_ns / 1_000_000;
        if let State::Probing { out, .. } = &mut self.state {
            *out = out.saturating_sub(1);
        }
        let next = match (&mut self.state, succeeded) {
            (State::Open { since_ms, canaries }, _) => {
                let at = after(*since_ms, sent_ms);
                let is_turn = canaries.came_back(succeeded, at);
                let tally = Tally { good: 1, ..Tally::default() };
                is_turn.then_some(State::Probing { since_ms: sent_ms, out: 0, tally })
            }
            (State::Probing { since_ms, .. } | State::Recovering { since_ms, .. }, false)
                if sent_ms < *since_ms =>
            {
                None
            }
            (
                State::Probing { tally, .. }
                | State::Recovering { tally, .. }
                | State::Watching { tally, .. },
                false,
            ) => {
                tally.failed();
                tally.is_relapse().then(|| open(now_ns))
            }
            (State::Probing { since_ms, tally, .. }, true) => {
                tally.succeeded();
                let recovering =
                    State::Recovering { since_ms: *since_ms, step: 1, offered: 0, passed: 0, tally: *tally };
                (tally.good >= PROBES).then_some(recovering)
            }
            (State::Recovering { step, offered, passed, tally, .. }, true) => {
                tally.succeeded();
                *passed += 1;
                if *passed < *successes_per_step {
                    return;
                }
                let is_last = share_per_mille(*step, *recovery_increment) >= 1000;
                (*step, *offered, *passed) = (step.saturating_add(1), 0, 0);
                is_last.then_some(State::Watching { since_ms: now_ns / 1_000_000, tally: *tally })
            }
            (State::Watching { tally, .. }, true) => {
                tally.succeeded();
                None
            }
            (State::Passed | State::Limited { .. }, _) => None,
        };
        self.state = next.unwrap_or(self.state);
    }

    /// Takes back a canary or a probe whose outcome says nothing: its client left.
    pub const fn withdraw_probe(&mut self) {
        match &mut self.state {
            State::Probing { out, .. } => *out = out.saturating_sub(1),
            State::Open { canaries, .. } => canaries.withdraw(),
            State::Recovering { .. } | State::Watching { .. } | State::Passed | State::Limited { .. } => {}
        }
    }
}

impl Canaries {
    /// Counts a request of the slice; whether it is to be a canary.
    fn is_due(&mut self, at: u32) -> bool {
        self.refused = self.refused.saturating_add(1);
        let is_late = at.saturating_sub(self.sent) >= CANARY_APART_MS;
        let every = if is_late { CANARY_EVERY_SLOW } else { CANARY_EVERY };
        let is_due = (self.refused >= every || self.owed > 0) && self.out < PROBES;
        if is_due {
            self.send(at);
        }
        is_due
    }

    fn send(&mut self, at: u32) {
        self.apart = self.expected_apart(at.saturating_sub(self.sent));
        (self.refused, self.sent, self.out) = (0, at, self.out.saturating_add(1));
        self.owed = self.owed.saturating_sub(1);
    }

    /// How long it will be from this one to the next. A canary that another slice sent came early, and the
    /// one after it will be a whole round later; how long that takes is told by the requests since the
    /// last, the more of them the surer.
    fn expected_apart(&self, gap: u32) -> u32 {
        let weight = self.refused.min(CANARY_EVERY);
        if weight == 0 {
            return self.apart;
        }
        let after = |requests: u32| gap.saturating_mul(requests) / weight;
        let round = after(CANARY_EVERY).min(after(CANARY_EVERY_SLOW).max(CANARY_APART_MS));
        match self.apart {
            0 => round,
            before => {
                let sum = u64::from(before) * u64::from(CANARY_EVERY - weight)
                    + u64::from(round) * u64::from(weight);
                u32::try_from(sum / u64::from(CANARY_EVERY)).unwrap_or(u32::MAX)
            }
        }
    }

    /// Whether the next one is expected within the time that a refusal waits.
    const fn are_close(&self) -> bool {
        self.apart > 0 && self.patience() <= WAIT_MS
    }

    /// A quarter longer than from one to the next.
    const fn patience(&self) -> u64 {
        self.apart as u64 + self.apart as u64 / 4
    }

    /// Whether a refusal that waits since `since` still has one to wait for: none that was sent
    /// after it has failed, and the next is not overdue.
    fn are_worth_waiting_for(&self, since: u32, at: u32) -> bool {
        self.failed <= since && u64::from(at.saturating_sub(since)) < self.patience()
    }

    /// Notes how one that was sent at `at` ended; whether the slice has turned. A success that is
    /// older than the last failure is no turn.
    fn came_back(&mut self, succeeded: bool, at: u32) -> bool {
        self.out = self.out.saturating_sub(1);
        if !succeeded {
            self.failed = self.failed.max(at);
        }
        succeeded && at >= self.failed
    }

    /// The next request takes its place.
    const fn withdraw(&mut self) {
        (self.out, self.owed) = (self.out.saturating_sub(1), 1);
    }
}

fn open(now_ns: u64) -> State {
    State::Open { since_ms: now_ns / 1_000_000, canaries: Canaries::default() }
}

/// Milliseconds from one time to another that is not before it.
fn after(from_ms: u64, to_ms: u64) -> u32 {
    u32::try_from(to_ms.saturating_sub(from_ms)).unwrap_or(u32::MAX)
}

fn admit_limited(due_ns: &mut u64, rate: f64, now_ns: u64) -> Passage {
    let step_ns = (1e9 / rate).min(3.6e12) as u64;
    let tolerance_ns = BURST_NS.max(step_ns) - step_ns;
    // A time far ahead is another clock's, or another rate's.
    let due = if *due_ns > now_ns.saturating_add(step_ns + BURST_NS) { now_ns } else { *due_ns };
    if due > now_ns.saturating_add(tolerance_ns) {
        let retry_ms = (due - tolerance_ns - now_ns).div_ceil(1_000_000).max(1);
        return Passage::Refuse { retry_ms, waits: false };
    }
    *due_ns = due.max(now_ns).saturating_add(step_ns);
    Passage::Pass
}

/// Share of the slice admitted at a step, 1 to 1000.
fn share_per_mille(step: u32, increment: f64) -> u64 {
    ((f64::from(step) * increment * 1000.0).round() as u64).clamp(1, 1000)
}
