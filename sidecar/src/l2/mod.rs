//! The semantic cache: an answer to a question asked before in other words.
//!
//! What decides is pure and lies in `tidegate_core::cache`; here are the embedding, the index,
//! and requests that wait for one another.

mod asked;
mod entry;
pub mod flight;
pub mod index;
mod metrics;
pub mod settings;
mod trust;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use prometheus_client::registry::Registry;
use sha2::{Digest as _, Sha256};
use tidegate_core::cache::Kind;
use tidegate_core::cache::replay::{keep, text};
use tidegate_core::cache::semantic::guard::{Mismatch, compare};
use tidegate_core::cache::semantic::{Candidate, Decision, Evidence, Reason};
use tokio::time::{Duration, Instant};

pub use self::asked::{Asked, Request};
pub use self::entry::Entry;
pub use self::index::Stats;
pub use self::settings::Settings;
pub use self::trust::Mode;

use self::asked::Trial;
use self::flight::Flights;
use self::index::{EntryId, Found, Index, Limits, Worth};
use self::metrics::L2Metrics;
use self::trust::{Trust, same_meaning, same_words};
use crate::embedding::{self, EmbedError, Embedder};
use crate::keys::random;
use crate::keys::unix_ms;

/// Stored prompts that are compared with the guard: the nearest ones.
const CANDIDATES: usize = 8;
/// Longest that storing waits for an embedding; nobody waits for it.
const STORE_DEADLINE: Duration = Duration::from_secs(5);
/// Largest answer that is stored, in bytes.
pub const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Cosine from which on two prompts count as the same for the embedding: int8 weights round.
const SAME: f32 = 1.0;
/// Tenants, each with its scopes, that are remembered for look-ups by operators.
const AUDIENCES_MAX: usize = 1024;

/// A stored answer that may be served.
#[derive(Debug, Clone)]
pub struct Hit {
    /// Its place in the index.
    id: EntryId,
    /// The answer.
    pub entry: Arc<Entry>,
    /// Cosine of the two prompts.
    pub similarity: f32,
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

/// Stands for an answer: equal answers have equal numbers.
fn answer_number(text: &str) -> u64 {
    let digest: [u8; 32] = Sha256::digest(text.as_bytes()).into();
    let [a, b, c, d, e, f, g, h, ..] = digest;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
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

/// Which entries a purge takes; all conditions that are given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Of this tenant.
    pub tenant: Option<String>,
    /// For this model.
    pub model: Option<String>,
    /// Whose prompt begins so.
    pub prefix: Option<String>,
    /// Stored at least so many milliseconds ago.
    pub age_ms_min: Option<u64>,
    /// With this name.
    pub name: Option<String>,
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
    audiences: Mutex<BTreeSet<Group>>,
    trust: Trust,
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
        Self {
            settings,
            embedder,
            deadline,
            index,
            metrics,
            flights: Flights::default(),
            audiences: Mutex::default(),
            trust: Trust::default(),
        }
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

    /// Looks for an answer to serve, and counts.
    pub async fn look_up(&self, asked: &mut Asked) -> Looked {
        let started = Instant::now();
        let looked = self.judge(asked, started + self.deadline).await;
        self.metrics.duration.observe(started.elapsed().as_secs_f64());
        match &looked {
            Looked::Hit(hit) => {
                self.index.hit(&asked.partition, hit.id);
                self.metrics.similarity.observe(hit.similarity.into());
                self.metrics.looked_up("hit", "similar");
            }
            Looked::Miss { reason, near } => {
                if let Some(near) = near {
                    self.metrics.similarity.observe(near.similarity.into());
                }
                self.metrics.looked_up("miss", reason);
            }
        }
        looked
    }

    /// Looks for an answer and leaves no trace, which the admin API wants.
    pub async fn judge(&self, asked: &mut Asked, deadline: Instant) -> Looked {
        let miss = |reason, near| Looked::Miss { reason, near };
        let vector = match self.embedder.embed_one(&asked.question.prompt, deadline).await {
            Ok(embedding) => asked.vector.insert(embedding).vector.clone(),
            Err(EmbedError::TooLong { .. }) => return miss("prompt_too_long", None),
            Err(error) => return miss(error.label(), None),
        };
        let found = self.index.search(&asked.partition, &vector, CANDIDATES, unix_ms());
        self.weigh(asked, found)
    }

    /// Serves the same words, or what the guard and the mode let pass.
    fn weigh(&self, asked: &mut Asked, found: Vec<Found<Entry>>) -> Looked {
        let is_same = |found: &Found<Entry>| *found.value.prompt == *asked.question.prompt;
        if let Some(Found { id, value: entry, .. }) = found.iter().find(|found| is_same(found)) {
            return Looked::Hit(Hit { id: *id, entry: entry.clone(), similarity: SAME });
        }
        let candidates: Vec<Candidate> = found
            .iter()
            .map(|Found { similarity, value, .. }| Candidate {
                similarity: *similarity,
                answer: value.answer,
                guard: compare(&value.features, &asked.features),
            })
            .collect();
        let near = |place: usize| {
            let (found, candidate) = (found.get(place)?, candidates.get(place)?);
            let Candidate { similarity, guard, answer: _ } = *candidate;
            Some(Near { entry: found.value.clone(), similarity, guard })
        };
        let is_far = candidates.first().is_some_and(|nearest| nearest.similarity < asked.terms.threshold);
        let evidence = match Evidence::weigh(&candidates) {
            Ok(evidence) => evidence,
            Err(Reason::Empty) => return Looked::Miss { reason: "nothing_stored", near: None },
            Err(_) if is_far => return Looked::Miss { reason: "below_threshold", near: near(0) },
            Err(reason) => return Looked::Miss { reason: reason.label(), near: near(0) },
        };
        let Some(Found { id, similarity, value: entry }) = found.get(evidence.chosen()) else {
            return Looked::Miss { reason: "nothing_stored", near: None };
        };
        let Settings { mode, .. } = self.settings;
        let decision =
            self.trust.decide(mode, &asked.tenant, asked.terms.threshold, &evidence, &entry.learned());
        let reason = match decision {
            Decision::Serve { audit: false, .. } => {
                return Looked::Hit(Hit { id: *id, entry: entry.clone(), similarity: *similarity });
            }
            Decision::Serve { audit: true, .. } => "audit",
            Decision::Explore(Reason::Far) => "below_threshold",
            Decision::Explore(reason) => reason.label(),
        };
        asked.trial = Some(Trial { entry: entry.clone(), evidence });
        // The nearest of all may be one that the guard forbids.
        match (reason, is_far) {
            ("below_threshold", false) => Looked::Miss { reason: "guard", near: near(0) },
            (reason, _) => Looked::Miss { reason, near: near(evidence.chosen()) },
        }
    }

    /// Compares the fresh answer with the one that might have been served, and learns. Gives the
    /// number that stands for the fresh answer.
    async fn learn(&self, asked: &Asked, fresh: &str) -> u64 {
        let own = answer_number(fresh);
        let (Mode::Verified(bound), Some(Trial { entry, evidence })) = (self.settings.mode, &asked.trial)
        else {
            return own;
        };
        let Some(stored) = text(entry.protocol, &entry.body) else { return own };
        let right = same_words(fresh, &stored) || self.same_meaning(fresh, &stored).await;
        self.trust.learn(bound, &asked.tenant, evidence, &entry.record, right);
        if right { entry.answer } else { own }
    }

    async fn same_meaning(&self, fresh: &str, stored: &str) -> bool {
        let both = self.embedder.embed(&[fresh, stored], Instant::now() + STORE_DEADLINE).await;
        match both.as_deref() {
            Ok([a, b]) => same_meaning((fresh, a), (stored, b)),
            _ => false,
        }
    }

    /// Stores a whole answer, if it is one to keep; counted, never an error.
    pub async fn store(&self, asked: &Asked, answer: Answer<'_>) {
        match self.try_store(asked, answer).await {
            Ok(()) => self.metrics.stored("stored", "good"),
            Err(reason) => self.metrics.stored("refused", reason),
        }
        self.measure();
    }

    async fn try_store(&self, asked: &Asked, answer: Answer<'_>) -> Result<(), &'static str> {
        if answer.body.len() > ANSWER_BYTES_MAX {
            return Err("too_large");
        }
        let kept = keep(asked.protocol, answer.kind, answer.body, self.settings.allow_tools)
            .map_err(|unfit| unfit.as_str())?;
        if self.settings.forbids(&kept.text) {
            return Err("never_store");
        }
        let vector = match &asked.vector {
            Some(known) => known.vector.clone(),
            None => {
                let deadline = Instant::now() + STORE_DEADLINE;
                let found = self.embedder.embed_one(&asked.question.prompt, deadline).await;
                found.map_err(|error| error.label())?.vector
            }
        };
        self.remember(&asked.caller.0, asked.caller.1.as_deref());
        let answer_number = self.learn(asked, &kept.text).await;
        let now_ms = unix_ms();
        let entry = Entry {
            name: random::name().map_err(|_| "no_randomness")?.into(),
            tenant: asked.tenant.as_str().into(),
            model: asked.question.model.as_str().into(),
            prompt: asked.question.prompt.as_str().into(),
            features: asked.features.clone(),
            body: Bytes::from(kept.body),
            protocol: asked.protocol,
            provider: answer.provider.into(),
            answered_by: answer.model.into(),
            stored_at_ms: now_ms,
            answer: answer_number,
            record: Mutex::default(),
        };
        self.replace(&asked.partition, &vector, &entry.prompt, now_ms);
        let ttl_ms = u64::try_from(asked.terms.ttl.as_millis()).unwrap_or(u64::MAX);
        let worth = Worth {
            bytes: entry.memory_bytes(),
            // What a hit saves: the provider's work, for which the answer's length stands.
            saves: entry.body.len() as f64,
            expires_at_ms: now_ms.saturating_add(ttl_ms),
        };
        let stored = self.index.insert(asked.partition, &vector, Arc::new(entry), worth, now_ms);
        stored.map(|_| ()).ok_or("no_room")
    }

    /// The groups of callers for whom something was stored; at most [`AUDIENCES_MAX`].
    #[must_use]
    pub fn audiences(&self) -> Vec<Group> {
        self.audiences.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn remember(&self, tenant: &str, scope: Option<&str>) {
        let group = (tenant.to_owned(), scope.map(str::to_owned));
        let mut audiences = self.audiences.lock().unwrap_or_else(PoisonError::into_inner);
        if audiences.len() < AUDIENCES_MAX {
            audiences.insert(group);
        }
    }

    /// A fresh answer to the same words takes the place of the old one.
    fn replace(&self, partition: &[u8; 32], vector: &[f32], prompt: &str, now_ms: u64) {
        for found in self.index.search(partition, vector, CANDIDATES, now_ms) {
            if *found.value.prompt == *prompt {
                self.index.remove(found.id);
            }
        }
    }

    /// Removes entries; returns how many.
    pub fn purge(&self, selection: &Selection) -> usize {
        let now_ms = unix_ms();
        let Selection { tenant, model, prefix, age_ms_min, name } = selection;
        let is = |wanted: &Option<String>, value: &str| wanted.as_deref().is_none_or(|w| w == value);
        let removed = self.index.remove_where(|_, entry| {
            is(tenant, &entry.tenant)
                && is(model, &entry.model)
                && prefix.as_deref().is_none_or(|prefix| entry.prompt.starts_with(prefix))
                && age_ms_min.is_none_or(|age| now_ms.saturating_sub(entry.stored_at_ms) >= age)
                && is(name, &entry.name)
        });
        self.measure();
        removed
    }

    /// How full it is.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.index.stats()
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
