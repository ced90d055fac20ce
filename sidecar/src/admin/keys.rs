//! `/admin/keys`: for the role admin alone.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use tidegate_core::reply::{Code, Reply};
use tidegate_core::wire::{Role, is_name};

use super::caller::Admin;
use super::{BODY_BYTES_MAX, change, respond};
use crate::body;
use crate::config::auth::usable_models;
use crate::gateway::Gateway;
use crate::keys::{KeyRecord, NewKey, Source as KeySource, unix_ms};
use crate::refusal::{empty, json};

/// How long the old secret of a rotated key is good, in seconds, unless the request says.
const GRACE_S_DEFAULT: u64 = 3600;
/// Longest that it may be.
const GRACE_S_MAX: u64 = 30 * 86_400;
/// Last second of the year 9999, beyond which a date is a mistake.
const DATE_S_MAX: u64 = 253_402_300_799;

/// A key as it is shown: without anything that could be used as one.
#[derive(Debug, Serialize)]
struct Shown {
    id: String,
    name: String,
    tenant: String,
    role: Role,
    created_ms: u64,
    source: KeySource,
    /// In seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed_models: Option<Vec<String>>,
    /// Until when the secret before the last rotation is good.
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_until_ms: Option<u64>,
    /// As far as the sidecar has seen since it started.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used_ms: Option<u64>,
    /// The key itself, in the answer to its creation and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

impl Shown {
    fn of(record: KeyRecord, last_used_ms: Option<u64>, key: Option<String>) -> Self {
        let KeyRecord {
            id,
            name,
            tenant,
            role,
            digest: _,
            created_ms,
            source,
            expires_at,
            allowed_models,
            previous,
        } = record;
        let previous_until_ms = previous.map(|p| p.until_ms).filter(|until_ms| *until_ms > unix_ms());
        Self {
            id,
            name,
            tenant,
            role,
            created_ms,
            source,
            expires_at,
            allowed_models,
            previous_until_ms,
            last_used_ms,
            key,
        }
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
    expires_at: Option<u64>,
    allowed_models: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rotation {
    #[serde(default = "grace")]
    grace_s: u64,
}

const fn user() -> Role {
    Role::User
}

const fn grace() -> u64 {
    GRACE_S_DEFAULT
}

fn wrong(field: &str, what: impl std::fmt::Display) -> Reply {
    Reply::new(Code::InvalidRequest, format!("{field}: {what}")).with_param(field)
}

impl Wanted {
    fn check(self) -> Result<NewKey, Reply> {
        let Self { name, tenant, role, expires_at, allowed_models } = self;
        for (field, value) in [("name", &name), ("tenant", &tenant)] {
            if !is_name(value) {
                return Err(wrong(field, "must be 1 to 64 of A-Z a-z 0-9 . _ -"));
            }
        }
        let now_s = unix_ms() / 1000;
        if expires_at.is_some_and(|at| at <= now_s || at > DATE_S_MAX) {
            return Err(wrong("expires_at", "must lie in the future, in seconds since 1970"));
        }
        if let Some(Err(what)) = allowed_models.as_deref().map(usable_models) {
            return Err(wrong("allowed_models", what));
        }
        Ok(NewKey { name, tenant, role, expires_at, allowed_models })
    }
}

/// All keys.
pub async fn list(State(gateway): State<Arc<Gateway>>, _: Admin) -> Response {
    let keys = gateway.control.keys().list().into_iter();
    let data = keys.map(|(record, last_used_ms)| Shown::of(record, last_used_ms, None)).collect();
    json(StatusCode::OK, &List { data })
}

/// Makes a key and shows it, this once.
pub async fn create(State(gateway): State<Arc<Gateway>>, Admin(by): Admin, body: Body) -> Response {
    let result = async {
        let wanted = body::json::<Wanted>(body, BODY_BYTES_MAX, Code::InvalidRequest).await?;
        let new = wanted.check()?;
        let control = gateway.control.clone();
        let (record, key) = change(move || control.create_key(new, &by)).await?;
        Ok(json(StatusCode::CREATED, &Shown::of(record, None, Some(key))))
    };
    respond(result.await)
}

/// Gives a key a new secret and shows it, this once.
pub async fn rotate(
    State(gateway): State<Arc<Gateway>>,
    Admin(by): Admin,
    Path(id): Path<String>,
    body: Body,
) -> Response {
    let result = async {
        let bytes = body::read(body, BODY_BYTES_MAX).await?;
        let text = if bytes.is_empty() { "{}".into() } else { bytes };
        let Rotation { grace_s } = body::json(Body::from(text), BODY_BYTES_MAX, Code::InvalidRequest).await?;
        if grace_s > GRACE_S_MAX {
            return Err(wrong("grace_s", format!("must be 0 to {GRACE_S_MAX} seconds")));
        }
        let control = gateway.control.clone();
        let (record, key) = change(move || control.rotate_key(&id, grace_s * 1000, &by)).await?;
        Ok(json(StatusCode::OK, &Shown::of(record, None, Some(key))))
    };
    respond(result.await)
}

/// Takes a key out of force everywhere.
pub async fn revoke(
    State(gateway): State<Arc<Gateway>>,
    Admin(by): Admin,
    Path(id): Path<String>,
) -> Response {
    let result = async {
        let control = gateway.control.clone();
        change(move || control.revoke_key(&id, &by)).await?;
        Ok(empty(StatusCode::NO_CONTENT))
    };
    respond(result.await)
}
