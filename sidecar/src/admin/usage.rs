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
use crate::limits::{Account, Totals, usd};
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
    rows: Vec<Row>,
}

/// The rows of a month: `?month=2026-11&tenant=acme`; this month of all tenants by default.
pub async fn show(
    State(gateway): State<Arc<Gateway>>,
    which: Result<Query<Which>, QueryRejection>,
) -> Response {
    let result = which.map_err(|_| usage()).and_then(|Query(Which { month, tenant })| {
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
        Ok(json(StatusCode::OK, &Shown { month: month.to_string(), total: total.into(), rows }))
    });
    respond(result)
}

fn usage() -> Reply {
    Reply::new(Code::InvalidRequest, "the query may have month=2026-11 and tenant=acme").with_param("month")
}
