//! What operators do while the gateway runs. The role was checked before the router; keys ask
//! for the role admin on top.

mod audit;
mod buckets;
mod cache;
mod caller;
mod clusters;
mod keys;
mod limits;
mod metrics;
mod policies;
mod providers;
mod routing;
mod status;
mod usage;

use std::sync::Arc;

use axum::Router;
use axum::response::Response;
use axum::routing::{delete, get, post};
use tidegate_core::reply::{Code, Reply};

use crate::config::metrics::Metrics;
use crate::control::ChangeError;
use crate::gateway::Gateway;
use crate::health;
use crate::keys::KeyError;
use crate::policies::BookError;
use crate::refusal::refuse_here;
use crate::store::StoreError;

pub use metrics::metrics_page;

/// Largest body of an admin request, in bytes.
const BODY_BYTES_MAX: usize = 2 << 20;
/// What a failed store asks the caller to wait, in milliseconds.
const STORE_RETRY_MS: u64 = 1000;

/// The routes; the metrics page is among them unless it has a listener of its own.
pub fn router(metrics: &Metrics) -> Router<Arc<Gateway>> {
    let router = Router::new()
        .route("/admin/keys", get(keys::list).post(keys::create))
        .route("/admin/keys/{id}", delete(keys::revoke))
        .route("/admin/keys/{id}/rotate", post(keys::rotate))
        .route("/admin/audit", get(audit::list))
        .route("/admin/audit/verify", get(audit::verify))
        .route("/admin/clusters", get(clusters::list))
        .route("/admin/clusters/classify", post(clusters::classify))
        .route("/admin/clusters/{id}", get(clusters::show))
        .route("/admin/clusters/{id}/timeline", get(clusters::timeline))
        .route("/admin/stats", get(clusters::stats))
        .route("/admin/cache", get(cache::show))
        .route("/admin/cache/purge", post(cache::purge))
        .route("/admin/limits", get(limits::show).put(limits::change).delete(limits::reset))
        .route("/v1/providers", get(providers::list).post(providers::create))
        .route("/v1/providers/", get(providers::list).post(providers::create))
        .route("/v1/providers/{name}", get(providers::show).put(providers::replace).delete(providers::remove))
        .route("/v1/providers/{name}/health", get(providers::health))
        .route("/v1/providers/{name}/models", get(providers::models))
        .route("/v1/providers/{name}/estimate", post(providers::estimate))
        .route("/v1/routing/config", get(routing::show).put(routing::change).delete(routing::reset))
        .route("/v1/routing/stats", get(routing::stats))
        .route("/admin/limits/simulate", post(buckets::simulate))
        .route("/admin/limits/{*key}", get(buckets::show))
        .route("/admin/usage", get(usage::show))
        .route("/admin/policies", get(policies::list))
        .route("/admin/policies/{id}", get(policies::one).put(policies::edit).delete(policies::remove))
        .route("/v1/admin/status", get(status::status))
        .merge(monitoring());
    if metrics.enabled && metrics.listener.is_none() {
        router.route(&metrics.path, get(metrics_page))
    } else {
        router
    }
}

/// The same answers under the paths that monitoring tools look for.
fn monitoring() -> Router<Arc<Gateway>> {
    Router::new()
        .route("/api/v1/monitoring/status", get(status::status))
        .route("/api/v1/monitoring/health", get(health::detailed))
        .route("/api/v1/monitoring/stats", get(routing::stats))
        .route("/api/v1/monitoring/alerts", get(policies::list))
        .route("/api/v1/monitoring/metrics", get(metrics_page))
}

/// Runs a change, which waits for the disk, off the async threads.
async fn change<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ChangeError> + Send + 'static,
) -> Result<T, Reply> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(explain(&error)),
        Err(_) => Err(Reply::new(Code::InternalError, "the change was not finished; look at the log")),
    }
}

fn explain(error: &ChangeError) -> Reply {
    match error {
        ChangeError::Invalid(problems) => {
            let text: Vec<String> = problems.list().iter().map(ToString::to_string).collect();
            let reply = Reply::new(Code::InvalidConfig, text.join("; "));
            match problems.list().first() {
                Some(problem) => reply.with_param(problem.path.clone()),
                None => reply,
            }
        }
        ChangeError::Document(invalid) => {
            Reply::new(Code::InvalidConfig, invalid.to_string()).with_param(invalid.field.clone())
        }
        ChangeError::Policy(error @ BookError::Unknown) => Reply::new(Code::NotFound, error.to_string()),
        ChangeError::Policy(error @ BookError::Invalid(field, _)) => {
            Reply::new(Code::InvalidConfig, error.to_string()).with_param(*field)
        }
        ChangeError::Policy(error @ BookError::TooBroad) => {
            Reply::new(Code::InvalidConfig, error.to_string()).with_param("scope")
        }
        ChangeError::Policy(error @ BookError::Full) => Reply::new(Code::InvalidRequest, error.to_string()),
        ChangeError::Issuer(problem) => Reply::new(Code::InvalidConfig, problem.as_str()),
        ChangeError::Key(error @ KeyError::Unknown) => Reply::new(Code::NotFound, error.to_string()),
        ChangeError::Key(error @ (KeyError::NotStored(_) | KeyError::Full)) => {
            Reply::new(Code::InvalidRequest, error.to_string())
        }
        ChangeError::Key(KeyError::NoRandomness(error)) => failed(error),
        ChangeError::Key(KeyError::Store(error)) | ChangeError::Store(error) => store_failed(error),
    }
}

fn store_failed(error: &StoreError) -> Reply {
    if matches!(error, StoreError::Unreachable(_)) {
        tracing::error!(%error, "a change could not be kept");
        let message = "what the gateways share cannot be changed now; nothing has changed";
        return Reply::new(Code::StoreUnavailable, message).retry_after_ms(STORE_RETRY_MS);
    }
    failed(error)
}

fn failed(error: &dyn std::fmt::Display) -> Reply {
    tracing::error!(%error, "a change could not be kept");
    Reply::new(Code::InternalError, "the change could not be kept and is not in force; look at the log")
        .retry_after_ms(STORE_RETRY_MS)
}

/// Either way a response.
fn respond(result: Result<Response, Reply>) -> Response {
    result.unwrap_or_else(|reply| refuse_here(&reply))
}
