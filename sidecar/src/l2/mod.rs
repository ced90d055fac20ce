//! The semantic cache: an answer to a question asked before in other words.
//!
//! What decides is pure and lies in `tidegate_core::cache`; here are the embedding, the index,
//! what gateways share in Redis, and requests that wait for one another.

mod aloft;
mod asked;
mod entry;
pub mod flight;
pub mod index;
mod keep;
mod look_up;
mod metrics;
mod persist;
mod purge;
pub mod settings;
mod shared;
pub mod tickets;
mod trust;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::registry::Registry;
use tidegate_core::cache::Kind;
use tidegate_core::cache::semantic::Evidence;
use tidegate_core::cache::semantic::guard::Mismatch;
use tokio::sync::watch;
use tokio::time::Duration;

pub use self::aloft::Entered;
pub use self::asked::{Asked, Request};
pub use self::entry::{Entry, Name};
pub use self::index::Stats;
pub use self::metrics::LookedUp;
pub use self::persist::tend;
pub use self::purge::Selection;
pub use self::settings::Settings;
pub use self::trust::{Mode, TenantAudit};

use self::aloft::Aloft;
use self::asked::EVERYBODY;
use self::flight::Flights;
use self::index::{EntryId, Index, Limits};
use self::metrics::L2Metrics;
use self::purge::{Purge, Removal};
use self::shared::{Shared, Space};
use self::tickets::Tickets;
use self::trust::{Kept, Trust};
use crate::embedding::{self, EmbedError, Embedder};
use crate::keys::random::NoRandomness;
use crate::keys::unix_ms;
use crate::redis::Redis;

/// Stored prompts that are compared with the guard: the nearest ones.
const CANDIDATES: usize = 8;
/// Largest answer that is stored, in bytes.
pub const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Cosine from which on two prompts count as the same for the embedding: int8 weights round.
const SAME: f32 = 1.0;
/// Tenants, each with its scopes, that are remembered for look-ups by operators.
const AUDIENCES_MAX: usize = 1024;

/// A stored answer that may be served.
#[derive(Debug, Clone)]
pub struct Hit {
    /// Where it was found.
    pub layer: Layer,
    /// The answer.
    pub entry: Arc<Entry>,
    /// Cosine of the two prompts.
    pub similarity: f32,
    /// What spoke for it, if it was asked in other words.
    evidence: Option<Evidence>,
}

impl Hit {
    /// The answer to the same words.
    const fn same(layer: Layer, entry: Arc<Entry>) -> Self {
        Self { layer, entry, similarity: SAME, evidence: None }
    }
}

/// Where an answer was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// In Redis, by the whole request.
    Redis,
    /// In the index, by the meaning of the prompt; which entry, if it lies in memory.
    Semantic(Option<EntryId>),
}

impl Layer {
    /// The value of `x-gateway-cache-layer`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Semantic(_) => "semantic",
        }
    }

    /// Why it may be served.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Redis => "same",
            Self::Semantic(_) => "similar",
        }
    }
}

/// The stored prompt that came nearest, and what stood against it.
#[derive(Debug, Clone)]
pub struct Near {
    /// Which one.
    pub entry: Arc<Entry>,
    /// Cosine of the two prompts.
    pub similarity: f32,
    /// What the guard says of them.
    pub guard: Result<(), Mismatch>,
}

/// What a look-up came to.
#[derive(Debug, Clone)]
pub enum Looked {
    /// This may be served.
    Hit(Hit),
    /// Nothing may be.
    Miss {
        /// Why.
        reason: &'static str,
        /// What came nearest, if anything was there.
        near: Option<Near>,
    },
}

/// A whole answer by a provider.
#[derive(Debug)]
pub struct Answer<'a> {
    /// How it came.
    pub kind: Kind,
    /// Its bytes.
    pub body: &'a [u8],
    /// `x-gateway-provider`, or empty.
    pub provider: &'a str,
    /// `x-gateway-model`, or empty.
    pub model: &'a str,
}

/// The semantic cache of this process.
#[derive(Debug)]
pub struct SemanticCache {
    settings: Settings,
    embedder: Arc<Embedder>,
    deadline: Duration,
    index: Index<Entry>,
    metrics: L2Metrics,
    /// Calls to providers that others may wait for.
    pub flights: Flights,
    aloft: Aloft,
    /// Questions whose answers the filter will bring.
    pub tickets: Tickets,
    audiences: Mutex<BTreeSet<Group>>,
    trust: Trust,
    dimension: usize,
    shared: Option<Arc<Shared>>,
    /// What was learned before the start and is of use if the model is still the same.
    unsettled: Mutex<Vec<Kept>>,
    /// When something was taken back last, in milliseconds since 1970.
    taken_back: watch::Sender<u64>,
}

/// A tenant and a [`tidegate_core::wire::Identity::scope`].
type Group = (String, Option<String>);

impl SemanticCache {
    /// An empty cache for the vectors of `embedder`, which was started with `model`.
    #[must_use]
    pub fn new(
        settings: Settings,
        embedder: Arc<Embedder>,
        model: &embedding::Settings,
        registry: &mut Registry,
    ) -> Self {
        let deadline = model.deadline;
        let index = Index::new(Limits { dimension: model.dimension, bytes_max: settings.bytes_max });
        let metrics = L2Metrics::register(registry);
        let trust = Trust::new(settings.mode, settings.audit_rate);
        Self {
            settings,
            embedder,
            deadline,
            index,
            metrics,
            flights: Flights::default(),
            aloft: Aloft::default(),
            tickets: Tickets::default(),
            audiences: Mutex::default(),
            trust,
            dimension: model.dimension,
            shared: None,
            unsettled: Mutex::default(),
            taken_back: watch::Sender::new(0),
        }
    }

    /// The same, sharing its answers through `redis`; `read_before` is [`Self::read_before`].
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn share(
        self,
        redis: Redis,
        read_before: Option<&str>,
        registry: &mut Registry,
    ) -> Result<Arc<Self>, NoRandomness> {
        let shared = Arc::new(Shared::new(redis, self.settings.index, read_before, registry)?);
        let cache = Arc::new(Self { shared: Some(shared.clone()), ..self });
        shared.tend(Arc::downgrade(&cache));
        Ok(cache)
    }

    fn shared(&self) -> Option<&Shared> {
        self.shared.as_deref()
    }

    /// Which vectors may be compared with those of this process's model.
    fn space(&self) -> Result<Space, EmbedError> {
        self.embedder.model().map(|model| Space::of(&model.digest))
    }

    const fn dimension(&self) -> usize {
        self.dimension
    }

    /// Whether at most one part in `spare` of the memory is free.
    fn is_nearly_full(&self, spare: usize) -> bool {
        self.index.stats().bytes >= self.settings.bytes_max - self.settings.bytes_max / spare
    }

    /// Takes a request apart; `None`, counted, if the cache has nothing to do with it.
    #[must_use]
    pub fn plan(&self, request: Request<'_>) -> Option<Asked> {
        Asked::new(&self.settings, request).map_err(|reason| self.metrics.looked_up("bypass", reason)).ok()
    }

    /// As [`Self::plan`], but not counted.
    ///
    /// # Errors
    /// Why the cache has nothing to do with it.
    pub fn explain(&self, request: Request<'_>) -> Result<Asked, &'static str> {
        Asked::new(&self.settings, request)
    }

    /// The groups of callers for whom something was stored; at most [`AUDIENCES_MAX`].
    #[must_use]
    pub fn audiences(&self) -> Vec<Group> {
        self.audiences.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Removes entries; returns how many there were here.
    pub fn purge(&self, selection: &Selection) -> usize {
        let now_ms = unix_ms();
        self.remove(Removal::Purge(Purge { selection: selection.clone(), at_ms: now_ms }), now_ms)
    }

    /// Takes back an answer that should not have been served; whether there was one.
    pub async fn take_back(&self, name: Name) -> bool {
        let now_ms = unix_ms();
        let is_shared = match self.shared() {
            Some(shared) => shared.has(name).await,
            None => false,
        };
        self.said_wrong(name);
        self.remove(Removal::Entry { name: name.to_string(), at_ms: now_ms }, now_ms) > 0 || is_shared
    }

    fn remove(&self, removal: Removal, now_ms: u64) -> usize {
        let gone = self.take_out(&removal);
        let count = gone.len();
        self.taken_back.send_replace(now_ms);
        if let Some(shared) = self.shared() {
            shared.remove(removal, gone.into_iter(), now_ms);
        }
        count
    }

    /// Learns from an answer that was said to be wrong, if it was served here.
    fn said_wrong(&self, name: Name) {
        if let Some((tenant, outcome)) = self.trust.said_wrong(name) {
            self.tell_learned(name, &tenant, outcome, true);
        }
    }

    /// Removes entries from the index; returns their names.
    fn take_out(&self, removal: &Removal) -> Vec<Name> {
        let mut gone = Vec::new();
        self.index.remove_where(|_, entry| {
            let goes = removal.takes(entry);
            if goes {
                gone.push(entry.name);
            }
            goes
        });
        self.measure();
        gone
    }

    /// How full it is.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.index.stats()
    }

    /// Look-ups since the start.
    #[must_use]
    pub fn looked_up(&self) -> LookedUp {
        self.metrics.counts()
    }

    /// What it is configured to do.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// How many outcomes the mode `verified` rests on, by tenant.
    #[must_use]
    pub fn outcomes(&self) -> HashMap<Box<str>, usize> {
        self.trust.observations()
    }

    /// What audits found, for each tenant, and for all together, who stands first.
    #[must_use]
    pub fn audits(&self) -> Vec<TenantAudit> {
        self.settle();
        let audit = self.trust.audits.total();
        let all = TenantAudit { tenant: EVERYBODY.into(), audit, error: audit.error() };
        std::iter::once(all).chain(self.trust.audits.by_tenant()).collect()
    }

    /// A request was given the answer of another one.
    pub fn count_coalesced(&self) {
        self.metrics.coalesced.inc();
    }

    fn measure(&self) {
        let stats = self.index.stats();
        self.metrics.entries.set(stats.entries as u64);
        self.metrics.bytes.set(stats.bytes as u64);
    }
}
