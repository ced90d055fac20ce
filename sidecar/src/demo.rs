//! The demo upstream of the first steps: an "operator's own" service that can be told to fail.

use axum::Router;
use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::response::Response;
use axum::routing::any;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::refusal::json;

/// Where it answers.
pub const PATH: &str = "/api/test";

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Wish {
    simulate_error: bool,
}

#[derive(Debug, Serialize)]
struct Answer {
    status: &'static str,
    message: &'static str,
}

/// The route, for any state.
pub fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route(PATH, any(answer))
}

async fn answer(wish: Result<Query<Wish>, QueryRejection>) -> Response {
    if wish.is_ok_and(|Query(wish)| wish.simulate_error) {
        let answer = Answer { status: "error", message: "simulated failure of the demo upstream" };
        return json(StatusCode::INTERNAL_SERVER_ERROR, &answer);
    }
    json(StatusCode::OK, &Answer { status: "ok", message: "hello from the demo upstream" })
}
