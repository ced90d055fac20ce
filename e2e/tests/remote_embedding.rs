//! The semantic cache with vectors from a server elsewhere, and what becomes of chats when it fails.

use std::time::Duration;

use serde_json::{Value, json};
use tidegate_e2e::emulator::{Emulator, Fault, FaultMatch};
use tidegate_e2e::harness::{Answer, Client, Gateway, chat, eventually, expect_error};

const DEADLINE: Duration = Duration::from_secs(30);
const KEY: &str = "sk-embeddings-0123456789";
const STORED: &str = "How do I reset my password?";
const SIMILAR: &str = "How can I reset my password?";

/// The emulated OpenAI gives the vectors too.
async fn gateway(deadline: &str) -> Gateway {
    let config = format!(
        "\
embedding:
  type: openai
  base_url: \"{{{{emulator}}}}\"
  api_key: {KEY}
  model: text-embedding-3-small
  dimension: 4
  deadline: {deadline}
clustering: {{embedding: false}}
cache: {{l2: {{enabled: true}}}}
"
    );
    let emulator = Emulator::start(0).await.unwrap();
    Gateway::builder().add_config(&config).emulator(emulator).start().await.unwrap()
}

/// The emulator's own vectors know nothing of meaning; these say that everything means the same.
fn answer_with(gateway: &Gateway, vector: &[f32]) {
    let data = json!([{"object": "embedding", "index": 0, "embedding": vector}]);
    let body = json!({"object": "list", "data": data, "usage": {"prompt_tokens": 7, "total_tokens": 7}});
    arm(gateway, Fault { status: Some(200), body: Some(body), ..Fault::default() });
}

fn arm(gateway: &Gateway, fault: Fault) {
    let matches = FaultMatch { path: Some("/embeddings".to_owned()), ..FaultMatch::default() };
    gateway.emulator.disarm_all();
    gateway.emulator.arm(Fault { matches, ..fault }).unwrap();
}

async fn ask(gateway: &Gateway, prompt: &str) -> Answer {
    let answer = gateway.ask(&Client::new(), chat(prompt)).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer
}

async fn look_up(gateway: &Gateway, prompt: &str) -> Value {
    let url = gateway.url("/v1/cache/lookup?tenant=demo");
    gateway.admin().post_json(&url, chat(prompt)).await.unwrap().json()
}

/// How many texts ended so.
async fn texts(gateway: &Gateway, result: &str) -> u64 {
    let page = gateway.admin().get(&gateway.url("/metrics")).await.unwrap().text();
    let line = format!("gateway_embedding_texts_total{{result=\"{result}\"}} ");
    page.lines().find_map(|found| found.strip_prefix(&line)?.parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn a_question_in_other_words_is_found_by_vectors_from_elsewhere() {
    let gateway = gateway("10s").await;
    answer_with(&gateway, &[1.0, 2.0, 0.0, 2.0]);
    let first = ask(&gateway, STORED).await;
    assert_eq!(first.header("x-gateway-cache"), Some("miss"));
    let stored = || async { (look_up(&gateway, STORED).await["hit"] == true).then_some(()) };
    eventually("the answer is stored", DEADLINE, stored).await.unwrap();
    let similar = ask(&gateway, SIMILAR).await;
    assert_eq!(similar.header("x-gateway-cache-layer"), Some("semantic"), "{:?}", similar.headers);
    assert_eq!(similar.body, first.body);

    let asked = gateway.emulator.requests();
    let embedded = asked.iter().find(|request| request.path.ends_with("/embeddings")).expect("was asked");
    assert_eq!(embedded.header("authorization"), Some("***6789"), "as the emulator writes a key down");
    let body: Value = serde_json::from_str(&embedded.body).unwrap();
    assert_eq!((&body["model"], &body["input"][0]), (&"text-embedding-3-small".into(), &STORED.into()));
    // It is the caches' own: callers find no model by this name here.
    let models = Client::new().get(&gateway.url("/v1/models")).await.unwrap().text();
    assert!(!models.contains("text-embedding-3-small"), "{models}");
    let url = gateway.url("/local/embeddings");
    let local = Client::new().post_json(&url, r#"{"model": "x", "input": "a"}"#).await.unwrap();
    expect_error(&local, 503, "no_provider_available");
}

#[tokio::test]
async fn whatever_is_wrong_with_it_is_a_miss_and_never_a_refusal() {
    let gateway = gateway("2s").await;
    answer_with(&gateway, &[1.0, 0.0]);
    assert_eq!(ask(&gateway, "of the wrong dimension").await.header("x-gateway-cache"), Some("miss"));
    arm(&gateway, Fault { status: Some(500), ..Fault::default() });
    assert_eq!(ask(&gateway, "of a broken server").await.header("x-gateway-cache"), Some("miss"));
    arm(&gateway, Fault { reset: true, ..Fault::default() });
    assert_eq!(ask(&gateway, "of a broken connection").await.header("x-gateway-cache"), Some("miss"));
    assert!(texts(&gateway, "failed").await >= 3);
    arm(&gateway, Fault { status: Some(429), ..Fault::default() });
    assert_eq!(ask(&gateway, "of a busy server").await.header("x-gateway-cache"), Some("miss"));
    assert!(texts(&gateway, "busy").await >= 1);
    arm(&gateway, Fault { delay_ms: Some(60_000), ..Fault::default() });
    assert_eq!(ask(&gateway, "of a slow server").await.header("x-gateway-cache"), Some("miss"));
    assert!(texts(&gateway, "late").await >= 1);
}
