//! `/v1/admin/status`.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;

use crate::gateway::Gateway;
use crate::metrics::VmStatus;
use crate::refusal::json;

#[derive(Debug, Serialize)]
struct Status {
    version: &'static str,
    revision: String,
    auth_generation: u64,
    uptime_s: u64,
    draining: bool,
    providers_ready: bool,
    filters: Vec<VmStatus>,
}

/// What runs, since when, and which policy every filter VM applies.
pub async fn status(State(gateway): State<Arc<Gateway>>) -> Response {
    let status = Status {
        version: env!("CARGO_PKG_VERSION"),
        revision: gateway.control.publisher().latest().revision.clone(),
        auth_generation: gateway.control.keys().generation(),
        uptime_s: gateway.started.elapsed().as_secs(),
        draining: gateway.is_draining(),
        providers_ready: gateway.providers.ready(),
        filters: gateway.filters.vms(Instant::now()),
    };
    json(StatusCode::OK, &status)
}
