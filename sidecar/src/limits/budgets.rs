//! Money that tenants may spend in a calendar month (UTC).

use std::collections::BTreeMap;

use serde::Serialize;
use tidegate_core::reply::{Code, Reply};
use tidegate_core::usage::Month;

use super::Ledger;

/// Nanodollars of a US dollar.
pub const NANO_PER_USD: f64 = 1e9;

/// Budgets in force, in nanodollars a month.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Budgets {
    /// Of each tenant that is not named.
    pub each: Option<u64>,
    /// Of tenants that are.
    pub tenants: BTreeMap<String, u64>,
}

impl Budgets {
    /// What a tenant may spend; `None` is without a bound.
    #[must_use]
    pub fn of(&self, tenant: &str) -> Option<u64> {
        self.tenants.get(tenant).copied().or(self.each)
    }
}

/// Whether a tenant has money left. Requests that are in flight are not in the ledger yet, so a
/// budget can be passed by what they cost.
///
/// # Errors
/// 429 `budget_exceeded`, with the end of the month.
pub fn check(budgets: &Budgets, ledger: &Ledger, tenant: &str, now_ms: u64) -> Result<(), Reply> {
    let Some(budget) = budgets.of(tenant) else { return Ok(()) };
    let month = Month::of_ms(now_ms);
    let spent = ledger.spent(month, tenant);
    if spent < budget {
        return Ok(());
    }
    let message = format!(
        "tenant {tenant} has spent {} of {} US dollars in {month}; the budget begins anew when the month ends (UTC)",
        cents(spent),
        cents(budget)
    );
    Err(Reply::new(Code::BudgetExceeded, message).retry_after_ms(month.end_ms().saturating_sub(now_ms)))
}

/// Nanodollars in dollars.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "shown to people; 15 digits are enough")]
pub fn usd(nano: u64) -> f64 {
    nano as f64 / NANO_PER_USD
}

/// Dollars with cents, rounded down.
fn cents(nano: u64) -> String {
    let cents = nano / 10_000_000;
    format!("{}.{:02}", cents / 100, cents % 100)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{Account, Totals};
    use super::*;
    use crate::store::Store;

    #[test]
    fn a_budget_ends_and_begins_with_the_month() {
        let folder = tempfile::tempdir().expect("folder");
        let store = Arc::new(Store::open(&folder.path().join("state.redb")).expect("opens"));
        let ledger = Ledger::start(store).expect("starts");
        let budgets =
            Budgets { each: Some(2_500_000_000), tenants: BTreeMap::from([("rich".to_owned(), u64::MAX)]) };
        let november: Month = "2026-11".parse().expect("a month");
        let now_ms = november.end_ms() - 90_500;
        let spend = |tenant: &str| {
            let account =
                Account { tenant: tenant.into(), key: None, provider: "p".into(), model: "m".into() };
            let used = Totals { requests: 1, cost_nano_usd: 2_500_000_000, ..Totals::default() };
            ledger.record(november, account, &used);
        };
        assert_eq!(check(&budgets, &ledger, "acme", now_ms), Ok(()));
        spend("acme");
        spend("rich");
        let refused = check(&budgets, &ledger, "acme", now_ms).expect_err("refused");
        assert_eq!((refused.code, refused.retry_after_ms), (Code::BudgetExceeded, Some(90_500)));
        assert!(refused.message.contains("2.50 of 2.50 US dollars in 2026-11"), "{}", refused.message);
        assert_eq!(check(&budgets, &ledger, "rich", now_ms), Ok(()));
        assert_eq!(check(&budgets, &ledger, "acme", now_ms + 90_500), Ok(()), "December");
        assert_eq!(check(&Budgets::default(), &ledger, "acme", now_ms), Ok(()));
    }
}
