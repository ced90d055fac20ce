//! What all gateways have used in a month, as one of them knows it.
//!
//! A grow-only counter (Shapiro et al., "Conflict-free Replicated Data Types", 2011): each gateway
//! has a row for each tenant that it alone raises, and of two versions of a row the one with more
//! requests is the newer. So rows may come late, twice, in any order and from anybody: nothing is
//! counted twice. Everybody remembers all rows, so a Redis that lost them gets them again.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::super::Totals;

/// Most rows that are remembered of all gateways; what further ones have is not counted here.
pub const ROWS_MAX: usize = 200_000;
/// Most rows that are sent, and asked for, in one exchange.
pub const ROWS_A_BATCH: usize = 1_000;

/// Whose row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowId {
    /// Tenant.
    pub tenant: String,
    /// Id of the gateway that was asked.
    pub gateway: String,
}

/// A row, as it is sent and heard.
pub type Row = (RowId, Totals);

/// What one exchange says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Which memory of Redis this gateway has followed so far; empty for none.
    pub epoch: String,
    /// Up to which change.
    pub since: u64,
    /// Rows that Redis may not have.
    pub rows: Vec<Row>,
}

/// What Redis answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Which memory it has; another one than before if it has lost everything. Empty if it has
    /// nothing of this month.
    pub epoch: String,
    /// Up to which change this answer goes.
    pub next: u64,
    /// The last change.
    pub last: u64,
    /// Rows that have changed since, of those that [`Batch::since`] did not know.
    pub rows: Vec<Row>,
}

/// Usage of one month.
#[derive(Debug, Default)]
pub struct FleetMonth {
    rows: BTreeMap<RowId, Totals>,
    unsent: BTreeSet<RowId>,
    epoch: String,
    since: u64,
}

impl FleetMonth {
    /// Raises the row of a tenant that this gateway has.
    pub fn raise(&mut self, id: RowId, used: &Totals) {
        self.rows.entry(id.clone()).or_default().add(used);
        self.unsent.insert(id);
    }

    /// What a tenant has used at all gateways.
    #[must_use]
    pub fn of_tenant(&self, tenant: &str) -> Totals {
        let first = RowId { tenant: tenant.to_owned(), gateway: String::new() };
        let rows = self.rows.range((Bound::Included(first), Bound::Unbounded));
        let mut sum = Totals::default();
        rows.take_while(|(id, _)| id.tenant == tenant).for_each(|(_, totals)| sum.add(totals));
        sum
    }

    /// All rows.
    pub fn rows(&self) -> impl Iterator<Item = (&RowId, &Totals)> {
        self.rows.iter()
    }

    /// Whether there is something that Redis may not have.
    #[must_use]
    pub fn has_news(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// What to say next.
    #[must_use]
    pub fn batch(&self) -> Batch {
        let next = self.unsent.iter().take(ROWS_A_BATCH);
        let rows = next.filter_map(|id| Some((id.clone(), *self.rows.get(id)?)));
        Batch { epoch: self.epoch.clone(), since: self.since, rows: rows.collect() }
    }

    /// Takes over what was heard. Returns what `gateway` had told the others before and does not
    /// know itself any more, by tenant: it lost it in a crash.
    pub fn heard(&mut self, sent: &Batch, answer: Answer, gateway: &str) -> Vec<(String, Totals)> {
        if answer.epoch != self.epoch {
            self.unsent = self.rows.keys().cloned().collect();
        }
        for (id, told) in &sent.rows {
            // What was raised meanwhile goes with the next batch.
            if !answer.epoch.is_empty() && self.rows.get(id) == Some(told) {
                self.unsent.remove(id);
            }
        }
        (self.epoch, self.since) = (answer.epoch, answer.next);
        answer.rows.into_iter().filter_map(|row| self.take(row, gateway)).collect()
    }

    fn take(&mut self, (id, heard): Row, gateway: &str) -> Option<(String, Totals)> {
        let known = self.rows.get(&id).copied();
        if known.is_some_and(|known| known.requests >= heard.requests) {
            return None;
        }
        if known.is_none() && self.rows.len() >= ROWS_MAX {
            return None;
        }
        let lost =
            (id.gateway == gateway).then(|| (id.tenant.clone(), heard.since(&known.unwrap_or_default())));
        self.rows.insert(id, heard);
        lost
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use proptest::prelude::*;

    use super::*;

    fn id(tenant: &str, gateway: &str) -> RowId {
        RowId { tenant: tenant.to_owned(), gateway: gateway.to_owned() }
    }

    fn used(nano: u64) -> Totals {
        Totals { requests: 1, cost_nano_usd: nano, ..Totals::default() }
    }

    /// What the script does (`redis/scripts.lua`), which a test of the exchange holds against Redis.
    #[derive(Default)]
    struct Memory {
        lives: u64,
        rows: BTreeMap<RowId, (u64, Totals)>,
        last: u64,
    }

    impl Memory {
        fn lose(&mut self) {
            *self = Self { lives: self.lives + 1, ..Self::default() };
        }

        fn exchange(&mut self, batch: &Batch) -> Answer {
            for (id, totals) in &batch.rows {
                if self.rows.get(id).is_none_or(|(_, kept)| kept.requests < totals.requests) {
                    self.last += 1;
                    self.rows.insert(id.clone(), (self.last, *totals));
                }
            }
            let epoch = if self.rows.is_empty() { String::new() } else { format!("e{}", self.lives) };
            let since = if epoch == batch.epoch { batch.since } else { 0 };
            let mut rows: Vec<_> = self.rows.iter().filter(|(_, (at, _))| *at > since).collect();
            rows.sort_by_key(|(_, (at, _))| *at);
            rows.truncate(3);
            let next = rows.last().map_or(self.last, |(_, (at, _))| *at);
            let rows = rows.into_iter().map(|(id, (_, totals))| (id.clone(), *totals)).collect();
            Answer { epoch, next, last: self.last, rows }
        }
    }

    /// What may happen to one of three gateways.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        Uses {
            nano: u64,
            by_b: bool,
        },
        Exchanges,
        /// The answer is lost, though Redis has done it.
        ExchangesUnheard,
        RedisLosesAll,
    }

    fn steps() -> impl Strategy<Value = Vec<(usize, Step)>> {
        let step = prop_oneof![
            4 => (1u64..100, any::<bool>()).prop_map(|(nano, by_b)| Step::Uses { nano, by_b }),
            4 => Just(Step::Exchanges),
            2 => Just(Step::ExchangesUnheard),
            1 => Just(Step::RedisLosesAll),
        ];
        prop::collection::vec((0usize..3, step), 1..80)
    }

    proptest! {
        #[test]
        fn nothing_is_counted_twice_and_in_the_end_all_know_all(steps in steps()) {
            let redis = RefCell::new(Memory::default());
            let names = ["x", "y", "z"];
            let mut gateways: [FleetMonth; 3] = Default::default();
            let mut spent = [0u64; 2];
            let exchange = |index: usize, month: &mut FleetMonth, is_heard: bool| {
                let batch = month.batch();
                let answer = redis.borrow_mut().exchange(&batch);
                if is_heard {
                    prop_assert_eq!(month.heard(&batch, answer, names[index]), vec![]);
                }
                Ok(())
            };
            for (index, step) in steps {
                match step {
                    Step::Uses { nano, by_b } => {
                        let tenant = if by_b { "b" } else { "a" };
                        gateways[index].raise(id(tenant, names[index]), &used(nano));
                        spent[usize::from(by_b)] += nano;
                    }
                    Step::Exchanges => exchange(index, &mut gateways[index], true)?,
                    Step::ExchangesUnheard => exchange(index, &mut gateways[index], false)?,
                    Step::RedisLosesAll => redis.borrow_mut().lose(),
                }
                for month in &gateways {
                    prop_assert!(month.of_tenant("a").cost_nano_usd <= spent[0]);
                    prop_assert!(month.of_tenant("b").cost_nano_usd <= spent[1]);
                }
            }
            for _ in 0..6 {
                for (index, month) in gateways.iter_mut().enumerate() {
                    exchange(index, month, true)?;
                }
            }
            for month in &gateways {
                prop_assert_eq!(month.of_tenant("a").cost_nano_usd, spent[0]);
                prop_assert_eq!(month.of_tenant("b").cost_nano_usd, spent[1]);
                prop_assert!(!month.has_news());
            }
        }
    }

    #[test]
    fn what_a_crash_lost_is_heard_from_the_others() {
        let mut redis = Memory::default();
        let (mut before, mut after) = (FleetMonth::default(), FleetMonth::default());
        before.raise(id("a", "x"), &used(5));
        redis.exchange(&before.batch());
        let batch = after.batch();
        let lost = after.heard(&batch, redis.exchange(&batch), "x");
        assert_eq!(lost, [("a".to_owned(), used(5))]);
        assert_eq!(after.of_tenant("a"), used(5));
        assert!(!after.has_news());
    }

    #[test]
    fn a_tenant_is_not_taken_for_one_whose_name_begins_like_it() {
        let mut month = FleetMonth::default();
        month.raise(id("a", "x"), &used(1));
        month.raise(id("ab", "x"), &used(2));
        month.raise(id("a", "y"), &used(4));
        assert_eq!(month.of_tenant("a").cost_nano_usd, 5);
        assert_eq!(month.of_tenant("b"), Totals::default());
    }

    #[test]
    fn memory_is_bounded() {
        let mut month = FleetMonth::default();
        let rows = (0..ROWS_MAX + 10).map(|i| (id("a", &i.to_string()), used(1))).collect();
        let answer = Answer { epoch: "e".to_owned(), next: 1, last: 1, rows };
        month.heard(&FleetMonth::default().batch(), answer, "x");
        assert_eq!(month.rows().count(), ROWS_MAX);
    }
}
