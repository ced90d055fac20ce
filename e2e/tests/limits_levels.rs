//! Limits at every level through a real Envoy: who shares a bucket, and what tokens cost.

use std::time::{Duration, Instant};

use http::Method;
use serde_json::json;
use tidegate_e2e::emulator::Fault;
use tidegate_e2e::harness::{Answer, Client, Gateway, chat, chat_with, eventually, expect_error};

const DEADLINE: Duration = Duration::from_secs(10);
const WORKERS: u32 = 4;
const ONE: &str = "one-key-0123456789";
const TWO: &str = "two-key-0123456789";

const CONFIG: &str = "\
server:
  trusted_proxies: [127.0.0.0/8]
providers:
  - {{openai}}
    models: [gpt-4o, gpt-4o-mini]
cache:
  l1: {enabled: false}
auth:
  anonymous: {enabled: true}
  api_keys:
    - {name: one, key: one-key-0123456789, tenant: acme}
    - {name: two, key: two-key-0123456789, tenant: acme}
limiter:
  rules:
";

async fn gateway(rules: &str) -> Gateway {
    Gateway::builder().config_yaml(&format!("{CONFIG}{rules}")).workers(WORKERS).start().await.unwrap()
}

/// A client on a connection of its own, which meets whichever worker it meets.
fn client(key: &str, address: &str) -> Client {
    Client::new().with_key(key).with_header("x-forwarded-for", address)
}

async fn ask(gateway: &Gateway, key: &str, address: &str, model: &str) -> Answer {
    gateway.ask(&client(key, address), chat_with(model, "hello")).await.unwrap()
}

fn number(answer: &Answer, name: &str) -> u64 {
    let value = answer.header(name);
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{name} in {:?}", answer.headers))
}

#[tokio::test]
async fn keys_addresses_and_models_have_buckets_of_their_own_over_all_workers() {
    let rules = "    - {key: '*', rate: 0.01, burst: 6}
    - {ip: '*', rate: 0.01, burst: 4}
    - {model: gpt-4o, rate: 0.01, burst: 2}
";
    let gateway = gateway(rules).await;
    for _ in 0..2 {
        let answer = ask(&gateway, ONE, "192.0.2.1", "gpt-4o").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let refused = ask(&gateway, ONE, "192.0.2.1", "gpt-4o").await;
    expect_error(&refused, 429, "rate_limit_exceeded");
    assert!(refused.text().contains("model:gpt-4o"), "{}", refused.text());
    // The refusal took nothing from the address: two of four are left, forged hops or not.
    for forged in ["192.0.2.1", "203.0.113.9, 192.0.2.1"] {
        assert_eq!(ask(&gateway, ONE, forged, "gpt-4o-mini").await.status, 200);
    }
    let refused = ask(&gateway, ONE, "198.51.100.7, 192.0.2.1", "gpt-4o-mini").await;
    assert!(refused.status == 429 && refused.text().contains("ip:192.0.2.1"), "{}", refused.text());
    // Another address, and the key still has two of six.
    for address in ["2001:db8:1:2::1", "2001:db8:1:2::2"] {
        assert_eq!(ask(&gateway, ONE, address, "gpt-4o-mini").await.status, 200);
    }
    let refused = ask(&gateway, ONE, "192.0.2.3", "gpt-4o-mini").await;
    assert!(refused.status == 429 && refused.text().contains("key:"), "{}", refused.text());
    assert_eq!(ask(&gateway, TWO, "192.0.2.3", "gpt-4o-mini").await.status, 200);
}

#[tokio::test]
async fn tokens_are_settled_by_what_the_provider_reports() {
    let gateway = gateway("    - {tenant: acme, tokens_per_minute: 10000}\n").await;
    let mut left = 10_000;
    for _ in 0..3 {
        let answer = ask(&gateway, ONE, "192.0.2.1", "gpt-4o").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let total = answer.json()["usage"]["total_tokens"].as_u64().unwrap();
        left -= total;
        assert_eq!(number(&answer, "x-ratelimit-limit-tokens"), 10_000);
    }
    // Failures cost nothing.
    gateway.emulator.arm(Fault { status: Some(400), ..Fault::default() }).unwrap();
    let failed = ask(&gateway, ONE, "192.0.2.1", "gpt-4o").await;
    assert_eq!(failed.status, 400);
    let shown = number(&failed, "x-ratelimit-remaining-tokens");
    // 167 come back each second, and each worker may hold 9.
    assert!((left - 36..=10_000).contains(&shown), "{shown}, {left} and what came back");
}

#[tokio::test]
async fn a_caller_without_tokens_that_waits_as_told_gets_in() {
    let gateway = gateway("    - {tenant: acme, tokens_per_minute: 600}\n").await;
    let large = json!({
        "model": "gpt-4o",
        "max_tokens": 500,
        "messages": [{"role": "user", "content": format!("Repeat: {}", "river ".repeat(150))}],
    });
    let first = gateway.ask(&client(ONE, "192.0.2.1"), large.to_string()).await.unwrap();
    assert_eq!(first.status, 200, "{}", first.text());
    let refused = gateway.ask(&client(TWO, "192.0.2.1"), large.to_string()).await.unwrap();
    expect_error(&refused, 429, "rate_limit_exceeded");
    assert!(refused.text().contains("tokens per minute of tenant:acme"), "{}", refused.text());
    let small = json!({"model": "gpt-4o", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]});
    let mut answer = gateway.ask(&client(TWO, "192.0.2.1"), small.to_string()).await.unwrap();
    if answer.status == 429 {
        let due = Instant::now() + Duration::from_millis(number(&answer, "retry-after-ms"));
        eventually("the advised wait is over", DEADLINE, || async { (Instant::now() >= due).then_some(()) })
            .await
            .unwrap();
        answer = gateway.ask(&client(TWO, "192.0.2.1"), small.to_string()).await.unwrap();
    }
    assert_eq!(answer.status, 200, "{}", answer.text());
    let prompt = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "word ".repeat(5000)}]});
    let refused = gateway.ask(&client(TWO, "192.0.2.1"), prompt.to_string()).await.unwrap();
    expect_error(&refused, 413, "request_too_large");
}

#[tokio::test]
async fn requests_at_a_time_end_with_their_streams_and_with_clients_that_leave() {
    let gateway = gateway("    - {key: '*', concurrency: 2}\n").await;
    let stalled = Fault { stall_after_chunks: Some(1), ..Fault::default() };
    gateway.emulator.arm(stalled).unwrap();
    let body = json!({"model": "gpt-4o", "stream": true, "messages": [{"role": "user", "content": "hi"}]});
    let mut open = Vec::new();
    for _ in 0..2 {
        let stream = gateway.open_chat(&client(ONE, "192.0.2.1"), body.to_string()).await.unwrap();
        assert_eq!(stream.status(), 200);
        open.push(stream);
    }
    let refused = gateway.open_chat(&client(ONE, "192.0.2.1"), body.to_string()).await.unwrap();
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.headers()["retry-after-ms"], "1000");
    let other = gateway.open_chat(&client(TWO, "192.0.2.1"), body.to_string()).await.unwrap();
    assert_eq!(other.status(), 200);
    drop(open.pop());
    let third = eventually("the place of the one that left", DEADLINE, || async {
        let stream = gateway.open_chat(&client(ONE, "192.0.2.1"), body.to_string()).await.unwrap();
        (stream.status() == 200).then_some(stream)
    });
    drop(third.await.unwrap());
}

#[tokio::test]
async fn levels_are_changed_at_run_time_and_shown() {
    let gateway = gateway("    - {key: '*', rate: 100, burst: 100}\n").await;
    let rules =
        json!({"rules": [{"key": "*", "rate": 0.01, "burst": 1}, {"model": "*", "tokens_per_day": 5000}]});
    let url = gateway.url("/admin/limits");
    let json = [("content-type", "application/json")];
    let answer = gateway.admin().send(&Method::PUT, &url, &json, rules.to_string()).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let shown = answer.json()["rules"].clone();
    let selects: Vec<_> = shown.as_array().unwrap().iter().map(|rule| rule["select"].clone()).collect();
    assert!(selects.contains(&json!({"key": "*"})) && selects.contains(&json!({"model": "*"})), "{shown}");
    let changed = Instant::now();
    eventually("the change is in force", DEADLINE, || async {
        let answer = gateway.ask(&client(ONE, "192.0.2.1"), chat("hi")).await.unwrap();
        (answer.header("x-ratelimit-limit-tokens") == Some("5000")).then_some(())
    })
    .await
    .unwrap();
    println!("in force after {:?}", changed.elapsed());
    let bad = json!({"rules": [{"ip": "somewhere", "rate": 1}]});
    let answer = gateway.admin().send(&Method::PUT, &url, &json, bad.to_string()).await.unwrap();
    expect_error(&answer, 400, "invalid_config");
    assert!(answer.text().contains("rules[0].ip"), "{}", answer.text());
}
