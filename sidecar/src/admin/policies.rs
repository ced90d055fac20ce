//! `/admin/policies`: what is limited or broken, why, and until when; for operators to pin, edit,
//! silence and delete.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use tidegate_core::reply::{Code, Reply};

use super::{BODY_BYTES_MAX, change, respond};
use crate::audit::Actor;
use crate::body;
use crate::gateway::Gateway;
use crate::keys::unix_ms;
use crate::policies::{Alarm, Edit, Record};
use crate::refusal::{empty, json};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Wanted {
    cluster_id: Option<String>,
}

#[derive(Debug, Serialize)]
struct List {
    data: Vec<Record>,
    alarms: Vec<Alarm>,
}

/// All policies, or those of one cluster.
pub async fn list(
    State(gateway): State<Arc<Gateway>>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Response {
    let result = async {
        let Ok(Query(Wanted { cluster_id })) = wanted else {
            let message = "the query must be ?cluster_id=<id>, which may be left out";
            return Err(Reply::new(Code::InvalidRequest, message));
        };
        let control = gateway.control.clone();
        let (mut data, mut alarms) = change(move || Ok(control.policies())).await?;
        if let Some(cluster) = cluster_id {
            data.retain(|record| record.cluster_id == cluster);
            alarms.retain(|alarm| alarm.cluster_id == cluster);
        }
        Ok(json(StatusCode::OK, &List { data, alarms }))
    };
    respond(result.await)
}

/// One policy.
pub async fn one(State(gateway): State<Arc<Gateway>>, Path(id): Path<String>) -> Response {
    let result = async {
        let control = gateway.control.clone();
        let (records, _) = change(move || Ok(control.policies())).await?;
        let record = records.into_iter().find(|record| record.id == id);
        let record = record.ok_or_else(|| Reply::new(Code::NotFound, "there is no policy of that id"))?;
        Ok(json(StatusCode::OK, &record))
    };
    respond(result.await)
}

/// Changes what is named, or makes an operator's own policy.
pub async fn edit(
    State(gateway): State<Arc<Gateway>>,
    by: Actor,
    Path(id): Path<String>,
    body: Body,
) -> Response {
    let result = async {
        let edit = body::json::<Edit>(body, BODY_BYTES_MAX, Code::InvalidConfig).await?;
        let control = gateway.control.clone();
        let record = change(move || control.edit_policy(&id, edit, &by, unix_ms())).await?;
        Ok(json(StatusCode::OK, &record))
    };
    respond(result.await)
}

/// Removes a policy; if its failures go on, it is learnt again.
pub async fn remove(State(gateway): State<Arc<Gateway>>, by: Actor, Path(id): Path<String>) -> Response {
    let control = gateway.control.clone();
    let removed = change(move || control.delete_policy(&id, &by)).await;
    respond(removed.map(|()| empty(StatusCode::NO_CONTENT)))
}
