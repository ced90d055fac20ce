//! Callers that leave: how long until the provider's side of the call is closed, and whether what
//! was made for them is on the ledger.

use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tidegate_e2e::emulator::{Fault, FaultMatch, Outcome, TokensSnapshot};
use tidegate_e2e::harness::{Client, Gateway, StreamingAnswer, eventually, stream_of};

use crate::error::BenchError;

/// Callers of each kind.
const CALLERS_EACH: usize = 400;
/// Events after which those leave that leave in mid-stream.
const EVENTS: usize = 20;
/// How long the provider is silent, in milliseconds: longer than anybody waits here.
const SILENT_MS: u64 = 600_000;
const DEADLINE: Duration = Duration::from_secs(30);

const CONFIG: &str = "\
providers:
  - {{openai}}
    models: [gpt-4o, gpt-4o-mini]
cache:
  l1: {enabled: false}
auth:
  api_keys:
    - {name: bench, key: bench-key-0123456789, tenant: bench}
limiter:
  default_rate: 1000000.0
  max_rate: 1000000.0
  rules:
    - {tenant: bench, tokens_per_day: 1000000000}
";

/// When callers leave.
#[derive(Debug, Clone, Copy)]
enum Leaving {
    BeforeFirstToken,
    InMidStream,
}

impl Leaving {
    const ALL: [Self; 2] = [Self::BeforeFirstToken, Self::InMidStream];

    const fn title(self) -> &'static str {
        match self {
            Self::BeforeFirstToken => "before the first token",
            Self::InMidStream => "in mid-stream",
        }
    }

    /// What the provider does, so that there is nothing to be done but leave.
    fn fault(self) -> Fault {
        match self {
            Self::BeforeFirstToken => Fault { first_chunk_delay_ms: Some(SILENT_MS), ..Fault::default() },
            Self::InMidStream => Fault { stall_after_chunks: Some(EVENTS), ..Fault::default() },
        }
    }

    /// Each kind has a model of its own, by which the ledger tells them apart.
    const fn model(self) -> &'static str {
        match self {
            Self::BeforeFirstToken => "gpt-4o-mini",
            Self::InMidStream => "gpt-4o",
        }
    }
}

/// Has callers leave one after another, and returns the table.
pub(crate) async fn run() -> Result<String, BenchError> {
    let gateway = Gateway::builder().workers(1).config_yaml(CONFIG).start().await?;
    let mut text = String::from(
        "\n| callers who leave | of them | call ended after: p50 | p99 | at most | prompt tokens: provider, ledger | answer tokens: provider, ledger |\n|---|---|---|---|---|---|---|\n",
    );
    for (index, kind) in Leaving::ALL.into_iter().enumerate() {
        let matches = FaultMatch { model: Some(kind.model().to_owned()), ..FaultMatch::default() };
        let fault = Fault { matches, ..kind.fault() };
        gateway.emulator.arm(fault).map_err(BenchError::doing("arming a fault"))?;
        let before = gateway.emulator.tokens();
        let mut waits_us = Vec::with_capacity(CALLERS_EACH);
        for number in 0..CALLERS_EACH {
            waits_us.push(leave(&gateway, kind, number).await?);
        }
        let wanted = (index + 1) * CALLERS_EACH;
        let ledger = eventually("the ledger has every request", DEADLINE, || async {
            let answer = gateway.admin().get(&gateway.url("/admin/usage?tenant=bench")).await.ok()?.json();
            (answer["total"]["requests"].as_u64() == Some(wanted as u64)).then_some(answer)
        });
        text.push_str(&row(kind, waits_us, (before, gateway.emulator.tokens()), &ledger.await?));
    }
    Ok(text)
}

/// One caller asks, and leaves when the provider has become silent; microseconds until the provider's
/// side was closed.
async fn leave(gateway: &Gateway, kind: Leaving, number: usize) -> Result<u64, BenchError> {
    let client = Client::new().with_key("bench-key-0123456789");
    let question = format!("caller {number}: {}", "tell me of the sea. ".repeat(EVENTS));
    let asked = gateway.emulator.stats().requests_total;
    let asking = gateway.open_chat(&client, stream_of(kind.model(), &question));
    let left_us = match kind {
        Leaving::InMidStream => {
            let mut answer = asking.await?;
            read_events(&mut answer).await?;
            let left_us = now_us();
            drop(answer);
            left_us
        }
        Leaving::BeforeFirstToken => {
            let is_there = || async { (gateway.emulator.stats().requests_total > asked).then_some(()) };
            tokio::select! {
                early = asking => return Err(unexpected(kind, early?.status().as_u16())),
                there = eventually("the provider has the request", DEADLINE, is_there) => there?,
            }
            now_us()
        }
    };
    drop(client);
    let ended = eventually("the call has ended", DEADLINE, || async {
        gateway.emulator.requests().pop().filter(|request| request.outcome != Outcome::InFlight)
    });
    let ended = ended.await?;
    if ended.outcome != Outcome::ClientLeft {
        return Err(BenchError::new(format!("{}: the answer came to its end", kind.title())));
    }
    Ok(ended.ended_us.unwrap_or_default().saturating_sub(left_us))
}

async fn read_events(answer: &mut StreamingAnswer) -> Result<(), BenchError> {
    if answer.status() != 200 {
        return Err(unexpected(Leaving::InMidStream, answer.status().as_u16()));
    }
    let mut events = 0;
    while events < EVENTS {
        let Some(chunk) = answer.next_chunk().await? else { break };
        events += chunk.windows(6).filter(|window| window == b"data: ").count();
    }
    Ok(())
}

fn unexpected(kind: Leaving, status: u16) -> BenchError {
    BenchError::new(format!("{}: the gateway answered {status}", kind.title()))
}

fn now_us() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}

fn row(
    kind: Leaving,
    mut waits_us: Vec<u64>,
    (before, after): (TokensSnapshot, TokensSnapshot),
    ledger: &Value,
) -> String {
    waits_us.sort_unstable();
    let ms = |percent: usize| {
        let rank = (waits_us.len() * percent).div_ceil(100).saturating_sub(1);
        waits_us.get(rank).copied().unwrap_or_default() as f64 / 1000.0
    };
    let of = |field: &str| {
        let rows = ledger["rows"].as_array().into_iter().flatten();
        rows.filter(|row| row["model"] == kind.model()).filter_map(|row| row[field].as_u64()).sum::<u64>()
    };
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "| {} | {} | {:.1} ms | {:.1} ms | {:.1} ms | {}, {} | {}, {} |",
        kind.title(),
        waits_us.len(),
        ms(50),
        ms(99),
        ms(100),
        after.left.prompt - before.left.prompt,
        of("prompt_tokens"),
        after.left.completion - before.left.completion,
        of("completion_tokens"),
    );
    text
}
