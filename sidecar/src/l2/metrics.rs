//! What the semantic cache counts. Labels are words of the code, never of a request.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tidegate_core::cache::semantic::Audit;

use super::Layer;

/// Upper bounds in seconds.
const SECONDS: [f64; 10] = [0.0005, 0.001, 0.002, 0.004, 0.008, 0.015, 0.03, 0.06, 0.25, 1.0];
/// Upper bounds of cosines.
const COSINES: [f64; 10] = [0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.96, 0.98, 0.995];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByResult {
    result: &'static str,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByBound {
    bound: &'static str,
}

/// Look-ups since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LookedUp {
    /// Answered from Redis.
    pub redis_hits: u64,
    /// Answered by meaning.
    pub semantic_hits: u64,
    /// Not answered.
    pub misses: u64,
}

/// The semantic cache's counters.
#[derive(Debug)]
pub struct L2Metrics {
    lookups: Family<ByResult, Counter>,
    stores: Family<ByResult, Counter>,
    audits: Family<ByOutcome, Counter>,
    error: Family<ByBound, Gauge<f64, AtomicU64>>,
    hits: [Counter; 2],
    misses: Counter,
    /// Requests that were given the answer of another one in flight.
    pub coalesced: Counter,
    /// Seconds from the look-up's begin to its verdict.
    pub duration: Histogram,
    /// Cosines of the nearest stored prompt.
    pub similarity: Histogram,
    /// Stored answers.
    pub entries: Gauge<u64, AtomicU64>,
    /// Memory of all of them, in bytes.
    pub bytes: Gauge<u64, AtomicU64>,
}

impl L2Metrics {
    /// Makes them known to `registry`.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            lookups: Family::default(),
            stores: Family::default(),
            audits: Family::default(),
            error: Family::default(),
            hits: Default::default(),
            misses: Counter::default(),
            coalesced: Counter::default(),
            duration: Histogram::new(SECONDS),
            similarity: Histogram::new(COSINES),
            entries: Gauge::default(),
            bytes: Gauge::default(),
        };
        let name = |what: &str| format!("gateway_semantic_cache_{what}");
        registry.register(name("lookups"), "Chats by what the semantic cache did", metrics.lookups.clone());
        registry.register(name("stores"), "Answers by whether they were stored", metrics.stores.clone());
        registry.register(name("audits"), "Hits that were asked for again", metrics.audits.clone());
        registry.register(
            name("audit_error"),
            "Share of wrong answers among audited hits, with the ends of its 95 % interval (Wilson)",
            metrics.error.clone(),
        );
        registry.register(
            name("coalesced"),
            "Requests answered by another one's call to the provider",
            metrics.coalesced.clone(),
        );
        registry.register(
            name("lookup_duration_seconds"),
            "Time of a look-up, embedding included",
            metrics.duration.clone(),
        );
        registry.register(
            name("similarity"),
            "Cosine of the nearest stored prompt of the partition",
            metrics.similarity.clone(),
        );
        registry.register(name("entries"), "Stored answers", metrics.entries.clone());
        registry.register(name("bytes"), "Memory of the stored answers", metrics.bytes.clone());
        metrics
    }

    /// Counts a look-up: `hit`, `miss` or `bypass`, and why.
    pub fn looked_up(&self, result: &'static str, reason: &'static str) {
        self.lookups.get_or_create(&ByResult { result, reason }).inc();
    }

    /// Counts an answer that was served.
    pub fn hit(&self, layer: Layer) {
        let [redis, semantic] = &self.hits;
        match layer {
            Layer::Redis => redis.inc(),
            Layer::Semantic(_) => semantic.inc(),
        };
        self.looked_up("hit", layer.reason());
    }

    /// Counts a look-up that found nothing to serve.
    pub fn missed(&self, reason: &'static str) {
        self.misses.inc();
        self.looked_up("miss", reason);
    }

    /// Look-ups since the start.
    #[must_use]
    pub fn counts(&self) -> LookedUp {
        let [redis, semantic] = &self.hits;
        LookedUp { redis_hits: redis.get(), semantic_hits: semantic.get(), misses: self.misses.get() }
    }

    /// Counts an audit; `total` is what all of them came to.
    pub fn audited(&self, right: bool, total: Audit) {
        let result = if right { "right" } else { "wrong" };
        self.audits.get_or_create(&ByOutcome { result }).inc();
        self.error_is(total);
    }

    /// Shows what audits came to.
    pub fn error_is(&self, total: Audit) {
        let Some(error) = total.error() else { return };
        for (bound, value) in [("observed", error.share), ("low", error.low), ("high", error.high)] {
            self.error.get_or_create(&ByBound { bound }).set(value);
        }
    }

    /// Counts an answer: `stored` or `refused`, and why.
    pub fn stored(&self, result: &'static str, reason: &'static str) {
        self.stores.get_or_create(&ByResult { result, reason }).inc();
    }
}
