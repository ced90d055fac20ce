//! The operator's own routes: behind the same keys, limits and breakers, and told nothing about them.

use std::time::Duration;

use serde_json::json;
use tidegate_e2e::emulator::{Emulator, Fault, FaultMatch};
use tidegate_e2e::harness::{Answer, Client, Gateway, chat, eventually, expect_error};

const DEADLINE: Duration = Duration::from_secs(20);
const THRESHOLD: usize = 10;
const KEY: &str = "sk-user-key-0123456789";
/// More than the LLM API accepts.
const LARGE_BYTES: usize = 12 << 20;

/// The emulated provider is an upstream of the operator's, too.
async fn start() -> Gateway {
    let emulator = Emulator::start(0).await.unwrap();
    let config = format!(
        "\
server:
  demo: true
  upstreams:
    - {{name: shop, prefix: /openai, address: \"{}\"}}
providers:
  - {{{{openai}}}}
    models: [gpt-4o]
breaker:
  recovery_timeout: 1h
limiter:
  rules:
    - {{tenant: poor, rate: 0.01, burst: 2}}
auth:
  api_keys:
    - {{name: user, key: {KEY}, tenant: acme}}
    - {{name: poor, key: sk-poor-key-0123456789, tenant: poor}}
",
        emulator.address()
    );
    Gateway::builder().config_yaml(&config).emulator(emulator).start().await.unwrap()
}

async fn shop(gateway: &Gateway, client: &Client) -> Answer {
    client.get(&gateway.url("/openai/v1/models")).await.unwrap()
}

#[tokio::test]
async fn the_operators_own_routes_are_protected_and_left_alone() {
    let mut gateway = start().await;
    let user = Client::new().with_key(KEY);
    keys_and_limits_hold(&gateway, &user).await;
    the_upstream_learns_nothing_of_the_gateway(&gateway, &user).await;
    bodies_are_the_operators_business(&gateway, &user).await;
    the_demo_upstream_fails_on_request(&gateway, &user).await;
    they_go_on_without_the_sidecar(&mut gateway, &user).await;
    a_failing_route_is_left_alone(&gateway, &user).await;
}

async fn keys_and_limits_hold(gateway: &Gateway, user: &Client) {
    let answer = shop(gateway, user).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["object"], "list");
    assert!(answer.header("x-ratelimit-remaining-requests").is_some());
    assert!(answer.header("x-gateway-cache").is_none());
    expect_error(&shop(gateway, &Client::new()).await, 401, "missing_api_key");
    let poor = Client::new().with_key("sk-poor-key-0123456789");
    for status in [200, 200] {
        assert_eq!(shop(gateway, &poor).await.status, status);
    }
    expect_error(&shop(gateway, &poor).await, 429, "rate_limit_exceeded");
}

async fn the_upstream_learns_nothing_of_the_gateway(gateway: &Gateway, user: &Client) {
    let user = user.clone().with_header("x-request-id", "shop-1").with_header("x-tidegate-proxied", "x");
    let answer = shop(gateway, &user).await;
    assert_eq!(answer.header("x-request-id"), Some("shop-1"));
    let seen = gateway.emulator.requests().pop().unwrap();
    assert_eq!(seen.header("x-request-id"), Some("shop-1"));
    for (name, value) in &seen.headers {
        assert!(!name.starts_with("x-tidegate"), "{name}: {value}");
    }
}

async fn bodies_are_the_operators_business(gateway: &Gateway, user: &Client) {
    let body = json!({"model": "gpt-4o", "max_tokens": 1,
        "messages": [{"role": "user", "content": "x".repeat(LARGE_BYTES)}]});
    let url = gateway.url("/openai/v1/chat/completions");
    let answer = user.post_json(&url, body.to_string()).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = user.post_json(&url, "{ broken").await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.header("x-gateway-provider")), (400, None));
}

async fn the_demo_upstream_fails_on_request(gateway: &Gateway, user: &Client) {
    let answer = user.get(&gateway.url("/api/test")).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = user.get(&gateway.url("/api/test?simulate_error=true")).await.unwrap();
    assert_eq!(answer.status, 500, "{}", answer.text());
    assert!(answer.json().is_object());
}

async fn they_go_on_without_the_sidecar(gateway: &mut Gateway, user: &Client) {
    gateway.kill_sidecar().unwrap();
    for _ in 0..4 {
        let answer = shop(gateway, user).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    gateway.restart_sidecar().unwrap();
    gateway.wait_until_ready().await.unwrap();
}

async fn a_failing_route_is_left_alone(gateway: &Gateway, user: &Client) {
    let matches = FaultMatch { path: Some("/v1/models".to_owned()), ..FaultMatch::default() };
    gateway.emulator.arm(Fault { status: Some(500), matches, ..Fault::default() }).unwrap();
    let mut failed = 0;
    let refused = loop {
        let answer = shop(gateway, user).await;
        if answer.status != 500 {
            break answer;
        }
        failed += 1;
        assert!(failed < 10 * THRESHOLD, "it never opens");
    };
    assert!(failed >= THRESHOLD, "{failed}");
    expect_error(&refused, 503, "circuit_open");
    // The LLM API and the demo are other routes.
    let answer = gateway.ask(user, chat("beside an open breaker")).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = user.get(&gateway.url("/api/test")).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let admin = gateway.admin();
    eventually("/metrics shows the open breaker", DEADLINE, || async {
        let page = admin.get(&gateway.url("/metrics")).await.ok()?.text();
        let open = |line: &str| line.starts_with("gateway_circuit_breaker_state{") && line.ends_with(" 2");
        page.lines().any(open).then_some(())
    })
    .await
    .unwrap();
}
