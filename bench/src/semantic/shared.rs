//! What the semantic cache takes in a real Redis, and how fast it answers a gateway that has nothing in
//! memory: with the index in every gateway, and with the index in Redis.

use tidegate_e2e::harness::{Client, RedisServer, eventually};

use super::adversarial::Dice;
use super::gateway::{DEADLINE, ask_all, fill, ms, questions, start};
use crate::cases::KEY;
use crate::error::BenchError;
use crate::machine;
use crate::provider::Provider;

/// Enough for a mean; Redis itself takes the same for each.
const ENTRIES: usize = 5_000;
/// Hits that are timed.
const HITS: usize = 2_000;

/// Fills a gateway's cache that lies in Redis too, and asks another gateway.
pub(crate) async fn report(texts: &[String]) -> Result<String, BenchError> {
    let mut text = format!(
        "\n### In Redis\n\n{ENTRIES} answers that one gateway was given, prompts and answers among the bytes; \
         hits are another gateway's, one at a time.\n\n\
         | index | Redis, for each entry | the other gateway's memory, for each | hits | p50 | p99 |\n|---|---|---|---|---|---|\n"
    );
    for index in ["memory", "redis"] {
        text += &row(texts, index).await?;
    }
    Ok(text)
}

async fn row(texts: &[String], index: &str) -> Result<String, BenchError> {
    eprintln!("semantic: {ENTRIES} entries through Redis, index in {index}");
    let provider = Provider::start().await?;
    let redis = RedisServer::start_8().await?;
    let more = format!("    index: {index}\n  backend: redis\nredis: {{url: \"{}\"}}\n", redis.url());
    let (gateway, other) = (start(&provider, &more).await?, start(&provider, &more).await?);
    let (empty, at_rest) = (redis.info("used_memory").await?, machine::rss_mib(other.sidecar().id())?);
    let questions = questions(texts, ENTRIES);
    let stored = fill(&gateway, &questions).await?;
    // The last one that is written is the last one that can be found.
    let (admin, url) = (other.admin(), other.url("/admin/cache"));
    let there = || async {
        if index == "redis" {
            return (redis.command(&["--raw", "KEYS", "tidegate:cache:*:n:*"]).await.ok()?.lines().count()
                > 0)
            .then_some(());
        }
        (admin.get(&url).await.ok()?.json()["entries"].as_u64()? >= stored).then_some(())
    };
    eventually("the other gateway can find them", DEADLINE, there).await?;
    let taken = redis.info("used_memory").await?.saturating_sub(empty) as f64 / stored as f64;
    let grown = (machine::rss_mib(other.sidecar().id())? - at_rest) * 1024.0 * 1024.0 / stored as f64;
    let mut dice = Dice(19);
    let asked: Vec<String> =
        (0..HITS).map(|_| format!("{} please", questions[dice.below(questions.len())])).collect();
    let (hits, latency) = ask_all(&other, &Client::new().with_key(KEY), &asked, 1).await?;
    Ok(format!(
        "| {index} | {taken:.0} bytes | {grown:.0} bytes | {:.1} % | {:.2} ms | {:.2} ms |\n",
        100.0 * hits as f64 / HITS as f64,
        ms(&latency, 0.5),
        ms(&latency, 0.99)
    ))
}
