//! Clusters over a restart.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidegate_core::incident::cluster::{Cluster, ClusterId, Clusters};

use super::{Hit, State};
use crate::store::{Store, StoreError};

/// What the entry is called in the store.
pub(super) const NAME: &str = "clusters";

/// Everything that is kept. Signatures are not: a cluster is found again by its meaning or its words.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Checkpoint {
    clusters: Vec<Cluster>,
    hit: BTreeMap<ClusterId, Hit>,
}

/// What to keep, if anything has changed since the last call: all that was counted, less what came
/// by lanes of the bus, which are kept by themselves.
pub(super) fn of(state: &mut State) -> Option<Checkpoint> {
    let own = |cluster: &Cluster| {
        let shared = state.lanes.values().map(|held| held.counted(&cluster.id)).sum::<u64>();
        let members = cluster.members.checked_sub(shared).filter(|own| *own > 0 || shared == 0)?;
        Some(Cluster { members, ..cluster.clone() })
    };
    std::mem::take(&mut state.changed).then(|| Checkpoint {
        clusters: state.clusters.iter().filter_map(own).collect(),
        hit: state.hit.clone(),
    })
}

/// What was kept. Embeddings are left out: the model may be another one now, and the next errors
/// bring new ones.
pub(super) fn load(store: &Store) -> Result<State, StoreError> {
    let Some(Checkpoint { clusters, hit }) = store.get(NAME)? else { return Ok(State::default()) };
    let mut clusters = Clusters::restore(clusters);
    clusters.forget_embeddings();
    Ok(State { clusters, hit, ..State::default() })
}
