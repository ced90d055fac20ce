//! What was counted lately, second by second: requests by their attributes, and failures by
//! cluster. Seconds are those of this process, at which batches came in: the clocks of gateways
//! differ.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tidegate_core::event::{Attributes, TrafficRow};
use tidegate_core::incident::attribution::Observed;

/// How far back is remembered, in seconds.
pub const SECONDS_MAX: u64 = 60;
/// Most tuples of attributes; the one silent longest gives way. With all of them busy this is some
/// 60 MB.
const TUPLES_MAX: usize = 4096;
/// Most clusters told apart in one second of one tuple.
const CLUSTERS_MAX: usize = 32;

#[derive(Debug)]
struct Second {
    at_s: u64,
    requests: u64,
    failures: Vec<(Arc<str>, u64)>,
}

/// The recent past.
#[derive(Debug, Default)]
pub struct Ledger {
    /// By attributes, and whether these are attempts that no caller saw.
    tuples: BTreeMap<(bool, Attributes), VecDeque<Second>>,
}

impl Ledger {
    /// Adds the requests of a row, with their failures by cluster.
    pub fn add(&mut self, row: &TrafficRow, failures: &[(Arc<str>, u64)], now_s: u64) {
        let (tuple, requests) = ((row.hidden, row.attributes.clone()), row.requests);
        if !self.tuples.contains_key(&tuple) {
            self.make_room();
        }
        let seconds = self.tuples.entry(tuple).or_default();
        if seconds.back().is_none_or(|second| second.at_s != now_s) {
            seconds.push_back(Second { at_s: now_s, requests: 0, failures: Vec::new() });
        }
        while seconds.front().is_some_and(|second| second.at_s + SECONDS_MAX <= now_s) {
            seconds.pop_front();
        }
        let Some(second) = seconds.back_mut() else { return };
        second.requests = second.requests.saturating_add(requests);
        for (cluster, count) in failures {
            let has_room = second.failures.len() < CLUSTERS_MAX;
            match second.failures.iter_mut().find(|(known, _)| known == cluster) {
                Some((_, total)) => *total = total.saturating_add(*count),
                None if has_room => second.failures.push((Arc::clone(cluster), *count)),
                None => {}
            }
        }
    }

    fn make_room(&mut self) {
        if self.tuples.len() < TUPLES_MAX {
            return;
        }
        let last = |seconds: &VecDeque<Second>| seconds.back().map_or(0, |second| second.at_s);
        let oldest = self.tuples.iter().min_by_key(|(_, seconds)| last(seconds)).map(|(a, _)| a.clone());
        oldest.and_then(|tuple| self.tuples.remove(&tuple));
    }

    /// The last `seconds` seconds as seen from `cluster`.
    #[must_use]
    pub fn window(&self, cluster: &str, seconds: u64, now_s: u64) -> Vec<Observed<'_>> {
        let mut rows = Vec::with_capacity(self.tuples.len());
        for ((hidden, attributes), history) in &self.tuples {
            let (mut requests, mut failures, mut others) = (0, 0, 0);
            for second in history.iter().rev().take_while(|second| second.at_s + seconds > now_s) {
                requests += second.requests;
                for (name, count) in &second.failures {
                    *(if &**name == cluster { &mut failures } else { &mut others }) += count;
                }
            }
            if requests > 0 {
                rows.push(Observed { attributes, requests, failures, others, hidden: *hidden });
            }
        }
        rows
    }

    /// Forgets a cluster's failures and the requests they were: the incident is over, and what it
    /// did is no sign of the next.
    pub fn forget(&mut self, cluster: &str) {
        for second in self.tuples.values_mut().flatten() {
            second.failures.retain(|(name, count)| {
                let is_it = &**name == cluster;
                if is_it {
                    second.requests = second.requests.saturating_sub(*count);
                }
                !is_it
            });
        }
    }

    /// Lets go of tuples without recent requests.
    pub fn expire(&mut self, now_s: u64) {
        self.tuples.retain(|_, seconds| seconds.back().is_some_and(|s| s.at_s + SECONDS_MAX > now_s));
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

    fn sums(ledger: &Ledger, seconds: u64, now_s: u64) -> (u64, u64, u64) {
        let rows = ledger.window("a", seconds, now_s);
        rows.iter().fold((0, 0, 0), |(r, f, o), row| (r + row.requests, f + row.failures, o + row.others))
    }

    #[test]
    fn windows_reach_back_as_far_as_asked() {
        let mut ledger = Ledger::default();
        let acme = slice(Attribute::Tenant, "acme");
        ledger.add(&row(&acme, 10), &[(cluster("a"), 1)], 100);
        ledger.add(&row(&acme, 10), &[(cluster("a"), 2), (cluster("b"), 3)], 101);
        ledger.add(&row(&acme, 5), &[], 101);
        assert_eq!(sums(&ledger, 1, 101), (15, 2, 3));
        assert_eq!(sums(&ledger, 2, 101), (25, 3, 3));
        assert_eq!(sums(&ledger, 60, 160), (15, 2, 3));
        ledger.forget("a");
        assert_eq!(sums(&ledger, 60, 101), (22, 0, 3));
        ledger.expire(161);
        assert!(ledger.tuples.is_empty());
    }

    #[test]
    fn a_flood_of_tuples_and_clusters_is_bounded() {
        let mut ledger = Ledger::default();
        for i in 0..TUPLES_MAX as u64 + 500 {
            let failures = [(cluster(&format!("c{i}")), 1)];
            ledger.add(&row(&slice(Attribute::Tenant, &format!("t{i}")), 1), &failures, i / 100);
            ledger.add(&row(&slice(Attribute::Tenant, "busy"), 1), &failures, i / 100);
        }
        assert!(ledger.tuples.len() <= TUPLES_MAX);
        let busy = &ledger.tuples[&(false, slice(Attribute::Tenant, "busy"))];
        assert!(busy.iter().all(|second| second.failures.len() <= CLUSTERS_MAX));
        assert!(busy.len() <= SECONDS_MAX as usize);
    }
}
