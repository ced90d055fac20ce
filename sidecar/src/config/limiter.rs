//! `limiter`: how much callers may call. Its rates are also the body of `PUT /admin/limits`,
//! checked by the same code.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_core::policy::{BURST_MAX, BucketPolicy, Limits, RATE_MAX, TENANT_LIMITS_MAX};
use tidegate_core::wire::is_name;

use super::Problems;
use super::value::Span;

/// Rate of a tenant without a rule, in requests per second.
const DEFAULT_RATE: f64 = 1000.0;
/// Rate of all tenants together, in requests per second.
const MAX_RATE: f64 = 10_000.0;
/// Smallest rate that can be configured: one request in about a day.
const RATE_MIN: f64 = 1e-5;
/// How long a silent Envoy worker is shown, by default, in seconds.
const CLEANUP_S: u64 = 300;

/// The section as it may be written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Document {
    default_rate: Option<f64>,
    max_rate: Option<f64>,
    burst: Option<u64>,
    rules: Option<Vec<Option<Rule>>>,
    cleanup_interval: Option<Span>,
}

/// What can be changed at run time; absent fields stay as the file has them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rates {
    /// Rate of each tenant without a rule, in requests per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_rate: Option<f64>,
    /// Rate of all tenants together and the highest a rule may give, in requests per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_rate: Option<f64>,
    /// Requests that a tenant without a rule may send at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<u64>,
    /// Tenants with limits of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rules: Option<Vec<Option<Rule>>>,
}

/// A tenant's own limit, as it may be written.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rule {
    tenant: Option<String>,
    rate: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    burst: Option<u64>,
}

/// The validated section.
#[derive(Debug, Clone)]
pub struct Limiter {
    /// What the file says, kept so that changes at run time can be laid on it.
    pub rates: Rates,
    /// The same, ready for a snapshot.
    pub limits: Limits,
    /// How long an Envoy worker is shown as alive after its last report.
    pub cleanup_interval: Duration,
}

impl Document {
    /// Checks the section.
    pub fn validate(self, path: &str, problems: &mut Problems) -> Limiter {
        let Self { default_rate, max_rate, burst, rules, cleanup_interval } = self;
        let rates = Rates { default_rate, max_rate, burst, rules };
        let seconds = cleanup_interval.map_or(CLEANUP_S, |span| span.0.as_secs());
        let seconds = problems.within(
            &format!("{path}.cleanup_interval"),
            seconds,
            10..=86_400,
            " seconds (10s to 24h)",
        );
        let limits = rates.clone().validate(&format!("{path}."), problems);
        Limiter { rates, limits, cleanup_interval: Duration::from_secs(seconds) }
    }
}

impl Rates {
    /// `self` where it says something, `base` elsewhere.
    #[must_use]
    pub fn over(self, base: Self) -> Self {
        Self {
            default_rate: self.default_rate.or(base.default_rate),
            max_rate: self.max_rate.or(base.max_rate),
            burst: self.burst.or(base.burst),
            rules: self.rules.or(base.rules),
        }
    }

    /// The buckets these rates mean; `prefix` is put before each field in a problem's path.
    pub fn validate(self, prefix: &str, problems: &mut Problems) -> Limits {
        let Self { default_rate, max_rate, burst, rules } = self;
        let max_path = format!("{prefix}max_rate");
        let max = problems.within(&max_path, max_rate.unwrap_or(MAX_RATE), RATE_MIN..=RATE_MAX, PER_SECOND);
        let default_path = format!("{prefix}default_rate");
        let rate = default_rate.unwrap_or(DEFAULT_RATE.min(max));
        let rate = problems.within(&default_path, rate, RATE_MIN..=RATE_MAX, PER_SECOND);
        if rate > max {
            problems.add(default_path, format!("is {rate}; must be at most max_rate, which is {max}"));
        }
        let tenant_default =
            BucketPolicy { rate, burst: burst_of(&format!("{prefix}burst"), burst, rate, problems) };
        let global_burst = one_second(max).max(tenant_default.burst);
        Limits {
            global: BucketPolicy { rate: max, burst: global_burst },
            tenant_default,
            tenants: tenants(&format!("{prefix}rules"), rules.unwrap_or_default(), max, problems),
        }
    }
}

const PER_SECOND: &str = " requests per second";

/// One second's worth of `rate`, at least one request.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to the range of a burst"
)]
fn one_second(rate: f64) -> u64 {
    rate.ceil().clamp(1.0, RATE_MAX) as u64
}

fn burst_of(path: &str, burst: Option<u64>, rate: f64, problems: &mut Problems) -> u64 {
    problems.within(path, burst.unwrap_or_else(|| one_second(rate)), 1..=BURST_MAX, " requests")
}

fn tenants(
    path: &str,
    rules: Vec<Option<Rule>>,
    max: f64,
    problems: &mut Problems,
) -> BTreeMap<String, BucketPolicy> {
    let mut tenants = BTreeMap::new();
    if rules.len() > TENANT_LIMITS_MAX {
        problems.add(path, format!("has {} rules; at most {TENANT_LIMITS_MAX} are allowed", rules.len()));
    }
    for (index, rule) in rules.into_iter().take(TENANT_LIMITS_MAX).enumerate() {
        let path = format!("{path}[{index}]");
        let Some(Rule { tenant, rate, burst }) = rule else {
            problems.add(path, "is empty; fill it in or remove it");
            continue;
        };
        let tenant = problems.required(&format!("{path}.tenant"), tenant, "`tenant: acme`");
        let rate = problems.required(&format!("{path}.rate"), rate, "`rate: 50`");
        let (Some(tenant), Some(rate)) = (tenant, rate) else { continue };
        if !is_name(&tenant) {
            problems.add(format!("{path}.tenant"), "must be 1 to 64 of A-Z a-z 0-9 . _ -");
        }
        let rate_path = format!("{path}.rate");
        let rate = problems.within(&rate_path, rate, RATE_MIN..=RATE_MAX, PER_SECOND);
        if rate > max {
            problems.add(rate_path, format!("is {rate}; must be at most max_rate, which is {max}"));
        }
        let burst = burst_of(&format!("{path}.burst"), burst, rate, problems);
        if tenants.insert(tenant, BucketPolicy { rate, burst }).is_some() {
            problems.add(format!("{path}.tenant"), "has a rule already; one rule a tenant");
        }
    }
    tenants
}
