//! Many API keys: what they cost Envoy and the sidecar in memory, and a request in CPU, beside a
//! few.

use std::fmt::Write;
use std::sync::Arc;

use tidegate_e2e::harness::{Client, Gateway};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::beds::Pair;
use crate::error::BenchError;
use crate::machine;
use crate::table::mib;

/// Numbers of keys that are compared.
const KEYS: [u64; 2] = [10, 100_000];
/// Requests of each look.
const REQUESTS: usize = 20_000;
const CALLERS: u64 = 8;

const CONFIG: &str = "\
limiter: {default_rate: 1000000, max_rate: 1000000}
providers:
  - {{openai}}
    models: [gpt-4o]
";

/// Runs both and returns the table.
pub(crate) async fn run() -> Result<String, BenchError> {
    let mut text = String::from(
        "\n| keys | used | Envoy | sidecar | CPU ms/1000 requests: Envoy | sidecar |\n|---|---|---|---|---|---|\n",
    );
    for count in KEYS {
        eprintln!("keys: making {count}");
        let gateway = Gateway::builder().config_yaml(CONFIG).workers(1).start().await?;
        let start = Instant::now();
        let keys = make(&gateway, count).await?;
        eprintln!("keys: made in {:.0} s", start.elapsed().as_secs_f64());
        row(&mut text, count, 0, &gateway, None)?;
        for used in [1, count.min(REQUESTS as u64)] {
            eprintln!("keys: using {used} of {count}");
            let some = keys.iter().take(used as usize).cloned().collect();
            let some: Arc<[String]> = some;
            ask(&gateway, &some).await?;
            let before = Pair::of(&gateway, machine::cpu_seconds)?;
            ask(&gateway, &some).await?;
            let after = Pair::of(&gateway, machine::cpu_seconds)?;
            let per_thousand = |seconds: f64| seconds * 1e6 / REQUESTS as f64;
            let cost = Pair {
                envoy: per_thousand(after.envoy - before.envoy),
                sidecar: per_thousand(after.sidecar - before.sidecar),
            };
            row(&mut text, count, used, &gateway, Some(cost))?;
        }
    }
    Ok(text)
}

/// Makes keys, several at a time.
async fn make(gateway: &Gateway, count: u64) -> Result<Vec<String>, BenchError> {
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let (admin, url) = (gateway.admin(), gateway.url("/admin/keys"));
        callers.spawn(async move {
            let mut made = Vec::new();
            for number in (caller..count).step_by(CALLERS as usize) {
                let body = format!(r#"{{"name": "k{number}", "tenant": "bench", "role": "user"}}"#);
                let answer = admin.post_json(&url, body).await?;
                let key = answer.json()["key"].as_str().map(str::to_owned);
                made.push(key.ok_or_else(|| BenchError::new(format!("no key: {}", answer.text())))?);
            }
            Ok::<_, BenchError>(made)
        });
    }
    let mut keys = Vec::new();
    while let Some(done) = callers.join_next().await {
        keys.extend(done.map_err(BenchError::doing("making keys"))??);
    }
    Ok(keys)
}

/// Sends requests of these keys, in turn; at most as many keys as requests are of use.
async fn ask(gateway: &Gateway, keys: &Arc<[String]>) -> Result<(), BenchError> {
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS as usize {
        let (url, keys) = (gateway.url("/v1/models"), keys.clone());
        callers.spawn(async move {
            let client = Client::new();
            for number in (caller..REQUESTS).step_by(CALLERS as usize) {
                // A step that has no divisor in common with any number of keys, so that all are used.
                let key = &keys[number * 7 % keys.len()];
                let answer = client.clone().with_key(key).get(&url).await?;
                if answer.status != 200 {
                    return Err(BenchError::new(format!("{}: {}", answer.status, answer.text())));
                }
            }
            Ok(())
        });
    }
    while let Some(done) = callers.join_next().await {
        done.map_err(BenchError::doing("running a caller"))??;
    }
    Ok(())
}

fn row(
    text: &mut String,
    keys: u64,
    used: u64,
    gateway: &Gateway,
    cost: Option<Pair>,
) -> Result<(), BenchError> {
    let Pair { envoy, sidecar } = Pair::of(gateway, machine::rss_mib)?;
    let cost = cost.map_or_else(
        || ("-".to_owned(), "-".to_owned()),
        |cost| (format!("{:.1}", cost.envoy), format!("{:.1}", cost.sidecar)),
    );
    // Writing to a String cannot fail.
    let _ =
        writeln!(text, "| {keys} | {used} | {} | {} | {} | {} |", mib(envoy), mib(sidecar), cost.0, cost.1);
    Ok(())
}
