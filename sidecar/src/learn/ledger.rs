//! What was counted lately, by quarters of a second: requests by their attributes, and failures by
//! cluster. Times are those of this process, at which batches came in: the clocks of gateways
//! differ. An onset is told from what was well before it by where a slot begins, so slots are as
//! short as batches of failures are; what is older is kept by the second.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use tidegate_core::event::{Attributes, TrafficRow};
use tidegate_core::incident::attribution::Observed;

/// How far back is remembered, in milliseconds.
pub const PAST_MS: u64 = 60_000;
/// Length of a slot, in milliseconds.
pub const SLOT_MS: u64 = 250;
/// Slots in a second.
const SLOTS_PER_SECOND: u64 = 1000 / SLOT_MS;
/// Slots of a tuple that are kept apart; older ones of the same second are one.
const APART_MAX: usize = 8 * SLOTS_PER_SECOND as usize;
/// Most tuples of attributes; the one silent longest gives way. With all of them busy this is some
/// 90 MB.
const TUPLES_MAX: usize = 4096;
/// Most clusters told apart in one slot of one tuple.
const CLUSTERS_MAX: usize = 32;

#[derive(Debug)]
struct Slot {
    /// Its number since 1970; of several that became one, the last.
    at: u64,
    requests: u64,
    failures: Vec<(Arc<str>, u64)>,
}

impl Slot {
    const fn new(at: u64) -> Self {
        Self { at, requests: 0, failures: Vec::new() }
    }

    const fn is_past(&self, now_ms: u64) -> bool {
        self.at * SLOT_MS + PAST_MS <= now_ms
    }

    fn add(&mut self, requests: u64, failures: &[(Arc<str>, u64)]) {
        self.requests = self.requests.saturating_add(requests);
        for (cluster, count) in failures {
            let has_room = self.failures.len() < CLUSTERS_MAX;
            match self.failures.iter_mut().find(|(known, _)| known == cluster) {
                Some((_, total)) => *total = total.saturating_add(*count),
                None if has_room => self.failures.push((Arc::clone(cluster), *count)),
                None => {}
            }
        }
    }
}

/// The recent past.
#[derive(Debug, Default)]
pub struct Ledger {
    /// By attributes, and whether these are attempts that no caller saw.
    tuples: BTreeMap<(bool, Attributes), VecDeque<Slot>>,
}

impl Ledger {
    /// Adds the requests of a row, with their failures by cluster.
    pub fn add(&mut self, row: &TrafficRow, failures: &[(Arc<str>, u64)], now_ms: u64) {
        let tuple = (row.hidden, row.attributes.clone());
        if !self.tuples.contains_key(&tuple) {
            self.make_room();
        }
        let (slots, at) = (self.tuples.entry(tuple).or_default(), now_ms / SLOT_MS);
        if slots.back().is_none_or(|slot| slot.at != at) {
            slots.push_back(Slot::new(at));
            join_oldest_apart(slots);
        }
        while slots.front().is_some_and(|slot| slot.is_past(now_ms)) {
            slots.pop_front();
        }
        if let Some(slot) = slots.back_mut() {
            slot.add(row.requests, failures);
        }
    }

    fn make_room(&mut self) {
        if self.tuples.len() < TUPLES_MAX {
            return;
        }
        let last = |slots: &VecDeque<Slot>| slots.back().map_or(0, |slot| slot.at);
        let oldest = self.tuples.iter().min_by_key(|(_, slots)| last(slots)).map(|(a, _)| a.clone());
        oldest.and_then(|tuple| self.tuples.remove(&tuple));
    }

    /// The last `past_ms` milliseconds as seen from `cluster`, to the slot; failures of the clusters
    /// in `dooming` are akin to its own.
    #[must_use]
    pub fn window(
        &self,
        cluster: &str,
        dooming: &BTreeSet<Arc<str>>,
        past_ms: u64,
        now_ms: u64,
    ) -> Vec<Observed<'_>> {
        self.rows(cluster, dooming, first_slot(past_ms, now_ms), u64::MAX)
    }

    /// The `length_ms` before the last `past_ms`.
    #[must_use]
    pub fn before(
        &self,
        cluster: &str,
        dooming: &BTreeSet<Arc<str>>,
        (past_ms, length_ms): (u64, u64),
        now_ms: u64,
    ) -> Vec<Observed<'_>> {
        let (from, until) = (first_slot(past_ms + length_ms, now_ms), first_slot(past_ms, now_ms));
        self.rows(cluster, dooming, from, until)
    }

    /// Slots from `from` on that are before `until`.
    fn rows(&self, cluster: &str, dooming: &BTreeSet<Arc<str>>, from: u64, until: u64) -> Vec<Observed<'_>> {
        let mut rows = Vec::with_capacity(self.tuples.len());
        for ((hidden, attributes), history) in &self.tuples {
            let mut row =
                Observed { attributes, requests: 0, failures: 0, others: 0, akin: 0, hidden: *hidden };
            let slots = history.iter().rev().skip_while(|slot| slot.at >= until);
            for slot in slots.take_while(|slot| slot.at >= from) {
                row.requests += slot.requests;
                for (name, count) in &slot.failures {
                    if &**name == cluster {
                        row.failures += count;
                        continue;
                    }
                    row.others += count;
                    row.akin += if dooming.contains(name) { *count } else { 0 };
                }
            }
            if row.requests > 0 {
                rows.push(row);
            }
        }
        rows
    }

    /// Forgets a cluster's failures and the requests they were: the incident is over, and what it
    /// did is no sign of the next.
    pub fn forget(&mut self, cluster: &str) {
        for slot in self.tuples.values_mut().flatten() {
            slot.failures.retain(|(name, count)| {
                let is_it = &**name == cluster;
                if is_it {
                    slot.requests = slot.requests.saturating_sub(*count);
                }
                !is_it
            });
        }
    }

    /// Lets go of tuples without recent requests.
    pub fn expire(&mut self, now_ms: u64) {
        self.tuples.retain(|_, slots| slots.back().is_some_and(|slot| !slot.is_past(now_ms)));
    }
}

/// The first slot of the last `past_ms` milliseconds; the one under way is one of them.
const fn first_slot(past_ms: u64, now_ms: u64) -> u64 {
    (now_ms / SLOT_MS + 1).saturating_sub(past_ms.div_ceil(SLOT_MS))
}

/// One slot too many is apart: it becomes one with the slot before, if that is of the same second.
fn join_oldest_apart(slots: &mut VecDeque<Slot>) {
    let Some(oldest) = slots.len().checked_sub(APART_MAX + 1).filter(|oldest| *oldest > 0) else { return };
    let second = |slots: &VecDeque<Slot>, place: usize| slots.get(place).map(|s| s.at / SLOTS_PER_SECOND);
    if second(slots, oldest) != second(slots, oldest - 1) {
        return;
    }
    if let Some(slot) = slots.remove(oldest)
        && let Some(before) = slots.get_mut(oldest - 1)
    {
        before.add(slot.requests, &slot.failures);
        before.at = slot.at;
    }
}

#[cfg(test)]
mod tests {
    use tidegate_core::event::Attribute;
    use tidegate_core::incident::enforcement::slice;

    use super::*;

    fn cluster(name: &str) -> Arc<str> {
        Arc::from(name)
    }

    fn row(attributes: &Attributes, requests: u64) -> TrafficRow {
        TrafficRow { attributes: attributes.clone(), requests, failures: vec![], hidden: false }
    }

    fn sums(ledger: &Ledger, past_ms: u64, now_ms: u64) -> (u64, u64, u64) {
        let rows = ledger.window("a", &BTreeSet::new(), past_ms, now_ms);
        rows.iter().fold((0, 0, 0), |(r, f, o), row| (r + row.requests, f + row.failures, o + row.others))
    }

    #[test]
    fn windows_reach_back_as_far_as_asked() {
        let mut ledger = Ledger::default();
        let acme = slice(Attribute::Tenant, "acme");
        ledger.add(&row(&acme, 10), &[(cluster("a"), 1)], 100_000);
        ledger.add(&row(&acme, 10), &[(cluster("a"), 2), (cluster("b"), 3)], 100_300);
        ledger.add(&row(&acme, 5), &[], 100_400);
        assert_eq!(sums(&ledger, 250, 100_499), (15, 2, 3), "apart from what was just before");
        assert_eq!(sums(&ledger, 500, 100_499), (25, 3, 3));
        assert_eq!(sums(&ledger, 60_000, 160_249), (15, 2, 3));
        let before = ledger.before("a", &BTreeSet::new(), (250, 250), 100_499);
        assert_eq!((before[0].requests, before[0].failures), (10, 1));
        let akin = ledger.window("a", &BTreeSet::from([cluster("b")]), 250, 100_499);
        assert_eq!((akin[0].others, akin[0].akin), (3, 3));
        ledger.forget("a");
        assert_eq!(sums(&ledger, 60_000, 100_400), (22, 0, 3));
        ledger.expire(160_250);
        assert!(ledger.tuples.is_empty());
    }

    #[test]
    fn what_is_old_is_kept_by_the_second_and_nothing_is_lost() {
        let mut ledger = Ledger::default();
        let acme = slice(Attribute::Tenant, "acme");
        for quarter in 0..60 * SLOTS_PER_SECOND {
            ledger.add(&row(&acme, 1), &[(cluster("a"), 1)], 1_000_000 + quarter * SLOT_MS);
        }
        let now_ms = 1_000_000 + PAST_MS - 1;
        assert_eq!(sums(&ledger, PAST_MS, now_ms), (240, 240, 0));
        assert_eq!(sums(&ledger, 2_000, now_ms), (8, 8, 0));
        let kept = ledger.tuples.values().next().map_or(0, VecDeque::len);
        assert!(kept <= APART_MAX + 60 - 8 + 1, "{kept}");
    }

    #[test]
    fn a_flood_of_tuples_and_clusters_is_bounded() {
        let mut ledger = Ledger::default();
        for i in 0..TUPLES_MAX as u64 + 500 {
            let failures = [(cluster(&format!("c{i}")), 1)];
            ledger.add(&row(&slice(Attribute::Tenant, &format!("t{i}")), 1), &failures, i * 10);
            ledger.add(&row(&slice(Attribute::Tenant, "busy"), 1), &failures, i * 10);
        }
        assert!(ledger.tuples.len() <= TUPLES_MAX);
        let busy = &ledger.tuples[&(false, slice(Attribute::Tenant, "busy"))];
        assert!(busy.iter().all(|slot| slot.failures.len() <= CLUSTERS_MAX));
        assert!(busy.len() <= APART_MAX + 60);
    }
}
