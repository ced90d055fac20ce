//! The semantic cache through a real Envoy: what a hit takes when the cache is full, and what a miss
//! adds to a request that takes its time anyway.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tidegate_e2e::harness::{Answer, Client, Gateway, embedding_files, eventually};
use tokio::task::JoinSet;

use super::adversarial::Dice;
use super::index::reworded;
use crate::cases::KEY;
use crate::error::BenchError;
use crate::histogram::Histogram;
use crate::machine;
use crate::provider::Provider;

/// Longest prompt, in words: some 32 tokens.
const WORDS_MAX: usize = 20;
/// What is counted for each answer that might be stored.
const SETTLED: [&str; 2] =
    ["gateway_semantic_cache_stores_total{", "gateway_semantic_cache_coalesced_total "];
/// Requests at a time while the cache is filled.
const FILLERS: usize = 16;
/// Questions whose answers are stored before more are asked: asking must not outrun embedding.
const FILLED_AT_ONCE: usize = 500;
/// Questions whose hits are timed, for each number of connections.
const HITS: usize = 3_000;
const CONNECTIONS: [usize; 2] = [1, 8];
/// How long the provider takes for a miss.
const PROVIDER_MS: u64 = 1_000;
/// Misses that begin one after the other while the provider takes its time, and how often.
const MISSES: (usize, usize) = (32, 6);
pub(super) const DEADLINE: Duration = Duration::from_secs(120);

const CONFIG: &str = "\
limiter: {default_rate: 1000000.0, max_rate: 1000000.0}
logging: {format: json}
embedding: {queue: 1024}
providers:
  - {{openai}}
    models: [gpt-4o-mini]
auth:
  api_keys:
    - {name: bench, key: @KEY@, tenant: bench}
cache:
  l1: {enabled: false}
  l2:
    max_bytes: 2GiB
";

/// Fills a gateway's cache with `entries` questions made of `texts`.
pub(crate) async fn report(texts: &[String], entries: usize) -> Result<String, BenchError> {
    eprintln!("semantic: through Envoy, {entries} entries");
    let provider = Provider::start().await?;
    let gateway = start(&provider, "").await?;
    let questions = questions(texts, entries);
    let at_rest = machine::rss_mib(gateway.sidecar().id())?;
    let started = Instant::now();
    let stored = fill(&gateway, &questions).await?;
    let filled = started.elapsed().as_secs_f64();
    let grown = machine::rss_mib(gateway.sidecar().id())? - at_rest;

    let client = Client::new().with_key(KEY);
    let mut rows = String::new();
    let mut dice = Dice(13);
    for connections in CONNECTIONS {
        let asked: Vec<String> =
            (0..HITS).map(|_| format!("{} please", questions[dice.below(questions.len())])).collect();
        let (hits, latency) = ask_all(&gateway, &client, &asked, connections).await?;
        rows += &format!(
            "| {connections} | {:.1} % | {:.2} ms | {:.2} ms |\n",
            100.0 * hits as f64 / HITS as f64,
            ms(&latency, 0.5),
            ms(&latency, 0.99)
        );
    }
    provider.arm(&format!("{{\"delay_ms\":{PROVIDER_MS}}}")).await?;
    let (with, without) = misses(&gateway, &mut dice).await?;
    Ok(format!(
        "\n### Through Envoy\n\n{stored} entries in one partition, stored at {:.0} a second; prompts of at most {WORDS_MAX} words, \
         each asked for with a word more. Hits alone are timed.\n\n\
         | connections | hits | p50 | p99 |\n|---|---|---|---|\n{rows}\n\
         A miss with a provider that takes {PROVIDER_MS} ms, {} a second, takes {:.2} ms more (p50), with `no-store` {:.2} ms; \
         the look-up adds {:.2} ms.\n\nThe sidecar grew by {grown:.1} MiB, {:.0} bytes for each entry, its prompt and answer among them.\n",
        entries as f64 / filled,
        MISSES.0,
        ms(&with, 0.5),
        ms(&without, 0.5),
        ms(&with, 0.5) - ms(&without, 0.5),
        grown * 1024.0 * 1024.0 / stored as f64,
    ))
}

/// A gateway with the real model, and more configuration, which begins inside `cache.l2`.
pub(super) async fn start(provider: &Provider, more: &str) -> Result<Arc<Gateway>, BenchError> {
    let config = CONFIG.replace("@KEY@", KEY) + more;
    let files = embedding_files()?;
    let builder = Gateway::builder().workers(1).config_yaml(&config).provider_url(&provider.base_url());
    let builder = builder.env("TIDEGATE_MODELS", files.models).env("ORT_DYLIB_PATH", files.library);
    Ok(Arc::new(builder.start().await?))
}

/// Has the answers to all questions stored; how many are.
pub(super) async fn fill(gateway: &Arc<Gateway>, questions: &[String]) -> Result<u64, BenchError> {
    let fresh = Client::new().with_key(KEY).with_header("cache-control", "no-cache");
    let (mut asked, mut stored) = (0, 0);
    for part in questions.chunks(FILLED_AT_ONCE) {
        ask_all(gateway, &fresh, part, FILLERS).await?;
        asked += part.len() as u64;
        stored = until_settled(gateway, asked).await?;
    }
    Ok(stored)
}

/// Short questions, no two the same.
pub(super) fn questions(texts: &[String], count: usize) -> Vec<String> {
    let mut dice = Dice(17);
    let short: Vec<&String> = texts.iter().filter(|text| text.split(' ').count() <= WORDS_MAX).collect();
    let mut seen = HashSet::new();
    let mut questions: Vec<String> = short
        .iter()
        .filter(|text| seen.insert((**text).clone()))
        .take(count)
        .map(|text| (*text).clone())
        .collect();
    while questions.len() < count {
        let text = reworded(short[dice.below(short.len())], texts, &mut dice);
        if seen.insert(text.clone()) {
            questions.push(text);
        }
    }
    questions
}

fn body(question: &str) -> String {
    json!({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": question}]}).to_string()
}

/// Asks all, so many at a time; how many were semantic hits, and how long those took.
pub(super) async fn ask_all(
    gateway: &Arc<Gateway>,
    client: &Client,
    questions: &[String],
    at_a_time: usize,
) -> Result<(u64, Histogram), BenchError> {
    let mut asking = JoinSet::new();
    for share in questions.chunks(questions.len().div_ceil(at_a_time).max(1)) {
        let (gateway, client, share) = (gateway.clone(), client.clone(), share.to_vec());
        asking.spawn(async move {
            let mut latency = Histogram::default();
            for question in share {
                let sent = Instant::now();
                let answer = gateway.ask(&client, body(&question)).await?;
                let taken = sent.elapsed();
                good(&answer)?;
                if answer.header("x-gateway-cache-layer") == Some("semantic") {
                    latency.record(u64::try_from(taken.as_nanos()).unwrap_or(u64::MAX));
                }
            }
            Ok::<_, BenchError>(latency)
        });
    }
    let mut all = Histogram::default();
    while let Some(joined) = asking.join_next().await {
        all.merge(&joined.map_err(BenchError::doing("asking"))??);
    }
    Ok((all.total(), all))
}

fn good(answer: &Answer) -> Result<(), BenchError> {
    if answer.status == 200 {
        Ok(())
    } else {
        Err(BenchError::new(format!("{}: {}", answer.status, answer.text())))
    }
}

/// Waits until it is known of each answer whether it was stored, which happens after it was sent; how
/// many entries there are.
async fn until_settled(gateway: &Gateway, asked: u64) -> Result<u64, BenchError> {
    let (admin, url) = (gateway.admin(), gateway.url("/metrics"));
    let settled = || async { counted(&admin.get(&url).await.ok()?.text(), asked) };
    if let Err(why) = eventually(&format!("{asked} answers are stored or not"), DEADLINE, settled).await {
        let page = admin.get(&url).await?.text();
        return Err(BenchError::new(format!(
            "{why}: {}",
            settled_lines(&page).collect::<Vec<_>>().join(", ")
        )));
    }
    let page = admin.get(&gateway.url("/admin/cache")).await?.json();
    page["entries"].as_u64().ok_or_else(|| BenchError::new("/admin/cache has no `entries`".to_owned()))
}

/// `Some` once the counters that say what became of answers come to `asked`.
fn counted(page: &str, asked: u64) -> Option<()> {
    let count = |line: &str| line.rsplit(' ').next()?.parse::<f64>().ok();
    (settled_lines(page).filter_map(count).sum::<f64>() >= asked as f64).then_some(())
}

fn settled_lines(page: &str) -> impl Iterator<Item = &str> {
    page.lines().filter(|line| SETTLED.iter().any(|name| line.starts_with(name)))
}

/// Latencies of misses that are looked up, and of the same that are not, in turn.
async fn misses(gateway: &Arc<Gateway>, dice: &mut Dice) -> Result<(Histogram, Histogram), BenchError> {
    let (mut with, mut without) = (Histogram::default(), Histogram::default());
    for round in 0..2 * MISSES.1 {
        let client = Client::new().with_key(KEY);
        let (client, into) = match round % 2 {
            0 => (client, &mut with),
            _ => (client.with_header("cache-control", "no-store"), &mut without),
        };
        let mut asking = JoinSet::new();
        for place in 0..MISSES.0 {
            let (gateway, client) = (gateway.clone(), client.clone());
            let question = format!(
                "What became of ship number {} after storm {}?",
                dice.below(100_000),
                dice.below(100_000)
            );
            let begins = Duration::from_millis(PROVIDER_MS).mul_f64(place as f64 / MISSES.0 as f64);
            asking.spawn(async move {
                tokio::time::sleep(begins).await;
                let sent = Instant::now();
                let answer = gateway.ask(&client, body(&question)).await?;
                good(&answer)?;
                Ok::<_, BenchError>(sent.elapsed())
            });
        }
        while let Some(joined) = asking.join_next().await {
            let taken = joined.map_err(BenchError::doing("asking"))??;
            // The provider's own time is left out: a histogram is as fine as its values are small.
            let beside = taken.saturating_sub(Duration::from_millis(PROVIDER_MS));
            into.record(u64::try_from(beside.as_nanos()).unwrap_or(u64::MAX));
        }
    }
    Ok((with, without))
}

pub(super) fn ms(latency: &Histogram, quantile: f64) -> f64 {
    latency.quantile(quantile) as f64 / 1e6
}
