//! `/admin/keys`: for the role admin alone.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use tidegate_core::reply::{Code, Reply};
use tidegate_core::wire::{Identity, Role, is_name};

use super::{BODY_BYTES_MAX, change, respond};
use crate::body;
use crate::gateway::Gateway;
use crate::keys::{KeyRecord, NewKey, Source};
use crate::refusal::{empty, json};

/// A key as it is shown: without anything that could be used as one.
#[derive(Debug, Serialize)]
struct Shown {
    id: String,
    name: String,
    tenant: String,
    role: Role,
    created_ms: u64,
    source: Source,
    /// The key itself, in the answer to its creation and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

impl Shown {
    fn of(record: KeyRecord, key: Option<String>) -> Self {
        let KeyRecord { id, name, tenant, role, digest: _, created_ms, source } = record;
        Self { id, name, tenant, role, created_ms, source, key }
    }
}

#[derive(Debug, Serialize)]
struct List {
    data: Vec<Shown>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    name: String,
    tenant: String,
    #[serde(default = "user")]
    role: Role,
}

const fn user() -> Role {
    Role::User
}

fn admin_only(identity: &Identity) -> Result<(), Reply> {
    if identity.role == Role::Admin {
        return Ok(());
    }
    Err(Reply::new(Code::PermissionDenied, "keys need a key with role admin"))
}

/// All keys.
pub async fn list(State(gateway): State<Arc<Gateway>>, Extension(identity): Extension<Identity>) -> Response {
    respond(admin_only(&identity).map(|()| {
        let data = gateway.control.keys().list().into_iter().map(|record| Shown::of(record, None)).collect();
        json(StatusCode::OK, &List { data })
    }))
}

/// Makes a key and shows it, this once.
pub async fn create(
    State(gateway): State<Arc<Gateway>>,
    Extension(identity): Extension<Identity>,
    body: Body,
) -> Response {
    let result = async {
        admin_only(&identity)?;
        let Wanted { name, tenant, role } = body::json(body, BODY_BYTES_MAX, Code::InvalidRequest).await?;
        for (field, value) in [("name", &name), ("tenant", &tenant)] {
            if !is_name(value) {
                let message = format!("{field}: must be 1 to 64 of A-Z a-z 0-9 . _ -");
                return Err(Reply::new(Code::InvalidRequest, message).with_param(field));
            }
        }
        let control = gateway.control.clone();
        let (record, key) = change(move || control.create_key(NewKey { name, tenant, role })).await?;
        tracing::info!(id = %record.id, by = identity.key.as_deref().unwrap_or_default(), "key made");
        Ok(json(StatusCode::CREATED, &Shown::of(record, Some(key))))
    };
    respond(result.await)
}

/// Takes a key out of force everywhere.
pub async fn revoke(
    State(gateway): State<Arc<Gateway>>,
    Extension(identity): Extension<Identity>,
    Path(id): Path<String>,
) -> Response {
    let result = async {
        admin_only(&identity)?;
        let control = gateway.control.clone();
        let by = identity.key.unwrap_or_default();
        let revoked = id.clone();
        change(move || control.revoke_key(&id)).await?;
        tracing::info!(id = %revoked, %by, "key revoked");
        Ok(empty(StatusCode::NO_CONTENT))
    };
    respond(result.await)
}
