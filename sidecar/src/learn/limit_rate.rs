//! The rate of a limit, found by additive increase and multiplicative decrease (Chiu and Jain
//! 1989) against the cluster's own failures in the slice.
//!
//! A limit is a conjecture: that less traffic fails less. Its first seconds put it to the test. Where
//! the share of failures stays what it was, the rate is not to blame, and a limit would only refuse
//! what would have succeeded: it is lifted, and not tried again for a while.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::cases::RATE_MIN;
use super::ledger::Ledger;
use super::{Decision, Settings};
use crate::policies::Record;
use tidegate_core::event::Attributes;
use tidegate_core::incident::enforcement::{Measure, contains};

/// Time between changes of a rate, in milliseconds; its effect has to show first.
const INTERVAL_MS: u64 = 1_000;
/// The past that is looked at, in milliseconds.
const WINDOW_MS: u64 = 2_000;
/// Share of failures from which the rate is too high.
const FAILING_MIN: f64 = 0.05;
/// What a rate that is too high is multiplied by.
const DECREASE: f64 = 0.7;
/// What is added to one that is not, as a part of the rate it started with.
const INCREASE: f64 = 0.05;

/// How long a limit has to show that it helps, in milliseconds; the first second of it is not
/// looked at, because requests sent before are still under way.
const TEST_MS: u64 = 3_000;
const TEST_FROM_MS: u64 = 1_000;
/// Requests from which the test says something. A limit lets few through, so it may have to go on
/// for them, but for no longer than this: without proof it refuses nobody.
const TEST_REQUESTS: u64 = 20;
const TEST_MS_MAX: u64 = 6_000;
/// A limit has not helped if failures are still this part of what they were.
const UNCHANGED: f64 = 0.7;
/// How long one that has not helped is not tried again, in milliseconds.
const FUTILE_MS: u64 = 600_000;
/// Limits that have not helped, remembered; the oldest gives way.
const FUTILE_MAX: usize = 256;

#[derive(Debug, Clone, Copy)]
struct Trial {
    began_ms: u64,
    is_tested: bool,
    first_rate: f64,
    changed_ms: u64,
    failed_ms: u64,
    refused: u64,
    refused_ms: u64,
}

/// All limits under way.
#[derive(Debug, Default)]
pub struct LimitRates {
    trials: BTreeMap<String, Trial>,
    /// Clusters and slices for which a limit has not helped, with when that was.
    futile: VecDeque<(String, Attributes, u64)>,
}

impl LimitRates {
    /// Whether a limit was tried lately and has not helped.
    pub fn is_futile(&self, cluster: &str, scope: &Attributes, now_ms: u64) -> bool {
        let is_same = |name: &str, known: &Attributes| name == cluster && contains(known, scope);
        let mut recent = self.futile.iter().filter(|(.., at_ms)| now_ms.saturating_sub(*at_ms) < FUTILE_MS);
        recent.any(|(name, known, _)| is_same(name, known))
    }

    /// Changes that are due.
    pub fn adjust(
        &mut self,
        standing: &[Record],
        ledger: &Ledger,
        settings: &Settings,
        now_ms: u64,
    ) -> Vec<Decision> {
        self.trials.retain(|id, _| standing.iter().any(|record| record.id == *id));
        let limits = standing.iter().filter(|record| record.is_learned());
        limits.filter_map(|record| self.one(record, ledger, settings, now_ms)).collect()
    }

    fn one(
        &mut self,
        record: &Record,
        ledger: &Ledger,
        settings: &Settings,
        now_ms: u64,
    ) -> Option<Decision> {
        let Some(Measure::Limit { rate }) = record.measure else { return None };
        let trial = self.trials.entry(record.id.clone()).or_insert(Trial {
            began_ms: now_ms,
            is_tested: false,
            first_rate: rate,
            changed_ms: now_ms,
            failed_ms: now_ms,
            refused: record.refused,
            refused_ms: now_ms,
        });
        if record.refused > trial.refused {
            (trial.refused, trial.refused_ms) = (record.refused, now_ms);
        }
        if now_ms.saturating_sub(trial.changed_ms) < INTERVAL_MS {
            return None;
        }
        trial.changed_ms = now_ms;
        if !trial.is_tested {
            let test_ms = now_ms.saturating_sub(trial.began_ms);
            let from_ms = test_ms.saturating_sub(TEST_FROM_MS);
            let (requests, failures) = counted(record, ledger, from_ms, now_ms);
            if test_ms < TEST_MS || (requests < TEST_REQUESTS && test_ms < TEST_MS_MAX) {
                return None;
            }
            trial.is_tested = true;
            if share(failures, requests) >= UNCHANGED * record.precision {
                self.futile.push_back((record.cluster_id.clone(), record.scope.clone(), now_ms));
                if self.futile.len() > FUTILE_MAX {
                    self.futile.pop_front();
                }
                return Some(Decision::Lift { id: record.id.clone() });
            }
        }
        let (requests, failures) = counted(record, ledger, WINDOW_MS, now_ms);
        let failing = share(failures, requests);
        if failures > 0 && failing >= FAILING_MIN {
            trial.failed_ms = now_ms;
            let good = (requests - failures) as f64 * 1000.0 / WINDOW_MS as f64;
            let lower = (rate * DECREASE).min(good.max(rate * DECREASE / 2.0)).max(RATE_MIN);
            return Some(Decision::Rate { id: record.id.clone(), rate: lower });
        }
        let quiet_ms = settings.breaker.recovery_timeout_ms;
        let is_quiet = |since_ms: u64| now_ms.saturating_sub(since_ms) >= quiet_ms;
        if is_quiet(trial.failed_ms) && is_quiet(trial.refused_ms) {
            return Some(Decision::Lift { id: record.id.clone() });
        }
        let higher = rate + (trial.first_rate * INCREASE).max(RATE_MIN);
        Some(Decision::Rate { id: record.id.clone(), rate: higher })
    }
}

/// Requests in a limit's slice, and those that failed with its cluster's errors.
fn counted(record: &Record, ledger: &Ledger, past_ms: u64, now_ms: u64) -> (u64, u64) {
    let rows = ledger.window(&record.cluster_id, &BTreeSet::new(), past_ms, now_ms);
    let slice = rows.iter().filter(|row| row.lies_in(&record.scope));
    slice.fold((0, 0), |(r, f), row| (r + row.requests, f + row.failures))
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
