//! A thousand streams at a time: whether all of each arrives, in its order, and what memory it
//! takes.

use std::fmt::Write;
use std::time::Duration;

use serde_json::json;
use tidegate_e2e::harness::{Client, Gateway, streamed_content};
use tokio::task::JoinSet;

use crate::beds::Pair;
use crate::error::BenchError;
use crate::machine;
use crate::provider::Provider;

const STREAMS: usize = 1000;
/// Time between two events of a stream, in milliseconds.
const EVENT_MS: u64 = 200;
/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(500);

const REST: &str = "\
auth:
  anonymous: {enabled: true, tenant: bench}
limiter: {default_rate: 1000000.0, max_rate: 1000000.0}
cache:
  l1: {enabled: false}
";

/// Runs the streams, each for about `length`, and returns the table.
pub(crate) async fn run(length: Duration) -> Result<String, BenchError> {
    let provider = Provider::start().await?;
    provider.arm(&format!("{{\"chunk_delay_ms\":{EVENT_MS}}}")).await?;
    let url = provider.base_url();
    let models = "api_key: sk-bench-0123456789, models: [gpt-4o]";
    let config = format!("providers:\n  - {{name: p, type: openai, base_url: \"{url}\", {models}}}\n{REST}");
    let gateway = Gateway::builder().workers(1).config_yaml(&config).start().await?;
    let at_rest = Pair::of(&gateway, machine::rss_mib)?;
    let words = u64::try_from(length.as_millis()).unwrap_or(u64::MAX) / EVENT_MS;
    let mut streams = JoinSet::new();
    for stream in 0..STREAMS {
        streams.spawn(one(gateway.url("/v1/chat/completions"), stream, words));
    }
    let (mut whole, mut wrong, mut highest) = (0, 0, at_rest);
    let mut looks = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            ended = streams.join_next() => match ended {
                Some(Ok(true)) => whole += 1,
                Some(_) => wrong += 1,
                None => break,
            },
            _ = looks.tick() => {
                let now = Pair::of(&gateway, machine::rss_mib)?;
                highest.envoy = highest.envoy.max(now.envoy);
                highest.sidecar = highest.sidecar.max(now.sidecar);
            }
        }
    }
    drop(provider);
    let mut text = format!("\n| {STREAMS} streams at a time, {words} events each | |\n|---|---|\n");
    // Writing to a String cannot fail.
    let _ = writeln!(text, "| whole and in order | {whole} |");
    let _ = writeln!(text, "| not | {wrong} |");
    let _ = writeln!(text, "| Envoy at rest, at most | {:.1} MiB, {:.1} MiB |", at_rest.envoy, highest.envoy);
    let _ = writeln!(
        text,
        "| sidecar at rest, at most | {:.1} MiB, {:.1} MiB |",
        at_rest.sidecar, highest.sidecar
    );
    let added = highest.sum() - at_rest.sum();
    let _ = writeln!(text, "| both, for each stream | {:.1} KiB |", added * 1024.0 / STREAMS as f64);
    Ok(text)
}

/// One stream, whose words are numbered; true if all of them came in their order.
async fn one(url: String, stream: usize, words: u64) -> bool {
    let prompt: String = (0..words).map(|word| format!("{word} ")).collect::<String>() + &stream.to_string();
    let messages = json!([{"role": "user", "content": prompt}]);
    let body = json!({"model": "gpt-4o", "messages": messages, "stream": true}).to_string();
    let answer = Client::new().post_json(&url, body).await;
    answer.is_ok_and(|answer| {
        answer.status == 200 && streamed_content(&answer) == format!("You said: {prompt}")
    })
}
