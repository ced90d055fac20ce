//! Three providers, one of them killed at full load: what callers see of it.

use std::fmt::Write;
use std::time::Duration;

use serde_json::json;
use tidegate_e2e::harness::{Client, Gateway, streamed_content};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::error::BenchError;
use crate::provider::Provider;

const PROVIDERS: usize = 3;
const CONNECTIONS: usize = 32;
/// How finely the time after the kill is looked at.
const BUCKET: Duration = Duration::from_millis(250);
/// A p99 that is so much higher counts as risen.
const RISEN: Duration = Duration::from_secs(1);

const REST: &str = "\
auth:
  anonymous: {enabled: true, tenant: bench}
limiter: {default_rate: 1000000.0, max_rate: 1000000.0}
cache:
  l1: {enabled: false}
routing: {strategy: round_robin}
";

/// One request.
#[derive(Debug, Clone, Copy)]
struct Sample {
    /// Since the load began.
    sent: Duration,
    took: Duration,
    /// An error instead of an answer, or before a stream's first token.
    failed: bool,
    /// A stream that ended with an error after its first token.
    cut: bool,
    second_try: bool,
}

/// Runs the load for `length`, kills one provider at a third of it and returns the table.
pub(crate) async fn run(length: Duration) -> Result<String, BenchError> {
    let mut providers = Vec::with_capacity(PROVIDERS);
    let mut config = String::from("providers:\n");
    for index in 0..PROVIDERS {
        let provider = Provider::start().await?;
        let url = provider.base_url();
        config.push_str(&format!(
            "  - {{name: p{index}, type: openai, base_url: \"{url}\", api_key: sk-bench-0123456789, models: [gpt-4o]}}\n"
        ));
        providers.push(provider);
    }
    let gateway = Gateway::builder().workers(1).config_yaml(&(config + REST)).start().await?;
    let (start, killed_at) = (Instant::now(), length / 3);
    let mut load = JoinSet::new();
    for connection in 0..CONNECTIONS {
        let url = gateway.url("/v1/chat/completions");
        load.spawn(send(url, connection, start, length));
    }
    tokio::time::sleep_until(start + killed_at).await;
    providers.truncate(PROVIDERS - 1);
    let mut samples = Vec::new();
    while let Some(part) = load.join_next().await {
        samples.extend(part.map_err(BenchError::doing("running a connection"))?);
    }
    Ok(report(&samples, killed_at, length))
}

/// A caller that sends its next request when the last is answered, every other one a stream.
async fn send(url: String, connection: usize, start: Instant, length: Duration) -> Vec<Sample> {
    let (client, mut samples) = (Client::new(), Vec::new());
    while start.elapsed() < length {
        let stream = samples.len() % 2 == 1;
        let prompt = format!("{connection} asks {}", samples.len());
        let messages = json!([{"role": "user", "content": prompt}]);
        let body = json!({"model": "gpt-4o", "messages": messages, "stream": stream}).to_string();
        let sent = start.elapsed();
        let answer = client.post_json(&url, body).await.ok().filter(|answer| answer.status == 200);
        let took = start.elapsed() - sent;
        let whole = format!("You said: {prompt}");
        let (failed, cut, second_try) = match &answer {
            None => (true, false, false),
            Some(answer) => {
                let said = if stream { streamed_content(answer) } else { whole.clone() };
                let second_try = answer.header("x-gateway-attempts").is_some_and(|n| n != "1");
                (said.is_empty(), !said.is_empty() && said != whole, second_try)
            }
        };
        samples.push(Sample { sent, took, failed, cut, second_try });
    }
    samples
}

fn report(samples: &[Sample], killed_at: Duration, length: Duration) -> String {
    let between = |from: Duration, to: Duration| {
        samples.iter().filter(move |sample| (from..to).contains(&(sample.sent + sample.took)))
    };
    let warm = killed_at / 2;
    let before = p99(between(warm, killed_at).map(|sample| sample.took).collect());
    let buckets = (length - killed_at).as_millis() / BUCKET.as_millis();
    let of_bucket = |index: u32| {
        let from = killed_at + BUCKET * index;
        p99(between(from, from + BUCKET).map(|sample| sample.took).collect())
    };
    let after: Vec<Duration> = (0..u32::try_from(buckets).unwrap_or(0)).map(of_bucket).collect();
    let highest = after.iter().max().copied().unwrap_or_default();
    let risen = after.iter().rposition(|p99| *p99 > before + RISEN).map_or(0, |index| index + 1);
    let doubled = after.iter().rposition(|p99| *p99 > before * 2).map_or(0, |index| index + 1);
    let count = |test: fn(&Sample) -> bool| samples.iter().filter(|sample| test(sample)).count();
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    let bucket_ms = BUCKET.as_millis();
    let mut text = String::from("\n| one of three providers killed at full load | |\n|---|---|\n");
    // Writing to a String cannot fail.
    let _ = writeln!(text, "| requests, half of them streams | {} |", samples.len());
    let _ = writeln!(text, "| errors before the first token | {} |", count(|s| s.failed));
    let _ = writeln!(text, "| streams cut after it | {} |", count(|s| s.cut));
    let _ = writeln!(text, "| answered at a second attempt | {} |", count(|s| s.second_try));
    let _ = writeln!(text, "| p99 before | {:.1} ms |", ms(before));
    let _ = writeln!(text, "| highest p99 of {bucket_ms} ms after | {:.1} ms |", ms(highest));
    let _ = writeln!(text, "| p99 over 1 s higher until | {} ms after |", risen as u128 * bucket_ms);
    let _ = writeln!(text, "| p99 over twice as high until | {} ms after |", doubled as u128 * bucket_ms);
    text
}

fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    let rank = (times.len() * 99).div_ceil(100).saturating_sub(1);
    times.get(rank).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rises_and_for_how_long_is_reported() {
        let sample = |sent_ms, took_ms| Sample {
            sent: Duration::from_millis(sent_ms),
            took: Duration::from_millis(took_ms),
            failed: false,
            cut: false,
            second_try: false,
        };
        let mut samples: Vec<Sample> = (0..300).map(|n| sample(n * 10, 5)).collect();
        samples.push(Sample { second_try: true, ..sample(1000, 1100) });
        samples.push(Sample { failed: true, ..sample(1500, 5) });
        let text = report(&samples, Duration::from_secs(1), Duration::from_secs(3));
        assert!(text.contains("| errors before the first token | 1 |"), "{text}");
        assert!(text.contains("| p99 before | 5.0 ms |"), "{text}");
        assert!(text.contains("| highest p99 of 250 ms after | 1100.0 ms |"), "{text}");
        assert!(text.contains("| p99 over 1 s higher until | 1250 ms after |"), "{text}");
    }

    #[test]
    fn a_percentile_is_the_nearest_rank() {
        let ms = |n| Duration::from_millis(n);
        assert_eq!(p99((1..=200).map(ms).collect()), ms(198));
        assert_eq!(p99(vec![ms(3)]), ms(3));
        assert_eq!(p99(Vec::new()), Duration::ZERO);
    }
}
