//! How much callers may call.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Invalid, refuse};
use crate::address::{ClientAddress, Network};
use crate::limit::Attribute;
use crate::limit::fair::WEIGHT_MAX;
use crate::limit::lease::OnLoss;
use crate::wire::is_name;

/// Most rules in one document.
pub const RULES_MAX: usize = 10_000;
/// Most tenants with a weight of their own.
pub const WEIGHTS_MAX: usize = 10_000;
/// Most networks of trusted proxies.
pub const TRUSTED_PROXIES_MAX: usize = 256;
/// Largest rate that can be configured, in requests per second.
pub const RATE_MAX: f64 = 1e7;
/// Largest burst that can be configured, in requests.
pub const BURST_MAX: u64 = 1_000_000_000;
/// Most tokens per minute that can be configured.
pub const TOKENS_PER_MINUTE_MAX: u64 = 1_000_000_000;
/// Most tokens per day that can be configured.
pub const TOKENS_PER_DAY_MAX: u64 = 1_000_000_000_000;
/// Most requests at a time that can be configured.
pub const CONCURRENCY_MAX: u32 = 1_000_000;
/// Longest name of a model, in bytes.
pub const MODEL_BYTES_MAX: usize = 256;
/// In a [`Selector`]: each value by itself.
pub const EACH: &str = "*";

/// Rate and depth of one token bucket.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BucketPolicy {
    /// Requests per second, above 0, at most [`RATE_MAX`].
    pub rate: f64,
    /// Requests that may come at once, 1 to [`BURST_MAX`].
    pub burst: u64,
}

/// Which requests share a bucket. An attribute that is absent does not matter; one that is
/// [`EACH`] gives each of its values a bucket; any other text is the one value meant.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Selector {
    /// Tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Id of the API key, or of the user of a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Client's address, as [`ClientAddress`] is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// Label of an LLM operation, or name of one of the operator's upstreams.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// Model asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

impl Selector {
    /// What is said of an attribute.
    #[must_use]
    pub fn get(&self, attribute: Attribute) -> Option<&str> {
        match attribute {
            Attribute::Tenant => self.tenant.as_deref(),
            Attribute::Key => self.key.as_deref(),
            Attribute::Ip => self.ip.as_deref(),
            Attribute::Route => self.route.as_deref(),
            Attribute::Model => self.model.as_deref(),
        }
    }

    /// Whether `value` can stand for `attribute`.
    #[must_use]
    pub fn is_value(attribute: Attribute, value: &str) -> bool {
        match attribute {
            _ if value == EACH => true,
            Attribute::Tenant | Attribute::Key | Attribute::Route => is_name(value),
            Attribute::Ip => value.parse().is_ok_and(|ip: ClientAddress| ip.to_string() == value),
            Attribute::Model => {
                (1..=MODEL_BYTES_MAX).contains(&value.len()) && !value.chars().any(char::is_control)
            }
        }
    }
}

/// Who shares a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// The workers of one gateway.
    #[default]
    Gateway,
    /// All gateways of the fleet.
    Fleet,
}

/// Limits of the requests that a selector chooses; at least one of them is there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Which requests.
    pub select: Selector,
    /// Requests per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<BucketPolicy>,
    /// LLM tokens per minute, of prompts and answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<u64>,
    /// LLM tokens per day, of prompts and answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_day: Option<u64>,
    /// Requests at a time; of the fleet's, each gateway admits an equal part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Who shares the limits.
    #[serde(default)]
    pub scope: Scope,
}

/// How much callers may call.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Proxies before Envoy whose `x-forwarded-for` is believed.
    #[serde(default)]
    pub trusted_proxies: Vec<Network>,
    /// At most [`RULES_MAX`], of which a request must pass all that choose it. Where two with the
    /// same attributes do, the one with fewer [`EACH`] counts, for each kind of limit. Two may
    /// have one selector, if they limit different things.
    pub rules: Vec<Rule>,
    /// What a gateway does with limits of the fleet while it cannot reach them.
    #[serde(default)]
    pub on_redis_loss: OnLoss,
    /// By tenant, or [`EACH`] for all that are not named: its weight where several share a bucket,
    /// 1 to [`WEIGHT_MAX`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub weights: BTreeMap<String, u32>,
}

impl Limits {
    /// Limits on requests per second: of all callers together, and of each tenant.
    #[must_use]
    pub fn of_requests(global: BucketPolicy, each_tenant: BucketPolicy) -> Self {
        let tenant = Selector { tenant: Some(EACH.to_owned()), ..Selector::default() };
        let rules =
            vec![Rule::of_requests(Selector::default(), global), Rule::of_requests(tenant, each_tenant)];
        Self { rules, ..Self::default() }
    }

    /// A tenant's weight; 1 unless something is said of it.
    #[must_use]
    pub fn weight(&self, tenant: &str) -> u32 {
        let said = self.weights.get(tenant).or_else(|| self.weights.get(EACH));
        said.copied().unwrap_or(1)
    }

    pub(super) fn validate(&self) -> Result<(), Invalid> {
        if self.weights.len() > WEIGHTS_MAX {
            refuse("limits.weights", format!("has more than {WEIGHTS_MAX} entries"))?;
        }
        for (tenant, weight) in &self.weights {
            let path = format!("limits.weights.{tenant}");
            if !Selector::is_value(Attribute::Tenant, tenant) {
                refuse(&path, "cannot be a tenant")?;
            }
            if !(1..=WEIGHT_MAX).contains(weight) {
                refuse(&path, format!("is {weight}, must be 1 to {WEIGHT_MAX}"))?;
            }
        }
        if self.trusted_proxies.len() > TRUSTED_PROXIES_MAX {
            refuse("limits.trusted_proxies", format!("has more than {TRUSTED_PROXIES_MAX} entries"))?;
        }
        if self.rules.len() > RULES_MAX {
            refuse("limits.rules", format!("has more than {RULES_MAX} entries"))?;
        }
        let mut selectors = BTreeSet::new();
        for (index, rule) in self.rules.iter().enumerate() {
            let path = format!("limits.rules[{index}]");
            rule.validate(&path)?;
            for kind in rule.kinds() {
                if !selectors.insert((&rule.select, kind)) {
                    refuse(&format!("{path}.{kind}"), "is limited by another rule with this selector too")?;
                }
            }
        }
        Ok(())
    }
}

impl Rule {
    /// A rule on requests per second alone.
    #[must_use]
    pub const fn of_requests(select: Selector, requests: BucketPolicy) -> Self {
        Self {
            select,
            requests: Some(requests),
            tokens_per_minute: None,
            tokens_per_day: None,
            concurrency: None,
            scope: Scope::Gateway,
        }
    }

    /// What it limits.
    pub fn kinds(&self) -> impl Iterator<Item = &'static str> + use<> {
        let kinds = [
            ("requests", self.requests.is_some()),
            ("tokens_per_minute", self.tokens_per_minute.is_some()),
            ("tokens_per_day", self.tokens_per_day.is_some()),
            ("concurrency", self.concurrency.is_some()),
        ];
        kinds.into_iter().filter_map(|(kind, is_limited)| is_limited.then_some(kind))
    }

    fn validate(&self, path: &str) -> Result<(), Invalid> {
        for attribute in Attribute::ALL {
            if self.select.get(attribute).is_some_and(|value| !Selector::is_value(attribute, value)) {
                refuse(
                    &format!("{path}.select.{}", attribute.label()),
                    "cannot be a value of this attribute",
                )?;
            }
        }
        let Self { select: _, requests, tokens_per_minute, tokens_per_day, concurrency, scope: _ } = self;
        if let Some(bucket) = requests {
            bucket.validate(&format!("{path}.requests"))?;
        }
        let counts = [
            ("tokens_per_minute", *tokens_per_minute, TOKENS_PER_MINUTE_MAX),
            ("tokens_per_day", *tokens_per_day, TOKENS_PER_DAY_MAX),
            ("concurrency", concurrency.map(u64::from), u64::from(CONCURRENCY_MAX)),
        ];
        for (field, value, most) in counts {
            if value.is_some_and(|value| !(1..=most).contains(&value)) {
                refuse(&format!("{path}.{field}"), format!("must be 1 to {most}"))?;
            }
        }
        if requests.is_none() && counts.iter().all(|(_, value, _)| value.is_none()) {
            refuse(path, "limits nothing")?;
        }
        Ok(())
    }
}

impl BucketPolicy {
    /// Checks rate and burst; `field` names the bucket in the error.
    ///
    /// # Errors
    /// The field out of range.
    pub fn validate(&self, field: &str) -> Result<(), Invalid> {
        if !(self.rate > 0.0 && self.rate <= RATE_MAX) {
            refuse(
                &format!("{field}.rate"),
                format!("is {}, must be above 0 and at most {RATE_MAX} requests per second", self.rate),
            )?;
        }
        if !(1..=BURST_MAX).contains(&self.burst) {
            refuse(&format!("{field}.burst"), format!("is {}, must be 1 to {BURST_MAX}", self.burst))?;
        }
        Ok(())
    }
}
