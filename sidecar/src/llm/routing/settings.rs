//! What the operator says about routing, already validated.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_core::policy::BreakerPolicy;
use tidegate_core::routing::{Backoff, FaultKind, Strategy};

/// How requests find their providers.
#[derive(Debug, Clone, PartialEq)]
pub struct RoutingSettings {
    /// How one of several able providers is chosen.
    pub strategy: Strategy,
    /// Without routing, the first provider that has the model answers, and nothing is retried.
    pub enabled: bool,
    /// What stands for a model: tried in this order.
    pub models: BTreeMap<String, Vec<Target>>,
    /// Who is asked when everybody before has failed.
    pub fallbacks: Vec<Fallback>,
    /// Lowest quality that `cost_optimized` takes, 0 to 1.
    pub quality_floor: f64,
    /// Quality of a provider's answers, 0 to 1; 1 for those not listed.
    pub quality: BTreeMap<String, f64>,
    /// When and how often a request is tried again.
    pub retries: Retries,
    /// Whether a second provider is asked when the first one is slow.
    pub hedging: Hedging,
    /// How often idle providers are looked at; `None` for never.
    pub health_check: Option<HealthCheck>,
    /// When a provider that fails is passed by.
    pub outlier: BreakerPolicy,
    /// How long a provider that comes back takes to get its whole share.
    pub slow_start: Duration,
    /// Most requests in flight to one provider before others are preferred.
    pub concurrency_max: u32,
    /// Whether providers set at run time may be at link-local addresses, where clouds keep their
    /// machines' credentials.
    pub allow_link_local: bool,
}

/// A provider, a model, or both; what is left out is the request's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target(pub String);

/// Who is asked next, and after which failures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fallback {
    /// For requests for this model; all if `None`.
    pub model: Option<String>,
    /// In this order.
    pub to: Vec<Target>,
    /// After failures of these kinds.
    pub on: Vec<FaultKind>,
}

/// Limits on trying again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retries {
    /// Most attempts of one request, the first one included.
    pub attempts: u32,
    /// Waits between attempts with the same provider.
    pub backoff: Backoff,
    /// Retries as a share of the requests.
    pub budget: f64,
}

/// A second attempt while the first one still runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hedging {
    /// Whether there is any.
    pub enabled: bool,
    /// Hedges as a share of the requests.
    pub budget: f64,
}

/// Active health checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthCheck {
    /// Pause between two looks.
    pub interval: Duration,
    /// Longest wait for an answer.
    pub timeout: Duration,
}

impl Target {
    /// The provider and the model named; `is_provider` tells which names are providers'.
    /// `azure/gpt-4o` and `azure:gpt-4o` are both of it if there is a provider `azure`, and
    /// otherwise the name of a model.
    pub fn resolve(&self, is_provider: impl Fn(&str) -> bool) -> (Option<&str>, Option<&str>) {
        let text = self.0.as_str();
        for separator in ['/', ':'] {
            if let Some((provider, model)) = text.split_once(separator)
                && !model.is_empty()
                && is_provider(provider)
            {
                return (Some(provider), Some(model));
            }
        }
        if is_provider(text) { (Some(text), None) } else { (None, Some(text)) }
    }
}

impl Default for RoutingSettings {
    /// By weight, three attempts, no hedging, health checks every 30 seconds.
    fn default() -> Self {
        Self {
            strategy: Strategy::WeightedRoundRobin,
            enabled: true,
            models: BTreeMap::new(),
            fallbacks: Vec::new(),
            quality_floor: 0.0,
            quality: BTreeMap::new(),
            retries: Retries { attempts: 3, backoff: Backoff { base_ms: 100, max_ms: 2_000 }, budget: 0.2 },
            hedging: Hedging { enabled: false, budget: 0.05 },
            health_check: Some(HealthCheck {
                interval: Duration::from_secs(30),
                timeout: Duration::from_secs(5),
            }),
            outlier: BreakerPolicy {
                failure_threshold: 5,
                window_ms: 10_000,
                recovery_timeout_ms: 10_000,
                recovery_increment: 0.2,
            },
            slow_start: Duration::from_secs(10),
            concurrency_max: 1_000,
            allow_link_local: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_provider_a_model_or_both() {
        let is_provider = |name: &str| matches!(name, "azure" | "llama3");
        for (text, expected) in [
            ("azure/gpt-4o", (Some("azure"), Some("gpt-4o"))),
            ("azure:gpt-4o", (Some("azure"), Some("gpt-4o"))),
            ("azure/org/model:8b", (Some("azure"), Some("org/model:8b"))),
            ("azure", (Some("azure"), None)),
            ("gpt-4o", (None, Some("gpt-4o"))),
            ("meta/llama:8b", (None, Some("meta/llama:8b"))),
            ("azure/", (None, Some("azure/"))),
        ] {
            assert_eq!(Target(text.to_owned()).resolve(is_provider), expected, "{text}");
        }
    }
}
