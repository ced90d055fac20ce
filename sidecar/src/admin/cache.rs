//! `/admin/cache`: what the semantic cache holds, and taking answers out of it.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json as document;
use tidegate_core::reply::{Code, Reply};

use super::{BODY_BYTES_MAX, change, respond};
use crate::audit::{self, Act, Action, Actor};
use crate::body;
use crate::config::value::Span;
use crate::gateway::Gateway;
use crate::keys::unix_ms;
use crate::l2::{Selection, Stats};
use crate::refusal::json;

#[derive(Debug, Serialize)]
struct Shown {
    entries: usize,
    partitions: usize,
    bytes: usize,
    evicted: u64,
}

/// How full it is.
pub async fn show(State(gateway): State<Arc<Gateway>>) -> Response {
    let Stats { entries, partitions, bytes, evicted } = gateway.cache.stats();
    json(StatusCode::OK, &Shown { entries, partitions, bytes, evicted })
}

/// Which answers go. Everything goes only if `all` says so.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Purge {
    tenant: Option<String>,
    model: Option<String>,
    prefix: Option<String>,
    older_than: Option<Span>,
    entry: Option<String>,
    all: bool,
}

#[derive(Debug, Serialize)]
struct Purged {
    purged: usize,
}

/// Takes answers out, and says so in the audit log.
pub async fn purge(State(gateway): State<Arc<Gateway>>, by: Actor, body: Body) -> Response {
    let result = async {
        let Purge { tenant, model, prefix, older_than, entry, all } =
            body::json(body, BODY_BYTES_MAX, Code::InvalidRequest).await?;
        let age_ms_min = older_than.map(|span| u64::try_from(span.0.as_millis()).unwrap_or(u64::MAX));
        let selection = Selection { tenant, model, prefix, age_ms_min, name: entry };
        if all != (selection == Selection::default()) {
            let message = "name at least one of tenant, model, prefix, older_than and entry, or `\"all\": true` \
                           and nothing else";
            return Err(Reply::new(Code::InvalidRequest, message));
        }
        let actor = by;
        let purged = gateway.cache.purge(&selection);
        let control = gateway.control.clone();
        let act = act(actor, &selection, purged);
        change(move || Ok(control.store().write(|writer| audit::append(writer, &act))?)).await?;
        Ok(json(StatusCode::OK, &Purged { purged }))
    };
    respond(result.await)
}

/// Without the prefix, which is a part of a prompt.
fn act(actor: Actor, selection: &Selection, purged: usize) -> Act {
    let Selection { tenant, model, prefix, age_ms_min, name } = selection;
    Act {
        actor,
        action: Action::CachePurged,
        target: "cache".to_owned(),
        before: document!({
            "tenant": tenant, "model": model, "has_prefix": prefix.is_some(), "older_than_ms": age_ms_min,
            "entry": name,
        }),
        after: document!({ "purged": purged }),
        at_ms: unix_ms(),
    }
}
