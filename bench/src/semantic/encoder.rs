//! The sidecar's own embedding service, without a sidecar around it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus_client::registry::Registry;
use tidegate::embedding::settings::PRESETS;
use tidegate::embedding::{BATCH_TEXTS_MAX, EmbedError, Embedder, Settings};

use crate::error::BenchError;

/// Long enough for a batch on a slow machine.
const DEADLINE: Duration = Duration::from_secs(120);

/// A loaded model.
pub(crate) struct Encoder {
    embedder: Embedder,
    settings: Settings,
    name: &'static str,
}

impl Encoder {
    /// Loads one of the models that are known by name.
    pub(crate) async fn start(model: &str) -> Result<Self, BenchError> {
        let preset = PRESETS.iter().find(|preset| preset.model == model);
        let preset = preset.ok_or_else(|| BenchError::new(format!("{model} is no known model")))?;
        let folder = path("TIDEGATE_MODELS")?.join(preset.folder);
        let settings = Settings {
            enabled: true,
            remote: None,
            model: preset.model.to_owned(),
            model_path: folder.join("model.onnx"),
            tokenizer_path: folder.join("tokenizer.json"),
            library_path: path("ORT_DYLIB_PATH")?,
            pooling: preset.pooling,
            prefix: preset.prefix.to_owned(),
            pad_id: preset.pad_id,
            dimension: preset.dimension,
            tokens_max: preset.tokens_max,
            threads: 1,
            queue: BATCH_TEXTS_MAX,
            deadline: DEADLINE,
            memo: 0,
        };
        let embedder = Embedder::start(settings.clone(), &mut Registry::default());
        let encoder = Self { embedder, settings, name: preset.model };
        let started = Instant::now();
        loop {
            match encoder.embedder.model() {
                Ok(_) => return Ok(encoder),
                Err(EmbedError::Loading) if started.elapsed() < DEADLINE => tokio::task::yield_now().await,
                Err(why) => return Err(BenchError::new(format!("{model}: {why}"))),
            }
        }
    }

    pub(crate) const fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) const fn name(&self) -> &'static str {
        self.name
    }

    /// The vectors of all texts, and how many were computed in a second.
    pub(crate) async fn embed(&self, texts: &[&str]) -> Result<(Vec<Arc<[f32]>>, f64), BenchError> {
        // Texts of like length together, as less is padded then.
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by_key(|i| texts[*i].len());
        let mut vectors: Vec<Arc<[f32]>> = vec![Arc::from([]); texts.len()];
        let started = Instant::now();
        for batch in order.chunks(BATCH_TEXTS_MAX) {
            let inputs: Vec<&str> = batch.iter().map(|i| texts[*i]).collect();
            let deadline = tokio::time::Instant::now() + DEADLINE;
            let embedded =
                self.embedder.embed(&inputs, deadline).await.map_err(BenchError::doing(self.name))?;
            for (i, embedding) in batch.iter().zip(embedded) {
                vectors[*i] = embedding.vector;
            }
        }
        Ok((vectors, texts.len() as f64 / started.elapsed().as_secs_f64()))
    }
}

fn path(variable: &str) -> Result<PathBuf, BenchError> {
    let value = std::env::var_os(variable)
        .ok_or_else(|| BenchError::new(format!("{variable} is not set; use make bench")))?;
    Ok(PathBuf::from(value))
}

pub(crate) fn cosine(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}
