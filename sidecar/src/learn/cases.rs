//! The clusters that fail at the moment, and what they come to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidegate_core::event::{Attribute, Attributes};
use tidegate_core::incident::attribution::{
    Explanation, Observed, explain, is_told_apart, names_provider, share_of_traffic,
};
use tidegate_core::incident::cluster::Severity;
use tidegate_core::incident::enforcement::{CONDITIONS_MAX, Measure, SCOPES_MAX, STATUSES_MAX, contains};
use tidegate_core::incident::proposal::{Action, Facts, Rule, decide, preference};

use super::ledger::{Ledger, PAST_MS};
use super::understanding::About;
use super::{Decision, OnlyModels, Settings};
use crate::config::policy::Mode;
use crate::policies::{Proposal, break_by};

/// Clusters followed at a time; the one silent longest gives way.
const CASES_MAX: usize = 512;
/// Masked messages kept of each.
const EXAMPLES_MAX: usize = 5;
/// Lengths of the past that are looked at, in milliseconds. A fast slice shows within the first, a
/// slow one needs longer to have failed often enough; what came before the failures does not
/// count against it.
const WINDOWS_MS: [u64; 10] = [250, 500, 1_000, 2_000, 3_000, 5_000, 8_000, 15_000, 30_000, 60_000];
/// How far back before a window is looked at for whether the failures began with it, in milliseconds.
const BEFORE_MS: u64 = 3_000;
/// The past by which a limit's first rate is told, in milliseconds.
const RATE_MS: u64 = 2_000;
/// How long a cluster is looked at after its last failure, in milliseconds: a breaker may have cut
/// its requests off before a window was clear of what came before.
const STIRS_MS: u64 = 4_000;
/// Least rate that a limit starts with, in requests per second.
pub const RATE_MIN: f64 = 0.2;

/// One cluster.
#[derive(Debug)]
pub struct Case {
    cluster: Arc<str>,
    statuses: BTreeSet<u16>,
    last_ms: u64,
    /// How bad it was at its worst; `None` before it was looked at.
    level: Option<Severity>,
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
            case.last_ms = now_ms;
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
            level: None,
        }))
    }

    /// Those that failed lately.
    pub fn stirring(&self, now_ms: u64) -> impl Iterator<Item = &Case> {
        self.cases.values().filter(move |case| now_ms.saturating_sub(case.last_ms) < STIRS_MS)
    }

    /// Notes how bad a cluster is; what is to be told if it was never that bad.
    pub fn grew(&mut self, cluster: &str, severity: f64) -> Option<Decision> {
        let case = self.cases.get_mut(cluster)?;
        let level = Severity::of(severity);
        if case.level >= Some(level) {
            return None;
        }
        case.level = Some(level);
        let text = format!("severity {severity:.0}, {}", level.as_str());
        Some(Decision::Grew { cluster_id: cluster.to_owned(), text })
    }

    /// A cluster's incident is over.
    pub fn forget(&mut self, cluster: &str) {
        if let Some(case) = self.cases.get_mut(cluster) {
            (case.last_ms, case.level) = (0, None);
        }
    }
}

/// What was counted, as seen now.
#[derive(Debug, Clone, Copy)]
pub struct Past<'a> {
    /// The counts.
    pub ledger: &'a Ledger,
    /// Clusters whose errors doom a request whatever its caller does.
    pub dooming: &'a BTreeSet<Arc<str>>,
    /// Now.
    pub now_ms: u64,
}

impl<'a> Past<'a> {
    /// The last `past_ms` milliseconds.
    pub fn rows(&self, cluster: &str, past_ms: u64) -> Vec<Observed<'a>> {
        self.ledger.window(cluster, self.dooming, past_ms, self.now_ms)
    }

    /// What came before those.
    fn before(&self, cluster: &str, past_ms: u64) -> Vec<Observed<'a>> {
        self.ledger.before(cluster, self.dooming, (past_ms, BEFORE_MS), self.now_ms)
    }
}

/// What was found in one window.
struct Found<'r> {
    proposals: Vec<(Explanation, &'r Rule)>,
    failures: u64,
}

impl Case {
    /// The cluster's name.
    #[must_use]
    pub const fn cluster(&self) -> &Arc<str> {
        &self.cluster
    }

    /// Looks for slices that explain the failures, and for rules that fit them. Of all windows the
    /// one counts in which most failures are explained: a slice of which only a part was seen yet
    /// gives way to the whole.
    pub fn propose(
        &self,
        about: &About,
        past: Past<'_>,
        settings: &Settings,
        only_models: OnlyModels<'_>,
    ) -> Vec<Proposal> {
        let mut best: Option<Found<'_>> = None;
        for past_ms in WINDOWS_MS {
            let rows = past.rows(&self.cluster, past_ms);
            let explanations = explain(&rows, preference(about.kind));
            let mut found = Found { proposals: Vec::new(), failures: 0 };
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
                let begins = || {
                    let before = past.before(&self.cluster, past_ms);
                    is_told_apart(&explanation, &before, threshold)
                };
                match rule.action {
                    Action::Observe => {}
                    Action::Break if !begins() => {}
                    Action::RouteAway if !names_provider(&explanation.scope) => {
                        let at = by_provider(&rows, &explanation, preference(about.kind));
                        found.failures += at.iter().map(|explanation| explanation.failures).sum::<u64>();
                        found.proposals.extend(at.into_iter().map(|explanation| (explanation, rule)));
                    }
                    _ => {
                        found.failures += explanation.failures;
                        found.proposals.push((explanation, rule));
                    }
                }
            }
            if found.failures > best.as_ref().map_or(0, |best| best.failures) {
                best = Some(found);
            }
        }
        let Some(Found { proposals, .. }) = best else { return Vec::new() };
        let finish =
            |(explanation, rule)| self.proposal(about, explanation, rule, past, settings, only_models);
        proposals.into_iter().map(finish).collect()
    }

    fn proposal(
        &self,
        about: &About,
        mut explanation: Explanation,
        rule: &Rule,
        past: Past<'_>,
        settings: &Settings,
        only_models: OnlyModels<'_>,
    ) -> Proposal {
        let (measure, members) = match rule.action {
            Action::Observe => (None, Vec::new()),
            Action::RouteAway => (Some(break_by(&settings.breaker, rule.recovery_timeout_ms)), Vec::new()),
            Action::Break => (
                Some(break_by(&settings.breaker, rule.recovery_timeout_ms)),
                members(&explanation.scope, only_models),
            ),
            Action::Limit => {
                let slice = Explanation::of(&past.rows(&self.cluster, RATE_MS), explanation.scope.clone());
                let good = slice.requests.saturating_sub(slice.failures);
                let rate = (good as f64 * 1000.0 / RATE_MS as f64).max(RATE_MIN);
                (Some(Measure::Limit { rate }), members(&explanation.scope, only_models))
            }
            Action::Advise => (Some(Measure::Advise), members(&explanation.scope, only_models)),
        };
        explanation.share = share_of_traffic(&past.rows(&self.cluster, PAST_MS), &explanation.scope);
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

/// The parts of a slice that lie with the providers that fail in it: where to go elsewhere, one has
/// to know from where.
fn by_provider(
    rows: &[Observed<'_>],
    explanation: &Explanation,
    preference: &[Attribute],
) -> Vec<Explanation> {
    let mut scope = explanation.scope.clone();
    if scope.len() == CONDITIONS_MAX {
        let rank = |a: &Attribute| preference.iter().position(|p| p == a).unwrap_or(preference.len());
        let is_of_caller = |a: &&Attribute| matches!(a, Attribute::Tenant | Attribute::Key);
        let least = scope.keys().filter(|a| !is_of_caller(a)).copied().max_by_key(rank);
        least.and_then(|attribute| scope.remove(&attribute));
    }
    let failing = rows.iter().filter(|row| row.failures > 0 && contains(&explanation.scope, row.attributes));
    let providers: BTreeSet<&String> =
        failing.filter_map(|row| row.attributes.get(&Attribute::Provider)).collect();
    let at = |provider: &String| {
        let mut scope = scope.clone();
        scope.insert(Attribute::Provider, provider.clone());
        Explanation::of(rows, scope)
    };
    // The slice fails as a whole, but not necessarily at each provider.
    let fails = |at: &Explanation| 2.0 * at.doomed >= explanation.doomed;
    providers.into_iter().map(at).filter(fails).collect()
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
    let wanted = rest.remove(&Attribute::Model);
    let mut models = only_models(provider);
    models.retain(|model| wanted.as_ref().is_none_or(|wanted| wanted == model));
    let with = |model: String| {
        let mut member = rest.clone();
        member.insert(Attribute::Model, model);
        member
    };
    models.into_iter().take(SCOPES_MAX).map(with).collect()
}
