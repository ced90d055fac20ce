//! How things stand at the moment the page is asked for: providers, budgets, what was spent. Labels are names that the
//! operator gave.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use tidegate_core::usage::Month;

use crate::control::Control;
use crate::keys::unix_ms;
use crate::limits::{Budgets, Ledger, usd};
use crate::llm::{Providers, report};

/// Stands for all tenants without a budget of their own, as in `limiter.budgets`.
const EACH: &str = "*";

/// Shows these on the page.
#[derive(Debug)]
pub struct Standing {
    /// Who answers.
    pub providers: Arc<Providers>,
    /// What was spent.
    pub ledger: Arc<Ledger>,
    /// What may be.
    pub control: Arc<Control>,
}

impl Collector for Standing {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help =
            "Whether a provider is used (1), or set aside because it fails (0); absent while it is disabled";
        let mut up = encoder.encode_descriptor("gateway_provider_up", help, None, MetricType::Gauge)?;
        for (provider, status) in report::statuses(&self.providers.table()) {
            if status != "disabled" {
                let is_up = u64::from(status != "unhealthy");
                up.encode_family(&[("provider", provider.as_str())])?.encode_gauge(&is_up)?;
            }
        }
        let help = "US dollars that requests to a provider have cost at this gateway, since it counts";
        let mut cost = encoder.encode_descriptor("gateway_cost_usd", help, None, MetricType::Counter)?;
        for (provider, nano) in self.ledger.spent_by_provider() {
            let labels = [("provider", provider.as_str())];
            let mut of_provider = cost.encode_family(&labels)?;
            of_provider.encode_counter::<NoLabelSet, f64, f64>(&usd(nano), None)?;
        }
        let help = "Share of its budget that a tenant has spent this month; * is the highest of those that are not named";
        let mut shares =
            encoder.encode_descriptor("gateway_budget_spent_ratio", help, None, MetricType::Gauge)?;
        let spent = self.ledger.spent_by_tenant(Month::of_ms(unix_ms()));
        for (tenant, share) in shares_of(&self.control.budgets(), &spent) {
            shares.encode_family(&[("tenant", tenant)])?.encode_gauge(&share)?;
        }
        Ok(())
    }
}

/// Of each budget, the share that is spent.
fn shares_of<'a>(budgets: &'a Budgets, spent: &BTreeMap<String, u64>) -> Vec<(&'a str, f64)> {
    let named = budgets.tenants.iter().map(|(tenant, budget)| {
        (tenant.as_str(), share(spent.get(tenant).copied().unwrap_or_default(), *budget))
    });
    let others = spent.iter().filter(|(tenant, _)| !budgets.tenants.contains_key(*tenant));
    let highest = others.map(|(_, spent)| *spent).max().unwrap_or_default();
    named.chain(budgets.each.map(|budget| (EACH, share(highest, budget)))).collect()
}

/// Of a budget of nothing all is spent.
fn share(spent: u64, budget: u64) -> f64 {
    if budget == 0 { 1.0 } else { usd(spent) / usd(budget) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_that_invent_themselves_share_one_series() {
        let budgets = Budgets { each: Some(100), tenants: BTreeMap::from([("rich".to_owned(), 1000)]) };
        let spent = [("rich", 500), ("a", 10), ("b", 90)].map(|(tenant, spent)| (tenant.to_owned(), spent));
        assert_eq!(shares_of(&budgets, &spent.into()), [("rich", 0.5), ("*", 0.9)]);
        assert_eq!(shares_of(&budgets, &BTreeMap::new()), [("rich", 0.0), ("*", 0.0)]);
        assert_eq!(shares_of(&Budgets::default(), &BTreeMap::new()), []);
        assert_eq!(share(0, 0), 1.0);
    }
}
