//! What a policy does to one slice, as a value in a shared cell: a break with probes and a
//! recovery by steps, or a limit.
//!
//! A break begins open and refuses for `recovery_timeout`, but for a canary: one of every
//! [`CANARY_EVERY`] requests goes through, one at a time, so that a busy slice need not wait for
//! the end of the time-out to be found well. After it, or after a canary that came back well,
//! [`PROBES`] requests are let through, no more until they are answered: half a slice sent into a
//! fault that takes a minute to show would be half a slice lost. If all succeed, the share admitted
//! grows by `recovery_increment` with each step. One failed probe begins again.
//!
//! After the last step everything passes, but the gate goes on watching for another
//! `recovery_timeout`: [`RELAPSE_FAILURES`] failures in a row close it at once, so that a slice
//! that flaps is not learnt anew each time. Then it is passed, and says so.

use super::enforcement::Measure;

/// Probes out at a time at the beginning of a recovery.
pub const PROBES: u32 = 3;
/// Of so many refused requests one is let through all the same.
pub const CANARY_EVERY: u32 = 30;
/// Failures in a row that close a gate which had just let go.
pub const RELAPSE_FAILURES: u32 = 3;
/// Probes without an answer for this long are taken for lost, in milliseconds.
const PROBES_LOST_MS: u64 = 120_000;
/// Advice to a caller refused while others probe, in milliseconds.
const PROBING_RETRY_MS: u64 = 1_000;
/// Requests a limit lets through at once: a tenth of a second's worth, but at least one.
const BURST_NS: u64 = 100_000_000;
/// Size of an encoded gate, in bytes.
pub const GATE_BYTES: usize = 1 + 8 + 3 * 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open {
        since_ms: u64,
        refused: u32,
        canaries: u32,
    },
    Probing {
        since_ms: u64,
        out: u32,
        passed: u32,
    },
    Recovering {
        step: u32,
        offered: u32,
        passed: u32,
    },
    Watching {
        since_ms: u64,
        failed: u32,
    },
    Passed,
    /// The time at which the next request is due (GCRA, ITU-T I.371).
    Limited {
        due_ns: u64,
    },
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
    /// It may, and its outcome is to be told.
    Probe,
    /// It may not; worth trying again after this many milliseconds.
    Refuse(u64),
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

impl Gate {
    /// A policy's gate when it is first looked at.
    #[must_use]
    pub const fn new(measure: &Measure, now_ns: u64) -> Self {
        let state = match measure {
            Measure::Break { .. } => open(now_ns),
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
        let now_ms = now_ns / 1_000_000;
        match (self.state, measure) {
            (State::Open { since_ms, refused, canaries }, Measure::Break { recovery_timeout_ms, .. }) => {
                // A clock set back must not prolong it.
                let waited = now_ms.saturating_sub(since_ms.min(now_ms));
                if since_ms <= now_ms && waited < *recovery_timeout_ms {
                    let is_due = refused + 1 >= CANARY_EVERY && canaries == 0;
                    self.state = match is_due {
                        true => State::Open { since_ms, refused: 0, canaries: 1 },
                        false => State::Open { since_ms, refused: refused.saturating_add(1), canaries },
                    };
                    return if is_due {
                        Passage::Probe
                    } else {
                        Passage::Refuse(*recovery_timeout_ms - waited)
                    };
                }
                self.state = State::Probing { since_ms: now_ms, out: 1, passed: 0 };
                Passage::Probe
            }
            (State::Probing { since_ms, out, passed }, Measure::Break { .. }) => {
                if now_ms.abs_diff(since_ms) >= PROBES_LOST_MS {
                    self.state = State::Probing { since_ms: now_ms, out: 1, passed: 0 };
                    return Passage::Probe;
                }
                if out >= PROBES {
                    return Passage::Refuse(PROBING_RETRY_MS);
                }
                self.state = State::Probing { since_ms, out: out + 1, passed };
                Passage::Probe
            }
            (State::Recovering { step, offered, passed }, Measure::Break { recovery_increment, .. }) => {
                let share = share_per_mille(step, *recovery_increment);
                let due = |offered: u32| (u64::from(offered) * share).div_ceil(1000);
                self.state = State::Recovering { step, offered: offered.saturating_add(1), passed };
                if due(offered.saturating_add(1)) > due(offered) {
                    Passage::Probe
                } else {
                    Passage::Refuse(PROBING_RETRY_MS)
                }
            }
            (State::Watching { since_ms, .. }, Measure::Break { recovery_timeout_ms, .. }) => {
                if now_ms.abs_diff(since_ms) < *recovery_timeout_ms {
                    return Passage::Probe;
                }
                self.state = State::Passed;
                Passage::Pass
            }
            (State::Limited { due_ns }, Measure::Limit { rate }) => self.admit_limited(due_ns, *rate, now_ns),
            (State::Passed, _) | (_, Measure::Advise) => Passage::Pass,
            // The policy's measure has changed under the gate.
            _ => {
                *self = Self::new(measure, now_ns);
                if matches!(measure, Measure::Break { .. }) {
                    Passage::Refuse(PROBING_RETRY_MS)
                } else {
                    Passage::Pass
                }
            }
        }
    }

    fn admit_limited(&mut self, due_ns: u64, rate: f64, now_ns: u64) -> Passage {
        let step_ns = (1e9 / rate).min(3.6e12) as u64;
        let tolerance_ns = BURST_NS.max(step_ns) - step_ns;
        // A time far ahead is another clock's, or another rate's.
        let due_ns = if due_ns > now_ns.saturating_add(step_ns + BURST_NS) { now_ns } else { due_ns };
        if due_ns > now_ns.saturating_add(tolerance_ns) {
            return Passage::Refuse((due_ns - tolerance_ns - now_ns).div_ceil(1_000_000).max(1));
        }
        self.state = State::Limited { due_ns: due_ns.max(now_ns).saturating_add(step_ns) };
        Passage::Pass
    }

    /// Tells how a probe ended.
    pub fn probed(&mut self, succeeded: bool, measure: &Measure, now_ns: u64) {
        let Measure::Break { recovery_increment, successes_per_step, .. } = measure else {
            return;
        };
        if !succeeded {
            match &mut self.state {
                State::Open { canaries, .. } => *canaries = 0,
                State::Watching { failed, .. } if *failed + 1 < RELAPSE_FAILURES => *failed += 1,
                State::Watching { .. } | State::Probing { .. } | State::Recovering { .. } => {
                    self.state = open(now_ns);
                }
                State::Passed | State::Limited { .. } => {}
            }
            return;
        }
        match &mut self.state {
            State::Open { canaries: 1.., .. } => {
                self.state = State::Probing { since_ms: now_ns / 1_000_000, out: 0, passed: 0 };
            }
            State::Watching { failed, .. } => *failed = 0,
            State::Probing { passed, .. } if *passed + 1 >= PROBES => {
                self.state = State::Recovering { step: 1, offered: 0, passed: 0 };
            }
            State::Probing { passed, .. } => *passed += 1,
            State::Recovering { passed, .. } if *passed + 1 < *successes_per_step => *passed += 1,
            State::Recovering { step, .. } if share_per_mille(*step, *recovery_increment) < 1000 => {
                self.state = State::Recovering { step: *step + 1, offered: 0, passed: 0 };
            }
            State::Recovering { .. } => {
                self.state = State::Watching { since_ms: now_ns / 1_000_000, failed: 0 };
            }
            State::Open { .. } | State::Passed | State::Limited { .. } => {}
        }
    }

    /// Takes back a probe whose outcome says nothing: its client left.
    pub fn withdraw_probe(&mut self) {
        match &mut self.state {
            State::Probing { out, .. } => *out = out.saturating_sub(1),
            State::Open { canaries, .. } => *canaries = 0,
            State::Recovering { .. } | State::Watching { .. } | State::Passed | State::Limited { .. } => {}
        }
    }

    /// The gate as bytes of a cell.
    #[must_use]
    pub fn encode(&self) -> [u8; GATE_BYTES] {
        let (kind, time, numbers) = match self.state {
            State::Open { since_ms, refused, canaries } => (0u8, since_ms, [refused, canaries, 0]),
            State::Probing { since_ms, out, passed } => (1, since_ms, [out, passed, 0]),
            State::Recovering { step, offered, passed } => (2, 0, [step, offered, passed]),
            State::Passed => (3, 0, [0; 3]),
            State::Limited { due_ns } => (4, due_ns, [0; 3]),
            State::Watching { since_ms, failed } => (5, since_ms, [failed, 0, 0]),
        };
        let mut out = [0; GATE_BYTES];
        out[0] = kind;
        out[1..9].copy_from_slice(&time.to_le_bytes());
        let (chunks, _) = out[9..].as_chunks_mut::<4>();
        for (chunk, number) in chunks.iter_mut().zip(numbers) {
            *chunk = number.to_le_bytes();
        }
        out
    }

    /// Reads what [`Gate::encode`] wrote; `None` for anything else.
    #[must_use]
    pub fn decode(bytes: &[u8; GATE_BYTES]) -> Option<Self> {
        let (&[kind], rest) = bytes.split_first_chunk::<1>()?;
        let (time, rest) = rest.split_first_chunk::<8>()?;
        let time = u64::from_le_bytes(*time);
        let (chunks, _) = rest.as_chunks::<4>();
        let [a, b, c] = chunks else { return None };
        let [a, b, c] = [a, b, c].map(|chunk| u32::from_le_bytes(*chunk));
        let state = match kind {
            0 => State::Open { since_ms: time, refused: a, canaries: b },
            1 => State::Probing { since_ms: time, out: a, passed: b },
            2 => State::Recovering { step: a, offered: b, passed: c },
            3 => State::Passed,
            4 => State::Limited { due_ns: time },
            5 => State::Watching { since_ms: time, failed: a },
            _ => return None,
        };
        Some(Self { state })
    }
}

const fn open(now_ns: u64) -> State {
    State::Open { since_ms: now_ns / 1_000_000, refused: 0, canaries: 0 }
}

/// Share of the slice admitted at a step, 1 to 1000.
fn share_per_mille(step: u32, increment: f64) -> u64 {
    ((f64::from(step) * increment * 1000.0).round() as u64).clamp(1, 1000)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BREAK: Measure =
        Measure::Break { recovery_timeout_ms: 30_000, recovery_increment: 0.2, successes_per_step: 2 };
    const MS: u64 = 1_000_000;

    #[test]
    fn it_refuses_until_the_time_is_over_and_then_lets_a_few_through() {
        let mut gate = Gate::new(&BREAK, 1_000 * MS);
        assert_eq!(gate.admit(&BREAK, 1_000 * MS), Passage::Refuse(30_000));
        assert_eq!(gate.admit(&BREAK, 30_999 * MS), Passage::Refuse(1));
        let probes = (0..100).filter(|_| gate.admit(&BREAK, 31_000 * MS) == Passage::Probe).count();
        assert_eq!(probes, PROBES as usize);
        gate.probed(false, &BREAK, 32_000 * MS);
        assert_eq!(gate.admit(&BREAK, 32_001 * MS), Passage::Refuse(29_999));
    }

    #[test]
    fn it_fades_by_steps_and_ends() {
        let mut gate = Gate::new(&BREAK, 0);
        let now = 30_000 * MS;
        for _ in 0..PROBES {
            assert_eq!(gate.admit(&BREAK, now), Passage::Probe);
        }
        for _ in 0..PROBES {
            gate.probed(true, &BREAK, now);
        }
        let mut shares = Vec::new();
        while gate.phase() != GatePhase::Watching {
            let mut trial = gate;
            shares.push((0..100).filter(|_| trial.admit(&BREAK, now) == Passage::Probe).count());
            gate.probed(true, &BREAK, now);
            gate.probed(true, &BREAK, now);
        }
        assert_eq!(shares, [20, 40, 60, 80, 100]);
        assert_eq!(gate.admit(&BREAK, now), Passage::Probe, "everything passes, and is watched");
        assert_eq!(gate.admit(&BREAK, now + 30_000 * MS), Passage::Pass);
        assert_eq!(gate.phase(), GatePhase::Passed);
    }

    #[test]
    fn a_relapse_closes_it_at_once_and_a_stray_failure_does_not() {
        let mut gate = Gate { state: State::Watching { since_ms: 0, failed: 0 } };
        for _ in 0..10 {
            (1..RELAPSE_FAILURES).for_each(|_| gate.probed(false, &BREAK, MS));
            gate.probed(true, &BREAK, MS);
        }
        assert_eq!(gate.phase(), GatePhase::Watching);
        (0..RELAPSE_FAILURES).for_each(|_| gate.probed(false, &BREAK, MS));
        assert_eq!(gate.phase(), GatePhase::Open);
    }

    #[test]
    fn a_canary_goes_through_one_at_a_time_and_finds_a_slice_well_early() {
        let mut gate = Gate::new(&BREAK, 0);
        let canaries = |gate: &mut Gate| {
            (0..10 * CANARY_EVERY).filter(|_| gate.admit(&BREAK, MS) == Passage::Probe).count()
        };
        assert_eq!(canaries(&mut gate), 1, "no second one before the first is back");
        gate.probed(false, &BREAK, MS);
        assert_eq!(gate.phase(), GatePhase::Open);
        assert_eq!(canaries(&mut gate), 1);
        gate.probed(true, &BREAK, MS);
        assert_eq!(gate.phase(), GatePhase::HalfOpen);
    }

    #[test]
    fn a_probe_whose_client_left_is_sent_again_and_lost_ones_do_not_block_for_ever() {
        let mut gate = Gate::new(&BREAK, 0);
        for _ in 0..PROBES {
            assert_eq!(gate.admit(&BREAK, 30_000 * MS), Passage::Probe);
        }
        gate.withdraw_probe();
        assert_eq!(gate.admit(&BREAK, 30_000 * MS), Passage::Probe);
        assert!(matches!(gate.admit(&BREAK, 31_000 * MS), Passage::Refuse(_)));
        assert_eq!(gate.admit(&BREAK, (30_000 + PROBES_LOST_MS) * MS), Passage::Probe);
    }

    #[test]
    fn a_limit_admits_its_rate() {
        for rate in [0.5, 7.0, 400.0] {
            let measure = Measure::Limit { rate };
            let mut gate = Gate::new(&measure, 0);
            let start = 1_000_000 * MS;
            let seconds = 20u64;
            let admitted = (0..seconds * 1000)
                .filter(|ms| gate.admit(&measure, start + ms * MS) == Passage::Pass)
                .count() as f64;
            let expected = rate * seconds as f64;
            assert!((admitted - expected).abs() <= 1.0 + 0.1 * rate, "{rate}: {admitted}");
        }
    }

    #[test]
    fn waiting_as_told_gets_in() {
        let measure = Measure::Limit { rate: 2.0 };
        let mut gate = Gate::new(&measure, 0);
        assert_eq!(gate.admit(&measure, MS), Passage::Pass);
        let Passage::Refuse(ms) = gate.admit(&measure, 2 * MS) else { panic!("refused") };
        assert_eq!(gate.admit(&measure, (2 + ms) * MS), Passage::Pass);
    }

    proptest! {
        #[test]
        fn a_broken_slice_always_comes_back_to_a_probe(
            events in prop::collection::vec((0u8..4, 0u64..40_000), 0..100)
        ) {
            let (mut gate, mut now) = (Gate::new(&BREAK, 0), 0u64);
            for (event, gap) in events {
                now += gap;
                match event {
                    0 => { gate.admit(&BREAK, now * MS); }
                    1 => gate.probed(false, &BREAK, now * MS),
                    2 => gate.probed(true, &BREAK, now * MS),
                    _ => gate.withdraw_probe(),
                }
                prop_assert_eq!(Gate::decode(&gate.encode()), Some(gate));
            }
            let later = (now + PROBES_LOST_MS) * MS;
            let passages: Vec<Passage> = (0..6).map(|_| gate.admit(&BREAK, later)).collect();
            prop_assert!(passages.iter().any(|p| matches!(p, Passage::Pass | Passage::Probe)));
        }
    }
}
