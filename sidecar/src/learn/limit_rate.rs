//! The rate of a limit, found by additive increase and multiplicative decrease (Chiu and Jain
//! 1989) against the cluster's own failures in the slice.

use std::collections::BTreeMap;

use super::cases::RATE_MIN;
use super::ledger::Ledger;
use super::{Decision, Settings};
use crate::policies::Record;
use tidegate_core::incident::enforcement::{Measure, contains};

/// Time between changes of a rate, in milliseconds; its effect has to show first.
const INTERVAL_MS: u64 = 1_000;
/// The past that is looked at, in seconds.
const WINDOW_S: u64 = 2;
/// Share of failures from which the rate is too high.
const FAILING_MIN: f64 = 0.05;
/// What a rate that is too high is multiplied by.
const DECREASE: f64 = 0.7;
/// What is added to one that is not, as a part of the rate it started with.
const INCREASE: f64 = 0.05;

#[derive(Debug, Clone, Copy)]
struct Trial {
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
}

impl LimitRates {
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
        let rows = ledger.window(&record.cluster_id, WINDOW_S, now_ms / 1000);
        let slice = rows.iter().filter(|row| contains(&record.scope, row.attributes));
        let (requests, failures) = slice.fold((0, 0), |(r, f), row| (r + row.requests, f + row.failures));
        let failing = if requests == 0 { 0.0 } else { failures as f64 / requests as f64 };
        if failures > 0 && failing >= FAILING_MIN {
            trial.failed_ms = now_ms;
            let good = (requests - failures) as f64 / WINDOW_S as f64;
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
