//! Handing over: what was counted of a lane of the bus goes with the lane from one sidecar to the
//! next.
//!
//! All that was taken from a lane is kept in one record of the store, together with which batches it
//! was, before the bus is told that they need not come again. Whoever takes a lane over writes its
//! name into the record in one transaction with reading it, and nobody writes a record that has
//! another's name in it: a sidecar that was only slow finds that the lane is gone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidegate_core::incident::Signature;
use tidegate_core::incident::cluster::{Cluster, ClusterId, Vector};

use super::memo::Known;
use super::{ClusterView, Engine, Hit, State};
use crate::bus::Lane;
use crate::learn::Seen;
use crate::store::{Store, StoreError, Table};

/// Signatures kept of one lane, so that whoever takes it over need not wait for their words.
const SIGNATURES_MAX: usize = 512;
/// Templates kept of one cluster, so that a record is at most about a megabyte.
const TEMPLATES_MAX: usize = 4;

/// Largest record, in bytes; etcd takes 1.5 MiB.
const RECORD_BYTES_MAX: usize = 1_000_000;

/// A lane that is this sidecar's.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// Errors by cluster.
    counts: BTreeMap<ClusterId, u64>,
    /// This sidecar's name is in the record.
    is_claimed: bool,
    has_changed: bool,
}

impl Held {
    pub(super) fn count(&mut self, id: &ClusterId, errors: u64) {
        *self.counts.entry(id.clone()).or_default() += errors;
        self.touch();
    }

    /// Notes that the record is to be written again.
    pub(super) fn touch(&mut self) {
        self.has_changed = true;
    }

    pub(super) fn counted(&self, id: &ClusterId) -> u64 {
        self.counts.get(id).copied().unwrap_or(0)
    }

    pub(super) fn merge(&mut self, from: &ClusterId, into: &ClusterId) {
        if let Some(errors) = self.counts.remove(from) {
            self.count(into, errors);
        }
    }

    /// Moves up to `most` errors; returns how many.
    pub(super) fn split(&mut self, from: &ClusterId, new: &ClusterId, most: u64) -> u64 {
        let moved = self.counted(from).min(most);
        if moved > 0 {
            self.counts.entry(from.clone()).and_modify(|left| *left -= moved);
            self.count(new, moved);
        }
        moved
    }

    pub(super) fn forget(&mut self, id: &ClusterId) {
        self.has_changed |= self.counts.remove(id).is_some();
    }
}

/// What became of the lanes when they were to be kept.
#[derive(Debug, Default)]
pub struct Kept {
    /// Those that are another's by now.
    pub lost: Vec<Lane>,
    /// Bytes that were written.
    pub bytes: usize,
}

/// What is kept of a lane.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Record {
    lane: String,
    /// Who writes it.
    owner: String,
    seen: Seen,
    clusters: Vec<Cluster>,
    hit: BTreeMap<ClusterId, Hit>,
    signatures: Vec<(Signature, ClusterId, String)>,
    /// Failures whose words have not come.
    waiting: Vec<(Signature, u64)>,
}

/// A record that is to be kept.
struct Due {
    record: Record,
    /// Its length in bytes.
    length: usize,
    /// Whether the one that is kept has this sidecar's name.
    is_claimed: bool,
}

impl Record {
    fn of(state: &State, lane: &Lane, held: &Held, owner: &str, seen: &Seen) -> Self {
        let mine = |id: &ClusterId| held.counts.contains_key(id);
        let cluster = |(id, errors): (&ClusterId, &u64)| {
            let mut cluster = state.clusters.get(id)?.clone();
            cluster.members = *errors;
            cluster.templates.sort_by_key(|member| std::cmp::Reverse(member.count));
            cluster.templates.truncate(TEMPLATES_MAX);
            // Made again of the templates.
            cluster.centroid = Vector { words: Vec::new(), embedding: None };
            Some(cluster)
        };
        let signatures = state.memo.iter(SIGNATURES_MAX).filter(|(_, known)| mine(&known.cluster));
        Self {
            lane: lane.to_string(),
            owner: owner.to_owned(),
            seen: seen.clone(),
            clusters: held.counts.iter().filter_map(cluster).collect(),
            hit: state
                .hit
                .iter()
                .filter(|(id, _)| mine(id))
                .map(|(id, hit)| (id.clone(), hit.clone()))
                .collect(),
            signatures: signatures
                .map(|(s, known)| (s, known.cluster.clone(), known.template.to_string()))
                .collect(),
            waiting: state.waiting.of(lane),
        }
    }
}

impl Record {
    /// Leaves out what can be learnt again, as far as the record would be too large; gives its length in
    /// bytes. What is left out is measured by itself, so each part is written out twice at most.
    fn fit(mut self) -> (Self, usize) {
        let mut length = bytes(&self);
        if length > RECORD_BYTES_MAX {
            length = length.saturating_sub(bytes(&std::mem::take(&mut self.signatures)));
        }
        if length > RECORD_BYTES_MAX {
            length = length.saturating_sub(bytes(&std::mem::take(&mut self.hit)));
        }
        if length > RECORD_BYTES_MAX {
            for cluster in &mut self.clusters {
                let further = cluster.templates.get(1..).map_or(0, |further| bytes(&further));
                cluster.templates.truncate(1);
                length = length.saturating_sub(further);
            }
        }
        (self, length)
    }
}

/// How long `value` is in a record.
fn bytes(value: &impl Serialize) -> usize {
    serde_json::to_vec(value).map_or(0, |bytes| bytes.len())
}

impl Engine {
    /// Takes a lane over, with what its last owner kept of it; gives the batches that are in that.
    /// Blocks on the store.
    ///
    /// # Errors
    /// The store failed.
    pub fn take_over(&self, lane: &Lane, now_ms: u64) -> Result<Seen, StoreError> {
        let claim = self.store.write(|writer| {
            let mut record: Record = writer.record(Table::Lanes, lane)?.unwrap_or_default();
            (record.lane, record.owner) = (lane.to_string(), self.name.clone());
            writer.put_record(Table::Lanes, lane, Some(&record))?;
            Ok(record)
        });
        let (record, is_claimed) = match claim {
            Ok(record) => (record, true),
            // What the copy has will do; the name is written when the store takes it.
            Err(StoreError::Unreachable(_)) => {
                let known = records(&self.store)?.into_iter().find(|record| record.lane == **lane);
                (known.unwrap_or_default(), false)
            }
            Err(error) => return Err(error),
        };
        let mut state = self.state();
        let counts = record.clusters.iter().map(|cluster| (cluster.id.clone(), cluster.members)).collect();
        state.lanes.insert(lane.clone(), Held { counts, is_claimed, has_changed: false });
        for cluster in record.clusters {
            state.clusters.adopt(cluster, now_ms);
        }
        state.hit.extend(record.hit);
        for (signature, cluster, template) in record.signatures {
            state.memo.put(signature, Known { cluster, template: template.into() });
        }
        for (signature, failures) in record.waiting {
            state.waiting.put(signature, Some(lane), failures);
        }
        Ok(record.seen)
    }

    /// Lets a lane go, with what was counted of it: whoever has it now counts on from its record.
    pub fn let_go(&self, lane: &Lane) {
        let mut state = self.state();
        let Some(held) = state.lanes.remove(lane) else { return };
        state.waiting.forget(lane);
        for (id, errors) in held.counts {
            state.clusters.give_up(&id, errors);
            if state.clusters.get(&id).is_none() {
                state.memo.forget(&id);
                state.hit.remove(&id);
            }
        }
    }

    /// Keeps what was counted of each lane, with the batches that are in it. Blocks on the store.
    ///
    /// # Errors
    /// The store failed; the next call tries again, and nothing is to be acknowledged before.
    pub fn keep_lanes(&self, seen: &BTreeMap<Lane, Seen>) -> Result<Kept, StoreError> {
        let mut result = Kept::default();
        for (lane, seen) in seen {
            let Some(Due { record, length, is_claimed }) = self.due(lane, seen) else { continue };
            let kept = self.store.write(|writer| {
                let before: Option<Record> = writer.record(Table::Lanes, lane)?;
                if is_claimed && before.is_some_and(|before| before.owner != self.name) {
                    return Ok(false);
                }
                writer.put_record(Table::Lanes, lane, Some(&record)).map(|()| true)
            });
            result.bytes += length;
            let mut state = self.state();
            let Some(held) = state.lanes.get_mut(lane) else { continue };
            match kept {
                Ok(true) => held.is_claimed = true,
                Ok(false) => result.lost.push(lane.clone()),
                Err(error) => {
                    held.touch();
                    return Err(error);
                }
            }
        }
        Ok(result)
    }

    /// What is to be kept of a lane, if that has changed.
    fn due(&self, lane: &Lane, seen: &Seen) -> Option<Due> {
        let mut state = self.state();
        let State { clusters, lanes, .. } = &mut *state;
        let held = lanes.get_mut(lane)?;
        if !std::mem::take(&mut held.has_changed) && held.is_claimed {
            return None;
        }
        // Clusters that gave way to others are no more.
        held.counts.retain(|id, _| clusters.get(id).is_some());
        let held = state.lanes.get(lane)?;
        let (record, length) = Record::of(&state, lane, held, &self.name, seen).fit();
        Some(Due { record, length, is_claimed: held.is_claimed })
    }

    /// All clusters of the fleet, the worst first: this sidecar's, and those of lanes that are
    /// others', as they were kept last.
    ///
    /// # Errors
    /// The store failed.
    pub fn list_fleet(&self, now_ms: u64) -> Result<Vec<ClusterView>, StoreError> {
        let mut views = self.list(now_ms);
        let mut others = State::default();
        for record in records(&self.store)? {
            if self.state().lanes.contains_key(record.lane.as_str()) {
                continue;
            }
            record.clusters.into_iter().for_each(|cluster| others.clusters.adopt(cluster, now_ms));
            others.hit.extend(record.hit);
        }
        for other in others.clusters.iter().map(|cluster| others.view(cluster, now_ms)) {
            match views.iter_mut().find(|view| view.id == other.id) {
                Some(view) => view.add(&other),
                None => views.push(other),
            }
        }
        views.sort_by(|a, b| b.severity.total_cmp(&a.severity).then(b.members.cmp(&a.members)));
        Ok(views)
    }
}

fn records(store: &Store) -> Result<Vec<Record>, StoreError> {
    store.all(Table::Lanes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_is_too_large_loses_what_can_be_learnt_again_and_no_more() {
        let text = "x".repeat(400);
        let cluster: ClusterId = serde_json::from_str("\"cl_0\"").expect("a name");
        let signatures =
            |count: u64| (0..count).map(|n| (Signature(n), cluster.clone(), text.clone())).collect();
        let record = |count| Record { lane: "l".into(), signatures: signatures(count), ..Record::default() };
        let (kept, length) = record(100).fit();
        assert_eq!((kept.signatures.len(), length), (100, bytes(&kept)));
        let (cut, length) = record(3_000).fit();
        assert!(cut.signatures.is_empty() && length.abs_diff(bytes(&cut)) <= 2, "{length}");
    }
}
