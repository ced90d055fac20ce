//! Embeddings: texts as unit vectors that lie close together where the texts mean the same.
//!
//! The model runs on threads of its own, or on a server elsewhere. Requests from everywhere meet in one bounded queue, are
//! computed in batches, and carry a deadline: an embedding that is late or has no room is an
//! error at once, never a stall. Texts seen before are answered from memory.

mod error;
mod memo;
mod metrics;
mod model;
mod queue;
mod remote;
mod runtime;
pub mod settings;
#[cfg(test)]
mod tests;
mod worker;

use std::sync::Arc;

use prometheus_client::registry::Registry;
use tokio::sync::oneshot;
use tokio::time::Instant;

pub use self::error::EmbedError;
pub use self::queue::BATCH_TEXTS_MAX;
pub use self::settings::{Pooling, Remote, Settings};

use self::memo::Memo;
use self::metrics::EmbeddingMetrics;
use self::queue::{Job, Queue};
use self::remote::Server;
use self::worker::Loaded;

/// Longest text that is looked at, in bytes: no model here takes as many tokens as it must have.
pub const TEXT_BYTES_MAX: usize = 64 << 10;

/// A text's vector.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding {
    /// Of length one, so that the cosine of two is their dot product.
    pub vector: Arc<[f32]>,
    /// Tokens of the text, special ones and the model's prefix included.
    pub tokens: usize,
}

/// The bytes of a vector for others: little-endian f32, as OpenAI's API and Redis have them.
#[must_use]
pub fn little_endian(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// What is known of a loaded model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInfo {
    /// Its name in the API.
    pub name: String,
    /// Numbers of a vector.
    pub dimension: usize,
    /// Longest text, in tokens.
    pub tokens_max: usize,
    /// SHA-256 of all that shapes its vectors: those of different digests must not be compared.
    pub digest: [u8; 32],
}

/// The embedding service. Ends its threads when dropped.
#[derive(Debug)]
pub struct Embedder {
    queue: Arc<Queue>,
    loaded: Arc<Loaded>,
    memo: Memo,
    metrics: EmbeddingMetrics,
    name: String,
    tokens_max: usize,
    is_local: bool,
}

impl Embedder {
    /// Begins to load the model, or makes ready to ask for it, which needs a runtime. Whatever is wrong with it is an error of each request for
    /// embeddings, not of the start: most of the gateway works without.
    #[must_use]
    pub fn start(settings: Settings, registry: &mut Registry) -> Self {
        let embedder = Self {
            queue: Arc::new(Queue::new(settings.queue)),
            loaded: Arc::default(),
            memo: Memo::new(settings.memo),
            metrics: EmbeddingMetrics::register(registry),
            name: settings.model.clone(),
            tokens_max: settings.tokens_max,
            is_local: settings.remote.is_none(),
        };
        if !settings.enabled {
            let _ = embedder.loaded.set(Err("embedding.enabled is false".to_owned()));
            return embedder;
        }
        if let Some(remote) = &settings.remote {
            let server = Server::new(&settings, remote);
            // Only this thread sets it, and only once.
            let _ = embedder.loaded.set(server.as_ref().map(Server::info).map_err(Clone::clone));
            if let Ok(server) = server {
                server.serve(&embedder.queue);
            }
            return embedder;
        }
        if let Err(error) = worker::start(settings, embedder.queue.clone(), embedder.loaded.clone()) {
            let _ = embedder.loaded.set(Err(format!("no thread could be started: {error}")));
        }
        embedder
    }

    /// Whether the model runs in this process, and so is one that callers may ask for.
    #[must_use]
    pub const fn is_local(&self) -> bool {
        self.is_local
    }

    /// The model's name in the API, loaded or not.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The model.
    ///
    /// # Errors
    /// `Loading` or `Unavailable`.
    pub fn model(&self) -> Result<&ModelInfo, EmbedError> {
        match self.loaded.get() {
            Some(Ok(info)) => Ok(info),
            Some(Err(why)) => Err(EmbedError::Unavailable(why.clone())),
            None => Err(EmbedError::Loading),
        }
    }

    /// The embeddings of `texts`, in their order; at most [`BATCH_TEXTS_MAX`] texts that are not
    /// remembered.
    ///
    /// # Errors
    /// Why there are none; all or nothing. Nothing waits beyond `deadline`.
    pub async fn embed(&self, texts: &[&str], deadline: Instant) -> Result<Vec<Embedding>, EmbedError> {
        let result = self.look_up(texts, deadline).await;
        if let Err(error) = &result {
            self.metrics.count(error.label(), texts.len());
        }
        result
    }

    /// The embedding of one text.
    ///
    /// # Errors
    /// Why there is none. Nothing waits beyond `deadline`.
    pub async fn embed_one(&self, text: &str, deadline: Instant) -> Result<Embedding, EmbedError> {
        self.embed(&[text], deadline).await?.pop().ok_or(EmbedError::Failed)
    }

    async fn look_up(&self, texts: &[&str], deadline: Instant) -> Result<Vec<Embedding>, EmbedError> {
        self.model()?;
        if let Some(index) = texts.iter().position(|text| text.len() > TEXT_BYTES_MAX) {
            return Err(EmbedError::TooLong { index, tokens_max: self.tokens_max });
        }
        let keys: Vec<_> = texts.iter().map(|text| memo::key(text)).collect();
        let mut found: Vec<_> = keys.iter().map(|key| self.memo.get(key)).collect();
        let missing: Vec<usize> =
            found.iter().enumerate().filter_map(|(i, e)| e.is_none().then_some(i)).collect();
        self.metrics.count("memo", texts.len() - missing.len());
        if !missing.is_empty() {
            let wanted = missing.iter().filter_map(|i| texts.get(*i)).map(|text| Box::from(*text)).collect();
            let computed = self.compute(wanted, deadline).await.map_err(|error| match error {
                EmbedError::TooLong { index, tokens_max } => {
                    EmbedError::TooLong { index: missing.get(index).copied().unwrap_or(index), tokens_max }
                }
                other => other,
            })?;
            for (index, embedding) in missing.into_iter().zip(computed) {
                if let (Some(slot), Some(key)) = (found.get_mut(index), keys.get(index)) {
                    self.memo.put(*key, embedding.clone());
                    *slot = Some(embedding);
                }
            }
        }
        found.into_iter().map(|embedding| embedding.ok_or(EmbedError::Failed)).collect()
    }

    async fn compute(&self, texts: Vec<Box<str>>, deadline: Instant) -> Result<Vec<Embedding>, EmbedError> {
        let (started, count) = (Instant::now(), texts.len());
        if count > BATCH_TEXTS_MAX {
            return Err(EmbedError::Busy);
        }
        let (done, outcome) = oneshot::channel();
        self.queue.push(Job { texts, deadline, done })?;
        let computed = tokio::time::timeout_at(deadline, outcome).await.map_err(|_| EmbedError::Late)?;
        // A thread that ended without a word was brought down by the model's code.
        let computed = computed.unwrap_or(Err(EmbedError::Failed))?;
        self.metrics.count("computed", count);
        self.metrics.duration.observe(started.elapsed().as_secs_f64());
        Ok(computed)
    }
}

impl Drop for Embedder {
    fn drop(&mut self) {
        self.queue.close();
    }
}
