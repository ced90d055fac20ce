//! `/dashboard/`: one page that shows what the admin API says. The page itself is public and holds
//! nothing; it asks for an operator's key, keeps it in its tab, and sends it with every question.

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderName, HeaderValue};

/// Only its own files, no frames, and questions to this gateway alone.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page and its parts.
pub fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/dashboard", get(|| async { Redirect::permanent("/dashboard/").into_response() }))
        .route("/dashboard/", get(|| async { part("text/html; charset=utf-8", include_str!("index.html")) }))
        .route(
            "/dashboard/app.js",
            get(|| async { part("text/javascript; charset=utf-8", include_str!("app.js")) }),
        )
        .route(
            "/dashboard/style.css",
            get(|| async { part("text/css; charset=utf-8", include_str!("style.css")) }),
        )
}

fn part(content_type: &'static str, text: &'static str) -> Response {
    let mut response = Response::new(Body::from(text));
    let headers: [(HeaderName, &'static str); 5] = [
        (CONTENT_TYPE, content_type),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (CACHE_CONTROL, "no-cache"),
    ];
    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
