//! What is known of Redis, for the health page and the metrics.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use serde::Serialize;

/// An answer to a ping that takes longer is called slow.
const SLOW: Duration = Duration::from_millis(100);

/// Whether Redis is of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Not connected yet, since the start.
    Connecting,
    /// It answers.
    Up,
    /// It answers, but takes more than 100 ms.
    Slow,
    /// It does not answer; calls fail at once.
    Down,
}

impl State {
    pub(super) fn of_latency(latency: Duration) -> Self {
        if latency > SLOW { Self::Slow } else { Self::Up }
    }

    /// Whether calls are tried.
    #[must_use]
    pub const fn is_usable(self) -> bool {
        matches!(self, Self::Up | Self::Slow)
    }
}

/// What became of a call.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ByResult {
    pub result: &'static str,
}

/// Numbers on the metrics page.
#[derive(Debug, Clone, Default)]
pub(super) struct Metrics {
    up: Gauge,
    ping: Gauge<f64, AtomicU64>,
    calls: Family<ByResult, Counter>,
}

impl Metrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("gateway_redis_up", "1 while Redis answers", metrics.up.clone());
        registry.register_with_unit(
            "gateway_redis_ping",
            "Round trip of the last ping that Redis answered",
            Unit::Seconds,
            metrics.ping.clone(),
        );
        registry.register("gateway_redis_calls", "Calls of Redis", metrics.calls.clone());
        metrics
    }

    pub(super) fn state(&self, state: State) {
        self.up.set(i64::from(state.is_usable()));
    }

    pub(super) fn pinged(&self, latency: Duration) {
        self.ping.set(latency.as_secs_f64());
    }

    pub(super) fn called(&self, result: &'static str) {
        self.calls.get_or_create(&ByResult { result }).inc();
    }
}
