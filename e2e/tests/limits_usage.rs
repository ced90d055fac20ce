//! The ledger, budgets, and what operators see of buckets.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tidegate_e2e::emulator::Fault;
use tidegate_e2e::harness::{Answer, Client, Gateway, chat, eventually, expect_error};

const DEADLINE: Duration = Duration::from_secs(10);
const ONE: &str = "one-key-0123456789";

const CONFIG: &str = "\
providers:
  - {{openai}}
    models: [gpt-4o]
    price: {input: 10, output: 30}
cache:
  l1: {admission: always}
auth:
  anonymous: {enabled: true}
  api_keys:
    - {name: one, key: one-key-0123456789, tenant: acme}
limiter:
  rules:
    - {tenant: acme, rate: 0.01, burst: 100, tokens_per_day: 100000, concurrency: 10}
";

async fn gateway(more: &str) -> Gateway {
    Gateway::builder().config_yaml(&format!("{CONFIG}{more}")).workers(2).start().await.unwrap()
}

async fn admin(gateway: &Gateway, path: &str) -> Answer {
    gateway.admin().get(&gateway.url(path)).await.unwrap()
}

async fn simulate(gateway: &Gateway, request: &Value) -> Answer {
    let json = [("content-type", "application/json")];
    let url = gateway.url("/admin/limits/simulate");
    gateway.admin().send(&Method::POST, &url, &json, request.to_string()).await.unwrap()
}

#[tokio::test]
async fn the_ledger_has_what_the_provider_reports_and_survives_a_restart() {
    let mut gateway = gateway("").await;
    let client = Client::new().with_key(ONE);
    let (mut prompt, mut completion, mut requests) = (0, 0, 0);
    for i in 0..5 {
        let body = json!({
            "model": "gpt-4o",
            "stream": i % 2 == 1,
            "stream_options": if i % 2 == 1 { json!({"include_usage": true}) } else { Value::Null },
            "messages": [{"role": "user", "content": format!("question {i}")}],
        });
        let answer = gateway.ask(&client, body.to_string()).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        let usage = match i % 2 {
            0 => answer.json()["usage"].clone(),
            _ => {
                let events = answer.events();
                let usage = events.iter().rev().find(|event| event.contains("\"prompt_tokens\"")).unwrap();
                serde_json::from_str::<Value>(usage).unwrap()["usage"].clone()
            }
        };
        prompt += usage["prompt_tokens"].as_u64().unwrap();
        completion += usage["completion_tokens"].as_u64().unwrap();
        requests += 1;
        // The same again comes from the cache, and costs nothing.
        let again = gateway.ask(&client, body.to_string()).await.unwrap();
        assert_eq!(again.header("x-gateway-cache"), Some("hit"));
    }
    gateway.emulator.arm(Fault { status: Some(400), ..Fault::default() }).unwrap();
    assert_eq!(gateway.ask(&client, chat("fails")).await.unwrap().status, 400);

    let expect = |shown: &Value| {
        let row = &shown["rows"][0];
        assert_eq!(shown["rows"].as_array().map(Vec::len), Some(1), "{shown}");
        assert_eq!((row["tenant"].as_str(), row["model"].as_str()), (Some("acme"), Some("gpt-4o")));
        let number = |name: &str| row[name].as_u64().unwrap_or_else(|| panic!("{name} in {shown}"));
        assert_eq!(
            (number("requests"), number("prompt_tokens"), number("completion_tokens")),
            (requests, prompt, completion)
        );
        assert_eq!(number("cost_nano_usd"), prompt * 10_000 + completion * 30_000);
        assert_eq!(number("estimated_requests"), 0);
    };
    expect(&admin(&gateway, "/admin/usage?tenant=acme").await.json());
    gateway.stop_sidecar_gracefully().await.unwrap();
    gateway.restart_sidecar().unwrap();
    gateway.wait_until_ready().await.unwrap();
    expect(&admin(&gateway, "/admin/usage?tenant=acme").await.json());
    assert_eq!(admin(&gateway, "/admin/usage?tenant=nobody").await.json()["rows"], json!([]));
    expect_error(&admin(&gateway, "/admin/usage?month=13").await, 400, "invalid_request");
    let forbidden = client.get(&gateway.url("/admin/usage")).await.unwrap();
    assert_eq!(forbidden.status, 403);
}

#[tokio::test]
async fn a_spent_budget_refuses_until_the_month_ends_and_hits_go_on() {
    let gateway = gateway("  budgets:\n    - {tenant: acme, usd_per_month: 0.01}\n").await;
    let client = Client::new().with_key(ONE);
    let costly = |i: u32| {
        let words = "river ".repeat(800);
        json!({"model": "gpt-4o", "messages": [{"role": "user", "content": format!("{i} {words}")}]})
            .to_string()
    };
    let mut refused = None;
    for i in 0..5 {
        let answer = gateway.ask(&client, costly(i)).await.unwrap();
        if answer.status != 200 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("one of them is over the budget");
    assert_eq!(
        (refused.status.as_u16(), refused.json()["error"]["code"].as_str()),
        (429, Some("budget_exceeded"))
    );
    assert_eq!(refused.header("x-should-retry"), Some("false"));
    let wait_s: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!(wait_s <= 31 * 86_400, "{wait_s}");
    assert!(refused.text().contains("of 0.01 US dollars"), "{}", refused.text());
    // What is in the cache costs nothing; others have budgets of their own.
    assert_eq!(gateway.ask(&client, costly(0)).await.unwrap().header("x-gateway-cache"), Some("hit"));
    assert_eq!(gateway.ask(&Client::new(), costly(9)).await.unwrap().status, 200);
    let simulated = simulate(&gateway, &json!({"tenant": "acme", "model": "gpt-4o"})).await.json();
    assert_eq!((&simulated["allowed"], &simulated["budget"]["exceeded"]), (&json!(false), &json!(true)));
    // More money, at run time.
    let json = [("content-type", "application/json")];
    let more = json!({"budgets": [{"tenant": "acme", "usd_per_month": 100}]}).to_string();
    let answer =
        gateway.admin().send(&Method::PUT, &gateway.url("/admin/limits"), &json, more).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(gateway.ask(&client, costly(10)).await.unwrap().status, 200);
}

#[tokio::test]
async fn operators_see_buckets_and_what_would_happen() {
    let gateway = gateway("").await;
    let client = Client::new().with_key(ONE);
    for i in 0..3 {
        assert_eq!(gateway.ask(&client, chat(&format!("question {i}"))).await.unwrap().status, 200);
    }
    let shown = eventually("a filter answers", DEADLINE, || async {
        let shown = admin(&gateway, "/admin/limits/tenant:acme").await.json();
        (shown["live"] == true).then_some(shown)
    });
    let shown = shown.await.unwrap();
    let limit = |name: &str| {
        let limits = shown["limits"].as_array().unwrap();
        limits.iter().find(|limit| limit["limit"] == name).unwrap_or_else(|| panic!("{shown}")).clone()
    };
    assert_eq!(
        (&limit("requests_per_second")["remaining"], &limit("concurrency")["remaining"]),
        (&json!(97), &json!(10))
    );
    let left = limit("tokens_per_day")["remaining"].as_u64().unwrap();
    assert!((99_000..100_000).contains(&left), "{shown}");

    let request = json!({"tenant": "acme", "key": "k", "ip": "192.0.2.7", "model": "gpt-4o", "tokens": 100});
    let simulated = simulate(&gateway, &request).await.json();
    assert_eq!(simulated["allowed"], true, "{simulated}");
    let again = admin(&gateway, "/admin/limits/tenant:acme").await.json();
    assert_eq!(again["limits"][0]["remaining"], 97, "nothing was taken: {again}");

    while gateway.ask(&client, chat("more")).await.unwrap().status == 200 {}
    let simulated = simulate(&gateway, &request).await.json();
    assert_eq!(simulated["allowed"], false, "{simulated}");
    assert_eq!(simulated["decides"]["bucket"], "tenant:acme");
    assert_eq!(simulated["decides"]["limit"], "requests_per_second");
    assert!(simulated["retry_after_ms"].as_u64().is_some_and(|ms| ms > 90_000), "{simulated}");

    expect_error(&admin(&gateway, "/admin/limits/acme").await, 400, "invalid_request");
    expect_error(&admin(&gateway, "/admin/limits/key:nobody").await, 404, "not_found");
    expect_error(&simulate(&gateway, &json!({"model": "m"})).await, 400, "invalid_request");
    expect_error(&simulate(&gateway, &json!({"tenant": "a", "ip": "x"})).await, 400, "invalid_request");
}
