//! A single provider that stumbles, through a real Envoy: retries, deadlines, idempotency keys.

use std::collections::BTreeMap;

use serde_json::json;
use tidegate_e2e::emulator::Fault;
use tidegate_e2e::harness::{Client, Gateway, chat, content, expect_error, stream, streamed_content};

const CONFIG: &str = "\
breaker: {failure_threshold: 100000}
cache: {l1: {enabled: false}}
";

async fn gateway() -> Gateway {
    Gateway::builder().add_config(CONFIG).start().await.unwrap()
}

fn twice(fault: Fault) -> Fault {
    Fault { times: Some(2), ..fault }
}

#[tokio::test]
async fn a_provider_that_stumbles_is_asked_again() {
    let gateway = gateway().await;
    let client = Client::new();
    let soon = BTreeMap::from([("retry-after-ms".to_owned(), "20".to_owned())]);
    let faults = [
        Fault { status: Some(503), ..Fault::default() },
        Fault { status: Some(429), headers: soon, ..Fault::default() },
        Fault { status: Some(502), body: Some(json!("<html>Bad gateway</html>")), ..Fault::default() },
        Fault { reset: true, ..Fault::default() },
    ];
    for (i, fault) in faults.into_iter().enumerate() {
        gateway.emulator.arm(twice(fault)).unwrap();
        let prompt = format!("once more {i}");
        let answer = gateway.ask(&client, chat(&prompt)).await.unwrap();
        assert_eq!(
            (answer.status.as_u16(), content(&answer)),
            (200, format!("You said: {prompt}")),
            "{}",
            answer.text()
        );
        assert_eq!(answer.header("x-gateway-attempts"), Some("3"));
    }
    gateway.emulator.arm(twice(Fault { error_in_stream_after_chunks: Some(1), ..Fault::default() })).unwrap();
    let answer = gateway.ask(&client, stream("again from the start")).await.unwrap();
    assert_eq!(streamed_content(&answer), "You said: again from the start");
    assert_eq!(answer.header("x-gateway-attempts"), Some("3"));
    assert!(!answer.text().contains("error"), "what failed is not told: {}", answer.text());
}

#[tokio::test]
async fn a_wait_that_is_too_long_is_passed_on_and_a_deadline_is_kept() {
    let gateway = gateway().await;
    let headers = BTreeMap::from([("retry-after".to_owned(), "600".to_owned())]);
    gateway.emulator.arm(Fault { status: Some(429), headers, times: Some(1), ..Fault::default() }).unwrap();
    let limited = gateway.ask(&Client::new(), chat("too long a wait")).await.unwrap();
    expect_error(&limited, 429, "rate_limit_exceeded");
    assert_eq!(
        (limited.header("retry-after"), limited.header("x-gateway-attempts")),
        (Some("600"), Some("1"))
    );

    gateway.emulator.arm(Fault { delay_ms: Some(600_000), times: Some(1), ..Fault::default() }).unwrap();
    let hurried = Client::new().with_header("x-request-timeout-ms", "200");
    let late = gateway.ask(&hurried, chat("too late")).await.unwrap();
    expect_error(&late, 504, "upstream_timeout");
    assert_eq!(gateway.ask(&hurried, chat("in time")).await.unwrap().status, 200);
}

#[tokio::test]
async fn an_idempotency_key_asks_the_provider_once() {
    let gateway = gateway().await;
    let client = Client::new().with_header("idempotency-key", "order-1");
    let first = gateway.ask(&client, chat("pay once")).await.unwrap();
    let again = gateway.ask(&client, chat("pay once")).await.unwrap();
    assert_eq!((again.status.as_u16(), &again.body), (200, &first.body));
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(gateway.emulator.stats().requests_total, 1);
    expect_error(&gateway.ask(&client, chat("pay twice")).await.unwrap(), 422, "idempotency_key_reused");
}
