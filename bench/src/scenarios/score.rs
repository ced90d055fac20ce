//! What came out of a scenario, for the gateway and for breakers that know the status alone. Those
//! are run over the same requests in the same order: whatever the gateway refused, the truth about
//! each request is known.

use std::collections::BTreeMap;

use tidegate_core::policy::BreakerPolicy;

use super::classic::Classic;
use super::file::{Expect, Scenario, Slice};
use super::traffic::Sent;

/// The figures of one protection.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Score {
    /// Requests that would have succeeded, and those of them that were refused.
    pub(crate) good: u64,
    pub(crate) killed: u64,
    /// Doomed requests after the first refusal of one, and those of them that were refused.
    pub(crate) doomed: u64,
    pub(crate) refused: u64,
    /// Seconds from the first doomed request to the first refusal of one; where a fault grows, from when
    /// it has grown to what is worth refusing for ([`Scenario::worth_from_s`]).
    pub(crate) onset_s: Option<f64>,
    /// Seconds from the end of the faults to the last refusal.
    pub(crate) recovery_s: Option<f64>,
}

/// What a scenario is judged by.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Outcome {
    /// Percent of the good requests that were refused.
    pub(crate) killed_percent: f64,
    /// Percent of the doomed requests that were refused, if anything was done about them.
    pub(crate) refused_percent: Option<f64>,
    /// As in [`Score`].
    pub(crate) onset_s: Option<f64>,
    /// As in [`Score`].
    pub(crate) recovery_s: Option<f64>,
}

impl Outcome {
    /// In what it falls short of what is expected.
    pub(crate) fn missed(&self, expect: &Expect) -> Vec<String> {
        let mut missed = Vec::new();
        if self.killed_percent > expect.bystanders_percent_max {
            missed.push(format!("bystanders over {} %", expect.bystanders_percent_max));
        }
        if let Some(least) = expect.doomed_percent_min
            && self.refused_percent.is_none_or(|refused| refused < least)
        {
            missed.push(format!("doomed refused under {least} %"));
        }
        if expect.onset_s_max.is_some_and(|most| self.onset_s.is_none_or(|s| s > most)) {
            missed.push("onset".to_owned());
        }
        if expect.recovery_s_max.is_some_and(|most| self.recovery_s.is_some_and(|s| s > most)) {
            missed.push("recovery".to_owned());
        }
        missed
    }
}

impl Score {
    /// Percent of the good requests that were refused.
    pub(crate) fn killed_percent(&self) -> f64 {
        percent(self.killed, self.good)
    }

    /// Percent of the doomed requests that were refused.
    pub(crate) fn refused_percent(&self) -> f64 {
        percent(self.refused, self.doomed)
    }

    fn of(scenario: &Scenario, requests: impl Iterator<Item = (f64, bool, bool)>) -> Self {
        let end_s = (scenario.calm_s + scenario.fault_s) as f64;
        let (mut score, mut first_doomed) = (Self::default(), None);
        for (at_s, doomed, refused) in requests {
            if refused && at_s > end_s {
                score.recovery_s = Some(at_s - end_s);
            }
            if !doomed {
                score.good += 1;
                score.killed += u64::from(refused);
                continue;
            }
            let first = *first_doomed.get_or_insert(at_s.max(scenario.worth_from_s()));
            if refused && score.onset_s.is_none() {
                score.onset_s = Some((at_s - first).max(0.0));
            }
            if score.onset_s.is_some() {
                score.doomed += 1;
                score.refused += u64::from(refused);
            }
        }
        score
    }
}

impl From<&Score> for Outcome {
    fn from(score: &Score) -> Self {
        Self {
            killed_percent: score.killed_percent(),
            refused_percent: (score.doomed > 0).then(|| score.refused_percent()),
            onset_s: score.onset_s,
            recovery_s: score.recovery_s,
        }
    }
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 }
}

/// The gateway itself. A doomed request that it held back until the fault was over has succeeded.
pub(crate) fn gateway(scenario: &Scenario, sent: &[Sent]) -> Score {
    let was_doomed = |request: &Sent| request.doomed && (request.refused || request.failed);
    Score::of(scenario, sent.iter().map(|request| (request.at_s, was_doomed(request), request.refused)))
}

/// A textbook breaker for each value of `by`, with the gateway's own thresholds.
pub(crate) fn classic(scenario: &Scenario, sent: &[Sent], policy: &BreakerPolicy, by: &[&str]) -> Score {
    let mut breakers: BTreeMap<Vec<String>, Classic> = BTreeMap::new();
    let requests = sent.iter().map(|request| {
        let now_ms = (request.at_s * 1000.0) as u64;
        let breaker = breakers.entry(key_of(&request.values, by)).or_default();
        let passes = breaker.admits(now_ms, policy);
        if passes {
            breaker.note(request.looks_failed, now_ms, policy);
        }
        (request.at_s, request.doomed, !passes)
    });
    Score::of(scenario, requests)
}

/// Envoy's outlier detection, if it was there.
pub(crate) fn outlier_detection(scenario: &Scenario, sent: &[Sent]) -> Option<Score> {
    let asked =
        sent.iter().filter_map(|request| Some((request.at_s, request.doomed, request.refused_by_envoy?)));
    let asked: Vec<_> = asked.collect();
    (!asked.is_empty()).then(|| Score::of(scenario, asked.into_iter()))
}

fn key_of(values: &Slice, by: &[&str]) -> Vec<String> {
    by.iter().map(|name| values.get(*name).cloned().unwrap_or_default()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: BreakerPolicy = BreakerPolicy {
        failure_threshold: 10,
        window_ms: 10_000,
        recovery_timeout_ms: 30_000,
        recovery_increment: 0.2,
    };

    fn scenario() -> Scenario {
        Scenario {
            title: String::new(),
            rate: 10,
            calm_s: 0,
            fault_s: 10,
            after_s: 10,
            traffic: BTreeMap::new(),
            faults: Vec::new(),
            config: String::new(),
            expect: Expect {
                bystanders_percent_max: 0.0,
                doomed_percent_min: None,
                onset_s_max: None,
                recovery_s_max: None,
            },
        }
    }

    /// Ten seconds in which every request of `m1` fails and those of `m2` do not, then ten good ones.
    fn sent() -> Vec<Sent> {
        (0..200)
            .map(|i| {
                let model = if i % 2 == 0 { "m1" } else { "m2" };
                let doomed = i < 100 && i % 2 == 0;
                let values = Slice::from([("model".to_owned(), model.to_owned())]);
                Sent {
                    values,
                    at_s: f64::from(i) / 10.0,
                    doomed,
                    looks_failed: doomed,
                    refused: false,
                    failed: doomed,
                    refused_by_envoy: Some(false),
                }
            })
            .collect()
    }

    #[test]
    fn a_breaker_by_model_spares_the_other_and_one_for_all_does_not() {
        let (scenario, sent) = (scenario(), sent());
        let by_model = classic(&scenario, &sent, &POLICY, &["model"]);
        assert_eq!((by_model.good, by_model.killed), (150, 50), "only m1's after the end");
        assert_eq!((by_model.doomed, by_model.refused), (40, 40));
        let by_none = classic(&scenario, &sent, &POLICY, &[]);
        assert!(by_none.killed > 100, "half of what it sees fails: {by_none:?}");
        let mut callers = sent.clone();
        callers.iter_mut().for_each(|request| request.looks_failed = false);
        let blind = classic(&scenario, &callers, &POLICY, &["model"]);
        assert_eq!((blind.killed, blind.onset_s), (0, None), "no status, no failure");
        assert_eq!(
            outlier_detection(&scenario, &sent).map(|score| (score.good, score.killed)),
            Some((150, 0))
        );
        let open = gateway(&scenario, &sent);
        assert_eq!((open.killed, open.onset_s), (0, None));
    }
}
