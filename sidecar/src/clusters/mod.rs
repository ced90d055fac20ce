//! The incident engine's understanding: which cluster an error belongs to, and what it means.
//!
//! Errors come as templates. One whose signature was seen before is a look-up; a new one is judged
//! against the exemplars ([`tidegate_core::incident::judge`]) and joins a cluster. The embedding
//! model is one witness among five: while it is not there, the others decide.

mod checkpoint;
mod exemplars;
mod lanes;
mod memo;
mod metrics;
#[cfg(test)]
mod tests;
mod tried;
mod view;
mod waiting;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::registry::Registry;
use tidegate_core::incident::Signature;
use tidegate_core::incident::cluster::{
    self, Activity, Breadth, Change, ClusterId, Clusters, Partition, Point, Vector,
};
use tidegate_core::incident::exemplar::{BadMeaning, Library, Meaning};
use tidegate_core::incident::judge::{Judgement, Observed, Weights};
use tidegate_core::incident::miner::Miner;

pub use lanes::Kept;
pub use tried::{TRIED_MAX, Tried, Verdict};
pub use view::{ClusterView, Totals};

use crate::bus::Lane;
use crate::embedding::Embedder;
use crate::keys::random::{self, NoRandomness};
use crate::store::{Store, StoreError};
use exemplars::Exemplars;
use lanes::Held;
use memo::{Known, Memo};
use waiting::Waiting;

/// What a new template may wait for its embedding, so that a flood of new ones is learnt at 500 a
/// second even on a machine whose model is slower; a few may take the least together.
const EMBEDDING_BUDGET: Duration = Duration::from_micros(1500);
const EMBEDDING_BUDGET_LEAST: Duration = Duration::from_millis(100);
/// Most tenants, and most providers, remembered of one cluster.
const NAMES_MAX: usize = 64;

/// What the operator says about clustering, already validated.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// What errors mean: the exemplars shipped, and the operator's.
    pub meanings: Vec<Meaning>,
    /// How clusters are made.
    pub clusters: cluster::Settings,
    /// How often clusters are merged, split, ended and kept on disk.
    pub recluster_interval: Duration,
    /// Whether the embedding model is a witness.
    pub embedding: bool,
}

/// One error, as the filter or the sidecar saw it.
#[derive(Debug, Clone)]
pub struct Observation {
    /// Which clusters it can be in.
    pub partition: Partition,
    /// Its status, if there was one.
    pub status: Option<u16>,
    /// Its codes and types.
    pub codes: Vec<String>,
    /// Its masked template.
    pub template: String,
    /// Over all of these.
    pub signature: Signature,
}

/// Requests of one tenant and provider, and those of them that failed, by signature.
#[derive(Debug, Clone, Copy)]
pub struct Tally<'a> {
    /// The tenant.
    pub tenant: Option<&'a str>,
    /// The provider that answered.
    pub provider: Option<&'a str>,
    /// Requests that ended.
    pub requests: u64,
    /// Failures by signature.
    pub failures: &'a [(Signature, u64)],
}

impl Tally<'_> {
    /// Of whom nothing is known.
    const NOBODY: Self = Self { tenant: None, provider: None, requests: 0, failures: &[] };
}

#[derive(Debug, Default)]
struct State {
    clusters: Clusters,
    miner: Miner,
    memo: Memo,
    hit: BTreeMap<ClusterId, Hit>,
    requests: Activity,
    changed: bool,
    /// What was counted of each lane of the bus that is this sidecar's.
    lanes: BTreeMap<Lane, Held>,
    /// Failures of signatures whose words have not come yet.
    waiting: Waiting,
}

/// Whom a cluster hits.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
struct Hit {
    tenants: Vec<String>,
    providers: Vec<String>,
}

/// All clusters, and what makes them.
#[derive(Debug)]
pub struct Engine {
    settings: Settings,
    exemplars: Exemplars,
    store: Arc<Store>,
    state: Mutex<State>,
    /// This process among those that share a bus.
    name: String,
}

/// Why the engine does not start.
#[derive(Debug)]
pub enum StartError {
    /// The exemplars.
    Exemplars(BadMeaning),
    /// The clusters that were kept.
    Store(StoreError),
    /// The system gives no random numbers.
    Randomness(NoRandomness),
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exemplars(bad) => write!(f, "clustering.exemplars: {}: {}", bad.path, bad.what),
            Self::Store(error) => error.fmt(f),
            Self::Randomness(error) => error.fmt(f),
        }
    }
}

impl Engine {
    /// Begins with the clusters that were kept.
    ///
    /// # Errors
    /// The exemplars or the clusters that were kept cannot be used.
    pub fn start(
        settings: Settings,
        embedder: Arc<Embedder>,
        store: Arc<Store>,
        registry: &mut Registry,
    ) -> Result<Arc<Self>, StartError> {
        let library = Library::new(settings.meanings.clone()).map_err(StartError::Exemplars)?;
        let state = checkpoint::load(&store).map_err(StartError::Store)?;
        let embedder = settings.embedding.then_some(embedder);
        let exemplars = Exemplars::new(library, embedder);
        let name = random::name().map_err(StartError::Randomness)?;
        let engine = Arc::new(Self { settings, exemplars, store, state: Mutex::new(state), name });
        registry.register_collector(Box::new(metrics::ClusterMetrics(engine.clone())));
        Ok(engine)
    }

    /// Gives the exemplars their embeddings, once the model is loaded, if they have none.
    pub async fn prepare(&self) {
        self.exemplars.embed().await;
    }

    /// Merges, splits, ends and keeps clusters at their interval, for ever.
    pub async fn tend(self: Arc<Self>) {
        let mut tick = tokio::time::interval(self.settings.recluster_interval);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            self.prepare().await;
            let engine = self.clone();
            let work = tokio::task::spawn_blocking(move || {
                engine.recluster(now_ms());
                engine.checkpoint()
            });
            if let Ok(Err(error)) = work.await {
                tracing::error!(%error, "clusters could not be kept; they are in memory still");
            }
        }
    }

    /// Learns errors and says which cluster each is in. Known signatures cost a look-up; of new ones
    /// only those have their embedding computed whose meaning hangs on it. How many errors there
    /// were is said with [`Self::tally`].
    pub async fn learn(&self, errors: &[Observation], now_ms: u64) -> Vec<ClusterId> {
        let known = |signature| self.state().memo.get(signature).map(|known| known.cluster.clone());
        let mut judged = HashMap::new();
        for error in errors.iter().filter(|error| known(error.signature).is_none()) {
            let judge = || self.judge(error.status, &error.codes, &error.template, None);
            judged.entry(error.signature).or_insert_with(judge);
        }
        let is_unsure = |error: &&Observation| judged.get(&error.signature).is_some_and(needs_embedding);
        let unsure: Vec<&str> =
            errors.iter().filter(is_unsure).map(|error| error.template.as_str()).collect();
        let budget = EMBEDDING_BUDGET.saturating_mul(u32::try_from(unsure.len()).unwrap_or(u32::MAX));
        let embeddings = self.exemplars.embeddings(&unsure, budget.max(EMBEDDING_BUDGET_LEAST)).await;
        let learn = |error: &Observation| {
            known(error.signature).unwrap_or_else(|| {
                let first = judged.get(&error.signature).copied();
                self.learn_new(error, first, &embeddings, now_ms)
            })
        };
        errors.iter().map(learn).collect()
    }

    /// Learns an error, of which `first` is what it means without its embedding.
    fn learn_new(
        &self,
        error: &Observation,
        first: Option<Judgement>,
        embeddings: &exemplars::Embeddings,
        now_ms: u64,
    ) -> ClusterId {
        let embedding = embeddings.get(error.template.as_str()).map(AsRef::as_ref);
        let vector = Vector::of(&error.template, embedding);
        let judgement = first
            .filter(|_| embedding.is_none())
            .unwrap_or_else(|| self.judge(error.status, &error.codes, &error.template, embedding));
        let mut state = self.state();
        let point = self.point(error.partition, &judgement, &error.template, &vector);
        let id = state.learn(&point, self, now_ms);
        let known = Known { cluster: id.clone(), template: error.template.as_str().into() };
        for (lane, failures) in state.waiting.take(error.signature) {
            state.count(&known, &Tally::NOBODY, failures, lane.as_ref(), now_ms);
        }
        state.memo.put(error.signature, known);
        id
    }

    fn judge(
        &self,
        status: Option<u16>,
        codes: &[String],
        template: &str,
        embedding: Option<&[f32]>,
    ) -> Judgement {
        let examples = self.exemplars.vectors();
        let embedding = embedding.zip(examples);
        self.exemplars.library.judge(&Observed { status, codes, template, embedding }, &Weights::default())
    }

    /// Counts requests and failures that came by `lane`. Failures of signatures that were not learnt
    /// wait for their words, as many signatures as there is room for; those beyond are returned.
    pub fn tally(&self, tallies: &[Tally<'_>], lane: Option<&Lane>, now_ms: u64) -> u64 {
        let mut state = self.state();
        let mut lost = 0;
        for tally in tallies {
            state.requests.count(tally.requests, now_ms);
            for (signature, failures) in tally.failures {
                match state.memo.get(*signature).cloned() {
                    Some(known) => state.count(&known, tally, *failures, lane, now_ms),
                    None => {
                        lost += state.waiting.put(*signature, lane, *failures);
                        lane.and_then(|lane| state.lanes.get_mut(lane)).into_iter().for_each(Held::touch);
                    }
                }
            }
        }
        lost
    }

    /// The cluster that errors of `signature` are in.
    #[must_use]
    pub fn cluster_of(&self, signature: Signature) -> Option<ClusterId> {
        self.state().memo.get(signature).map(|known| known.cluster.clone())
    }

    /// Merges what has become alike, splits what has become two, ends what is over.
    pub fn recluster(&self, now_ms: u64) {
        let mut state = self.state();
        let changes = state.clusters.recluster(now_ms, &self.settings.clusters);
        for change in &changes {
            state.follow(change);
        }
        state.changed |= !changes.is_empty();
    }

    /// Keeps all clusters on disk, if anything has changed. Blocks on the disk.
    ///
    /// # Errors
    /// The store failed; the next call tries again.
    pub fn checkpoint(&self) -> Result<(), StoreError> {
        let Some(kept) = checkpoint::of(&mut self.state()) else { return Ok(()) };
        self.store.write(|writer| writer.put(checkpoint::NAME, &kept)).inspect_err(|_| {
            self.state().changed = true;
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn learn(&mut self, point: &Point<'_>, engine: &Engine, now_ms: u64) -> ClusterId {
        self.changed = true;
        self.clusters.learn(point, now_ms, &engine.settings.clusters)
    }

    fn count(&mut self, known: &Known, tally: &Tally<'_>, failures: u64, lane: Option<&Lane>, now_ms: u64) {
        match lane.and_then(|lane| self.lanes.get_mut(lane)) {
            Some(held) => held.count(&known.cluster, failures),
            None => self.changed = true,
        }
        self.clusters.count(&known.cluster, &known.template, failures, now_ms);
        let hit = self.hit.entry(known.cluster.clone()).or_default();
        for (names, name) in [(&mut hit.tenants, tally.tenant), (&mut hit.providers, tally.provider)] {
            let new = name.filter(|name| names.len() < NAMES_MAX && !names.iter().any(|n| n == name));
            names.extend(new.map(str::to_owned));
        }
    }

    fn follow(&mut self, change: &Change) {
        match change {
            Change::Merged(from, into) => {
                self.lanes.values_mut().for_each(|held| held.merge(from, into));
                self.memo.rename(from, into);
                if let Some(hit) = self.hit.remove(from) {
                    self.hit.entry(into.clone()).or_insert(hit);
                }
            }
            Change::Split(from, new) => {
                let Some(cluster) = self.clusters.get(new) else { return };
                let moved = |template: &str| cluster.templates.iter().any(|m| m.template == template);
                self.memo.move_templates(from, new, moved);
                let mut left = cluster.members;
                for held in self.lanes.values_mut() {
                    left -= held.split(from, new, left);
                }
            }
            Change::Expired(id) => {
                self.lanes.values_mut().for_each(|held| held.forget(id));
                self.memo.forget(id);
                self.hit.remove(id);
            }
        }
    }

    fn breadth(&self, id: &ClusterId, rate: f64, now_ms: u64) -> Breadth {
        let requests = self.requests.rate(now_ms);
        let share = if requests > f64::EPSILON { (rate / requests).min(1.0) } else { 0.0 };
        Breadth { share, tenants: self.hit.get(id).map_or(0, |hit| hit.tenants.len() as u64) }
    }
}

impl Engine {
    fn point<'a>(
        &'a self,
        partition: Partition,
        judgement: &Judgement,
        template: &'a str,
        vector: &'a Vector,
    ) -> Point<'a> {
        let meaning = judgement.meaning.and_then(|index| self.exemplars.library.meaning(index));
        Point {
            partition,
            meaning: meaning.map(|meaning| meaning.name.as_str()),
            kind: judgement.kind,
            score: judgement.score,
            template,
            vector,
        }
    }
}

/// Whether the embedding can still change what an error means.
fn needs_embedding(judgement: &Judgement) -> bool {
    judgement.needs_embedding(&Weights::default())
}

/// Milliseconds since 1970.
#[must_use]
pub fn now_ms() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}
