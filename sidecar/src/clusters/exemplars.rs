//! The exemplars with their embeddings, which come when the model is there.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tidegate_core::incident::exemplar::Library;
use tidegate_core::incident::judge::Judgement;
use tokio::time::Instant;

use crate::embedding::{BATCH_TEXTS_MAX, EmbedError, Embedder};

/// How often it is looked whether the model is loaded.
const LOADING_POLL: Duration = Duration::from_millis(100);
/// Longest that one batch of exemplars may take; nobody waits for them.
const EXEMPLARS_DEADLINE: Duration = Duration::from_secs(20);

/// Embeddings by template.
pub(super) type Embeddings = HashMap<String, Arc<[f32]>>;

#[derive(Debug)]
pub(super) struct Exemplars {
    pub(super) library: Library,
    embedder: Option<Arc<Embedder>>,
    vectors: OnceLock<Vec<Arc<[f32]>>>,
}

impl Exemplars {
    pub(super) fn new(library: Library, embedder: Option<Arc<Embedder>>) -> Self {
        Self { library, embedder, vectors: OnceLock::new() }
    }

    /// The name of the meaning that was found.
    pub(super) fn meaning_of(&self, judgement: &Judgement) -> Option<String> {
        judgement.meaning.and_then(|index| self.library.meaning(index)).map(|meaning| meaning.name.clone())
    }

    /// Those of the exemplars, in their order, once they are computed.
    pub(super) fn vectors(&self) -> Option<&[Arc<[f32]>]> {
        self.vectors.get().map(Vec::as_slice)
    }

    /// Computes those of the exemplars, if that has not been done, once the model is loaded.
    pub(super) async fn embed(&self) {
        let Some(embedder) = self.embedder.as_deref().filter(|_| self.vectors.get().is_none()) else {
            return;
        };
        while matches!(embedder.model(), Err(EmbedError::Loading)) {
            tokio::time::sleep(LOADING_POLL).await;
        }
        let templates: Vec<&str> = self.library.templates().collect();
        let mut vectors = Vec::with_capacity(templates.len());
        for batch in templates.chunks(BATCH_TEXTS_MAX) {
            match embedder.embed(batch, Instant::now() + EXEMPLARS_DEADLINE).await {
                Ok(embeddings) => vectors.extend(embeddings.into_iter().map(|embedding| embedding.vector)),
                Err(error) => {
                    tracing::debug!(%error, "exemplars have no embeddings yet");
                    return;
                }
            }
        }
        tracing::info!(exemplars = vectors.len(), "exemplars have their embeddings");
        let _ = self.vectors.set(vectors);
    }

    /// The embeddings of new templates; those that do not come within `budget` are not there, and
    /// their errors are judged without.
    pub(super) async fn embeddings(&self, templates: &[&str], budget: Duration) -> Embeddings {
        let mut found = Embeddings::new();
        let (Some(embedder), Some(_)) = (self.embedder.as_deref(), self.vectors()) else { return found };
        let mut distinct: Vec<&str> = templates.iter().copied().filter(|t| !t.is_empty()).collect();
        distinct.sort_unstable();
        distinct.dedup();
        let deadline = Instant::now() + budget;
        for batch in distinct.chunks(BATCH_TEXTS_MAX) {
            let Ok(embeddings) = embedder.embed(batch, deadline).await else { break };
            let named = batch.iter().map(|text| (*text).to_owned());
            found.extend(named.zip(embeddings.into_iter().map(|embedding| embedding.vector)));
        }
        found
    }
}
