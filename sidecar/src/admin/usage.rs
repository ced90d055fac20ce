//! `/admin/usage`: tokens and money by month.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use tidegate_core::reply::{Code, Reply};
use tidegate_core::usage::Month;

use super::respond;
use crate::gateway::Gateway;
use crate::keys::unix_ms;
use crate::limits::{self, Account, Totals, View, usd};
use crate::refusal::json;

/// Which rows.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Which {
    month: Option<String>,
    tenant: Option<String>,
}

#[derive(Debug, Serialize)]
struct Row {
    #[serde(flatten)]
    account: Account,
    #[serde(flatten)]
    used: Used,
}

#[derive(Debug, Serialize)]
struct Used {
    #[serde(flatten)]
    totals: Totals,
    total_tokens: u64,
    cost_usd: f64,
}

impl From<Totals> for Used {
    fn from(totals: Totals) -> Self {
        let total_tokens = totals.prompt_tokens.saturating_add(totals.completion_tokens);
        Self { totals, total_tokens, cost_usd: usd(totals.cost_nano_usd) }
    }
}

#[derive(Debug, Serialize)]
struct Shown {
    month: String,
    total: Used,
    /// Of this gateway.
    rows: Vec<Row>,
    /// Of all that share a Redis, this one included; absent without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    fleet: Option<FleetShown>,
}

#[derive(Debug, Serialize)]
struct FleetShown {
    /// `heard`, or `alone` while Redis is away: then it is what was known before.
    state: &'static str,
    /// Gateways that have used anything this month.
    gateways: usize,
    total: Used,
    tenants: Vec<TenantRow>,
}

#[derive(Debug, Serialize)]
struct TenantRow {
    tenant: String,
    #[serde(flatten)]
    used: Used,
}

impl FleetShown {
    fn of(is_heard: bool, view: View, wanted: Option<&str>) -> Self {
        let mut total = Totals::default();
        let tenants =
            view.tenants.into_iter().filter(|(tenant, _)| wanted.is_none_or(|wanted| wanted == tenant));
        let tenants = tenants.map(|(tenant, totals)| {
            total.add(&totals);
            TenantRow { tenant, used: totals.into() }
        });
        let tenants = tenants.collect();
        let state = if is_heard { "heard" } else { "alone" };
        Self { state, gateways: view.gateways, total: total.into(), tenants }
    }
}

/// The rows of a month: `?month=2026-11&tenant=acme`; this month of all tenants by default.
pub async fn show(
    State(gateway): State<Arc<Gateway>>,
    which: Result<Query<Which>, QueryRejection>,
) -> Response {
    let result = async {
        let Query(Which { month, tenant }) = which.map_err(|_| usage())?;
        let month = match month {
            Some(text) => text.parse().map_err(|()| usage())?,
            None => Month::of_ms(unix_ms()),
        };
        let mut total = Totals::default();
        let rows = gateway.ledger.rows(month, tenant.as_deref()).into_iter();
        let rows = rows.map(|(account, totals)| {
            total.add(&totals);
            Row { account, used: totals.into() }
        });
        let rows = rows.collect();
        let fleet = fleet(&gateway, month, tenant.as_deref()).await;
        Ok(json(StatusCode::OK, &Shown { month: month.to_string(), total: total.into(), rows, fleet }))
    };
    respond(result.await)
}

/// This month is known here; earlier ones are in Redis.
async fn fleet(gateway: &Gateway, month: Month, tenant: Option<&str>) -> Option<FleetShown> {
    let is_heard = gateway.ledger.is_fleet_heard()?;
    if let Some(view) = gateway.ledger.fleet_view(month) {
        return Some(FleetShown::of(is_heard, view, tenant));
    }
    let fetched = limits::fetch(gateway.redis.as_ref()?, month).await;
    let is_heard = fetched.is_ok();
    Some(FleetShown::of(is_heard, fetched.unwrap_or_default(), tenant))
}

fn usage() -> Reply {
    Reply::new(Code::InvalidRequest, "the query may have month=2026-11 and tenant=acme").with_param("month")
}
