//! Which slice of the traffic explains a cluster of failures: the simplest conjunction of up to
//! three attributes in which requests fail, and outside of which they do not.
//!
//! From Adtributor (Bhagwan et al., NSDI'14) comes the frame: a slice must explain most of the
//! failures (there "explanatory power", here recall), be surprising against the traffic, and be
//! succinct. From Squeeze (Li et al., ISSRE'19) and PSqueeze (arXiv 2305.03331) comes what makes it
//! safe to act on: a slice is right only if *all* of it is affected (their generalised ripple
//! effect), which is the share of its requests that fail, here precision. Surprise is the
//! log-likelihood ratio of failures inside and outside (Dunning 1993), which holds for the small
//! counts of the first seconds; Adtributor's divergence does not.
//!
//! Two rules bound what a slice can take along with it. It holds no tenant that was not seen
//! failing by itself: a slice of several tenants needs two who fail, and hardly any who do not,
//! so that nobody can have others broken by sending failing requests, however many. And where the
//! traffic has no contrast, because everything seen failed, nothing is assumed about what was
//! not seen: the slice is narrowed to the values that failed.

mod candidates;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use self::candidates::{Candidate, Literals};
use super::enforcement::{CONDITIONS_MAX, contains};
use crate::event::{Attribute, Attributes};

/// A slice has to explain this share of a cluster's failures.
pub const RECALL_MIN: f64 = 0.2;
/// Least log-likelihood ratio against the rest of the traffic: chi-squared with one degree of
/// freedom at one in 10,000, since a few hundred candidates are compared.
pub const SIGNIFICANCE_MIN: f64 = 15.1;
/// Requests of a tenant within a slice from which it counts as a witness.
const WITNESS_REQUESTS: u64 = 3;
/// Share of the witnesses that must fail in a slice of several tenants, each at least half as often
/// as the slice as a whole.
const FAILING_WITNESSES_MIN: f64 = 0.8;
/// Most slices that one cluster is taken apart into.
pub const EXPLANATIONS_MAX: usize = 4;
/// Failures that are too few to look for an explanation.
const FAILURES_MIN: u64 = 5;

/// What was counted of requests with the same attributes.
#[derive(Debug, Clone, Copy)]
pub struct Observed<'a> {
    /// The attributes.
    pub attributes: &'a Attributes,
    /// Requests that ended.
    pub requests: u64,
    /// Those that failed with an error of the cluster.
    pub failures: u64,
    /// Those that failed otherwise; they say nothing about this cluster.
    pub others: u64,
    /// Those of the others that failed through no fault of their caller's: they do not tell where the
    /// cluster lies, but they would be lost by a break as little as its own.
    pub akin: u64,
    /// Attempts whose failure no caller saw, because somebody else answered then. They say how a
    /// provider does, and nothing about the requests of a slice that names none.
    pub hidden: bool,
}

impl Observed<'_> {
    /// Requests that could have shown this cluster's failure.
    const fn relevant(&self) -> u64 {
        self.requests.saturating_sub(self.others)
    }

    /// Whether it counts for a slice.
    #[must_use]
    pub fn lies_in(&self, scope: &Attributes) -> bool {
        self.counts_for(names_provider(scope)) && contains(scope, self.attributes)
    }

    /// Whether it counts at all for slices that name a provider, or that do not.
    const fn counts_for(&self, provider: bool) -> bool {
        provider || !self.hidden
    }
}

/// Whether a slice is one of a provider, or of one of its keys.
#[must_use]
pub fn names_provider(scope: &Attributes) -> bool {
    scope.keys().any(|attribute| attribute.is_of_provider())
}

/// A slice, and how well it explains the failures.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// The conjunction; empty for all traffic.
    pub scope: Attributes,
    /// Share of the slice's requests that fail.
    pub precision: f64,
    /// What that share is at least, with 90 % confidence (Wilson's bound, one-sided).
    pub precision_low: f64,
    /// Share of the cluster's failures that lie in the slice.
    pub recall: f64,
    /// Log-likelihood ratio against the rest of the traffic; 0 where there is no rest.
    pub significance: f64,
    /// Share of the slice's requests that fail by this or by any other error that is not their
    /// callers' fault: whoever is not among them would be hit by a break.
    pub doomed: f64,
    /// What that share is at least, with 90 % confidence.
    pub doomed_low: f64,
    /// Requests in the slice.
    pub requests: u64,
    /// Failures in the slice.
    pub failures: u64,
    /// The same by all errors that count in [`Explanation::doomed`].
    pub failing: u64,
    /// Share of all requests that lie in the slice ([`share_of_traffic`] for what a policy is made of).
    pub share: f64,
    /// Tenants seen failing in it.
    pub tenants: usize,
}

/// Explains a cluster's failures, one slice after the other, each from what the ones before left.
/// Ties go to attributes that stand earlier in `preference`. Empty when nothing explains them.
#[must_use]
pub fn explain(rows: &[Observed<'_>], preference: &[Attribute]) -> Vec<Explanation> {
    let total: u64 = rows.iter().map(|row| row.failures).sum();
    let mut rows = rows.to_vec();
    let mut found: Vec<Explanation> = Vec::new();
    while found.len() < EXPLANATIONS_MAX {
        let left: u64 = rows.iter().map(|row| row.failures).sum();
        if left < FAILURES_MIN || (left as f64) < RECALL_MIN * total as f64 {
            break;
        }
        let Some(mut best) = best(&rows, preference) else { break };
        best.recall = best.failures as f64 / total as f64;
        rows.retain(|row| !row.lies_in(&best.scope));
        found.push(best);
    }
    found
}

fn best(rows: &[Observed<'_>], preference: &[Attribute]) -> Option<Explanation> {
    let literals = Literals::collect(rows, preference);
    let mut candidates: Vec<Candidate> = literals.conjunctions(CONDITIONS_MAX);
    candidates.retain(|c| c.set == 0 || c.significance >= SIGNIFICANCE_MIN);
    candidates.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.rank.cmp(&b.rank)));
    candidates.iter().find_map(|candidate| {
        let scope = literals.scope(candidate.set);
        let narrowed = if candidate.set == 0 { narrow(rows, preference) } else { scope };
        let safe = with_tenant(rows, narrowed, preference)?;
        Some(measure(rows, safe))
    })
}

/// The values that all failures share, of the attributes that matter most: nothing is known of
/// others, unless failures were seen with several. One place is left for the tenant.
fn narrow(rows: &[Observed<'_>], preference: &[Attribute]) -> Attributes {
    let seen = rows.iter().filter(|row| row.failures > 0 && !row.hidden);
    let failing: Vec<&Attributes> = seen.map(|row| row.attributes).collect();
    let mut scope = Attributes::new();
    for attribute in preference.iter().filter(|a| a.is_known_at_entry()).take(NARROWING) {
        let mut values = failing.iter().map(|attributes| attributes.get(attribute));
        if let Some(Some(first)) = values.next()
            && values.all(|value| value == Some(first))
            && scope.len() + 1 < CONDITIONS_MAX
        {
            scope.insert(*attribute, first.clone());
        }
    }
    scope
}

/// Attributes that an unknown slice is narrowed by.
const NARROWING: usize = 6;

/// What was counted of each tenant within a slice: relevant requests, failures, and both with those
/// that are akin.
fn by_tenant<'a>(rows: &[Observed<'a>], scope: &Attributes) -> BTreeMap<&'a str, [(u64, u64); 2]> {
    let mut tenants: BTreeMap<&str, [(u64, u64); 2]> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.lies_in(scope)) {
        if let Some(tenant) = row.attributes.get(&Attribute::Tenant) {
            let [own, all] = tenants.entry(tenant).or_default();
            *own = (own.0 + row.relevant(), own.1 + row.failures);
            *all = (all.0 + row.relevant() + row.akin, all.1 + row.failures + row.akin);
        }
    }
    tenants
}

/// Whether of the tenants with enough requests hardly any fails much less than they do together, by
/// `counts` of requests and failures.
fn is_common(counts: impl Iterator<Item = (u64, u64)> + Clone) -> bool {
    let (requests, failed) = counts.clone().fold((0, 0), |(r, f), t| (r + t.0, f + t.1));
    let failing_share = 0.5 * ratio(failed, requests);
    let witnesses = counts.filter(|(requests, _)| *requests >= WITNESS_REQUESTS);
    let fail = |(requests, failed): (u64, u64)| ratio(failed, requests) >= failing_share;
    let (all, failing) = witnesses.fold((0, 0), |(all, n), tenant| (all + 1, n + u64::from(fail(tenant))));
    failing as f64 >= FAILING_WITNESSES_MIN * f64::from(all)
}

/// The slice with the one tenant seen failing in it; `None` for a slice of several tenants of
/// whom too many do not fail.
fn with_tenant(rows: &[Observed<'_>], mut scope: Attributes, preference: &[Attribute]) -> Option<Attributes> {
    if scope.contains_key(&Attribute::Tenant) || scope.contains_key(&Attribute::Key) {
        return Some(scope);
    }
    let tenants = by_tenant(rows, &scope);
    let failing: Vec<&str> = tenants.iter().filter(|(_, [own, _])| own.1 > 0).map(|(t, _)| *t).collect();
    match failing.as_slice() {
        [] => Some(scope),
        [only] => {
            if scope.len() == CONDITIONS_MAX {
                // The condition that says least about this kind of failure gives way to the tenant.
                let rank = |a: &Attribute| preference.iter().position(|p| p == a).unwrap_or(preference.len());
                let least = scope.keys().copied().max_by_key(rank)?;
                scope.remove(&least);
            }
            scope.insert(Attribute::Tenant, (*only).to_owned());
            Some(scope)
        }
        _ => is_common(tenants.values().map(|[own, _]| *own)).then_some(scope),
    }
}

impl Explanation {
    /// What rows say about a slice.
    #[must_use]
    pub fn of(rows: &[Observed<'_>], scope: Attributes) -> Self {
        measure(rows, scope)
    }
}

fn measure(rows: &[Observed<'_>], scope: Attributes) -> Explanation {
    let (mut requests, mut failures, mut akin, mut all_requests, mut all_failures) = (0, 0, 0, 0, 0);
    let provider = names_provider(&scope);
    for row in rows.iter().filter(|row| row.counts_for(provider)) {
        all_requests += row.relevant();
        all_failures += row.failures;
        if contains(&scope, row.attributes) {
            requests += row.relevant();
            failures += row.failures;
            akin += row.akin;
        }
    }
    let tenants = by_tenant(rows, &scope);
    // One tenant's other troubles are no reason to break a slice that it shares.
    let is_own = scope.contains_key(&Attribute::Tenant) || scope.contains_key(&Attribute::Key);
    if !is_own && !is_common(tenants.values().map(|[_, all]| *all)) {
        akin = 0;
    }
    Explanation {
        precision: ratio(failures, requests),
        precision_low: wilson_low(failures, requests),
        recall: ratio(failures, all_failures),
        significance: log_likelihood_ratio(failures, requests, all_failures, all_requests),
        share: ratio(requests, all_requests),
        doomed: ratio(failures + akin, requests + akin),
        doomed_low: wilson_low(failures + akin, requests + akin),
        failing: failures + akin,
        tenants: tenants.values().filter(|[own, _]| own.1 > 0).count(),
        scope,
        requests,
        failures,
    }
}

/// A slice of which at most this share failed before a window is one whose failures began with it.
const BEGUN_MAX: f64 = 0.2;
/// A slice that failed in part before needs so many times the failures that a sharp onset needs.
const GRADUAL_FACTOR: u64 = 3;

/// Whether the failures of a slice are more than a run of bad luck within a partial failure. Where
/// half fails, ten in a row come about once in a thousand looks, and there are several looks a
/// second. So what failed in part before the window, by `before`, has to show it on more than
/// `failures_min`; what did not has begun to fail (a change point), and nothing is gained by waiting.
#[must_use]
pub fn is_told_apart(explanation: &Explanation, before: &[Observed<'_>], failures_min: u64) -> bool {
    let before = measure(before, explanation.scope.clone());
    let failed_in_part = before.doomed > BEGUN_MAX && before.doomed < explanation.doomed_low;
    !failed_in_part || explanation.failing >= GRADUAL_FACTOR * failures_min
}

/// Share of all requests that lie in a slice: what it is at least, with 90 % confidence, so that a
/// slice of just half the traffic is not taken for more by the luck of the count.
#[must_use]
pub fn share_of_traffic(rows: &[Observed<'_>], scope: &Attributes) -> f64 {
    let seen = rows.iter().filter(|row| row.counts_for(names_provider(scope)));
    let (mut all, mut inside) = (0, 0);
    for row in seen {
        all += row.requests;
        inside += if contains(scope, row.attributes) { row.requests } else { 0 };
    }
    wilson_low(inside, all)
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Lower end of Wilson's score interval (1927) for a share, one-sided at 90 %.
#[must_use]
pub fn wilson_low(part: u64, whole: u64) -> f64 {
    const Z: f64 = 1.2816;
    if whole == 0 {
        return 0.0;
    }
    let (n, p) = (whole as f64, ratio(part, whole));
    let centre = p + Z * Z / (2.0 * n);
    let spread = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    ((centre - spread) / (1.0 + Z * Z / n)).max(0.0)
}

/// Dunning's G-squared of failures inside a slice against the rest ("Accurate methods for the
/// statistics of surprise and coincidence", 1993); 0 when the inside does not fail more often.
#[must_use]
pub fn log_likelihood_ratio(failures: u64, requests: u64, all_failures: u64, all_requests: u64) -> f64 {
    let (rest_failures, rest) =
        (all_failures.saturating_sub(failures), all_requests.saturating_sub(requests));
    if requests == 0 || rest == 0 || ratio(failures, requests) <= ratio(rest_failures, rest) {
        return 0.0;
    }
    let likelihood = |k: u64, n: u64, p: f64| {
        let term = |count: u64, p: f64| if count == 0 { 0.0 } else { count as f64 * p.max(1e-12).ln() };
        term(k, p) + term(n.saturating_sub(k), 1.0 - p)
    };
    let apart = likelihood(failures, requests, ratio(failures, requests))
        + likelihood(rest_failures, rest, ratio(rest_failures, rest));
    let together = ratio(all_failures, all_requests);
    let joint = likelihood(failures, requests, together) + likelihood(rest_failures, rest, together);
    (2.0 * (apart - joint)).max(0.0)
}
