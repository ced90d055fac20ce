//! What the embedding service counts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Upper bounds in seconds.
const SECONDS: [f64; 10] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByResult {
    result: &'static str,
}

/// The embedding service's counters.
#[derive(Debug)]
pub struct EmbeddingMetrics {
    texts: Family<ByResult, Counter>,
    /// Seconds from a request for embeddings to its answer, remembered ones apart.
    pub duration: Histogram,
}

impl EmbeddingMetrics {
    /// Makes them known to `registry`.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self { texts: Family::default(), duration: Histogram::new(SECONDS) };
        registry.register(
            "gateway_embedding_texts",
            "Texts to be embedded, by what became of them",
            metrics.texts.clone(),
        );
        registry.register(
            "gateway_embedding_duration_seconds",
            "Time to embed the texts of one request, waiting included",
            metrics.duration.clone(),
        );
        metrics
    }

    /// So many texts ended with `result`: `memo`, `computed`, or an error's label.
    pub fn count(&self, result: &'static str, texts: usize) {
        if texts > 0 {
            self.texts.get_or_create(&ByResult { result }).inc_by(texts as u64);
        }
    }
}
