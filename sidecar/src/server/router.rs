//! All paths, composed in one place.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use axum::routing::get;
use http::Request;

use crate::config::Config;
use crate::gateway::Gateway;
use crate::llm::{Llm, Services};
use crate::refusal::{empty, not_found};
use crate::{admin, dashboard, demo, health, internal, login, openapi};

/// The LLM API over what `gateway` has.
pub fn llm(gateway: &Gateway, config: &Config) -> Llm {
    let services = Services {
        providers: gateway.providers.clone(),
        embedder: gateway.embedder.clone(),
        cache: gateway.cache.clone(),
        tracer: gateway.tracer.clone(),
        region_headers: config.sampler.region_headers.clone(),
    };
    Llm::new(services, config.server.body_bytes_max)
}

/// Everything on the sidecar's port; `llm` is its greater part.
pub fn router(gateway: Arc<Gateway>, llm: &Llm, config: &Config) -> Router {
    let own = Router::new()
        .merge(internal::router())
        .merge(health::router())
        .merge(login::router())
        .merge(admin::router(&config.metrics))
        .merge(openapi::router())
        .merge(dashboard::router())
        .with_state(gateway.clone());
    let own = if config.server.demo { own.merge(demo::router()) } else { own };
    own.merge(llm.router())
        // Bare statuses, which the entry writes as errors in the caller's protocol.
        .fallback(async || empty(http::StatusCode::NOT_FOUND))
}

/// The metrics page alone, for a listener of its own.
pub fn metrics_router(gateway: Arc<Gateway>, path: &str) -> Router {
    Router::new()
        .route(path, get(admin::metrics_page))
        .fallback(async |request: Request<Body>| -> Response {
            not_found(tidegate_core::route::classify(request.uri().path()).protocol(), "")
        })
        .with_state(gateway)
}
