//! `/v1/routing`: how requests find their providers.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde_json::{Map, Value};
use tidegate_core::reply::{Code, Reply};

use super::providers::provision;
use super::{BODY_BYTES_MAX, respond};
use crate::audit::Actor;
use crate::body;
use crate::gateway::Gateway;
use crate::llm::report;
use crate::refusal::json;

/// What only the configuration file may say: it guards the machine against its operators.
const FILE_ONLY: &str = "allow_link_local";

/// The routing in force.
pub async fn show(State(gateway): State<Arc<Gateway>>) -> Response {
    json(StatusCode::OK, &report::routing(&gateway.providers.table().settings))
}

/// Requests and health by provider.
pub async fn stats(State(gateway): State<Arc<Gateway>>) -> Response {
    json(StatusCode::OK, &report::stats(&gateway.providers.table()))
}

/// Changes fields of it; those left out stay as they are.
pub async fn change(State(gateway): State<Arc<Gateway>>, by: Actor, body: Body) -> Response {
    let result = async {
        let fields: Map<String, Value> = body::json(body, BODY_BYTES_MAX, Code::InvalidConfig).await?;
        if fields.contains_key(FILE_ONLY) {
            let message = format!("{FILE_ONLY}: can be set in the configuration file only");
            return Err(Reply::new(Code::InvalidConfig, message).with_param(FILE_ONLY));
        }
        set(&gateway, Some(fields), by).await
    };
    respond(result.await)
}

/// Goes back to the configuration file's.
pub async fn reset(State(gateway): State<Arc<Gateway>>, by: Actor) -> Response {
    respond(set(&gateway, None, by).await)
}

async fn set(
    gateway: &Arc<Gateway>,
    fields: Option<Map<String, Value>>,
    by: Actor,
) -> Result<Response, Reply> {
    let provisioning = gateway.provisioning.clone();
    provision(move || provisioning.set_routing(fields, &by)).await?;
    Ok(json(StatusCode::OK, &report::routing(&gateway.providers.table().settings)))
}
