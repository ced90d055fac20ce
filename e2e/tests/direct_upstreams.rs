//! LLM requests that Envoy sends to an OpenAI-compatible server itself: the filter asks the semantic
//! cache before, and brings it the answer after. With a real model.

use std::time::Duration;

use serde_json::json;
use tidegate_e2e::emulator::Emulator;
use tidegate_e2e::harness::{
    Answer, Client, Gateway, chat, content, embedding_files, eventually, expect_error, stream,
    streamed_content,
};

const DEADLINE: Duration = Duration::from_secs(20);
const KEY: &str = "sk-user-key-0123456789";
const OTHER: &str = "sk-other-key-0123456789";
const STORED: &str = "How do I reset my password?";
const SIMILAR: &str = "How can I reset my password?";

/// The emulated provider is the operator's server, too, under two names.
async fn gateway(embedding: &str) -> Gateway {
    let files = embedding_files().unwrap();
    let emulator = Emulator::start(0).await.unwrap();
    let address = emulator.address();
    let config = format!(
        "\
server:
  upstreams:
    - {{name: vllm, prefix: /vllm, rewrite: /openai, address: \"{address}\", api: openai}}
    - {{name: second, prefix: /openai, address: \"{address}\", api: openai, api_key: sk-of-the-server-%5678}}
providers:
  - {{{{openai}}}}
    models: [gpt-4o]
auth:
  api_keys:
    - {{name: user, key: {KEY}, tenant: acme}}
    - {{name: other, key: {OTHER}, tenant: other}}
embedding: {embedding}
cache: {{l2: {{callout: true, never_store: ['code \\d{{6}}']}}}}
"
    );
    let builder = Gateway::builder().config_yaml(&config).emulator(emulator);
    builder.env("TIDEGATE_MODELS", files.models).env("ORT_DYLIB_PATH", files.library).start().await.unwrap()
}

async fn ask(gateway: &Gateway, key: &str, path: &str, body: String) -> Answer {
    let client = Client::new().with_key(key);
    let answer = client.post_json(&gateway.url(path), body).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer
}

async fn vllm(gateway: &Gateway, body: String) -> Answer {
    ask(gateway, KEY, "/vllm/v1/chat/completions", body).await
}

async fn until_stored(gateway: &Gateway, entries: u64) {
    let admin = gateway.admin();
    let url = gateway.url("/admin/cache");
    let stored = || async { (admin.get(&url).await.ok()?.json()["entries"] == entries).then_some(()) };
    eventually("the answer is stored", DEADLINE, stored).await.unwrap();
}

fn cache(answer: &Answer) -> (&str, Option<&str>) {
    (answer.header("x-gateway-cache").unwrap_or("none"), answer.header("x-gateway-cache-layer"))
}

/// Path and key of the last request that the server had, the key as the emulator masks it.
fn last_asked(gateway: &Gateway) -> (String, String) {
    let last = gateway.emulator.requests().pop().unwrap();
    let keys = ["authorization", "x-api-key", "api-key", "x-goog-api-key"];
    let mut sent = last.headers.into_iter().filter(|(name, _)| keys.contains(&name.as_str()));
    let key = sent.next().unwrap().1;
    assert_eq!(sent.next(), None, "one key only");
    (last.path, key)
}

fn asked(gateway: &Gateway) -> u64 {
    gateway.emulator.stats().requests_total
}

#[tokio::test]
async fn a_question_in_other_words_is_answered_inside_envoy() {
    let mut gateway = gateway("{deadline: 10s}").await;
    let first = vllm(&gateway, chat(STORED)).await;
    assert_eq!(cache(&first), ("miss", None));
    let (path, key) = last_asked(&gateway);
    assert_eq!(
        (path.as_str(), key.as_str()),
        ("/openai/v1/chat/completions", "***6789"),
        "the caller's own key"
    );
    until_stored(&gateway, 1).await;
    let before = asked(&gateway);

    let similar = vllm(&gateway, chat(SIMILAR)).await;
    assert_eq!(cache(&similar), ("hit", Some("semantic")), "{:?}", similar.headers);
    assert_eq!(content(&similar), content(&first));
    let similarity: f32 = similar.header("x-gateway-cache-similarity").unwrap().parse().unwrap();
    assert!((0.85..1.0).contains(&similarity), "{similarity}");
    assert!(similar.header("age").is_some_and(|age| age.parse::<u64>().is_ok()));
    assert!(similar.header("x-gateway-cache-entry").is_some());
    assert!(similar.headers.keys().all(|name| !name.as_str().starts_with("x-tidegate")));
    let streamed = vllm(&gateway, stream(SIMILAR)).await;
    assert_eq!(cache(&streamed), ("hit", Some("semantic")));
    assert_eq!(streamed_content(&streamed), content(&first));
    assert_eq!(streamed.events().last().map(String::as_str), Some("[DONE]"));
    assert_eq!(asked(&gateway), before, "nobody was asked");

    streams_are_stored_too(&gateway).await;
    what_must_not_share_does_not(&gateway).await;
    without_the_sidecar_requests_go_on(&mut gateway).await;
}

async fn streams_are_stored_too(gateway: &Gateway) {
    let question = "Which colours does a rainbow have?";
    let streamed = vllm(gateway, stream(question)).await;
    assert_eq!(cache(&streamed), ("miss", None));
    until_stored(gateway, 2).await;
    let similar = vllm(gateway, chat("What colours does a rainbow have?")).await;
    assert_eq!(cache(&similar), ("hit", Some("semantic")));
    assert_eq!(content(&similar), streamed_content(&streamed));
}

async fn what_must_not_share_does_not(gateway: &Gateway) {
    let path = "/vllm/v1/chat/completions";
    assert_eq!(cache(&ask(gateway, OTHER, path, chat(SIMILAR)).await), ("miss", None), "another tenant");
    let elsewhere = ask(gateway, KEY, "/openai/v1/chat/completions", chat(SIMILAR)).await;
    assert_eq!(cache(&elsewhere), ("miss", None), "another server");
    assert_eq!(last_asked(gateway).1, "***5678", "the server's key");
    let other_header = Client::new().with_header("x-api-key", KEY);
    let url = gateway.url("/openai/v1/chat/completions");
    let answer = other_header.post_json(&url, chat("And with a key in another header?")).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(last_asked(gateway).1, "***5678", "and no other");
    let sidecar = ask(gateway, KEY, "/v1/chat/completions", chat(SIMILAR)).await;
    assert_eq!(cache(&sidecar), ("miss", None), "a provider");
    let other_words = "How might I reset my password?";
    let system = json!({"model": "gpt-4o", "messages": [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": other_words}]});
    assert_eq!(cache(&vllm(gateway, system.to_string()).await), ("miss", None));
    let fresh = Client::new().with_key(KEY).with_header("cache-control", "no-store");
    let fresh = fresh.post_json(&gateway.url(path), chat(other_words)).await.unwrap();
    assert_eq!(cache(&fresh), ("bypass", None));
    let secret = "My one-time code 123456 does not work";
    for _ in 0..2 {
        assert_eq!(cache(&vllm(gateway, chat(secret)).await).0, "miss", "not in any cache");
    }
    let nobody = Client::new().post_json(&gateway.url(path), chat(STORED)).await.unwrap();
    expect_error(&nobody, 401, "missing_api_key");
    let inside = gateway.url("/internal/v1/lookup");
    expect_error(&gateway.admin().post_json(&inside, "{}\n{}").await.unwrap(), 404, "not_found");
}

async fn without_the_sidecar_requests_go_on(gateway: &mut Gateway) {
    gateway.kill_sidecar().unwrap();
    for prompt in ["tell me one thing", "and another thing"] {
        let answer = vllm(gateway, chat(prompt)).await;
        assert!(content(&answer).contains(prompt), "{}", answer.text());
    }
    gateway.restart_sidecar().unwrap();
    gateway.wait_until_ready().await.unwrap();
    let admin = gateway.admin();
    eventually("/metrics shows the look-up that failed", DEADLINE, || async {
        let page = admin.get(&gateway.url("/metrics")).await.ok()?.text();
        let failed = "gateway_cache_requests_total{layer=\"semantic\",result=\"failed\"}";
        let line = page.lines().find(|line| line.starts_with(failed))?;
        (!line.ends_with(" 0")).then_some(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_sidecar_that_hangs_holds_nobody_up() {
    let gateway = gateway("{deadline: 40ms}").await;
    vllm(&gateway, chat(STORED)).await;
    gateway.sidecar().signal("STOP").unwrap();
    for number in 0..5 {
        let prompt = format!("question number {number}");
        assert!(content(&vllm(&gateway, chat(&prompt)).await).contains(&prompt));
    }
    gateway.sidecar().signal("CONT").unwrap();
    let answered = || async {
        let answer = vllm(&gateway, chat(STORED)).await;
        (cache(&answer).0 == "hit").then_some(())
    };
    eventually("look-ups go on", DEADLINE, answered).await.unwrap();
}
