//! What routing did. Labels are the operator's provider names and fixed sets.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tidegate_core::routing::FaultKind;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByFault {
    provider: Box<str>,
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByWay {
    to: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByResult {
    result: &'static str,
}

/// The counters.
#[derive(Debug, Default)]
pub struct RoutingMetrics {
    faults: Family<ByFault, Counter>,
    retries: Family<ByWay, Counter>,
    hedges: Family<ByResult, Counter>,
    /// Retries that were not made because the budget was spent.
    pub budget_spent: Counter,
}

impl RoutingMetrics {
    /// Makes the counters known to `registry`.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let (faults, retries, hedges) = (&metrics.faults, &metrics.retries, &metrics.hedges);
        registry.register("gateway_provider_faults", "Failed attempts, by their kind", faults.clone());
        registry.register(
            "gateway_retries",
            "Attempts after a failed one, by where they went",
            retries.clone(),
        );
        registry.register("gateway_hedges", "Second attempts beside a slow one, by who won", hedges.clone());
        let spent = "Retries that were not made because the budget was spent";
        registry.register("gateway_retry_budget_spent", spent, metrics.budget_spent.clone());
        metrics
    }

    /// An attempt failed.
    pub fn fault(&self, provider: &str, kind: FaultKind) {
        self.faults.get_or_create(&ByFault { provider: provider.into(), kind: kind.as_str() }).inc();
    }

    /// Another attempt is made, with the same provider or another one.
    pub fn retry(&self, same: bool) {
        self.retries.get_or_create(&ByWay { to: if same { "same" } else { "other" } }).inc();
    }

    /// A hedge was made, and won or lost.
    pub fn hedge(&self, won: bool) {
        self.hedges.get_or_create(&ByResult { result: if won { "won" } else { "lost" } }).inc();
    }
}
