//! `/admin/limits`: the limits in force, changed without a restart and kept over one.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use tidegate_core::policy::{BucketPolicy, EACH, Rule, Selector};
use tidegate_core::reply::Code;

use super::{BODY_BYTES_MAX, change as run, respond};
use crate::audit::Actor;
use crate::body;
use crate::config::limiter::Rates;
use crate::control::LimitsInForce;
use crate::gateway::Gateway;
use crate::refusal::json;

/// The answer: all that is in force, and what of it was changed at run time.
#[derive(Debug, Serialize)]
struct Shown {
    /// Requests per second of all callers together.
    global: Option<BucketPolicy>,
    /// Requests per second of each tenant without a rule of its own.
    tenant_default: Option<BucketPolicy>,
    /// Requests per second of tenants with one.
    tenants: BTreeMap<String, BucketPolicy>,
    /// Everything, those above included.
    rules: Vec<Rule>,
    /// Weights of tenants that share a limit; 1 for those who have none.
    weights: BTreeMap<String, u32>,
    changed: Rates,
    revision: String,
}

fn shown(gateway: &Gateway, in_force: LimitsInForce) -> Response {
    let LimitsInForce { limits, changed } = in_force;
    let (mut global, mut tenant_default, mut tenants) = (None, None, BTreeMap::new());
    for Rule { select, requests, .. } in &limits.rules {
        let of_tenant = Selector { tenant: select.tenant.clone(), ..Selector::default() };
        match (&select.tenant, requests) {
            _ if *select != of_tenant => {}
            (_, None) => {}
            (None, requests) => global = *requests,
            (Some(tenant), requests) if tenant == EACH => tenant_default = *requests,
            (Some(tenant), Some(bucket)) => drop(tenants.insert(tenant.clone(), *bucket)),
        }
    }
    let shown = Shown {
        global,
        tenant_default,
        tenants,
        rules: limits.rules,
        weights: limits.weights,
        changed,
        revision: gateway.control.publisher().latest().revision.clone(),
    };
    json(StatusCode::OK, &shown)
}

/// What is in force.
pub async fn show(State(gateway): State<Arc<Gateway>>) -> Response {
    let control = gateway.control.clone();
    let result = run(move || Ok(control.limits())).await;
    respond(result.map(|in_force| shown(&gateway, in_force)))
}

/// Changes the fields that are named.
pub async fn change(State(gateway): State<Arc<Gateway>>, by: Actor, body: Body) -> Response {
    let result = async {
        let rates = body::json::<Rates>(body, BODY_BYTES_MAX, Code::InvalidConfig).await?;
        let control = gateway.control.clone();
        let in_force = run(move || control.change_limits(Some(rates), &by)).await?;
        Ok(shown(&gateway, in_force))
    };
    respond(result.await)
}

/// Goes back to the configuration file's.
pub async fn reset(State(gateway): State<Arc<Gateway>>, by: Actor) -> Response {
    let control = gateway.control.clone();
    let result = run(move || control.change_limits(None, &by)).await;
    respond(result.map(|in_force| shown(&gateway, in_force)))
}
