//! `/admin/audit`: what was done, for the role admin alone.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use tidegate_core::reply::{Code, Reply};

use super::caller::Admin;
use super::{change, respond};
use crate::audit::{self, PAGE_MAX, Shown};
use crate::gateway::Gateway;
use crate::refusal::json;

/// Entries of a page unless it says how many.
const PAGE_DEFAULT: usize = 100;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    limit: Option<usize>,
    before: Option<u64>,
}

#[derive(Debug, Serialize)]
struct List {
    data: Vec<Shown>,
}

/// The newest entries, or those before one.
pub async fn list(
    State(gateway): State<Arc<Gateway>>,
    _: Admin,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Response {
    let result = async {
        let Some(Wanted { limit, before }) = wanted.ok().map(|Query(wanted)| wanted) else {
            let message = "the query must be ?limit=<number>&before=<sequence number>, both optional";
            return Err(Reply::new(Code::InvalidRequest, message));
        };
        let limit = limit.unwrap_or(PAGE_DEFAULT);
        if !(1..=PAGE_MAX).contains(&limit) {
            let message = format!("limit: must be 1 to {PAGE_MAX}");
            return Err(Reply::new(Code::InvalidRequest, message).with_param("limit"));
        }
        let control = gateway.control.clone();
        let data = change(move || Ok(audit::page(control.store(), limit, before)?)).await?;
        Ok(json(StatusCode::OK, &List { data }))
    };
    respond(result.await)
}

/// Whether the chain of entries is whole.
pub async fn verify(State(gateway): State<Arc<Gateway>>, _: Admin) -> Response {
    let result = async {
        let control = gateway.control.clone();
        let verdict = change(move || Ok(audit::verify(control.store())?)).await?;
        Ok(json(StatusCode::OK, &verdict))
    };
    respond(result.await)
}
