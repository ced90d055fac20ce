//! The calls under `/__`: arming faults, reading the log and the counters.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::answer::Answer;
use super::fault::Fault;
use super::server::State;

/// Whether a path belongs to the controls.
pub(super) fn owns(path: &str) -> bool {
    path.starts_with("/__")
}

/// Answers a control call.
pub(super) fn answer(state: &State, method: &Method, path: &str, body: &[u8]) -> Answer {
    match (method.as_str(), path) {
        ("POST", "/__faults") => arm(state, body),
        ("GET", "/__faults") => ok(&json!(state.faults.list())),
        ("DELETE", "/__faults") => ok(&json!({ "cleared": state.faults.clear() })),
        ("GET", "/__requests") => ok(&json!(state.log.all())),
        ("DELETE", "/__requests") => ok(&json!({ "cleared": state.log.clear() })),
        ("GET", "/__stats") => ok(&json!(state.stats.snapshot())),
        ("POST", "/__release") => {
            state.release.notify_waiters();
            Answer::json(StatusCode::ACCEPTED, &json!({}))
        }
        (_, "/__faults" | "/__release" | "/__requests" | "/__stats") => {
            refused(StatusCode::METHOD_NOT_ALLOWED, "this control does not take that method")
        }
        _ => refused(
            StatusCode::NOT_FOUND,
            "no such control: there are /__faults, /__release, /__requests and /__stats",
        ),
    }
}

fn arm(state: &State, body: &[u8]) -> Answer {
    match Fault::from_json(body).and_then(|fault| state.faults.arm(fault)) {
        Ok(armed) => Answer::json(StatusCode::CREATED, &json!({ "armed": armed })),
        Err(error) => refused(StatusCode::BAD_REQUEST, &error.to_string()),
    }
}

fn ok(document: &Value) -> Answer {
    Answer::json(StatusCode::OK, document)
}

fn refused(status: StatusCode, why: &str) -> Answer {
    Answer::json(status, &json!({ "error": why }))
}
