//! The clusters that fail at the moment, and what they come to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidegate_core::event::{Attribute, Attributes};
use tidegate_core::incident::attribution::{Explanation, explain};
use tidegate_core::incident::enforcement::{Measure, SCOPES_MAX, STATUSES_MAX};
use tidegate_core::incident::proposal::{Action, Facts, Rule, decide, preference};

use super::ledger::Ledger;
use super::understanding::About;
use super::{OnlyModels, Settings};
use crate::config::policy::Mode;
use crate::policies::{Proposal, break_by};

/// Clusters followed at a time; the one silent longest gives way.
const CASES_MAX: usize = 512;
/// Masked messages kept of each.
const EXAMPLES_MAX: usize = 5;
/// Lengths of the past that are looked at, in seconds. A fast slice shows within the first, a
/// slow one needs longer to have failed often enough; what came before the failures does not
/// count against it.
const WINDOWS_S: [u64; 7] = [2, 3, 5, 8, 15, 30, 60];
/// Least rate that a limit starts with, in requests per second.
pub const RATE_MIN: f64 = 0.2;

/// One cluster.
#[derive(Debug)]
pub struct Case {
    cluster: Arc<str>,
    statuses: BTreeSet<u16>,
    last_ms: u64,
    stirs: bool,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Cases {
    cases: BTreeMap<Arc<str>, Case>,
}

impl Cases {
    /// A status by which a cluster shows.
    pub fn hear(&mut self, cluster: &Arc<str>, status: u16) {
        if let Some(case) = self.case(cluster)
            && case.statuses.len() < STATUSES_MAX
        {
            case.statuses.insert(status);
        }
    }

    /// A cluster has failed again.
    pub fn count(&mut self, cluster: &Arc<str>, now_ms: u64) {
        if let Some(case) = self.case(cluster) {
            (case.last_ms, case.stirs) = (now_ms, true);
        }
    }

    /// The case of a cluster; none for errors whose words did not come yet.
    fn case(&mut self, cluster: &Arc<str>) -> Option<&mut Case> {
        if cluster.is_empty() {
            return None;
        }
        if !self.cases.contains_key(cluster) && self.cases.len() >= CASES_MAX {
            let oldest = self.cases.values().min_by_key(|case| case.last_ms).map(|c| Arc::clone(&c.cluster));
            oldest.and_then(|cluster| self.cases.remove(&cluster));
        }
        Some(self.cases.entry(Arc::clone(cluster)).or_insert_with(|| Case {
            cluster: Arc::clone(cluster),
            statuses: BTreeSet::new(),
            last_ms: 0,
            stirs: false,
        }))
    }

    /// Those that failed since they were last asked for.
    pub fn stirring(&mut self) -> Vec<&Case> {
        let stirring = self.cases.values_mut().filter_map(|case| {
            let stirs = std::mem::take(&mut case.stirs);
            stirs.then_some(&*case)
        });
        stirring.collect()
    }
}

/// What was found in one window.
struct Found<'r> {
    proposals: Vec<(Explanation, &'r Rule)>,
    failures: u64,
    seconds: u64,
}

impl Case {
    /// The cluster's name.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Looks for slices that explain the failures, and for rules that fit them. Of all windows the
    /// one counts in which most failures are explained: a slice of which only a part was seen yet
    /// gives way to the whole.
    pub fn propose(
        &self,
        about: &About,
        ledger: &Ledger,
        settings: &Settings,
        only_models: OnlyModels<'_>,
        now_ms: u64,
    ) -> Vec<Proposal> {
        let mut best: Option<Found<'_>> = None;
        for seconds in WINDOWS_S {
            let rows = ledger.window(&self.cluster, seconds, now_ms / 1000);
            let explanations = explain(&rows, preference(about.kind));
            let mut found = Found { proposals: Vec::new(), failures: 0, seconds };
            for explanation in explanations {
                let facts = Facts {
                    kind: about.kind,
                    class: about.class,
                    severity: about.severity,
                    trend: about.trend,
                    explanation: &explanation,
                };
                let threshold = u64::from(settings.breaker.failure_threshold);
                let Some(rule) = decide(&settings.incidents.rules, &facts, threshold) else { continue };
                if rule.action != Action::Observe {
                    found.failures += explanation.failures;
                    found.proposals.push((explanation, rule));
                }
            }
            if found.failures > best.as_ref().map_or(0, |best| best.failures) {
                best = Some(found);
            }
        }
        let Some(Found { proposals, seconds, .. }) = best else { return Vec::new() };
        let finish =
            |(explanation, rule)| self.proposal(about, explanation, rule, seconds, settings, only_models);
        proposals.into_iter().map(finish).collect()
    }

    fn proposal(
        &self,
        about: &About,
        explanation: Explanation,
        rule: &Rule,
        seconds: u64,
        settings: &Settings,
        only_models: OnlyModels<'_>,
    ) -> Proposal {
        let (measure, members) = match rule.action {
            Action::Observe | Action::RouteAway => (None, Vec::new()),
            Action::Break => (
                Some(break_by(&settings.breaker, rule.recovery_timeout_ms)),
                members(&explanation.scope, only_models),
            ),
            Action::Limit => {
                let good = explanation.requests.saturating_sub(explanation.failures);
                let rate = (good as f64 / seconds as f64).max(RATE_MIN);
                (Some(Measure::Limit { rate }), members(&explanation.scope, only_models))
            }
            Action::Advise => (Some(Measure::Advise), members(&explanation.scope, only_models)),
        };
        let enforce = rule.enforce.unwrap_or(settings.incidents.mode == Mode::Enforce);
        Proposal {
            cluster_id: self.cluster.to_string(),
            kind: about.kind,
            rule: rule.name.clone(),
            action: rule.action,
            measure,
            mode: if enforce { Mode::Enforce } else { Mode::Shadow },
            explanation,
            members,
            statuses: self.statuses.iter().copied().collect(),
            examples: about.examples.iter().take(EXAMPLES_MAX).cloned().collect(),
            ttl_ms: rule.ttl_ms.unwrap_or(settings.incidents.ttl_ms),
            retry: rule.retry,
        }
    }
}

/// A slice in terms that filters know. A provider is the models that nobody else has; where
/// others can answer there is nothing to refuse, and the sidecar goes round it.
fn members(scope: &Attributes, only_models: OnlyModels<'_>) -> Vec<Attributes> {
    if scope.contains_key(&Attribute::ProviderKey) {
        return Vec::new();
    }
    let Some(provider) = scope.get(&Attribute::Provider) else {
        return vec![scope.clone()];
    };
    let mut rest = scope.clone();
    rest.remove(&Attribute::Provider);
    if rest.contains_key(&Attribute::Model) {
        return vec![rest];
    }
    let with = |model: String| {
        let mut member = rest.clone();
        member.insert(Attribute::Model, model);
        member
    };
    only_models(provider).into_iter().take(SCOPES_MAX).map(with).collect()
}
