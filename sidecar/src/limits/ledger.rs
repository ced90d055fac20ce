//! Tokens and money by month, tenant, key, provider and model.
//!
//! Kept in memory, written to the store once a second and at the end: a crash loses at most the
//! last second. Memory is bounded by [`ROWS_MAX`]; beyond it, keys and models of a tenant are
//! summed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_core::usage::{Calibration, Month};
use tokio::sync::watch;

use crate::store::{Store, StoreError, Table};

/// Most rows with a key and a model of their own.
pub const ROWS_MAX: usize = 100_000;
/// What stands for keys, providers and models that have no row of their own.
const OTHERS: &str = "others";
/// Time between two writes.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);
/// Rows written in one transaction.
const ROWS_A_WRITE: usize = 1_000;

/// Whose row, and for what.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Account {
    /// Tenant.
    pub tenant: String,
    /// Id of the key or user; absent for anonymous callers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Provider that answered.
    pub provider: String,
    /// Model that answered.
    pub model: String,
}

/// What was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Requests that used anything.
    pub requests: u64,
    /// Of these, such whose usage was estimated, because nobody reported it.
    pub estimated_requests: u64,
    /// Tokens of prompts, cached ones included.
    pub prompt_tokens: u64,
    /// Tokens of prompts that the provider had cached.
    pub cached_tokens: u64,
    /// Tokens of answers.
    pub completion_tokens: u64,
    /// Money, in nanodollars.
    pub cost_nano_usd: u64,
}

impl Totals {
    /// Adds another sum.
    pub const fn add(&mut self, more: &Self) {
        self.requests = self.requests.saturating_add(more.requests);
        self.estimated_requests = self.estimated_requests.saturating_add(more.estimated_requests);
        self.prompt_tokens = self.prompt_tokens.saturating_add(more.prompt_tokens);
        self.cached_tokens = self.cached_tokens.saturating_add(more.cached_tokens);
        self.completion_tokens = self.completion_tokens.saturating_add(more.completion_tokens);
        self.cost_nano_usd = self.cost_nano_usd.saturating_add(more.cost_nano_usd);
    }
}

/// A row as the store has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    month: String,
    #[serde(flatten)]
    account: Account,
    #[serde(flatten)]
    totals: Totals,
}

type RowId = (Month, Account);

#[derive(Debug, Default)]
struct Rows {
    totals: BTreeMap<RowId, Totals>,
    spent: BTreeMap<(Month, String), u64>,
    unwritten: BTreeSet<RowId>,
}

impl Rows {
    fn add(&mut self, month: Month, mut account: Account, more: &Totals) -> RowId {
        if self.totals.len() >= ROWS_MAX && !self.totals.contains_key(&(month, account.clone())) {
            let others = || OTHERS.to_owned();
            account = Account { tenant: account.tenant, key: None, provider: others(), model: others() };
        }
        // Callers cannot invent tenants, but the issuers of tokens can.
        if self.spent.len() >= ROWS_MAX && !self.spent.contains_key(&(month, account.tenant.clone())) {
            OTHERS.clone_into(&mut account.tenant);
        }
        let spent = self.spent.entry((month, account.tenant.clone())).or_default();
        *spent = spent.saturating_add(more.cost_nano_usd);
        let id = (month, account);
        self.totals.entry(id.clone()).or_default().add(more);
        id
    }
}

/// The account of record.
#[derive(Debug)]
pub struct Ledger {
    rows: Mutex<Rows>,
    calibration: Mutex<Calibration>,
    store: Arc<Store>,
}

impl Ledger {
    /// Goes on from what the store has.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn start(store: Arc<Store>) -> Result<Self, StoreError> {
        let mut rows = Rows::default();
        for Record { month, account, totals } in store.all::<Record>(Table::Usage)? {
            if let Ok(month) = month.parse() {
                rows.add(month, account, &totals);
            }
        }
        Ok(Self { rows: Mutex::new(rows), calibration: Mutex::default(), store })
    }

    /// A request of `account` came to this.
    pub fn record(&self, month: Month, account: Account, used: &Totals) {
        let mut rows = self.lock();
        let id = rows.add(month, account, used);
        rows.unwritten.insert(id);
    }

    /// How providers' counts of prompts compare with estimates.
    pub fn calibration(&self) -> MutexGuard<'_, Calibration> {
        self.calibration.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a tenant has spent in a month, in nanodollars.
    #[must_use]
    pub fn spent(&self, month: Month, tenant: &str) -> u64 {
        self.lock().spent.get(&(month, tenant.to_owned())).copied().unwrap_or(0)
    }

    /// The rows of a month, of one tenant or of all.
    #[must_use]
    pub fn rows(&self, month: Month, tenant: Option<&str>) -> Vec<(Account, Totals)> {
        let rows = self.lock();
        let wanted = |(of, account): &RowId| *of == month && tenant.is_none_or(|t| t == account.tenant);
        rows.totals.iter().filter(|(id, _)| wanted(id)).map(|((_, a), totals)| (a.clone(), *totals)).collect()
    }

    /// Writes what has changed since the last time; what cannot be written is tried again.
    ///
    /// # Errors
    /// The store failed.
    pub fn write(&self) -> Result<(), StoreError> {
        loop {
            let batch: Vec<(RowId, Totals)> = {
                let mut rows = self.lock();
                let ids: Vec<RowId> = (0..ROWS_A_WRITE).map_while(|_| rows.unwritten.pop_first()).collect();
                ids.into_iter().filter_map(|id| rows.totals.get(&id).map(|t| (id.clone(), *t))).collect()
            };
            if batch.is_empty() {
                return Ok(());
            }
            let written = self.store.write(|writer| {
                batch.iter().try_for_each(|((month, account), totals)| {
                    let record =
                        Record { month: month.to_string(), account: account.clone(), totals: *totals };
                    writer.put_record(Table::Usage, &row_name(*month, account), Some(&record))
                })
            });
            if let Err(error) = written {
                self.lock().unwritten.extend(batch.into_iter().map(|(id, _)| id));
                return Err(error);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Parts cannot run into each other: a tab is in none of them.
fn row_name(month: Month, account: &Account) -> String {
    let Account { tenant, key, provider, model } = account;
    format!("{month}\t{tenant}\t{}\t{provider}\t{model}", key.as_deref().unwrap_or_default())
}

/// Writes the ledger once a second until `draining`. What comes after that is written by whoever
/// ends the process.
pub async fn keep(ledger: Arc<Ledger>, mut draining: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            _ = draining.wait_for(|draining| *draining) => return,
            () = tokio::time::sleep(WRITE_INTERVAL) => {}
        }
        let ledger = ledger.clone();
        match tokio::task::spawn_blocking(move || ledger.write()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "usage could not be written; it is tried again"),
            Err(error) => tracing::error!(%error, "writing usage was not finished"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> (tempfile::TempDir, Ledger) {
        let folder = tempfile::tempdir().expect("folder");
        let store = Arc::new(Store::open(&folder.path().join("state.redb")).expect("opens"));
        let ledger = Ledger::start(store).expect("starts");
        (folder, ledger)
    }

    fn account(tenant: &str, key: Option<&str>, model: &str) -> Account {
        Account { tenant: tenant.into(), key: key.map(Into::into), provider: "p".into(), model: model.into() }
    }

    const USED: Totals = Totals {
        requests: 1,
        estimated_requests: 0,
        prompt_tokens: 10,
        cached_tokens: 4,
        completion_tokens: 5,
        cost_nano_usd: 700,
    };

    #[test]
    fn what_was_recorded_survives_a_restart() {
        let (folder, ledger) = ledger();
        let (october, november): (Month, Month) =
            ("2026-10".parse().expect("a month"), "2026-11".parse().expect("a month"));
        for model in ["a", "b", "a"] {
            ledger.record(november, account("acme", Some("k"), model), &USED);
        }
        ledger.record(october, account("acme", None, "a"), &USED);
        ledger.record(november, account("other", None, "a"), &USED);
        ledger.write().expect("writes");
        drop(ledger);
        let store = Arc::new(Store::open(&folder.path().join("state.redb")).expect("opens"));
        let ledger = Ledger::start(store).expect("starts");
        let rows = ledger.rows(november, Some("acme"));
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0].1.prompt_tokens, 20);
        assert_eq!((ledger.spent(november, "acme"), ledger.spent(october, "acme")), (2100, 700));
        ledger.record(november, account("acme", Some("k"), "a"), &USED);
        assert_eq!(ledger.rows(november, Some("acme"))[0].1.requests, 3);
        assert_eq!(ledger.rows(november, None).len(), 3);
    }

    #[test]
    fn memory_is_bounded_and_no_money_is_lost_over_it() {
        let mut rows = Rows::default();
        let month = "2026-11".parse().expect("a month");
        for i in 0..ROWS_MAX + 1000 {
            rows.add(month, account("acme", Some(&format!("k{i}")), "m"), &USED);
        }
        assert!(rows.totals.len() <= ROWS_MAX + 1);
        let sum: u64 = rows.totals.values().map(|totals| totals.cost_nano_usd).sum();
        assert_eq!(sum, (ROWS_MAX as u64 + 1000) * USED.cost_nano_usd);
        assert_eq!(rows.spent.get(&(month, "acme".into())), Some(&sum));
    }
}
