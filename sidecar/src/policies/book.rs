//! All policies, and the rules of making, changing and ending them. Nothing here waits: what has
//! changed is kept and published by whoever holds the book.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};
use tidegate_core::event::{Attributes, PolicyNote};
use tidegate_core::incident::enforcement::{Measure, POLICIES_MAX, SlicePolicy, contains, describe};
use tidegate_core::incident::proposal::OUTAGE_PRECISION;
use tidegate_core::policy::BreakerPolicy;

use super::edit::{self, BookError, Edit};
use super::record::{Proposal, Record};
use super::timeline::{self, Moment, Timelines, What};
use crate::keys::random::hex;

/// Alarms that are shown; the oldest gives way.
const ALARMS_MAX: usize = 100;
/// A renewal is published when this part of a policy's life is over, so that a storm of failures
/// does not make a storm of documents.
const RENEW_AFTER: u64 = 4;

/// Something that an operator should look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// The cluster.
    pub cluster_id: String,
    /// What.
    pub message: String,
}

/// Bounds on what the learning loop may do by itself.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Largest share of the traffic that one policy may match, if not nearly all of it fails.
    pub traffic_share_max: f64,
    /// Policies that may be made in a minute.
    pub changes_per_minute: u32,
}

/// All policies.
#[derive(Debug, Default)]
pub struct Book {
    records: BTreeMap<String, Record>,
    alarms: VecDeque<Alarm>,
    made_ms: VecDeque<u64>,
    /// Records that differ from what is stored.
    changed: BTreeSet<String>,
    timelines: Timelines,
}

impl Book {
    /// The policies that were kept.
    #[must_use]
    pub fn new(records: Vec<Record>) -> Self {
        Self { records: records.into_iter().map(|r| (r.id.clone(), r)).collect(), ..Self::default() }
    }

    /// All policies, by name.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.values()
    }

    /// One policy.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Record> {
        self.records.get(id)
    }

    /// The alarms, oldest first.
    pub fn alarms(&self) -> impl Iterator<Item = &Alarm> {
        self.alarms.iter()
    }

    /// The policies as filters read them.
    #[must_use]
    pub fn slices(&self) -> Vec<SlicePolicy> {
        self.records.values().filter_map(Record::slice).take(POLICIES_MAX).collect()
    }

    /// Puts what other gateways have made of the policies in the place of what is here, except for
    /// changes of this one's own that are still to be stored.
    pub fn take_over(&mut self, records: Vec<Record>) {
        let Self { records: own, changed, .. } = self;
        own.retain(|id, _| changed.contains(id));
        let of_others = records.into_iter().filter(|record| !changed.contains(&record.id));
        own.extend(of_others.map(|record| (record.id.clone(), record)));
    }

    /// Takes the names of records that have to be stored or removed from the store.
    pub fn take_changed(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.changed)
    }

    /// Raises an alarm, unless the last one of that cluster says the same.
    pub fn alarm(&mut self, cluster_id: &str, message: String, now_ms: u64) {
        let last = self.alarms.iter().rev().find(|alarm| alarm.cluster_id == cluster_id);
        if last.is_some_and(|alarm| alarm.message == message) {
            return;
        }
        tracing::warn!(cluster = cluster_id, message, "incident alarm");
        if self.alarms.len() >= ALARMS_MAX {
            self.alarms.pop_front();
        }
        self.timelines.tell(cluster_id, now_ms, What::Alarm, message.clone(), None);
        self.alarms.push_back(Alarm { at_ms: now_ms, cluster_id: cluster_id.to_owned(), message });
    }

    /// What became of a cluster's incident, in its order.
    #[must_use]
    pub fn timeline(&self, cluster_id: &str) -> Vec<Moment> {
        self.timelines.of(cluster_id)
    }

    /// Tells that a cluster's incident has become worse.
    pub fn grew(&mut self, cluster_id: &str, text: String, now_ms: u64) {
        self.timelines.tell(cluster_id, now_ms, What::Grew, text, None);
    }

    fn tell(&mut self, record: &Record, event: What, text: String, now_ms: u64) {
        self.timelines.tell(&record.cluster_id, now_ms, event, text, Some(&record.id));
    }

    /// Makes a policy of a proposal, or renews the one that stands already. True when filters
    /// have to hear of it.
    pub fn propose(&mut self, proposal: Proposal, limits: Limits, now_ms: u64) -> bool {
        let scope = &proposal.explanation.scope;
        let covers = |r: &&mut Record| r.cluster_id == proposal.cluster_id && contains(&r.scope, scope);
        if let Some(standing) = self.records.values_mut().find(covers) {
            let is_due =
                standing.expires_ms.saturating_sub(now_ms) < standing.ttl_ms - standing.ttl_ms / RENEW_AFTER;
            if standing.is_learned() && is_due {
                standing.renew(now_ms);
                self.changed.insert(standing.id.clone());
                return true;
            }
            return false;
        }
        if !self.may_make(&proposal, limits, now_ms) {
            return false;
        }
        // A wider slice of the same cluster takes the place of narrower ones.
        let narrower: Vec<String> = self
            .records
            .values()
            .filter(|r| r.cluster_id == proposal.cluster_id && r.is_learned() && contains(scope, &r.scope))
            .map(|r| r.id.clone())
            .collect();
        for id in narrower {
            if let Some(record) = self.remove(&id) {
                self.tell(&record, What::PolicyEnded, "a wider one takes its place".to_owned(), now_ms);
            }
        }
        let id = name(&proposal.cluster_id, scope, now_ms);
        self.made_ms.push_back(now_ms);
        tracing::info!(
            policy = %id,
            cluster = %proposal.cluster_id,
            kind = %proposal.kind,
            action = proposal.action.name(),
            scope = describe(scope),
            "policy made"
        );
        let attributed = timeline::attributed(&proposal.explanation);
        let record = Record::accepted(id, proposal, now_ms);
        self.timelines.tell(&record.cluster_id, now_ms, What::Attributed, attributed, None);
        self.tell(&record, What::PolicyMade, timeline::made(&record), now_ms);
        self.insert(record);
        true
    }

    fn may_make(&mut self, proposal: &Proposal, limits: Limits, now_ms: u64) -> bool {
        let explanation = &proposal.explanation;
        let slice = describe(&explanation.scope);
        // What is carried out by the router refuses nothing.
        if explanation.share > limits.traffic_share_max && !proposal.members.is_empty() {
            let percent = (explanation.share * 100.0).round();
            if explanation.doomed < OUTAGE_PRECISION {
                let most = limits.traffic_share_max * 100.0;
                let message = format!(
                    "a policy on {slice} was refused: it would match {percent:.0} % of the traffic, and \
                     policy.max_traffic_share is {most:.0} %"
                );
                self.alarm(&proposal.cluster_id, message, now_ms);
                return false;
            }
            let message = format!("{slice} fails as a whole, which is {percent:.0} % of the traffic");
            self.alarm(&proposal.cluster_id, message, now_ms);
        }
        while self.made_ms.front().is_some_and(|made| made.saturating_add(60_000) <= now_ms) {
            self.made_ms.pop_front();
        }
        if self.made_ms.len() >= limits.changes_per_minute as usize || self.records.len() >= POLICIES_MAX {
            let message = format!(
                "no policy was made on {slice}: {} were made within a minute (policy.changes_per_minute), \
                 and {} of {POLICIES_MAX} stand",
                self.made_ms.len(),
                self.records.len()
            );
            self.alarm(&proposal.cluster_id, message, now_ms);
            return false;
        }
        true
    }

    /// Notes what filters did; true when a policy has ended by it.
    pub fn note(&mut self, note: &PolicyNote, now_ms: u64) -> Option<Record> {
        let record = self.records.get_mut(&note.id)?;
        record.refused = record.refused.saturating_add(note.refused);
        record.probes_ok = record.probes_ok.saturating_add(note.probes_ok);
        record.probes_failed = record.probes_failed.saturating_add(note.probes_failed);
        let has_passed = note.phase == 0 && matches!(record.measure, Some(Measure::Break { .. }));
        record.state = match note.phase {
            0 => "passed",
            1 => "half_open",
            2 => "open",
            4 => "watching",
            _ => "limiting",
        }
        .to_owned();
        let (ends, told) = (has_passed && record.is_learned(), record.clone());
        if ends {
            tracing::info!(policy = %note.id, "the slice has recovered; its policy ends");
            let text = format!("the slice has recovered; {} requests were refused", told.refused);
            self.tell(&told, What::PolicyEnded, text, now_ms);
            return self.remove(&note.id);
        }
        self.tell(&told, What::PolicyState, told.state.clone(), now_ms);
        None
    }

    /// Sets the rate of a limit.
    pub fn set_rate(&mut self, id: &str, rate: f64) {
        if let Some(record) = self.records.get_mut(id)
            && let Some(Measure::Limit { rate: current }) = &mut record.measure
        {
            *current = rate;
        }
    }

    /// Ends policies whose time is over; true when there were any.
    pub fn expire(&mut self, now_ms: u64) -> bool {
        let over: Vec<String> = self
            .records
            .values()
            .filter(|r| !r.pinned && r.expires_ms <= now_ms)
            .map(|r| r.id.clone())
            .collect();
        for id in &over {
            tracing::info!(policy = %id, "the policy's time is over");
            if let Some(record) = self.remove(id) {
                self.tell(&record, What::PolicyEnded, "its time is over".to_owned(), now_ms);
            }
        }
        !over.is_empty()
    }

    /// Ends a limit that has done its work, or that did not help.
    pub fn lift(&mut self, id: &str, now_ms: u64) -> Option<Record> {
        let record = self.remove(id)?;
        self.tell(&record, What::PolicyEnded, "the limit is lifted".to_owned(), now_ms);
        Some(record)
    }

    /// Removes a policy.
    pub fn remove(&mut self, id: &str) -> Option<Record> {
        let removed = self.records.remove(id)?;
        self.changed.insert(id.to_owned());
        Some(removed)
    }

    fn insert(&mut self, record: Record) {
        self.changed.insert(record.id.clone());
        self.records.insert(record.id.clone(), record);
    }

    /// Changes a policy, or makes an operator's own.
    ///
    /// # Errors
    /// What is wrong with the change; nothing has changed then.
    pub fn edit(
        &mut self,
        id: &str,
        edit: Edit,
        breaker: &BreakerPolicy,
        by: &str,
        now_ms: u64,
    ) -> Result<Record, BookError> {
        let (mut record, is_new) = match self.records.get(id) {
            Some(record) => (record.clone(), false),
            None if self.records.len() >= POLICIES_MAX => return Err(BookError::Full),
            None => (edit::manual(id, &edit, by, now_ms)?, true),
        };
        edit::apply(&mut record, edit, breaker, is_new, now_ms)?;
        if let Some(Err((field, problem))) = record.slice().map(|slice| slice.validate()) {
            return Err(BookError::Invalid(field, problem));
        }
        self.tell(&record, What::PolicyChanged, format!("{} by {by}", timeline::made(&record)), now_ms);
        self.insert(record.clone());
        Ok(record)
    }
}

/// A name that no other policy has: what it is about, and when it was made.
fn name(cluster_id: &str, scope: &Attributes, now_ms: u64) -> String {
    use sha2::{Digest as _, Sha256};
    let mut hash = Sha256::new();
    hash.update(cluster_id);
    hash.update([0]);
    hash.update(describe(scope));
    hash.update(now_ms.to_le_bytes());
    let mut digits = hex(&hash.finalize());
    digits.truncate(12);
    format!("pol_{digits}")
}
