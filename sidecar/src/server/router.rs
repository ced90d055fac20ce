//! All paths, composed in one place.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use axum::routing::get;
use http::Request;

use crate::config::Config;
use crate::gateway::Gateway;
use crate::refusal::{empty, not_found};
use crate::{admin, dashboard, demo, health, internal, llm, login, openapi};

/// Everything on the sidecar's port.
pub fn router(gateway: Arc<Gateway>, config: &Config) -> Router {
    let own = Router::new()
        .merge(internal::router())
        .merge(health::router())
        .merge(login::router())
        .merge(admin::router(&config.metrics))
        .merge(openapi::router())
        .merge(dashboard::router())
        .with_state(gateway.clone());
    let own = if config.server.demo { own.merge(demo::router()) } else { own };
    let services = llm::Services {
        providers: gateway.providers.clone(),
        embedder: gateway.embedder.clone(),
        cache: gateway.cache.clone(),
        tracer: gateway.tracer.clone(),
        region_headers: config.sampler.region_headers.clone(),
    };
    own.merge(llm::router(services, config.server.body_bytes_max))
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
