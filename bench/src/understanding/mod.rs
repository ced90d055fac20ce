//! `--understanding [--data DIR]`: how well errors are understood, and how well log lines are grouped.

mod data;
mod drain3;
mod errors;
mod scores;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use tidegate::config::{Config, Env, parse};
use tidegate::embedding::{BATCH_TEXTS_MAX, EmbedError, Embedder};
use tidegate_core::incident::judge::Weights;
use tidegate_core::incident::mask::mask;
use tidegate_core::incident::miner::Miner;
use tokio::time::Instant;

use crate::error::BenchError;
use data::Row;
use errors::{Figures, Knowledge, Prepared};

/// Longest the embedding model may take to load.
const LOAD_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest one batch may take.
const BATCH_TIMEOUT: Duration = Duration::from_secs(60);

/// The whole report.
pub(crate) async fn run(folder: Option<&Path>) -> Result<String, BenchError> {
    let config = default_config()?;
    let embedder = embedder(&config, &mut Registry::default()).await;
    let mut report = String::new();
    let title = "Understanding errors that were kept apart";
    understanding(title, data::unseen()?, &config, embedder.as_deref(), &mut report).await?;
    let Some(folder) = folder else {
        report.push_str("\nWithout --data there are no other errors, and no log lines to group.\n");
        return Ok(report);
    };
    let errors = data::errors(folder)?;
    understanding("Understanding errors", errors, &config, embedder.as_deref(), &mut report).await?;
    grouping(folder, &mut report).await?;
    Ok(report)
}

/// The configuration that a sidecar has without a file.
pub(crate) fn default_config() -> Result<Config, BenchError> {
    let env: Env = std::env::vars().collect::<BTreeMap<_, _>>();
    parse("", &env).map_err(BenchError::doing("the default configuration"))
}

/// The embedding model, once it is loaded; none where there is none.
pub(crate) async fn embedder(config: &Config, registry: &mut Registry) -> Option<Arc<Embedder>> {
    let embedder = Arc::new(Embedder::start(config.embedding.clone(), registry));
    let give_up = Instant::now() + LOAD_TIMEOUT;
    let mut look = tokio::time::interval(Duration::from_millis(20));
    loop {
        match embedder.model() {
            Ok(_) => return Some(embedder),
            Err(EmbedError::Loading) if Instant::now() < give_up => look.tick().await,
            Err(error) => {
                eprintln!("tidegate-bench: {error}; going on without");
                return None;
            }
        };
    }
}

async fn embed(embedder: Option<&Embedder>, texts: &[&str]) -> Result<Option<Vec<Arc<[f32]>>>, BenchError> {
    let Some(embedder) = embedder else { return Ok(None) };
    let mut vectors = Vec::with_capacity(texts.len());
    for batch in texts.chunks(BATCH_TEXTS_MAX) {
        let batch = embedder.embed(batch, Instant::now() + BATCH_TIMEOUT).await;
        vectors.extend(batch.map_err(BenchError::doing("embedding"))?.into_iter().map(|e| e.vector));
    }
    Ok(Some(vectors))
}

async fn understanding(
    title: &str,
    errors: Vec<Row>,
    config: &Config,
    embedder: Option<&Embedder>,
    report: &mut String,
) -> Result<(), BenchError> {
    let (meanings, settings) = (&config.clustering.meanings, &config.clustering.clusters);
    let library = errors::library(meanings.clone())?;
    let vectors = embed(embedder, &library.templates().collect::<Vec<_>>()).await?;
    let mut all: Vec<Prepared> = errors.into_iter().map(Prepared::of).collect();
    let templates: Vec<&str> = all.iter().map(|error| error.template.as_str()).collect();
    if let Some(embeddings) = embed(embedder, &templates).await? {
        all.iter_mut().zip(embeddings).for_each(|(error, embedding)| error.embedding = Some(embedding));
    }
    let knowledge =
        |weights, statuses| Knowledge { library: &library, vectors: vectors.as_deref(), weights, statuses };
    let model = if embedder.is_some() { "with the embedding model" } else { "without an embedding model" };
    let _ = write!(
        report,
        "\n### {title} ({} messages, {model})\n\n\
         | run | kind macro F1 | V-measure | adjusted Rand | clusters |\n|---|---|---|---|---|\n",
        all.len()
    );
    let default = Weights::default();
    row(report, "all five witnesses", errors::run(&all, &knowledge(default, true), settings));
    row(report, "statuses not told", errors::run(&all, &knowledge(default, false), settings));
    let unseen = errors::run_unseen(&all, meanings, vectors.as_deref(), settings)?;
    row(report, "without exemplars that look like the message", unseen);
    for (name, weights) in errors::ablations() {
        row(report, &name, errors::run(&all, &knowledge(weights, true), settings));
    }
    Ok(())
}

fn row(report: &mut String, name: &str, figures: Figures) {
    let Figures { f1, v, ari, clusters } = figures;
    // Writing to a String cannot fail.
    let _ = writeln!(report, "| {name} | {f1:.3} | {v:.3} | {ari:.3} | {clusters} |");
}

async fn grouping(folder: &Path, report: &mut String) -> Result<(), BenchError> {
    let lines = data::logs(folder)?;
    let mut miner = Miner::default();
    let pairs: Vec<scores::Pair> = lines
        .iter()
        .map(|line| (line.template_id.clone(), miner.learn(&mask(&line.message)).to_string()))
        .collect();
    let ours = scores::grouping_accuracy(&pairs);
    let _ = write!(
        report,
        "\n### Grouping log lines ({} lines)\n\n| by | grouping accuracy |\n|---|---|\n\
         | masking and template mining | {ours:.3} |\n",
        lines.len()
    );
    match drain3::group(&lines).await? {
        Some(groups) => {
            let pairs: Vec<scores::Pair> =
                lines.iter().zip(groups).map(|(line, group)| (line.template_id.clone(), group)).collect();
            let _ = writeln!(
                report,
                "| drain3 with its default masks | {:.3} |",
                scores::grouping_accuracy(&pairs)
            );
        }
        None => report.push_str("\ndrain3 is not there to compare with: scripts/setup-drain3 installs it.\n"),
    }
    Ok(())
}
