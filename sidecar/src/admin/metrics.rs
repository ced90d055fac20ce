//! The metrics page as a response.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use tidegate_core::reply::{Code, Reply};

use crate::gateway::Gateway;
use crate::metrics;
use crate::refusal::refuse_here;

/// All metrics, the sidecar's and the filters'.
pub async fn metrics_page(State(gateway): State<Arc<Gateway>>) -> Response {
    let Ok(text) = metrics::page(&gateway.registry) else {
        return refuse_here(&Reply::new(Code::InternalError, "the metrics could not be written"));
    };
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE));
    response
}
