//! What all gateways of a fleet have used, so that a budget holds over all of them.
//!
//! Each gateway tells the others what it has used through Redis, once a second, and goes on with
//! what it knows while Redis is away. No request waits for any of that.

mod exchange;
mod month;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use tidegate_core::usage::Month;

use super::Totals;
pub use exchange::{fetch, share, tell};
pub use month::{Answer, Batch};
use month::{FleetMonth, RowId};

/// What this gateway knows of the whole fleet.
#[derive(Debug)]
pub struct Fleet {
    gateway: String,
    months: BTreeMap<Month, FleetMonth>,
    is_heard: bool,
}

impl Fleet {
    /// Under this gateway's id, with what it has used itself.
    pub fn new(gateway: String, own: impl Iterator<Item = (Month, String, Totals)>) -> Self {
        let mut fleet = Self { gateway, months: BTreeMap::new(), is_heard: false };
        own.for_each(|(month, tenant, used)| fleet.raise(month, tenant, &used));
        fleet
    }

    /// A tenant has used more here.
    pub fn raise(&mut self, month: Month, tenant: String, used: &Totals) {
        let id = RowId { tenant, gateway: self.gateway.clone() };
        self.months.entry(month).or_default().raise(id, used);
    }

    /// What a tenant has used at all gateways.
    #[must_use]
    pub fn of_tenant(&self, month: Month, tenant: &str) -> Totals {
        self.months.get(&month).map(|of| of.of_tenant(tenant)).unwrap_or_default()
    }

    /// Whether the last exchange was one; returns whether that has changed.
    pub fn set_heard(&mut self, is_heard: bool) -> bool {
        std::mem::replace(&mut self.is_heard, is_heard) != is_heard
    }

    /// Whether the others were heard at the last exchange.
    #[must_use]
    pub const fn is_heard(&self) -> bool {
        self.is_heard
    }

    /// What is known of a month; `None` if it is not kept here.
    #[must_use]
    pub fn view(&self, month: Month) -> Option<View> {
        self.months.get(&month).map(View::of)
    }

    /// What to say about `now` and about earlier months that the others may not know yet. Such
    /// that are over and told are forgotten.
    pub fn batches(&mut self, now: Month) -> Vec<(Month, Batch)> {
        self.months.retain(|month, of| *month >= now || of.has_news());
        self.months.entry(now).or_default();
        self.months.iter().map(|(month, of)| (*month, of.batch())).collect()
    }

    /// Takes over an answer; returns what this gateway had lost.
    pub fn heard(&mut self, month: Month, sent: &Batch, answer: Answer) -> Vec<(String, Totals)> {
        let Some(of) = self.months.get_mut(&month) else { return Vec::new() };
        of.heard(sent, answer, &self.gateway)
    }
}

/// Usage of a month as operators see it.
#[derive(Debug, Default, Serialize)]
pub struct View {
    /// Gateways that have used anything.
    pub gateways: usize,
    /// By tenant.
    pub tenants: BTreeMap<String, Totals>,
}

impl View {
    fn of(month: &FleetMonth) -> Self {
        let mut tenants: BTreeMap<String, Totals> = BTreeMap::new();
        let mut gateways = BTreeSet::new();
        for (RowId { tenant, gateway }, totals) in month.rows() {
            tenants.entry(tenant.clone()).or_default().add(totals);
            gateways.insert(gateway.as_str());
        }
        Self { gateways: gateways.len(), tenants }
    }
}
