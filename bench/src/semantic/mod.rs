//! How well the semantic cache judges, on pairs and streams whose truth is known, beside the
//! decision rule of GPTCache on the same vectors in the same run.

mod adversarial;
mod data;
mod encoder;
mod gateway;
mod index;
mod pairs;
mod python;
mod shared;
mod stream;

use std::path::{Path, PathBuf};

use crate::error::BenchError;
use encoder::Encoder;

/// Cosine of multilingual-e5-small from which two questions may mean the same.
const UNJUDGED: f32 = 0.96;
/// Entries of the index that is measured, unless told otherwise.
pub(crate) const ENTRIES: usize = 100_000;

/// What is measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The folder with `pairs/`.
    pub(crate) data: PathBuf,
    /// Which parts, by their names; empty for all.
    pub(crate) only: Vec<String>,
    /// Entries of the index and of the gateway's cache.
    pub(crate) entries: usize,
}

/// The names of the parts.
pub(crate) const PARTS: [&str; 6] = ["english", "chinese", "python", "index", "gateway", "redis"];

/// Everything that is wanted; what is missing is said in its place.
pub(crate) async fn run(wanted: &Wanted) -> Result<String, BenchError> {
    let pairs = wanted.data.join("pairs");
    if !pairs.is_dir() {
        return Err(BenchError::new(format!("--data: {} has no folder `pairs`", wanted.data.display())));
    }
    let is_wanted = |part: &str| wanted.only.is_empty() || wanted.only.iter().any(|only| only == part);
    let encoder = Encoder::start("all-MiniLM-L6-v2").await?;
    let texts = data::texts(&pairs)?;
    let mut text = String::new();
    if is_wanted("english") {
        text += &english(&pairs, &encoder).await?;
    }
    if is_wanted("chinese") {
        text += &chinese(&pairs).await?;
    }
    if is_wanted("python") {
        text += &python::report(&texts, &encoder).await?;
    }
    if is_wanted("index") {
        text += &index::report(&texts, wanted.entries, &encoder).await?;
    }
    if is_wanted("gateway") {
        text += &gateway::report(&texts, wanted.entries).await?;
    }
    if is_wanted("redis") {
        text += &shared::report(&texts).await?;
    }
    Ok(text)
}

async fn english(pairs: &Path, encoder: &Encoder) -> Result<String, BenchError> {
    let mut text = String::new();
    for (title, file) in
        [("English questions (QQP)", "qqp_en.jsonl"), ("GPTCache's own pairs", "gptcache_mock_999.jsonl")]
    {
        text += &pairs::report(title, &pairs.join(file), encoder).await?;
    }
    let rows = data::labelled(&pairs.join("banking77_train.jsonl"))?;
    text += &stream::report("Banking77, intents as classes", &rows, encoder).await?;
    Ok(text)
}

async fn chinese(pairs: &Path) -> Result<String, BenchError> {
    let encoder = match Encoder::start("multilingual-e5-small").await {
        Ok(encoder) => encoder,
        Err(why) => return Ok(format!("\nNo Chinese tables: {why}\n")),
    };
    let file = pairs.join("lcqmc_zh.jsonl");
    let mut text = pairs::report("Chinese questions (LCQMC)", &file, &encoder).await?;
    let (rows, left_out) = stream::judged(&data::pairs(&file)?, UNJUDGED, &encoder).await?;
    text += &stream::report("LCQMC, equal questions as classes", &rows, &encoder).await?;
    text += &format!(
        "\n{left_out} texts are left out: within {UNJUDGED} of one of another class, and nobody has judged the two.\n"
    );
    Ok(text)
}
