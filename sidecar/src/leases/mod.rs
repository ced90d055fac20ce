//! Limits that gateways share, on the sidecar's side: the pools that filters lease from.
//!
//! With Redis they are there, for the whole fleet, changed by one script; without it they are
//! here, for the Envoys of this sidecar. Nothing of a request waits for either.

mod memory;
mod script;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde::Serialize;
use tidegate_core::wire::leases::{ASKS_MAX, LeaseAnswer, LeaseAsk, LeaseRequest};

use self::memory::Pools;
use crate::redis::{CallError, Redis};
use crate::store::{Store, StoreError};

/// How long a gateway counts as one of the fleet after it was last heard.
const GATEWAY_LIFE: Duration = Duration::from_secs(5);

/// Under which the number of gateways is kept, so that one that starts while Redis is away knows
/// its share.
const GATEWAYS: &str = "fleet_gateways";

/// What is wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

#[derive(Debug)]
enum Backend {
    Memory(Mutex<Pools>),
    Redis(Redis),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByDirection {
    direction: &'static str,
}

#[derive(Debug, Default)]
struct Metrics {
    gateways: Gauge,
    alone: Gauge,
    tokens: Family<ByDirection, Counter>,
}

impl Metrics {
    fn register(registry: &mut Registry) -> Self {
        let Self { gateways, alone, tokens } = Self::default();
        registry.register("gateway_fleet_gateways", "Gateways that share limits", gateways.clone());
        registry.register(
            "gateway_fleet_alone",
            "1 while the shared limits cannot be reached",
            alone.clone(),
        );
        registry.register(
            "gateway_fleet_tokens",
            "Tokens leased from the shared limits, and given back",
            tokens.clone(),
        );
        Self { gateways, alone, tokens }
    }

    fn count(&self, direction: &'static str, tokens: u64) {
        self.tokens.get_or_create(&ByDirection { direction }).inc_by(tokens);
    }
}

/// The state on the health page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Status {
    /// `leased` while the pools are reached, else `alone`.
    pub state: &'static str,
    /// Gateways of the fleet, as last known.
    pub gateways: u32,
}

/// The pools.
#[derive(Debug)]
pub struct Leases {
    backend: Backend,
    gateways: AtomicU32,
    is_alone: AtomicBool,
    store: Arc<Store>,
    metrics: Metrics,
}

impl Leases {
    /// Pools in Redis where there is one, else in memory.
    ///
    /// # Errors
    /// The store failed.
    pub fn start(
        redis: Option<Redis>,
        store: Arc<Store>,
        registry: &mut Registry,
    ) -> Result<Self, StoreError> {
        let backend = redis.map_or_else(|| Backend::Memory(Mutex::default()), Backend::Redis);
        let gateways = AtomicU32::new(store.get::<u32>(GATEWAYS)?.unwrap_or(1).max(1));
        let (is_alone, metrics) = (AtomicBool::new(false), Metrics::register(registry));
        Ok(Self { backend, gateways, is_alone, store, metrics })
    }

    /// What the health page says; nothing where nothing is shared with others.
    #[must_use]
    pub fn status(&self) -> Option<Status> {
        let Backend::Redis(redis) = &self.backend else { return None };
        let is_alone = self.is_alone.load(Ordering::Relaxed) || !redis.state().is_usable();
        let state = if is_alone { "alone" } else { "leased" };
        Some(Status { state, gateways: self.gateways.load(Ordering::Relaxed) })
    }

    /// One exchange of a filter. If the pools cannot be reached, the answer says so.
    ///
    /// # Errors
    /// The request is not one.
    pub async fn exchange(&self, request: &LeaseRequest, now_ns: u64) -> Result<LeaseAnswer, Malformed> {
        if !is_well_formed(request) {
            return Err(Malformed);
        }
        let outcome = match &self.backend {
            Backend::Memory(pools) => {
                Ok(pools.lock().unwrap_or_else(std::sync::PoisonError::into_inner).exchange(request, now_ns))
            }
            Backend::Redis(redis) => script::exchange(redis, request).await,
        };
        Ok(self.noted(request, outcome))
    }

    /// Without waiting for the disk. What cannot be kept is only known anew after a restart.
    fn keep(&self, gateways: u32) {
        let (store, is_shared) = (self.store.clone(), matches!(self.backend, Backend::Redis(_)));
        if is_shared {
            tokio::task::spawn_blocking(move || {
                if let Err(error) = store.write(|writer| writer.put(GATEWAYS, &gateways)) {
                    tracing::warn!(%error, "the number of gateways could not be kept");
                }
            });
        }
    }

    fn noted(&self, request: &LeaseRequest, outcome: Result<LeaseAnswer, CallError>) -> LeaseAnswer {
        let is_alone = outcome.is_err();
        if self.is_alone.swap(is_alone, Ordering::Relaxed) != is_alone {
            match &outcome {
                Ok(_) => tracing::info!("shared limits are leased again"),
                Err(error) => tracing::warn!(%error, "shared limits cannot be reached; going on alone"),
            }
        }
        self.metrics.alone.set(i64::from(is_alone));
        let Ok(answer) = outcome else {
            let gateways = self.gateways.load(Ordering::Relaxed);
            return LeaseAnswer { is_leased: false, gateways, grants: Vec::new() };
        };
        if self.gateways.swap(answer.gateways, Ordering::Relaxed) != answer.gateways {
            self.keep(answer.gateways);
        }
        self.metrics.gateways.set(i64::from(answer.gateways));
        self.metrics.count("leased", answer.grants.iter().map(|grant| grant.tokens).sum());
        self.metrics.count("returned", request.asks.iter().map(|ask| ask.back).sum());
        answer
    }
}

/// Numbers that a pool can calculate with; the sender's own checks are stricter.
fn is_well_formed(request: &LeaseRequest) -> bool {
    const MOST: u64 = 1 << 50;
    let fits = |ask: &LeaseAsk| {
        let depth = ask.interval_ns.checked_mul(ask.burst);
        ask.interval_ns > 0
            && ask.burst > 0
            && depth.is_some_and(|depth| depth <= u64::MAX / 4)
            && ask.ask <= MOST
            && ask.back <= MOST
    };
    let mut pools: Vec<u64> = request.asks.iter().map(|ask| ask.pool).collect();
    pools.sort_unstable();
    pools.dedup();
    pools.len() == request.asks.len() && pools.len() <= ASKS_MAX && request.asks.iter().all(fits)
}
