//! Looking for an answer: the same request in Redis, then a prompt that means the same.

use std::sync::Arc;

use tidegate_core::cache::semantic::guard::compare;
use tidegate_core::cache::semantic::{Candidate, Decision, Evidence, Reason};
use tokio::time::Instant;

use super::asked::{Asked, Trial};
use super::entry::Entry;
use super::index::{EntryId, Found};
use super::{CANDIDATES, Hit, Layer, Looked, Near, SemanticCache};
use crate::embedding::EmbedError;
use crate::keys::unix_ms;

/// A stored prompt near the one asked for, with its answer.
struct Match {
    /// Which one, if it lies in memory.
    id: Option<EntryId>,
    similarity: f32,
    entry: Arc<Entry>,
}

impl From<Found<Entry>> for Match {
    fn from(found: Found<Entry>) -> Self {
        Self { id: Some(found.id), similarity: found.similarity, entry: found.value }
    }
}

impl SemanticCache {
    /// Looks for an answer to serve, and counts.
    pub async fn look_up(&self, asked: &mut Asked) -> Looked {
        let started = Instant::now();
        let looked = self.judge(asked, started + self.deadline).await;
        self.metrics.duration.observe(started.elapsed().as_secs_f64());
        match &looked {
            Looked::Hit(hit) => {
                if let Layer::Semantic(id) = hit.layer {
                    if let Some(id) = id {
                        self.index.hit(&asked.partition, id);
                    }
                    self.metrics.similarity.observe(hit.similarity.into());
                }
                if let Some(evidence) = hit.evidence {
                    self.trust.served(hit.entry.name, &asked.tenant, evidence);
                }
                self.metrics.hit(hit.layer);
            }
            Looked::Miss { reason, near } => {
                if let Some(near) = near {
                    self.metrics.similarity.observe(near.similarity.into());
                }
                self.metrics.missed(reason);
            }
        }
        looked
    }

    /// Looks for an answer and leaves no trace, which the admin API wants.
    pub async fn judge(&self, asked: &mut Asked, deadline: Instant) -> Looked {
        let miss = |reason, near| Looked::Miss { reason, near };
        if let Some(shared) = self.shared()
            && let Some(entry) = shared.answer(asked.name, &asked.tenant, unix_ms()).await
        {
            return Looked::Hit(Hit::same(Layer::Redis, entry.into()));
        }
        if !self.settings.enabled {
            return miss("nothing_stored", None);
        }
        let vector = match self.embedder.embed_one(&asked.question.prompt, deadline).await {
            Ok(embedding) => asked.vector.insert(embedding).vector.clone(),
            Err(EmbedError::TooLong { .. }) => return miss("prompt_too_long", None),
            Err(error) => return miss(error.label(), None),
        };
        self.settle();
        let found = self.index.search(&asked.partition, &vector, CANDIDATES, unix_ms());
        let looked = self.weigh(asked, found.into_iter().map(Match::from).collect());
        let is_audit = asked.trial.as_ref().is_some_and(|trial| trial.is_audit);
        if is_audit || matches!(looked, Looked::Hit(_)) {
            return looked;
        }
        let elsewhere = self.near_in_redis(asked, &vector).await;
        if elsewhere.is_empty() { looked } else { self.weigh(asked, elsewhere) }
    }

    /// What the index in Redis has, if it lies there.
    async fn near_in_redis(&self, asked: &Asked, vector: &[f32]) -> Vec<Match> {
        let (Some(shared), Ok(space)) = (self.shared().filter(|shared| shared.is_index()), self.space())
        else {
            return Vec::new();
        };
        let near = shared.near((space, &asked.partition), vector, &asked.tenant).await;
        let matched = |(similarity, entry)| Match { id: None, similarity, entry: Arc::new(entry) };
        near.into_iter().map(matched).collect()
    }

    /// Serves the same words, or what the guard and the mode let pass.
    fn weigh(&self, asked: &mut Asked, mut found: Vec<Match>) -> Looked {
        asked.trial = None;
        let is_same = |found: &&Match| found.entry.name == asked.name;
        if let Some(Match { id, entry, .. }) = found.iter().find(is_same) {
            return Looked::Hit(Hit::same(Layer::Semantic(*id), entry.clone()));
        }
        let were_some = !found.is_empty();
        found.retain(|found| self.trust.allows(found.entry.name, found.similarity));
        if were_some && found.is_empty() {
            return Looked::Miss { reason: "feedback", near: None };
        }
        let candidates: Vec<Candidate> = found
            .iter()
            .map(|Match { similarity, entry, .. }| Candidate {
                similarity: *similarity,
                answer: entry.answer,
                guard: compare(&entry.features, &asked.features),
            })
            .collect();
        let near = |place: usize| {
            let (found, candidate) = (found.get(place)?, candidates.get(place)?);
            let Candidate { similarity, guard, answer: _ } = *candidate;
            Some(Near { entry: found.entry.clone(), similarity, guard })
        };
        let is_far = candidates.first().is_some_and(|nearest| nearest.similarity < asked.terms.threshold);
        let evidence = match Evidence::weigh(&candidates) {
            Ok(evidence) => evidence,
            Err(Reason::Empty) => return Looked::Miss { reason: "nothing_stored", near: None },
            Err(_) if is_far => return Looked::Miss { reason: "below_threshold", near: near(0) },
            Err(reason) => return Looked::Miss { reason: reason.label(), near: near(0) },
        };
        let Some(Match { id, similarity, entry }) = found.get(evidence.chosen()) else {
            return Looked::Miss { reason: "nothing_stored", near: None };
        };
        let decision = self.trust.decide(&asked.tenant, asked.terms.threshold, &evidence, &entry.learned());
        let reason = match decision {
            Decision::Serve { audit: false, .. } => {
                let layer = Layer::Semantic(*id);
                let (entry, evidence) = (entry.clone(), Some(evidence));
                return Looked::Hit(Hit { layer, entry, similarity: *similarity, evidence });
            }
            Decision::Serve { audit: true, .. } => "audit",
            Decision::Explore(Reason::Far) => "below_threshold",
            Decision::Explore(reason) => reason.label(),
        };
        asked.trial = Some(Trial { entry: entry.clone(), evidence, is_audit: reason == "audit" });
        // The nearest of all may be one that the guard forbids.
        match (reason, is_far) {
            ("below_threshold", false) => Looked::Miss { reason: "guard", near: near(0) },
            (reason, _) => Looked::Miss { reason, near: near(evidence.chosen()) },
        }
    }
}
