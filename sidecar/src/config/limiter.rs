//! `limiter`: how much callers may call. Its rates are also the body of `PUT /admin/limits`,
//! checked by the same code.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_core::address::{ClientAddress, Network};
use tidegate_core::limit::Attribute;
use tidegate_core::limit::fair::WEIGHT_MAX;
use tidegate_core::limit::lease::OnLoss;
use tidegate_core::policy::{
    BURST_MAX, BucketPolicy, CONCURRENCY_MAX, EACH, Limits, RATE_MAX, RULES_MAX, Rule, Scope, Selector,
    TOKENS_PER_DAY_MAX, TOKENS_PER_MINUTE_MAX, WEIGHTS_MAX,
};
use tidegate_core::route::{Endpoint, RouteClass, classify};

use super::Problems;
use super::value::Span;
use crate::limits::{Budgets, NANO_PER_USD};

/// Rate of a tenant without a rule, in requests per second.
const DEFAULT_RATE: f64 = 1000.0;
/// Rate of all tenants together, in requests per second.
const MAX_RATE: f64 = 10_000.0;
/// Smallest rate that can be configured: one request in about a day.
const RATE_MIN: f64 = 1e-5;
/// How long a silent Envoy worker is shown, by default, in seconds.
const CLEANUP_S: u64 = 300;
/// Most budgets.
const BUDGETS_MAX: usize = 10_000;
/// Least and most that a tenant can be given for a month, in US dollars.
const USD_MIN: f64 = 0.01;
const USD_MAX: f64 = 1e9;
/// Most rules that can be written; two more are made of `max_rate` and `default_rate`.
const WRITTEN_MAX: usize = RULES_MAX - 2;

/// The section as it may be written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Document {
    default_rate: Option<f64>,
    max_rate: Option<f64>,
    burst: Option<u64>,
    rules: Option<Vec<Option<RuleDocument>>>,
    budgets: Option<Vec<Option<BudgetDocument>>>,
    weights: Option<BTreeMap<String, Option<u32>>>,
    cleanup_interval: Option<Span>,
    fleet: Option<FleetDocument>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FleetDocument {
    on_redis_loss: Option<OnLoss>,
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
    /// Further limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rules: Option<Vec<Option<RuleDocument>>>,
    /// Money of tenants.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budgets: Option<Vec<Option<BudgetDocument>>>,
    /// Of tenants that share a limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<BTreeMap<String, Option<u32>>>,
}

/// What a tenant may spend, as it may be written.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BudgetDocument {
    tenant: Option<String>,
    usd_per_month: Option<f64>,
}

/// A rule, as it may be written: which requests, and what they are limited to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RuleDocument {
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    /// Short for `requests_per_second`.
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    requests_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    burst: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens_per_minute: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens_per_day: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    concurrency: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<Scope>,
}

/// The validated section.
#[derive(Debug, Clone)]
pub struct Limiter {
    /// What the file says, kept so that changes at run time can be laid on it.
    pub rates: Rates,
    /// The same, ready for a snapshot.
    pub limits: Limits,
    /// What tenants may spend.
    pub budgets: Budgets,
    /// How long an Envoy worker is shown as alive after its last report.
    pub cleanup_interval: Duration,
}

impl Document {
    /// Checks the section.
    pub fn validate(self, path: &str, trusted_proxies: &[Network], problems: &mut Problems) -> Limiter {
        let Self { default_rate, max_rate, burst, rules, budgets, weights, cleanup_interval, fleet } = self;
        let rates = Rates { default_rate, max_rate, burst, rules, budgets, weights };
        let seconds = cleanup_interval.map_or(CLEANUP_S, |span| span.0.as_secs());
        let seconds = problems.within(
            &format!("{path}.cleanup_interval"),
            seconds,
            10..=86_400,
            " seconds (10s to 24h)",
        );
        let rules = rates.clone().validate(&format!("{path}."), problems);
        let on_redis_loss = fleet.and_then(|fleet| fleet.on_redis_loss).unwrap_or_default();
        let weights = rates.weights(&format!("{path}."), problems);
        let limits = Limits { trusted_proxies: trusted_proxies.to_vec(), rules, on_redis_loss, weights };
        let budgets = rates.budgets(&format!("{path}."), problems);
        Limiter { rates, limits, budgets, cleanup_interval: Duration::from_secs(seconds) }
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
            budgets: self.budgets.or(base.budgets),
            weights: self.weights.or(base.weights),
        }
    }

    /// The rules these rates mean; `prefix` is put before each field in a problem's path.
    pub fn validate(self, prefix: &str, problems: &mut Problems) -> Vec<Rule> {
        let Self { default_rate, max_rate, burst, rules, budgets: _, weights: _ } = self;
        let max_path = format!("{prefix}max_rate");
        let max = problems.within(&max_path, max_rate.unwrap_or(MAX_RATE), RATE_MIN..=RATE_MAX, PER_SECOND);
        let default_path = format!("{prefix}default_rate");
        let rate = default_rate.unwrap_or(DEFAULT_RATE.min(max));
        let rate = problems.within(&default_path, rate, RATE_MIN..=RATE_MAX, PER_SECOND);
        if rate > max {
            problems.add(default_path, format!("is {rate}; must be at most max_rate, which is {max}"));
        }
        let burst = burst_of(&format!("{prefix}burst"), burst, rate, problems);
        let global = BucketPolicy { rate: max, burst: one_second(max).max(burst) };
        let base = Limits::of_requests(global, BucketPolicy { rate, burst }).rules;
        merged(base, written(&format!("{prefix}rules"), rules.unwrap_or_default(), max, problems))
    }
}

impl Rates {
    /// The weights these rates mean; `prefix` is put before each field in a problem's path.
    pub fn weights(&self, prefix: &str, problems: &mut Problems) -> BTreeMap<String, u32> {
        let Some(written) = &self.weights else { return BTreeMap::new() };
        if written.len() > WEIGHTS_MAX {
            problems.add(format!("{prefix}weights"), format!("has more than {WEIGHTS_MAX} entries"));
        }
        let mut weights = BTreeMap::new();
        for (tenant, weight) in written.iter().take(WEIGHTS_MAX) {
            let path = format!("{prefix}weights.{tenant}");
            if !Selector::is_value(Attribute::Tenant, tenant) {
                problems.add(&path, misfit(Attribute::Tenant, tenant));
            }
            let weight = problems.required(&path, *weight, &format!("`{tenant}: 2`"));
            let weight = weight.map(|weight| problems.within(&path, weight, 1..=WEIGHT_MAX, ""));
            weights.extend(weight.map(|weight| (tenant.clone(), weight)));
        }
        weights
    }

    /// The budgets these rates mean; `prefix` is put before each field in a problem's path.
    pub fn budgets(&self, prefix: &str, problems: &mut Problems) -> Budgets {
        let mut budgets = Budgets::default();
        let list = self.budgets.as_deref().unwrap_or_default();
        if list.len() > BUDGETS_MAX {
            problems.add(format!("{prefix}budgets"), format!("has more than {BUDGETS_MAX} entries"));
        }
        for (index, budget) in list.iter().take(BUDGETS_MAX).enumerate() {
            let path = format!("{prefix}budgets[{index}]");
            let BudgetDocument { tenant, usd_per_month } = budget.clone().unwrap_or_default();
            let tenant = problems.required(&format!("{path}.tenant"), tenant, "`tenant: acme`");
            let field = format!("{path}.usd_per_month");
            let usd = problems.required(&field, usd_per_month, "`usd_per_month: 50`");
            let (Some(tenant), Some(usd)) = (tenant, usd) else { continue };
            let nano = nano_usd(problems.within(&field, usd, USD_MIN..=USD_MAX, " US dollars"));
            if !Selector::is_value(Attribute::Tenant, &tenant) {
                problems.add(format!("{path}.tenant"), misfit(Attribute::Tenant, &tenant));
            }
            let old = match tenant.as_str() {
                EACH => budgets.each.replace(nano),
                _ => budgets.tenants.insert(tenant, nano),
            };
            if old.is_some() {
                problems.add(format!("{path}.tenant"), "has a budget already; one budget a tenant");
            }
        }
        budgets
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "within USD_MIN and USD_MAX, or noted as a problem"
)]
fn nano_usd(usd: f64) -> u64 {
    (usd.clamp(USD_MIN, USD_MAX) * NANO_PER_USD).round() as u64
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

/// Rules by what they are about, and whether the fleet shares them.
type Written = BTreeMap<(Selector, bool), Rule>;

/// What `max_rate` and `default_rate` mean, with what is written for the same selectors laid on.
fn merged(base: Vec<Rule>, mut written: Written) -> Vec<Rule> {
    let mut rules = Vec::new();
    for base in base {
        let of = |is_fleet| (base.select.clone(), is_fleet);
        let limits_requests = |rule: &Rule| rule.requests.is_some();
        let is_replaced = [false, true].iter().any(|f| written.get(&of(*f)).is_some_and(limits_requests));
        match written.remove(&of(false)) {
            Some(rule) if is_replaced => rules.push(rule),
            Some(rule) => rules.push(Rule { requests: base.requests, ..rule }),
            None if is_replaced => {}
            None => rules.push(base),
        }
    }
    rules.extend(written.into_values());
    rules
}

fn written(path: &str, rules: Vec<Option<RuleDocument>>, max: f64, problems: &mut Problems) -> Written {
    if rules.len() > WRITTEN_MAX {
        problems.add(path, format!("has {} rules; at most {WRITTEN_MAX} are allowed", rules.len()));
    }
    let mut found = Written::new();
    for (index, rule) in rules.into_iter().take(WRITTEN_MAX).enumerate() {
        let path = format!("{path}[{index}]");
        let Some(rule) = rule else {
            problems.add(path, "is empty; fill it in or remove it");
            continue;
        };
        let rate_field = rule.rate_field();
        let rule = rule.validate(&path, max, problems);
        let is_fleet = rule.scope == Scope::Fleet;
        let other = found.get(&(rule.select.clone(), !is_fleet));
        let is_double = |kind: &str| other.is_some_and(|other| other.kinds().any(|k| k == kind));
        if let Some(kind) = rule.kinds().find(|kind| is_double(kind)) {
            let field = if kind == "requests" { rate_field } else { kind };
            let what =
                "is limited by another rule with the same attributes too, of another scope; choose one";
            problems.add(format!("{path}.{field}"), what);
        }
        if let Some(old) = found.insert((rule.select.clone(), is_fleet), rule) {
            let names = Attribute::ALL.into_iter().filter(|a| old.select.get(*a).is_some());
            let field = names.map(Attribute::label).next().unwrap_or("rate");
            let what = "is chosen by another rule too; write one rule with all limits";
            problems.add(format!("{path}.{field}"), what);
        }
    }
    found
}

impl RuleDocument {
    /// The name under which it has a rate.
    const fn rate_field(&self) -> &'static str {
        if self.requests_per_second.is_some() { "requests_per_second" } else { "rate" }
    }

    fn validate(self, path: &str, max: f64, problems: &mut Problems) -> Rule {
        let rate_path = format!("{path}.{}", self.rate_field());
        let Self {
            tenant,
            key,
            ip,
            route,
            model,
            rate,
            requests_per_second,
            burst,
            tokens_per_minute,
            tokens_per_day,
            concurrency,
            scope,
        } = self;
        let select = Selector {
            tenant,
            key,
            ip: ip.map(canonical_ip),
            route: route.map(|route| route_label(&route)),
            model,
        };
        for attribute in Attribute::ALL {
            if let Some(value) = select.get(attribute).filter(|v| !Selector::is_value(attribute, v)) {
                problems.add(format!("{path}.{}", attribute.label()), misfit(attribute, value));
            }
        }
        let mut count = |field: &str, value: Option<u64>, most: u64, unit: &str| {
            value.map(|value| problems.within(&format!("{path}.{field}"), value, 1..=most, unit))
        };
        let minute = count("tokens_per_minute", tokens_per_minute, TOKENS_PER_MINUTE_MAX, " tokens");
        let day = count("tokens_per_day", tokens_per_day, TOKENS_PER_DAY_MAX, " tokens");
        let most = u64::from(CONCURRENCY_MAX);
        let at_a_time = count("concurrency", concurrency.map(u64::from), most, " requests at a time");
        let limits_else = minute.is_some() || day.is_some() || at_a_time.is_some();
        if rate.is_some() && requests_per_second.is_some() {
            problems.add(format!("{path}.rate"), "is short for requests_per_second; write one of them");
        }
        let rate = requests_per_second.or(rate);
        let requests = if limits_else && rate.is_none() && burst.is_none() {
            None
        } else {
            bucket(rate_path, &format!("{path}.burst"), (rate, burst), max, problems)
        };
        Rule {
            select,
            requests,
            tokens_per_minute: minute,
            tokens_per_day: day,
            concurrency: at_a_time.and_then(|n| u32::try_from(n).ok()),
            scope: scope.unwrap_or_default(),
        }
    }
}

fn bucket(
    rate_path: String,
    burst_path: &str,
    (rate, burst): (Option<f64>, Option<u64>),
    max: f64,
    problems: &mut Problems,
) -> Option<BucketPolicy> {
    let example = "`rate: 50`, or limit tokens_per_minute, tokens_per_day or concurrency";
    let rate = problems.required(&rate_path, rate, example)?;
    let rate = problems.within(&rate_path, rate, RATE_MIN..=RATE_MAX, PER_SECOND);
    if rate > max {
        problems.add(rate_path, format!("is {rate}; must be at most max_rate, which is {max}"));
    }
    let burst = burst_of(burst_path, burst, rate, problems);
    Some(BucketPolicy { rate, burst })
}

/// One text for each address: limits know IPv6 by networks of 64 bits.
fn canonical_ip(text: String) -> String {
    text.parse().map_or(text, |address: ClientAddress| address.to_string())
}

/// An operation may be written as its path.
#[must_use]
pub fn route_label(route: &str) -> String {
    match classify(route) {
        RouteClass::Llm(endpoint) if endpoint != Endpoint::Models || route.ends_with("/models") => {
            endpoint.label().to_owned()
        }
        _ => route.to_owned(),
    }
}

fn misfit(attribute: Attribute, value: &str) -> String {
    let right = match attribute {
        Attribute::Tenant | Attribute::Key => "1 to 64 of A-Z a-z 0-9 . _ -",
        Attribute::Ip => "an address such as 192.0.2.7 or 2001:db8:1:2::/64",
        Attribute::Route => {
            "chat_completions, completions, embeddings, responses, messages, models (or the path of one), or the \
             name of an upstream"
        }
        Attribute::Model => "the name of a model, 1 to 256 bytes",
    };
    let each = format!("`{EACH}` for each");
    format!("is `{value}`; must be {right}, or {each}")
}
