//! Limits hold over all workers, say when to come back, and change while traffic flows.

use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};
use tidegate_e2e::emulator::{Fault, Outcome};
use tidegate_e2e::harness::{Answer, Client, Gateway, eventually, expect_error, stream, streamed_content};

const DEADLINE: Duration = Duration::from_secs(10);
const WORKERS: u32 = 4;
/// Connections opened to meet every worker: missing one of four has a chance of 4 * 0.75^32.
const CONNECTIONS: usize = 32;
const OVERLOAD: Duration = Duration::from_secs(10);

/// The provider and the callers of the tests with several tenants.
const TENANTS: &str = "\
providers:
  - {{openai}}
    models: [gpt-4o]
limiter:
  default_rate: 1000
  rules:
    - {tenant: red, rate: 0.5, burst: 3}
    - {tenant: blue, rate: 0.5, burst: 3}
auth:
  anonymous:
    enabled: true
  api_keys:
    - {name: red, key: red-key-0123456789, tenant: red}
    - {name: blue, key: blue-key-0123456789, tenant: blue}
";

async fn models(gateway: &Gateway, client: &Client) -> Answer {
    client.get(&gateway.url("/v1/models")).await.unwrap()
}

fn number(answer: &Answer, name: &str) -> u64 {
    let value = answer.header(name);
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{name} in {:?}", answer.headers))
}

/// What every refusal by a limit must say.
fn expect_refusal(answer: &Answer) {
    expect_error(answer, 429, "rate_limit_exceeded");
    number(answer, "x-ratelimit-limit-requests");
    assert_eq!(number(answer, "x-ratelimit-remaining-requests"), 0);
    let reset = answer.header("x-ratelimit-reset-requests").unwrap_or_default();
    assert!(reset.ends_with('s') && reset.starts_with(|c: char| c.is_ascii_digit()), "{reset}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overload_is_admitted_at_exactly_the_rate_over_all_workers() {
    let limiter = "limiter: {default_rate: 100, burst: 100}\n";
    let gateway = Gateway::builder().add_config(limiter).workers(WORKERS).start().await.unwrap();
    let end = Instant::now() + OVERLOAD;
    let url = gateway.url("/v1/models");
    let callers: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let (client, url) = (Client::new(), url.clone());
            tokio::spawn(async move {
                let (mut admitted, mut refused) = (0_u64, 0_u64);
                while Instant::now() < end {
                    let answer = client.get(&url).await.unwrap();
                    if answer.status == 200 {
                        admitted += 1;
                    } else {
                        expect_refusal(&answer);
                        refused += 1;
                    }
                }
                (admitted, refused)
            })
        })
        .collect();
    let (mut admitted, mut refused) = (0, 0);
    for caller in callers {
        let (a, r) = caller.await.unwrap();
        admitted += a;
        refused += r;
    }
    println!("admitted {admitted}, refused {refused}");
    // Burst 100 and 10 s at 100/s are 1100; 1 % either way.
    assert!((1089..=1111).contains(&admitted), "admitted {admitted}, refused {refused}");
    assert!(refused > admitted, "it was no overload: refused {refused}");
}

#[tokio::test]
async fn tenants_have_buckets_of_their_own_and_waiting_as_told_gets_in() {
    let gateway = Gateway::builder().config_yaml(TENANTS).workers(WORKERS).start().await.unwrap();
    let red = || Client::new().with_key("red-key-0123456789");
    // Each request on a connection of its own: whichever worker it meets, the bucket is the same.
    for left in (0..3).rev() {
        let answer = models(&gateway, &red()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(number(&answer, "x-ratelimit-limit-requests"), 3);
        assert_eq!(number(&answer, "x-ratelimit-remaining-requests"), left);
    }
    let refused = models(&gateway, &red()).await;
    expect_refusal(&refused);
    let told = Duration::from_millis(number(&refused, "retry-after-ms"));
    let due = Instant::now() + told;
    assert!(told <= Duration::from_secs(2), "a token comes back in 2 s: {told:?}");

    let blue = Client::new().with_key("blue-key-0123456789");
    assert_eq!(number(&models(&gateway, &blue).await, "x-ratelimit-remaining-requests"), 2);
    // Paths of operations are not limited, whoever asks.
    assert_eq!(red().get(&gateway.url("/health")).await.unwrap().status, 200);

    eventually("the advised wait is over", DEADLINE, || async { (Instant::now() >= due).then_some(()) })
        .await
        .unwrap();
    let answer = models(&gateway, &red()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    expect_refusal(&models(&gateway, &red()).await);
}

/// Keep-alive connections, spread over the workers by the kernel.
async fn connections(gateway: &Gateway) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        let client = Client::new();
        assert_eq!(models(gateway, &client).await.status, 200);
        clients.push(client);
    }
    clients
}

/// Waits until each connection is shown `limit`, and says how long that took.
async fn all_show(gateway: &Gateway, clients: &[Client], limit: u64) -> Duration {
    let start = Instant::now();
    for client in clients {
        eventually(&format!("every worker applies {limit}"), DEADLINE, || async {
            let answer = models(gateway, client).await;
            (number(&answer, "x-ratelimit-limit-requests") == limit).then_some(())
        })
        .await
        .unwrap();
    }
    start.elapsed()
}

async fn put_limits(gateway: &Gateway, body: Value) -> Answer {
    let url = gateway.url("/admin/limits");
    gateway.admin().send(&Method::PUT, &url, &[], body.to_string()).await.unwrap()
}

async fn shown_limits(gateway: &Gateway) -> Value {
    let answer = gateway.admin().get(&gateway.url("/admin/limits")).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

#[tokio::test]
async fn limits_change_in_every_worker_under_a_running_stream_and_stay_changed() {
    let mut gateway = Gateway::builder().config_yaml(TENANTS).workers(WORKERS).start().await.unwrap();
    let clients = connections(&gateway).await;
    all_show(&gateway, &clients, 1000).await;

    gateway.emulator.arm(Fault { stall_after_chunks: Some(2), times: Some(1), ..Fault::default() }).unwrap();
    let mut running = gateway.open_chat(&Client::new(), stream("hold on")).await.unwrap();
    let first = running.next_chunk().await.unwrap().unwrap();

    let answer = put_limits(&gateway, json!({"default_rate": 900, "burst": 777})).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let took = all_show(&gateway, &clients, 777).await;
    println!("in force in every worker after {took:?}");

    assert_eq!(gateway.emulator.requests().pop().unwrap().outcome, Outcome::InFlight);
    gateway.emulator.release_stalled();
    let mut rest = running.finish().await.unwrap();
    rest.body = [first, rest.body].concat().into();
    assert_eq!(streamed_content(&rest), "You said: hold on");
    assert_eq!(rest.events().last().map(String::as_str), Some("[DONE]"));

    wrong_limits_change_nothing(&gateway, &clients).await;

    gateway.kill_sidecar().unwrap();
    gateway.restart_sidecar().unwrap();
    gateway.wait_until_ready().await.unwrap();
    assert_eq!(shown_limits(&gateway).await["tenant_default"], json!({"rate": 900.0, "burst": 777}));
    all_show(&gateway, &clients, 777).await;

    // Back to what the file says.
    let url = gateway.url("/admin/limits");
    let answer = gateway.admin().send(&Method::DELETE, &url, &[], "").await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    all_show(&gateway, &clients, 1000).await;
}

async fn wrong_limits_change_nothing(gateway: &Gateway, clients: &[Client]) {
    let before = shown_limits(gateway).await;
    let cases = [
        (json!({"default_rate": -1}), "default_rate"),
        (json!({"default_rate": 0}), "default_rate"),
        (json!({"default_rate": 20000}), "default_rate"),
        (json!({"default_rate": "fast"}), "default_rate"),
        (json!({"burst": 0}), "burst"),
        (json!({"max_rate": 1e12}), "max_rate"),
        (json!({"default_rat": 5}), "default_rat"),
        (json!({"rules": [{"tenant": "red", "rate": 1}, {"tenant": "a b", "rate": 1}]}), "rules[1].tenant"),
        (json!({"rules": [{"tenant": "red"}]}), "rules[0].rate"),
        (json!([]), ""),
    ];
    for (body, field) in cases {
        let answer = put_limits(gateway, body.clone()).await;
        expect_error(&answer, 400, "invalid_config");
        let message = answer.json()["error"]["message"].to_string();
        assert!(message.contains(field), "{body}: {message}");
    }
    assert_eq!(shown_limits(gateway).await, before);
    all_show(gateway, clients, 777).await;
}
