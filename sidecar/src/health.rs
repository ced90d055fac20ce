//! Liveness, readiness, and the state of the parts. Public, so without addresses and secrets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::{MethodRouter, get};
use http::StatusCode;
use serde::Serialize;
use tidegate_core::reply::{Code, Reply};
use tidegate_core::route::Protocol;

use crate::embedding::EmbedError;
use crate::gateway::Gateway;
use crate::leases;
use crate::llm::report;
use crate::redis::State as RedisState;
use crate::refusal::{json, refuse};

/// What "not ready yet" asks the caller to wait, in milliseconds.
const RETRY_MS: u64 = 1000;

/// The routes.
pub fn router() -> Router<Arc<Gateway>> {
    let live =
        || -> MethodRouter<Arc<Gateway>> { get(async || json(StatusCode::OK, &Status { status: "ok" })) };
    let ready = || get(ready);
    Router::new()
        .route("/health", live())
        .route("/health/live", live())
        .route("/livez", live())
        .route("/ready", ready())
        .route("/readyz", ready())
        .route("/health/ready", ready())
        .route("/health/detailed", get(detailed))
}

#[derive(Debug, Serialize)]
struct Status {
    status: &'static str,
}

async fn ready(State(gateway): State<Arc<Gateway>>) -> Response {
    let reasons = reasons(&gateway);
    if reasons.is_empty() {
        return json(StatusCode::OK, &Status { status: "ready" });
    }
    let code = if gateway.is_draining() { Code::ShuttingDown } else { Code::GatewayStarting };
    let reply = Reply::new(code, format!("not ready: {}", reasons.join("; "))).retry_after_ms(RETRY_MS);
    refuse(&reply, Protocol::OpenAi, "")
}

/// Why no traffic should come yet, or any more.
fn reasons(gateway: &Gateway) -> Vec<String> {
    let mut reasons = Vec::new();
    if gateway.is_draining() {
        reasons.push("the sidecar is shutting down".to_owned());
    }
    if !gateway.providers.ready() {
        reasons.extend(gateway.providers.not_ready());
    }
    // A model that is not there is not waited for: requests are answered without.
    if gateway.embedder.model() == Err(EmbedError::Loading) {
        reasons.push(EmbedError::Loading.to_string());
    }
    reasons
}

#[derive(Debug, Serialize)]
struct Detailed {
    status: &'static str,
    version: &'static str,
    uptime_s: u64,
    components: Components,
}

#[derive(Debug, Serialize)]
struct Components {
    policy: Policy,
    providers: Providers,
    filters: Filters,
    embedding: Embedding,
    store: Store,
    bus: Bus,
    #[serde(skip_serializing_if = "Option::is_none")]
    redis: Option<Redis>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shared_limits: Option<leases::Status>,
}

/// Without etcd, what is shared can be read but not changed, so that never makes the gateway
/// unavailable.
#[derive(Debug, Serialize)]
struct Store {
    kind: &'static str,
    state: &'static str,
}

/// While Kafka is away, policies stay as they are and batches wait.
#[derive(Debug, Serialize)]
struct Bus {
    kind: &'static str,
    state: &'static str,
}

impl Bus {
    const fn new(is_up: Option<bool>) -> Self {
        match is_up {
            None => Self { kind: "local", state: "up" },
            Some(true) => Self { kind: "kafka", state: "up" },
            Some(false) => Self { kind: "kafka", state: "down" },
        }
    }
}

impl Store {
    const fn new(is_shared_up: Option<bool>) -> Self {
        match is_shared_up {
            None => Self { kind: "embedded", state: "up" },
            Some(true) => Self { kind: "etcd", state: "up" },
            Some(false) => Self { kind: "etcd", state: "down" },
        }
    }
}

/// Only where it is configured. Without it the gateway goes on, so it never makes it unavailable.
#[derive(Debug, Serialize)]
struct Redis {
    state: RedisState,
}

#[derive(Debug, Serialize)]
struct Embedding {
    model: String,
    state: &'static str,
}

#[derive(Debug, Serialize)]
struct Policy {
    revision: String,
}

#[derive(Debug, Serialize)]
struct Providers {
    ready: bool,
    waiting_for: Vec<String>,
    /// By provider: healthy, recovering, unhealthy, disabled, unknown.
    status: BTreeMap<String, &'static str>,
}

#[derive(Debug, Serialize)]
struct Filters {
    reporting: usize,
    up_to_date: usize,
}

/// The state of every part.
pub async fn detailed(State(gateway): State<Arc<Gateway>>) -> Response {
    let revision = gateway.control.publisher().latest().revision.clone();
    let vms = gateway.filters.vms(Instant::now());
    let is_ready = reasons(&gateway).is_empty();
    let detailed = Detailed {
        status: if is_ready { "ready" } else { "unavailable" },
        version: env!("CARGO_PKG_VERSION"),
        uptime_s: gateway.started.elapsed().as_secs(),
        components: Components {
            providers: Providers {
                ready: gateway.providers.ready(),
                waiting_for: gateway.providers.not_ready(),
                status: report::statuses(&gateway.providers.table()),
            },
            filters: Filters {
                reporting: vms.len(),
                up_to_date: vms.iter().filter(|vm| vm.revision == revision).count(),
            },
            policy: Policy { revision },
            bus: Bus::new(gateway.bus.is_up()),
            store: Store::new(gateway.control.store().is_shared_up()),
            redis: gateway.redis.as_ref().map(|redis| Redis { state: redis.state() }),
            shared_limits: gateway.leases.status(),
            embedding: Embedding {
                model: gateway.embedder.name().to_owned(),
                state: gateway.embedder.model().map_or_else(|error| error.label(), |_| "ready"),
            },
        },
    };
    json(if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &detailed)
}
