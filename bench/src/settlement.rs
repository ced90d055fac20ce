//! Settlement of tokens: many requests of every kind, and then the ledger beside the provider's own
//! count.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate_e2e::emulator::{Fault, FaultMatch, TokensSnapshot};
use tidegate_e2e::harness::{Client, Gateway, eventually};
use tokio::task::JoinSet;

use crate::error::BenchError;

/// Requests under way at a time.
const CALLERS: u64 = 8;
/// Events after which a caller leaves.
const LEAVES_AFTER: usize = 40;
const DEADLINE: Duration = Duration::from_secs(30);
/// What callers ask; long enough that leaving in the middle is leaving in the middle.
const QUESTION: &str = "which rivers flow into the North Sea, how long is each of them, and what are the towns at \
    their mouths? Answer in one short paragraph for each, name your sources, and say so where you do not know. ";

const CONFIG: &str = "\
providers:
  - {{openai}}
    models: [gpt-4o, gpt-4o-mini]
cache:
  l1: {admission: always}
auth:
  anonymous: {enabled: true}
  api_keys:
    - {name: bench, key: bench-key-0123456789, tenant: bench}
limiter:
  default_rate: 1000000.0
  max_rate: 1000000.0
  rules:
    - {tenant: bench, tokens_per_day: 1000000000}
";

/// The kinds of requests, in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Whole,
    StreamWithUsage,
    StreamWithout,
    Repeated,
    Fails,
    Leaves,
}

const TURN: [Kind; 12] = [
    Kind::Whole,
    Kind::StreamWithout,
    Kind::StreamWithUsage,
    Kind::Repeated,
    Kind::Whole,
    Kind::StreamWithout,
    Kind::Fails,
    Kind::Whole,
    Kind::StreamWithUsage,
    Kind::Repeated,
    Kind::StreamWithout,
    Kind::Leaves,
];

impl Kind {
    const fn title(self) -> &'static str {
        match self {
            Self::Whole => "JSON answers",
            Self::StreamWithUsage => "streams, usage asked for",
            Self::StreamWithout => "streams, usage not asked for",
            Self::Repeated => "repeated question (L1)",
            Self::Fails => "the provider fails",
            Self::Leaves => "the caller leaves in mid-stream",
        }
    }

    fn body(self, number: u64) -> String {
        let words = QUESTION.repeat(1 + (number % 4) as usize);
        let stream = matches!(self, Self::StreamWithUsage | Self::StreamWithout | Self::Leaves);
        let question = match self {
            Self::Repeated => QUESTION.to_owned(),
            Self::Fails => format!("this fails {number}: {words}"),
            _ => format!("{number}: {words}"),
        };
        let mut body = json!({
            "model": if self == Self::Leaves { "gpt-4o-mini" } else { "gpt-4o" },
            "temperature": 0,
            "stream": stream,
            "messages": [{"role": "user", "content": question}],
        });
        if self == Self::StreamWithUsage {
            body["stream_options"] = json!({"include_usage": true});
        }
        body.to_string()
    }

    const fn expected(self) -> u16 {
        if matches!(self, Self::Fails) { 400 } else { 200 }
    }
}

/// Sends `requests` and returns the table.
pub(crate) async fn run(requests: u64) -> Result<String, BenchError> {
    let gateway = Arc::new(Gateway::builder().config_yaml(CONFIG).workers(2).start().await?);
    arm(&gateway)?;
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let gateway = gateway.clone();
        callers.spawn(async move { one_caller(&gateway, caller, requests).await });
    }
    let mut sent: BTreeMap<Kind, u64> = BTreeMap::new();
    while let Some(done) = callers.join_next().await {
        for (kind, count) in done.map_err(BenchError::doing("running a caller"))?? {
            *sent.entry(kind).or_default() += count;
        }
    }
    let idle = || async { (gateway.emulator.stats().in_flight == 0).then_some(()) };
    eventually("the provider has heard of all who left", DEADLINE, idle).await?;
    let counted = gateway.emulator.tokens();
    let wanted = counted.whole.answers + counted.left.answers;
    let ledger = eventually("the ledger has every request", DEADLINE, || async {
        let answer = gateway.admin().get(&gateway.url("/admin/usage?tenant=bench")).await.ok()?.json();
        (answer["total"]["requests"].as_u64() == Some(wanted)).then_some(answer)
    });
    Ok(table(&sent, counted, &ledger.await?))
}

fn arm(gateway: &Gateway) -> Result<(), BenchError> {
    let matches = |contains: &str, model: Option<&str>| FaultMatch {
        contains: (!contains.is_empty()).then(|| contains.to_owned()),
        model: model.map(str::to_owned),
        ..FaultMatch::default()
    };
    let faults = [
        Fault { status: Some(400), matches: matches("this fails", None), ..Fault::default() },
        Fault {
            stall_after_chunks: Some(LEAVES_AFTER),
            matches: matches("", Some("gpt-4o-mini")),
            ..Fault::default()
        },
    ];
    for fault in faults {
        gateway.emulator.arm(fault).map_err(BenchError::doing("arming a fault"))?;
    }
    Ok(())
}

async fn one_caller(
    gateway: &Gateway,
    caller: u64,
    requests: u64,
) -> Result<BTreeMap<Kind, u64>, BenchError> {
    let client = Client::new().with_key("bench-key-0123456789");
    let mut sent = BTreeMap::new();
    for number in (caller..requests).step_by(CALLERS as usize) {
        let kind = TURN[(number % TURN.len() as u64) as usize];
        ask(&client, gateway, kind, number).await?;
        *sent.entry(kind).or_default() += 1;
    }
    Ok(sent)
}

async fn ask(client: &Client, gateway: &Gateway, kind: Kind, number: u64) -> Result<(), BenchError> {
    let mut answer = gateway.open_chat(client, kind.body(number)).await?;
    let status = answer.status().as_u16();
    if status != kind.expected() {
        let text = answer.finish().await?.text();
        return Err(BenchError::new(format!("{}: {status} {text}", kind.title())));
    }
    if kind != Kind::Leaves {
        answer.finish().await?;
        return Ok(());
    }
    let mut events = 0;
    while events < LEAVES_AFTER {
        let Some(chunk) = answer.next_chunk().await? else { break };
        events += chunk.windows(6).filter(|window| window == b"data: ").count();
    }
    Ok(())
}

fn table(sent: &BTreeMap<Kind, u64>, counted: TokensSnapshot, ledger: &Value) -> String {
    let mut text = String::from("\n| requests | sent |\n|---|---|\n");
    for (kind, count) in sent {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| {} | {count} |", kind.title());
    }
    text.push_str("\n| tokens | of | provider's count | ledger | off |\n|---|---|---|---|---|\n");
    let of = |model: &str, field: &str| {
        let rows = ledger["rows"].as_array().into_iter().flatten();
        rows.filter(|row| row["model"] == model).filter_map(|row| row[field].as_u64()).sum::<u64>()
    };
    let rows = [
        ("reported by the provider", "gpt-4o", counted.whole),
        ("estimated, the caller left", "gpt-4o-mini", counted.left),
    ];
    for (what, model, count) in rows {
        let fields =
            [("prompts", "prompt_tokens", count.prompt), ("answers", "completion_tokens", count.completion)];
        for (name, field, theirs) in fields {
            let ours = of(model, field);
            let off = (ours as f64 / theirs.max(1) as f64 - 1.0) * 100.0;
            let _ = writeln!(text, "| {what} | {name} | {theirs} | {ours} | {off:+.2} % |");
        }
    }
    text
}
