//! What is counted of the cache in Redis. Labels are words of the code.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByResult {
    result: &'static str,
}

/// Counters of the cache in Redis.
#[derive(Debug, Default)]
pub struct SharedMetrics {
    lookups: Family<ByResult, Counter>,
    searches: Family<ByResult, Counter>,
    writes: Family<ByResult, Counter>,
    loads: Family<ByResult, Counter>,
    /// Answers and the like that wait to be written.
    pub queue: Gauge<u64, AtomicU64>,
}

impl SharedMetrics {
    /// Makes them known to `registry`.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let name = |what: &str| format!("gateway_redis_cache_{what}");
        registry.register(name("lookups"), "Requests looked up in Redis", metrics.lookups.clone());
        registry.register(name("searches"), "Prompts compared in Redis", metrics.searches.clone());
        registry.register(name("writes"), "Answers for Redis by what became of them", metrics.writes.clone());
        registry.register(
            name("loads"),
            "Answers of other gateways, or of before the start, by what became of them here",
            metrics.loads.clone(),
        );
        registry.register(name("queue"), "Answers and messages that wait for Redis", metrics.queue.clone());
        metrics
    }

    /// Counts a look-up.
    pub fn looked_up(&self, result: &'static str) {
        self.lookups.get_or_create(&ByResult { result }).inc();
    }

    /// Counts a search in the index that lies in Redis.
    pub fn searched(&self, result: &'static str) {
        self.searches.get_or_create(&ByResult { result }).inc();
    }

    /// Counts answers that were to be written.
    pub fn wrote(&self, result: &'static str, count: usize) {
        self.writes.get_or_create(&ByResult { result }).inc_by(count as u64);
    }

    /// Counts an answer that was to be loaded.
    pub fn loaded(&self, result: &'static str) {
        self.loads.get_or_create(&ByResult { result }).inc();
    }
}
