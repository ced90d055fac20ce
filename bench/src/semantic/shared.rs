//! What entries of the semantic cache take in a real Redis.

use tidegate_e2e::harness::{RedisServer, eventually};

use super::gateway::{DEADLINE, fill, questions, start};
use crate::error::BenchError;
use crate::provider::Provider;

/// Enough for a mean; Redis itself takes the same for each.
const ENTRIES: usize = 5_000;

/// Fills a gateway's cache that lies in Redis too.
pub(crate) async fn report(texts: &[String]) -> Result<String, BenchError> {
    eprintln!("semantic: through Redis, {ENTRIES} entries");
    let provider = Provider::start().await?;
    let redis = RedisServer::start().await?;
    let more = format!("  backend: redis\nredis: {{url: \"{}\"}}\n", redis.url());
    let gateway = start(&provider, &more).await?;
    let before = redis.info("used_memory").await?;
    let stored = fill(&gateway, &questions(texts, ENTRIES)).await?;
    let written =
        || async { redis.command(&["DBSIZE"]).await.ok()?.parse().ok().filter(|n: &u64| *n >= 2 * stored) };
    let keys = eventually("the entries are in Redis", DEADLINE, written).await?;
    let grown = redis.info("used_memory").await?.saturating_sub(before);
    Ok(format!(
        "\n### In Redis\n\n{stored} entries, {keys} keys: {:.0} bytes for each entry, its prompt and answer among them.\n",
        grown as f64 / stored as f64
    ))
}
