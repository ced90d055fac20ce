//! `/admin/cache`: what the semantic cache holds, and taking answers out of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json as document;
use tidegate_core::cache::semantic::Interval;
use tidegate_core::reply::{Code, Reply};

use super::{BODY_BYTES_MAX, change, respond};
use crate::audit::{self, Act, Action, Actor};
use crate::body;
use crate::config::value::Span;
use crate::gateway::Gateway;
use crate::keys::unix_ms;
use crate::l2::{LookedUp, Mode, Selection, Stats, TenantAudit};
use crate::refusal::json;

#[derive(Debug, Serialize)]
struct Shown {
    backend: &'static str,
    mode: &'static str,
    /// Least cosine, in the mode `static`.
    threshold: f32,
    /// Largest share of wrong answers among those served, in the mode `verified`.
    error_bound: Option<f64>,
    audit_rate: f64,
    entries: usize,
    partitions: usize,
    bytes: usize,
    max_bytes: usize,
    evicted: u64,
    lookups: Lookups,
    /// Of all tenants together.
    audit: Audited,
    tenants: BTreeMap<String, Audited>,
    /// Outcomes that the mode `verified` rests on, by tenant.
    outcomes: BTreeMap<String, usize>,
}

/// Since the start; the layer `l1` is on the metrics page.
#[derive(Debug, Serialize)]
struct Lookups {
    redis_hits: u64,
    semantic_hits: u64,
    misses: u64,
    /// Share of all of them; absent before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    hit_rate: Option<f64>,
}

/// Hits that were asked for again.
#[derive(Debug, Serialize)]
struct Audited {
    checked: u64,
    wrong: u64,
    /// The share of wrong ones, with the 95 % interval; absent before the first audit.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Error>,
}

#[derive(Debug, Serialize)]
struct Error {
    observed: f64,
    low: f64,
    high: f64,
}

impl Lookups {
    fn new(LookedUp { redis_hits, semantic_hits, misses }: LookedUp) -> Self {
        let all = redis_hits + semantic_hits + misses;
        let hit_rate = (all > 0).then(|| (redis_hits + semantic_hits) as f64 / all as f64);
        Self { redis_hits, semantic_hits, misses, hit_rate }
    }
}

impl Audited {
    fn new(found: &TenantAudit) -> Self {
        let error = |error: Interval| Error { observed: error.share, low: error.low, high: error.high };
        Self { checked: found.audit.checked, wrong: found.audit.wrong, error: found.error.map(error) }
    }
}

/// How full it is, what it did, and how often that was wrong.
pub async fn show(State(gateway): State<Arc<Gateway>>) -> Response {
    let cache = &gateway.cache;
    let Stats { entries, partitions, bytes, evicted } = cache.stats();
    let settings = cache.settings();
    let audits = cache.audits();
    let nothing = TenantAudit::default();
    let (all, tenants) = audits.split_first().unwrap_or((&nothing, &[]));
    let error_bound = match settings.mode {
        Mode::Static => None,
        Mode::Verified(bound) => Some(bound.share()),
    };
    let shown = Shown {
        backend: if settings.shared { "redis" } else { "memory" },
        mode: settings.mode.label(),
        threshold: settings.threshold,
        error_bound,
        audit_rate: settings.audit_rate,
        entries,
        partitions,
        bytes,
        max_bytes: settings.bytes_max,
        evicted,
        lookups: Lookups::new(cache.looked_up()),
        audit: Audited::new(all),
        tenants: tenants.iter().map(|found| (found.tenant.to_string(), Audited::new(found))).collect(),
        outcomes: cache.outcomes().into_iter().map(|(tenant, count)| (tenant.into(), count)).collect(),
    };
    json(StatusCode::OK, &shown)
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
