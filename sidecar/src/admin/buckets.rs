//! `/admin/limits/{key}` and `/admin/limits/simulate`: what buckets hold, and what would happen to
//! a request. Nothing is taken.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use tidegate_core::limit::{
    Attribute, Bucket, BucketName, BucketState, Buckets, Kind, Level, Look, Rate, RuleSet, Subject, states,
};
use tidegate_core::policy::Selector;
use tidegate_core::reply::{Code, Reply};
use tidegate_core::usage::Month;
use tidegate_core::wire::DescribedRequest;

use super::{BODY_BYTES_MAX, respond};
use crate::body;
use crate::config::limiter::route_label;
use crate::gateway::Gateway;
use crate::keys::unix_ms;
use crate::limits;
use crate::refusal::json;

#[derive(Debug, Serialize)]
struct Shown {
    key: String,
    /// Whether a filter said so; else the buckets are shown full, as they are before any request.
    live: bool,
    limits: Vec<BucketState>,
}

#[derive(Debug, Serialize)]
struct Simulated {
    allowed: bool,
    /// The limit that takes longest; absent if all would let the request pass.
    decides: Option<BucketState>,
    /// When it would pass, if nobody else came.
    retry_after_ms: Option<u64>,
    live: bool,
    limits: Vec<BucketState>,
    budget: Option<Budget>,
}

#[derive(Debug, Serialize)]
struct Budget {
    month: String,
    /// At all gateways that share a Redis.
    spent_usd: f64,
    /// Of it, at this gateway.
    spent_here_usd: f64,
    limit_usd: f64,
    exceeded: bool,
}

/// Nobody has taken anything.
struct Untouched;

impl Buckets for Untouched {
    fn look(&mut self, _: &Level, _: Kind, rate: Rate, _: &Subject<'_>, amount: u64) -> Look {
        Look::of(Bucket::default(), amount, 0, rate)
    }

    fn in_flight(&mut self, _: &Level, _: &Subject<'_>) -> u32 {
        0
    }

    fn gateways(&self) -> u32 {
        1
    }
}

async fn look(gateway: &Gateway, request: DescribedRequest) -> (bool, Vec<BucketState>) {
    if let Some(states) = gateway.probe.ask(request.clone()).await {
        return (true, states);
    }
    let policy = gateway.control.publisher().latest();
    let subject = request.subject();
    let levels = RuleSet::new(&policy.snapshot.limits).levels(&subject);
    (false, states(&levels, &subject, request.tokens, &mut Untouched))
}

/// The limits of one bucket, by its name.
pub async fn show(State(gateway): State<Arc<Gateway>>, Path(key): Path<String>) -> Response {
    let result = async {
        let name: BucketName = key.parse().map_err(|what: String| {
            Reply::new(Code::InvalidRequest, format!("`{key}` {what}")).with_param("key")
        })?;
        let subject = name.subject();
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let request = DescribedRequest {
            tenant: subject.tenant.to_owned(),
            key: owned(subject.key),
            ip: subject.ip.map(|ip| ip.to_string()),
            route: subject.route.to_owned(),
            model: owned(subject.model),
            tokens: 0,
        };
        let (live, mut limits) = look(&gateway, request).await;
        let key = name.to_string();
        limits.retain(|state| state.bucket == key);
        if limits.is_empty() {
            let message = format!("no rule limits {key}; GET /admin/limits lists the rules");
            return Err(Reply::new(Code::NotFound, message));
        }
        Ok(json(StatusCode::OK, &Shown { key, live, limits }))
    };
    respond(result.await)
}

/// What would happen to a request.
pub async fn simulate(State(gateway): State<Arc<Gateway>>, body: Body) -> Response {
    let result = async {
        let mut request = body::json::<DescribedRequest>(body, BODY_BYTES_MAX, Code::InvalidRequest).await?;
        request.route = route_label(&request.route);
        check(&request)?;
        let tenant = request.tenant.clone();
        let (live, limits) = look(&gateway, request).await;
        let decides =
            limits.iter().filter(|state| state.wait_ms > 0).max_by_key(|state| state.wait_ms).cloned();
        let now_ms = unix_ms();
        let budgets = gateway.control.budgets();
        let refused = limits::check(&budgets, &gateway.ledger, &tenant, now_ms).err();
        let month = Month::of_ms(now_ms);
        let budget = budgets.of(&tenant).map(|limit| Budget {
            month: month.to_string(),
            spent_usd: limits::usd(gateway.ledger.spent(month, &tenant)),
            spent_here_usd: limits::usd(gateway.ledger.spent_here(month, &tenant)),
            limit_usd: limits::usd(limit),
            exceeded: refused.is_some(),
        });
        let of_budget = refused.and_then(|reply| reply.retry_after_ms);
        let retry_after_ms = decides.as_ref().map(|state| state.wait_ms).max(of_budget);
        let allowed = retry_after_ms.is_none();
        Ok(json(StatusCode::OK, &Simulated { allowed, decides, retry_after_ms, live, limits, budget }))
    };
    respond(result.await)
}

fn check(request: &DescribedRequest) -> Result<(), Reply> {
    let DescribedRequest { tenant, key, ip, route, model, tokens: _ } = request;
    if ip.as_deref().is_some_and(|ip| ip.parse::<tidegate_core::address::ClientAddress>().is_err()) {
        return Err(Reply::new(Code::InvalidRequest, "ip must be an IPv4 or IPv6 address").with_param("ip"));
    }
    let texts = [
        (Attribute::Tenant, Some(tenant)),
        (Attribute::Key, key.as_ref()),
        (Attribute::Route, Some(route).filter(|route| !route.is_empty())),
        (Attribute::Model, model.as_ref()),
    ];
    for (attribute, value) in texts {
        if value.is_some_and(|value| !Selector::is_value(attribute, value)) {
            let name = attribute.label();
            let message = format!(
                "{name} is missing or cannot be one; describe a request, as in {{\"tenant\": \"acme\"}}"
            );
            return Err(Reply::new(Code::InvalidRequest, message).with_param(name));
        }
    }
    Ok(())
}
