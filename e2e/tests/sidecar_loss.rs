//! The sidecar dies, or is told to stop, while traffic flows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tidegate_e2e::emulator::Fault;
use tidegate_e2e::harness::{
    Answer, Client, Gateway, HarnessError, chat, content, eventually, expect_error, stream, streamed_content,
};
use tokio::task::JoinHandle;

const DEADLINE: Duration = Duration::from_secs(20);
/// The contract says 2 s; the rest is for a machine that is busy with other tests.
const RECOVERY_DEADLINE: Duration = Duration::from_secs(5);
const LOAD_CONNECTIONS: u64 = 8;
const STREAMS: usize = 6;
const ACME_KEY: &str = "acme-key-0123456789";
const CONFIG: &str = "\
providers:
  - {{openai}}
    models: [gpt-4o]
limiter:
  default_rate: 100000
  max_rate: 100000
  rules:
    - {tenant: acme, rate: 0.01, burst: 6}
auth:
  anonymous:
    enabled: true
  api_keys:
    - {name: acme, key: acme-key-0123456789, tenant: acme}
";

/// Callers that go on asking, each the same question and then a new one, whatever happens.
struct Load {
    stop: Arc<AtomicBool>,
    callers: Vec<JoinHandle<Result<Seen, HarnessError>>>,
}

#[derive(Default)]
struct Seen {
    hits: u64,
    fresh: u64,
    unavailable: u64,
}

impl Load {
    fn start(gateway: &Gateway, rounds: &Arc<AtomicU64>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let url = gateway.url("/v1/chat/completions");
        let callers = (0..LOAD_CONNECTIONS)
            .map(|caller| tokio::spawn(ask_on(url.clone(), caller, stop.clone(), rounds.clone())))
            .collect();
        Self { stop, callers }
    }

    /// Stops and adds up; a request without a proper answer is an error.
    async fn finish(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Seen::default();
        for caller in self.callers {
            let seen = caller.await.unwrap().unwrap();
            all.hits += seen.hits;
            all.fresh += seen.fresh;
            all.unavailable += seen.unavailable;
        }
        all
    }
}

async fn ask_on(
    url: String,
    caller: u64,
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
) -> Result<Seen, HarnessError> {
    let client = Client::new();
    let mut seen = Seen::default();
    for round in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let known = client.post_json(&url, chat("known")).await?;
        assert_eq!(known.header("x-gateway-cache"), Some("hit"), "{}", known.text());
        seen.hits += 1;
        let answer = client.post_json(&url, chat(&format!("caller {caller}, round {round}"))).await?;
        if answer.status == 200 {
            seen.fresh += 1;
        } else {
            expect_error(&answer, 503, "sidecar_unavailable");
            seen.unavailable += 1;
        }
        rounds.fetch_add(1, Ordering::Relaxed);
    }
    Ok(seen)
}

/// Waits until the load has gone round some more.
async fn load_goes_on(rounds: &AtomicU64) {
    let wanted = rounds.load(Ordering::Relaxed) + 4 * LOAD_CONNECTIONS;
    eventually("the load goes on", DEADLINE, || async {
        (rounds.load(Ordering::Relaxed) >= wanted).then_some(())
    })
    .await
    .unwrap();
}

async fn ask(gateway: &Gateway, client: &Client, prompt: &str) -> Answer {
    gateway.ask(client, chat(prompt)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_sidecar_is_missed_only_by_what_needs_it() {
    let mut gateway = Gateway::builder().config_yaml(CONFIG).start().await.unwrap();
    let acme = Client::new().with_key(ACME_KEY);
    assert_eq!(ask(&gateway, &Client::new(), "known").await.status, 200);
    assert_eq!(ask(&gateway, &acme, "known").await.status, 200);
    let rounds = Arc::new(AtomicU64::new(0));
    let load = Load::start(&gateway, &rounds);
    load_goes_on(&rounds).await;

    gateway.kill_sidecar().unwrap();
    load_goes_on(&rounds).await;
    while_it_is_away(&gateway, &acme).await;

    gateway.restart_sidecar().unwrap();
    let start = Instant::now();
    let mut tries = 0;
    let nobody = Client::new();
    eventually("the LLM API answers again", RECOVERY_DEADLINE, || {
        tries += 1;
        let prompt = format!("back? {tries}");
        let (gateway, nobody) = (&gateway, &nobody);
        async move { (ask(gateway, nobody, &prompt).await.status == 200).then_some(()) }
    })
    .await
    .unwrap();
    println!("recovered {:?} after the sidecar was started again", start.elapsed());
    load_goes_on(&rounds).await;
    let seen = load.finish().await;
    println!("{} hits, {} fresh answers, {} unavailable", seen.hits, seen.fresh, seen.unavailable);
    assert!(seen.hits > 0 && seen.fresh > 0 && seen.unavailable > 0);

    // What it was told before is still in force, and new callers are known again.
    let stranger = Client::new().with_key("nobodys-key-0123456789");
    expect_error(&ask(&gateway, &stranger, "x").await, 401, "invalid_api_key");
}

/// Cached answers and limits go on, also for a caller with a key; nothing unknown gets in.
async fn while_it_is_away(gateway: &Gateway, acme: &Client) {
    let miss = ask(gateway, &Client::new(), "never asked before").await;
    expect_error(&miss, 503, "sidecar_unavailable");
    for path in ["/v1/models", "/ready", "/health"] {
        let answer = Client::new().get(&gateway.url(path)).await.unwrap();
        expect_error(&answer, 503, "sidecar_unavailable");
    }
    let stream_miss = gateway.ask(&Client::new(), stream("never streamed")).await.unwrap();
    expect_error(&stream_miss, 503, "sidecar_unavailable");
    let anthropic =
        Client::new().post_json(&gateway.url("/v1/messages"), r#"{"model":"gpt-4o"}"#).await.unwrap();
    assert_eq!(anthropic.status, 503);
    assert_eq!(anthropic.json()["error"]["type"], "overloaded_error");

    let stranger = Client::new().with_key("nobodys-key-0123456789");
    expect_error(&ask(gateway, &stranger, "known").await, 503, "authentication_unavailable");

    // Acme's burst is 6; one is spent.
    for left in [4, 3] {
        let hit = ask(gateway, acme, "known").await;
        assert_eq!(hit.header("x-gateway-cache"), Some("hit"), "{}", hit.text());
        let remaining = hit.header("x-ratelimit-remaining-requests");
        assert_eq!(remaining, Some(left.to_string().as_str()));
    }
    for n in 0..3 {
        let miss = ask(gateway, acme, &format!("unknown {n}")).await;
        expect_error(&miss, 503, "sidecar_unavailable");
    }
    expect_error(&ask(gateway, acme, "known").await, 429, "rate_limit_exceeded");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_graceful_stop_loses_nothing_in_flight() {
    let mut gateway = Gateway::builder().start().await.unwrap();
    let stalled = Fault { stall_after_chunks: Some(2), ..Fault::default() };
    gateway.emulator.arm(stalled).unwrap();
    let mut streams = Vec::new();
    for n in 0..STREAMS {
        let mut answer = gateway.open_chat(&Client::new(), stream(&format!("stream {n}"))).await.unwrap();
        let first = answer.next_chunk().await.unwrap().unwrap();
        streams.push((first, answer));
    }
    let (client, url) = (Client::new(), gateway.url("/v1/chat/completions"));
    let whole = tokio::spawn(async move { client.post_json(&url, chat("whole")).await });
    eventually("all requests are in flight", DEADLINE, || async {
        let in_flight = gateway.emulator.requests().iter().filter(|r| r.chunks_sent == 2).count();
        (in_flight == STREAMS + 1).then_some(())
    })
    .await
    .unwrap();
    gateway.emulator.disarm_all();

    gateway.begin_stopping_sidecar().unwrap();
    let client = Client::new();
    eventually("the gateway is no longer ready", DEADLINE, || async {
        let answer = client.get(&gateway.url("/ready")).await.ok()?;
        (answer.status == 503).then_some(())
    })
    .await
    .unwrap();

    gateway.emulator.release_stalled();
    for (n, (first, rest)) in streams.into_iter().enumerate() {
        let mut answer = rest.finish().await.unwrap();
        answer.body = [first, answer.body].concat().into();
        assert_eq!(streamed_content(&answer), format!("You said: stream {n}"));
        assert_eq!(answer.events().last().map(String::as_str), Some("[DONE]"));
    }
    assert_eq!(content(&whole.await.unwrap().unwrap()), "You said: whole");
    let status = gateway.sidecar_stopped().await.unwrap();
    assert_eq!(status.code(), Some(0), "{}", gateway.sidecar().log_tail());

    // What was finished while draining was cached, and is served without the sidecar.
    let hit = gateway.ask(&client, stream("stream 0")).await.unwrap();
    assert_eq!(hit.header("x-gateway-cache"), Some("hit"));
    expect_error(&gateway.ask(&client, chat("too late")).await.unwrap(), 503, "sidecar_unavailable");
}

#[tokio::test]
async fn an_idle_sidecar_stops_at_once_and_twice_is_not_needed() {
    let mut gateway = Gateway::builder().start().await.unwrap();
    let status = gateway.stop_sidecar_gracefully().await.unwrap();
    assert_eq!(status.code(), Some(0), "{}", gateway.sidecar().log_tail());
    let log = gateway.sidecar().log();
    assert!(!log.contains("panicked"), "{log}");
}
