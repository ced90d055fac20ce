//! Requests that find another way: other keys, other providers, other models, another attempt.

use std::collections::BTreeMap;
use std::time::Duration;

use http::HeaderValue;
use tidegate_core::routing::{Backoff, FaultKind, Strategy};
use tokio::net::TcpListener;

use super::gateway::{Gateway, Received, openai};
use super::provider::{Connection, TestProvider};
use crate::llm::routing::{Fallback, RoutingSettings, Target};

const BODY: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
const STREAM: &str = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
const ANSWER: &str = r#"{"id":"1","object":"chat.completion","choices":[]}"#;
const TOKEN: &[u8] = b"data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n";
const ROLE: &[u8] = b"data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n";
const ERROR: &[u8] = b"data: {\"error\":{\"message\":\"overloaded\",\"type\":\"server_error\"}}\n\n";
const TOO_LONG: &str =
    r#"{"error":{"message":"too long","type":"t","param":null,"code":"context_length_exceeded"}}"#;

/// In turn, so that a test knows who is asked first; and pauses that do not slow tests down.
fn in_turn() -> RoutingSettings {
    let mut settings = RoutingSettings { strategy: Strategy::RoundRobin, ..RoutingSettings::default() };
    settings.retries.backoff = Backoff { base_ms: 1, max_ms: 5 };
    settings
}

fn targets(names: &[&str]) -> Vec<Target> {
    names.iter().map(|name| Target((*name).to_owned())).collect()
}

async fn well() -> TestProvider {
    TestProvider::answering(200, "", ANSWER).await
}

async fn answering(status: u16, body: &'static str) -> TestProvider {
    TestProvider::answering(status, "", body).await
}

/// A gateway with the providers `a`, `b`, ... in this order.
async fn before(providers: &[&TestProvider], settings: RoutingSettings) -> Gateway {
    let named = ["a", "b", "c"].iter().zip(providers);
    Gateway::routing(named.map(|(name, provider)| openai(name, provider.addr)).collect(), settings).await
}

/// Status, provider and attempts of an answer.
fn seen(got: &Received) -> (u16, &str, &str) {
    let header = |name: &str| got.headers.get(name).map_or("", |value| value.to_str().expect("text"));
    (got.status.as_u16(), header("x-gateway-provider"), header("x-gateway-attempts"))
}

async fn closed() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    listener.local_addr().expect("an address")
}

#[tokio::test]
async fn a_provider_that_fails_is_replaced_by_another_at_once() {
    for (status, body) in [(500, "{}"), (503, "{}"), (401, "{}"), (404, "{}"), (502, "<html>")] {
        let (bad, good) = (answering(status, body).await, well().await);
        let gateway = before(&[&bad, &good], in_turn()).await;
        let got = gateway.chat(BODY).await;
        let attempts = if status == 401 { "3" } else { "2" };
        assert_eq!(seen(&got), (200, "b", attempts), "{status}: each key is tried");
        assert_eq!(got.text(), ANSWER);
    }
}

/// OpenRouter begins to answer before it knows how that will end.
#[tokio::test]
async fn an_error_instead_of_an_answer_is_one_whatever_the_status() {
    let error = r#"{"error":{"message":"Provider returned error","code":502},"user_id":"u"}"#;
    let (bad, good) = (answering(200, error).await, well().await);
    let gateway = before(&[&bad, &good], in_turn()).await;
    assert_eq!(seen(&gateway.chat(BODY).await), (200, "b", "2"));
    let gateway = before(&[&bad], in_turn()).await;
    let got = gateway.chat(BODY).await;
    assert_eq!(
        (got.status.as_u16(), &got.json()["error"]["message"]),
        (502, &"Provider returned error".into())
    );
}

#[tokio::test]
async fn a_provider_that_is_gone_is_soon_not_asked_any_more() {
    let good = well().await;
    let settings = vec![openai("gone", closed().await), openai("good", good.addr)];
    let gateway = Gateway::routing(settings, in_turn()).await;
    for _ in 0..40 {
        assert_eq!(gateway.chat(BODY).await.status.as_u16(), 200);
    }
    let asked = in_turn().outlier.failure_threshold;
    let line = format!(r#"gateway_provider_requests_total{{provider="gone",outcome="unreachable"}} {asked}"#);
    assert!(gateway.counts(&line), "{line}");
}

#[tokio::test]
async fn the_callers_own_mistakes_go_back_to_it() {
    let (bad, good) = (answering(400, r#"{"error":"bad"}"#).await, well().await);
    let gateway = before(&[&bad, &good], in_turn()).await;
    let got = gateway.chat(BODY).await;
    assert_eq!((seen(&got), good.requests().len()), ((400, "a", "1"), 0));
}

#[tokio::test]
async fn a_key_at_its_limit_rests_and_the_next_one_is_used() {
    let provider = TestProvider::start(|number, mut connection| async move {
        match number {
            0 => connection.respond(429, "retry-after: 600\r\n", r#"{"error":{"message":"slow"}}"#).await,
            _ => connection.respond(200, "", ANSWER).await,
        }
        Some(connection)
    })
    .await;
    let gateway = before(&[&provider], in_turn()).await;
    for attempts in ["2", "1", "1"] {
        let got = gateway.chat(BODY).await;
        assert_eq!(seen(&got), (200, "a", attempts));
    }
    let keys: Vec<_> =
        provider.requests().iter().map(|r| r.header("authorization").map(str::to_owned)).collect();
    let key = |name: &str| Some(format!("Bearer {name}"));
    assert_eq!(keys, [key("sk-one"), key("sk-two"), key("sk-two"), key("sk-two")]);
}

#[tokio::test]
async fn when_all_keys_rest_the_caller_is_told_how_long() {
    let limited =
        TestProvider::answering(429, "retry-after: 600\r\n", r#"{"error":{"message":"slow"}}"#).await;
    let other = TestProvider::answering(429, "retry-after: 30\r\n", r#"{"error":{"message":"slow"}}"#).await;
    let gateway = before(&[&limited, &other], in_turn()).await;
    assert_eq!(gateway.chat(BODY).await.status.as_u16(), 429);
    let asked = limited.requests().len() + other.requests().len();
    let got = gateway.chat(BODY).await;
    assert_eq!((got.status.as_u16(), got.error_code().as_str()), (503, "no_provider_available"));
    let seconds: u64 = got.headers["retry-after"].to_str().expect("text").parse().expect("seconds");
    assert!((25..=30).contains(&seconds), "{seconds}");
    assert_eq!(limited.requests().len() + other.requests().len(), asked, "nobody was asked");
}

#[tokio::test]
async fn alone_it_is_asked_again_after_a_pause_and_no_more_than_it_may() {
    let provider = TestProvider::start(|number, mut connection| async move {
        let (status, body) = if number == 0 || number > 1 { (503, "{}") } else { (200, ANSWER) };
        connection.respond(status, "", body).await;
        Some(connection)
    })
    .await;
    let gateway = before(&[&provider], in_turn()).await;
    let got = gateway.chat(BODY).await;
    assert_eq!(seen(&got), (200, "a", "2"));
    let got = gateway.chat(BODY).await;
    assert_eq!(seen(&got), (503, "a", "3"));
    assert_eq!(provider.requests().len(), 5);
}

#[tokio::test]
async fn a_long_outage_is_not_made_worse_than_the_budget_allows() {
    const REQUESTS: usize = 100;
    let provider = answering(500, "{}").await;
    let gateway = before(&[&provider], in_turn()).await;
    for _ in 0..REQUESTS {
        assert_eq!(gateway.chat(BODY).await.status.as_u16(), 500);
    }
    let retries = provider.requests().len() - REQUESTS;
    // A fifth, what was saved up, and a trickle of one a second.
    assert!((10..=60).contains(&retries), "{retries}");
}

async fn stream_of(connection: &mut Connection, events: &[&[u8]]) {
    connection.open_stream().await;
    for event in events {
        connection.chunk(event).await;
    }
    connection.close_stream().await;
}

#[tokio::test]
async fn a_stream_that_fails_before_its_first_token_begins_elsewhere() {
    for events in [&[ERROR][..], &[ROLE, ERROR], &[ROLE], &[]] {
        let bad = TestProvider::start(move |_, mut connection| async move {
            stream_of(&mut connection, events).await;
            Some(connection)
        })
        .await;
        let good = TestProvider::start(|_, mut connection| async move {
            stream_of(&mut connection, &[ROLE, TOKEN, b"data: [DONE]\n\n"]).await;
            Some(connection)
        })
        .await;
        let gateway = before(&[&bad, &good], in_turn()).await;
        let got = gateway.chat(STREAM).await;
        assert_eq!(got.body, [ROLE, TOKEN, b"data: [DONE]\n\n"].concat(), "{events:?}");
        assert_eq!(got.headers["x-gateway-provider"], "b");
    }
}

#[tokio::test]
async fn after_the_first_token_nothing_is_begun_anew() {
    let bad = TestProvider::start(|_, mut connection| async move {
        stream_of(&mut connection, &[TOKEN, ERROR]).await;
        Some(connection)
    })
    .await;
    let good = well().await;
    let gateway = before(&[&bad, &good], in_turn()).await;
    let got = gateway.chat(STREAM).await;
    assert_eq!((got.status.as_u16(), got.body), (200, [TOKEN, ERROR].concat().into()));
    assert_eq!(good.requests().len(), 0);
}

#[tokio::test]
async fn an_alias_is_a_chain_of_providers_and_models() {
    let (bad, good) = (answering(500, "{}").await, well().await);
    let mut settings = in_turn();
    settings.models = BTreeMap::from([("smart".to_owned(), targets(&["a/m", "b:m"]))]);
    let gateway = before(&[&bad, &good], settings).await;
    let got = gateway.chat(&BODY.replace("\"m\"", "\"smart\"")).await;
    assert_eq!(
        (seen(&got), &got.headers["x-gateway-model"]),
        ((200, "b", "2"), &HeaderValue::from_static("m"))
    );
    let sent: serde_json::Value = serde_json::from_slice(&good.requests()[0].body).expect("JSON");
    assert_eq!(sent["model"], "m", "a provider is asked for its own name of the model");
    let listed = gateway.get("/v1/models").await.json();
    let ids: Vec<_> = listed["data"].as_array().expect("a list").iter().map(|m| m["id"].as_str()).collect();
    assert!(ids.contains(&Some("smart")), "{listed}");
    let prefixed = gateway.chat(&BODY.replace("\"m\"", "\"b/m\"")).await;
    assert_eq!(prefixed.headers["x-gateway-provider"], "b", "a provider may be named before the model");
}

#[tokio::test]
async fn a_prompt_that_is_too_long_goes_to_a_longer_model_and_to_nobody_else() {
    let (short, twin, long) = (answering(400, TOO_LONG).await, well().await, well().await);
    let mut longer = openai("c", long.addr);
    longer.models = vec!["m-long".to_owned()];
    let mut settings = in_turn();
    settings.fallbacks = vec![Fallback {
        model: Some("m".to_owned()),
        to: targets(&["m-long"]),
        on: vec![FaultKind::ContextLength],
    }];
    let providers = vec![openai("a", short.addr), openai("b", twin.addr), longer];
    let gateway = Gateway::routing(providers, settings).await;
    let got = gateway.chat(BODY).await;
    assert_eq!(
        (seen(&got), &got.headers["x-gateway-model"]),
        ((200, "c", "2"), &HeaderValue::from_static("m-long"))
    );
    assert_eq!(twin.requests().len(), 0, "another provider of the same model is no longer than this one");
}

#[tokio::test]
async fn what_answers_for_everybody_does_not_answer_for_mistakes_and_pins() {
    let (bad, good) = (answering(500, "{}").await, well().await);
    let mut settings = in_turn();
    let on = vec![FaultKind::Server];
    settings.fallbacks = vec![Fallback { model: None, to: targets(&["b"]), on }];
    settings.models = BTreeMap::from([("m".to_owned(), targets(&["a"]))]);
    let gateway = before(&[&bad, &good], settings).await;
    assert_eq!(gateway.chat(&BODY.replace("\"m\"", "\"mistake\"")).await.error_code(), "model_not_found");
    assert_eq!(seen(&gateway.chat(BODY).await), (200, "b", "2"));
    let pinned = gateway.post("/v1/chat/completions", &[("x-gateway-provider", "a")], BODY).await;
    assert_eq!(
        (pinned.status.as_u16(), &pinned.headers["x-gateway-provider"]),
        (500, &HeaderValue::from_static("a"))
    );
}

#[tokio::test]
async fn switched_off_the_first_one_answers_for_itself() {
    let (bad, good) = (answering(500, "{}").await, well().await);
    let gateway = before(&[&bad, &good], RoutingSettings { enabled: false, ..in_turn() }).await;
    for _ in 0..3 {
        assert_eq!(gateway.chat(BODY).await.status.as_u16(), 500);
    }
    assert_eq!((bad.requests().len(), good.requests().len()), (3, 0));
}

#[tokio::test]
async fn a_slow_one_is_hedged_and_the_loser_is_let_go() {
    let (left, mut released) = tokio::sync::mpsc::unbounded_channel();
    let slow = TestProvider::start(move |number, mut connection| {
        let left = left.clone();
        async move {
            if number < 20 {
                connection.respond(200, "", ANSWER).await;
                return Some(connection);
            }
            connection.closed().await;
            let _ = left.send(());
            None
        }
    })
    .await;
    let other = well().await;
    let mut settings = RoutingSettings { slow_start: Duration::ZERO, ..in_turn() };
    settings.hedging.enabled = true;
    settings.models = BTreeMap::from([("m".to_owned(), targets(&["a", "b"]))]);
    let gateway = before(&[&slow, &other], settings).await;
    for _ in 0..20 {
        assert_eq!(gateway.chat(BODY).await.headers["x-gateway-provider"], "a");
    }
    let got = gateway.chat(BODY).await;
    assert_eq!(seen(&got), (200, "b", "2"));
    tokio::time::timeout(super::gateway::DEADLINE, released.recv()).await.expect("in time").expect("let go");
    gateway.until_counted(r#"gateway_provider_requests_total{provider="a",outcome="cancelled"} 1"#).await;
    assert!(gateway.counts(r#"gateway_hedges_total{result="won"} 1"#));
}

#[tokio::test]
async fn a_caller_is_not_kept_waiting_longer_than_it_says() {
    let silent = TestProvider::start(|_, connection| async move {
        connection.closed().await;
        None
    })
    .await;
    let gateway = before(&[&silent], in_turn()).await;
    let got = gateway.post("/v1/chat/completions", &[("x-request-timeout-ms", "50")], BODY).await;
    assert_eq!((got.status.as_u16(), got.error_code().as_str()), (504, "upstream_timeout"));
    assert!(got.text().contains("50 ms"), "{}", got.text());
}

#[tokio::test]
async fn the_same_idempotency_key_asks_once_and_answers_the_same() {
    let provider = TestProvider::start(|number, mut connection| async move {
        let status = if number == 0 { 400 } else { 200 };
        connection.respond(status, "", &format!(r#"{{"id":"{number}","choices":[]}}"#)).await;
        Some(connection)
    })
    .await;
    let gateway = before(&[&provider], in_turn()).await;
    let ask = async |key: &str, body: &str| {
        gateway.post("/v1/chat/completions", &[("idempotency-key", key)], body).await
    };
    assert_eq!(ask("k", BODY).await.status.as_u16(), 400);
    let first = ask("k", BODY).await;
    assert_eq!(
        (first.status.as_u16(), first.headers.contains_key("idempotent-replayed")),
        (200, false),
        "a failure is not kept"
    );
    let again = ask("k", BODY).await;
    assert_eq!(
        (again.text(), &again.headers["idempotent-replayed"]),
        (first.text(), &HeaderValue::from_static("true"))
    );
    assert_eq!(ask("k", STREAM).await.error_code(), "idempotency_key_reused");
    assert_ne!(ask("other", BODY).await.text(), first.text());
    assert_eq!(provider.requests().len(), 3);
    assert_eq!(ask(&"x".repeat(300), BODY).await.error_code(), "invalid_header");
}

#[tokio::test]
async fn requests_that_repeat_one_under_way_join_it() {
    let (asked, mut waiting) = tokio::sync::mpsc::unbounded_channel();
    let (go, gone) = tokio::sync::watch::channel(false);
    let provider = TestProvider::start(move |_, mut connection| {
        let (asked, mut gone) = (asked.clone(), gone.clone());
        async move {
            let _ = asked.send(());
            let _ = gone.wait_for(|gone| *gone).await;
            connection.respond(200, "", ANSWER).await;
            Some(connection)
        }
    })
    .await;
    let gateway = before(&[&provider], in_turn()).await;
    let ask = || gateway.post("/v1/chat/completions", &[("idempotency-key", "k")], BODY);
    let release = async {
        tokio::time::timeout(super::gateway::DEADLINE, waiting.recv()).await.expect("in time");
        go.send_replace(true);
    };
    let (one, two, three, ()) = tokio::join!(ask(), ask(), ask(), release);
    for got in [one, two, three] {
        assert_eq!((got.status.as_u16(), got.text()), (200, ANSWER));
    }
    assert_eq!(provider.requests().len(), 1);
}
