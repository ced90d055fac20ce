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

use super::fleet::{Answer, Batch, Fleet, View};
use super::{Account, Totals};
use crate::store::{Store, StoreError, Table};

/// Most rows with a key and a model of their own.
pub const ROWS_MAX: usize = 100_000;
/// Most providers whose costs are summed by themselves.
const PROVIDERS_MAX: usize = 256;
/// What stands for keys, providers and models that have no row of their own.
const OTHERS: &str = "others";
/// Time between two writes.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);
/// Rows written in one transaction.
const ROWS_A_WRITE: usize = 1_000;
/// How old a month may be that is told to other gateways after a restart, in milliseconds: the end
/// of the last month may not have reached them.
const TOLD_AGAIN_MS: u64 = 7 * 86_400_000;

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
    tenants: BTreeMap<(Month, String), Totals>,
    /// Nanodollars of all months.
    providers: BTreeMap<String, u64>,
    unwritten: BTreeSet<RowId>,
}

impl Rows {
    fn add(&mut self, month: Month, mut account: Account, more: &Totals) -> RowId {
        if self.totals.len() >= ROWS_MAX && !self.totals.contains_key(&(month, account.clone())) {
            let others = || OTHERS.to_owned();
            account = Account { tenant: account.tenant, key: None, provider: others(), model: others() };
        }
        // Callers cannot invent tenants, but the issuers of tokens can.
        if self.tenants.len() >= ROWS_MAX && !self.tenants.contains_key(&(month, account.tenant.clone())) {
            OTHERS.clone_into(&mut account.tenant);
        }
        self.tenants.entry((month, account.tenant.clone())).or_default().add(more);
        self.spend(&account.provider, more.cost_nano_usd);
        let id = (month, account);
        match self.totals.get_mut(&id) {
            Some(totals) => totals.add(more),
            None => drop(self.totals.insert(id.clone(), *more)),
        }
        id
    }

    fn spend(&mut self, provider: &str, nano_usd: u64) {
        let is_full = self.providers.len() >= PROVIDERS_MAX;
        let spent = match self.providers.get_mut(provider) {
            Some(spent) => spent,
            None => self.providers.entry(if is_full { OTHERS } else { provider }.to_owned()).or_default(),
        };
        *spent = spent.saturating_add(nano_usd);
    }
}

/// The account of record.
#[derive(Debug)]
pub struct Ledger {
    rows: Mutex<Rows>,
    calibration: Mutex<Calibration>,
    /// Locked after `rows`, where both are.
    fleet: Option<Mutex<Fleet>>,
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
        Ok(Self { rows: Mutex::new(rows), calibration: Mutex::default(), fleet: None, store })
    }

    /// The same, shared with other gateways, among which this one is called `gateway`: budgets are
    /// then held against what all have spent.
    #[must_use]
    pub fn shared(mut self, gateway: String, now_ms: u64) -> Self {
        let oldest = Month::of_ms(now_ms.saturating_sub(TOLD_AGAIN_MS));
        let own: Vec<_> =
            self.lock().tenants.iter().map(|((m, tenant), used)| (*m, tenant.clone(), *used)).collect();
        let own = own.into_iter().filter(|(month, ..)| *month >= oldest);
        self.fleet = Some(Mutex::new(Fleet::new(gateway, own)));
        self
    }

    /// A request of `account` came to this.
    pub fn record(&self, month: Month, account: Account, used: &Totals) {
        let id = self.note(month, account, used);
        if let Some(mut fleet) = self.fleet() {
            fleet.raise(month, id.1.tenant, used);
        }
    }

    fn note(&self, month: Month, account: Account, used: &Totals) -> RowId {
        let mut rows = self.lock();
        let id = rows.add(month, account, used);
        if !rows.unwritten.contains(&id) {
            rows.unwritten.insert(id.clone());
        }
        id
    }

    /// How providers' counts of prompts compare with estimates.
    pub fn calibration(&self) -> MutexGuard<'_, Calibration> {
        self.calibration.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a tenant has spent in a month, in nanodollars: at all gateways, as far as they are
    /// known here, or at this one if it is alone.
    #[must_use]
    pub fn spent(&self, month: Month, tenant: &str) -> u64 {
        match self.fleet() {
            Some(fleet) => fleet.of_tenant(month, tenant).cost_nano_usd,
            None => self.spent_here(month, tenant),
        }
    }

    /// What of it was spent at this gateway.
    #[must_use]
    pub fn spent_here(&self, month: Month, tenant: &str) -> u64 {
        self.lock().tenants.get(&(month, tenant.to_owned())).map_or(0, |totals| totals.cost_nano_usd)
    }

    /// What each tenant has spent in a month, in nanodollars, as far as [`Self::spent`] knows.
    #[must_use]
    pub fn spent_by_tenant(&self, month: Month) -> BTreeMap<String, u64> {
        if let Some(view) = self.fleet_view(month) {
            return view.tenants.into_iter().map(|(tenant, used)| (tenant, used.cost_nano_usd)).collect();
        }
        let rows = self.lock();
        let of_month = rows.tenants.range((month, String::new())..).take_while(|((of, _), _)| *of == month);
        of_month.map(|((_, tenant), used)| (tenant.clone(), used.cost_nano_usd)).collect()
    }

    /// What requests to each provider have cost here in all months, in nanodollars.
    #[must_use]
    pub fn spent_by_provider(&self) -> BTreeMap<String, u64> {
        self.lock().providers.clone()
    }

    /// Whether the other gateways were heard at the last exchange; `None` where there are none.
    #[must_use]
    pub fn is_fleet_heard(&self) -> Option<bool> {
        self.fleet().map(|fleet| fleet.is_heard())
    }

    /// What all gateways have used in a month, as far as that is remembered here.
    #[must_use]
    pub fn fleet_view(&self, month: Month) -> Option<View> {
        self.fleet().and_then(|fleet| fleet.view(month))
    }

    /// What the other gateways may not know yet.
    pub(super) fn fleet_batches(&self, now: Month) -> Vec<(Month, Batch)> {
        self.fleet().map(|mut fleet| fleet.batches(now)).unwrap_or_default()
    }

    /// Takes over what the others said. What this gateway had told them and lost in a crash comes
    /// back.
    pub(super) fn fleet_answered(&self, month: Month, sent: &Batch, answer: Answer) {
        let lost = self.fleet().map(|mut fleet| fleet.heard(month, sent, answer)).unwrap_or_default();
        for (tenant, totals) in lost {
            let others = || OTHERS.to_owned();
            self.note(month, Account { tenant, key: None, provider: others(), model: others() }, &totals);
        }
    }

    /// Whether the last exchange was one; returns whether that has changed.
    pub(super) fn fleet_is_heard(&self, is_heard: bool) -> bool {
        self.fleet().is_some_and(|mut fleet| fleet.set_heard(is_heard))
    }

    fn fleet(&self) -> Option<MutexGuard<'_, Fleet>> {
        self.fleet.as_ref().map(|fleet| fleet.lock().unwrap_or_else(PoisonError::into_inner))
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
        let by_tenant = BTreeMap::from([("acme".to_owned(), 2100), ("other".to_owned(), 700)]);
        assert_eq!(ledger.spent_by_tenant(november), by_tenant);
        assert_eq!(ledger.spent_by_provider(), BTreeMap::from([("p".to_owned(), 3500)]));
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
        assert_eq!(rows.tenants[&(month, "acme".into())].cost_nano_usd, sum);
    }
}
