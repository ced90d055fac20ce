//! How many errors the engine takes a second, on one core.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Instant;

use prometheus_client::registry::Registry;
use tidegate::clusters::{Engine, Observation, Settings, now_ms};
use tidegate::config::Config;
use tidegate::embedding::{Embedder, Settings as EmbeddingSettings};
use tidegate::store::Store;
use tidegate_core::incident::cluster::Partition;
use tidegate_core::incident::{Signature, Source, StatusClass};

use crate::error::BenchError;

/// Errors that filters send at once.
const BATCH: usize = 128;
/// Errors of known templates that are sent.
const KNOWN: usize = 200_000;
/// Errors of new templates that are sent.
const NEW: usize = 2000;
/// Words that new templates are made of.
const WORDS: [&str; 16] = [
    "request", "limit", "token", "model", "denied", "upstream", "parse", "schema", "region", "billing",
    "stream", "deadline", "socket", "image", "policy", "queue",
];

/// A table of rates.
pub(super) async fn run(config: &Config, embedder: Option<Arc<Embedder>>) -> Result<String, BenchError> {
    let none = EmbeddingSettings { enabled: false, ..config.embedding.clone() };
    let without = Arc::new(Embedder::start(none, &mut Registry::default()));
    let mut text = "\n### Speed\n\n| errors | a second |\n|---|---|\n".to_owned();
    let engine = engine(&config.clustering, without)?;
    let first = errors(0, BATCH);
    engine.learn(&first, now_ms()).await;
    line(&mut text, "of known templates", rate(&engine, &first, KNOWN).await);
    line(&mut text, "of new templates, no embedding model", rate_of_new(&engine, 1).await);
    if let Some(embedder) = embedder {
        let engine = self::engine(&config.clustering, embedder)?;
        engine.prepare().await;
        line(&mut text, "of new templates", rate_of_new(&engine, 2).await);
    }
    Ok(text)
}

fn engine(settings: &Settings, embedder: Arc<Embedder>) -> Result<Arc<Engine>, BenchError> {
    let folder = tempfile::tempdir().map_err(BenchError::doing("a folder for the store"))?;
    let store = Store::open(&folder.path().join("store.redb")).map_err(BenchError::doing("the store"))?;
    Engine::start(settings.clone(), embedder, Arc::new(store), &mut Registry::default())
        .map_err(|error| BenchError::new(error.to_string()))
}

fn line(text: &mut String, what: &str, rate: f64) {
    let _ = writeln!(text, "| {what} | {rate:.0} |");
}

async fn rate(engine: &Engine, batch: &[Observation], total: usize) -> f64 {
    let started = Instant::now();
    let mut sent = 0;
    while sent < total {
        sent += engine.learn(batch, now_ms()).await.len();
    }
    sent as f64 / started.elapsed().as_secs_f64()
}

async fn rate_of_new(engine: &Engine, seed: usize) -> f64 {
    let all = errors(seed * NEW, NEW);
    let started = Instant::now();
    for batch in all.chunks(BATCH) {
        engine.learn(batch, now_ms()).await;
    }
    NEW as f64 / started.elapsed().as_secs_f64()
}

/// Errors whose templates are all different: a number written in words.
fn errors(from: usize, count: usize) -> Vec<Observation> {
    let partition = Partition { class: StatusClass::Server, source: Source::Provider };
    let words = |number: usize| {
        let word = |place: u32| WORDS[number / WORDS.len().pow(place) % WORDS.len()];
        (0..8).map(word).collect::<Vec<_>>().join(" ")
    };
    let one = |number: usize| {
        let template = format!("error while {} <num>", words(number.wrapping_mul(2_654_435_761)));
        let signature = Signature::of(partition.class, partition.source, &[], &template);
        Observation { partition, status: Some(500), codes: Vec::new(), template, signature }
    };
    (from..from + count).map(one).collect()
}
