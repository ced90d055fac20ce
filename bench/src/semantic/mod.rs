//! How well the semantic cache judges, on pairs and streams whose truth is known, beside the
//! decision rule of GPTCache on the same vectors in the same run.

mod adversarial;
mod data;
mod encoder;
mod index;
mod pairs;
mod stream;

use std::path::Path;

use crate::error::BenchError;
use encoder::Encoder;

/// Entries of the index that is measured.
const INDEX_ENTRIES: usize = 100_000;

/// Everything under `data` that is there; what is missing is said in its place.
pub(crate) async fn run(data: &Path) -> Result<String, BenchError> {
    let pairs = data.join("pairs");
    if !pairs.is_dir() {
        return Err(BenchError::new(format!("--data: {} has no folder `pairs`", data.display())));
    }
    let english = Encoder::start("all-MiniLM-L6-v2").await?;
    let chinese = Encoder::start("multilingual-e5-small").await;
    let mut text = String::new();
    for (title, file) in
        [("English questions (QQP)", "qqp_en.jsonl"), ("GPTCache's own pairs", "gptcache_mock_999.jsonl")]
    {
        text += &pairs::report(title, &pairs.join(file), &english).await?;
    }
    text += &stream::report(
        "Banking77, intents as classes",
        &data::labelled(&pairs.join("banking77_train.jsonl"))?,
        &english,
    )
    .await?;
    match &chinese {
        Ok(encoder) => {
            let file = pairs.join("lcqmc_zh.jsonl");
            text += &pairs::report("Chinese questions (LCQMC)", &file, encoder).await?;
            let classes = data::closure(&data::pairs(&file)?, stream::PROMPTS_MIN);
            text += &stream::report("LCQMC, equal questions as classes", &classes, encoder).await?;
        }
        Err(why) => text += &format!("\nNo Chinese tables: {why}\n"),
    }
    text += &index::report(&data::texts(&pairs)?, INDEX_ENTRIES, &english).await?;
    Ok(text)
}
