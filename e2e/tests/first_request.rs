//! What a person does first: ask, ask again, stream, look at the models. All through a real Envoy.

use http::Method;
use serde_json::{Value, json};
use tidegate_e2e::harness::{
    Answer, Client, Gateway, chat, chat_model, chat_with, content, stream, streamed_content,
};

/// Connections opened to meet every worker.
const CONNECTIONS: usize = 32;

async fn ask(gateway: &Gateway, body: String) -> Answer {
    gateway.ask(&Client::new(), body).await.unwrap()
}

async fn ask_with(gateway: &Gateway, header: (&str, &str), body: String) -> Answer {
    let client = Client::new().with_header(header.0, header.1);
    gateway.ask(&client, body).await.unwrap()
}

fn cache(answer: &Answer) -> &str {
    answer.header("x-gateway-cache").unwrap_or("none")
}

#[tokio::test]
async fn the_openai_api_is_answered_and_repeated_from_the_cache() {
    let gateway = Gateway::builder().workers(4).start().await.unwrap();
    json_is_answered_once_and_then_cached(&gateway).await;
    a_stream_is_replayed_byte_for_byte(&gateway).await;
    the_same_question_in_other_clothes_is_a_hit(&gateway).await;
    cache_control_is_obeyed(&gateway).await;
    what_must_not_be_cached_passes_by(&gateway).await;
    every_worker_serves_the_same_cache(&gateway).await;
    request_ids_are_echoed_or_made(&gateway).await;
    models_are_listed(&gateway).await;
    completions_answer(&gateway).await;
    an_llm_bridge_body_is_understood(&gateway).await;
}

async fn json_is_answered_once_and_then_cached(gateway: &Gateway) {
    let first = ask(gateway, chat("hello there")).await;
    assert_eq!(first.status, 200, "{}", first.text());
    assert_eq!(content(&first), "You said: hello there");
    assert_eq!(cache(&first), "miss");
    assert_eq!(first.header("x-gateway-provider"), Some("openai"));
    assert_eq!(first.header("x-gateway-model"), Some("gpt-4o"));
    assert_eq!(first.header("x-gateway-attempts"), Some("1"));
    assert!(first.header("x-tidegate-answered").is_none());

    let second = ask(gateway, chat("hello there")).await;
    assert_eq!(second.status, 200);
    assert_eq!(cache(&second), "hit");
    assert_eq!(second.header("x-gateway-cache-layer"), Some("l1"));
    assert_eq!(second.header("x-gateway-provider"), Some("openai"));
    assert_eq!(second.header("x-gateway-model"), Some("gpt-4o"));
    assert!(second.header("age").is_some_and(|age| age.parse::<u64>().is_ok()));
    assert_eq!(second.header("content-type"), first.header("content-type"));
    assert_eq!(second.body, first.body);
    for answer in [&first, &second] {
        assert_eq!(answer.header("x-ratelimit-limit-requests"), Some("1000"));
        let left = answer.header("x-ratelimit-remaining-requests");
        assert!(left.is_some_and(|left| left.parse::<u64>().unwrap() <= 1000));
        assert!(answer.header("x-ratelimit-reset-requests").is_some());
    }
}

async fn a_stream_is_replayed_byte_for_byte(gateway: &Gateway) {
    let first = ask(gateway, stream("tell me more")).await;
    assert_eq!(first.status, 200, "{}", first.text());
    assert!(first.header("content-type").is_some_and(|t| t.starts_with("text/event-stream")));
    assert_eq!(streamed_content(&first), "You said: tell me more");
    assert_eq!(first.events().last().map(String::as_str), Some("[DONE]"));
    assert_eq!(cache(&first), "miss");

    let second = ask(gateway, stream("tell me more")).await;
    assert_eq!(cache(&second), "hit");
    assert!(second.header("content-type").is_some_and(|t| t.starts_with("text/event-stream")));
    assert_eq!(second.body, first.body);
    // A stream does not answer a question that wants JSON.
    assert_eq!(cache(&ask(gateway, chat("tell me more")).await), "miss");
}

async fn the_same_question_in_other_clothes_is_a_hit(gateway: &Gateway) {
    let one = r#"{"model":"gpt-4o","temperature":0,"messages":[{"role":"user","content":"A"}]}"#;
    let other = "{ \"messages\": [ {\"content\": \"A\", \"role\": \"user\"} ],\n \"temperature\": 0, \"model\": \"gpt-4o\" }";
    assert_eq!(cache(&ask(gateway, one.to_owned()).await), "miss");
    assert_eq!(cache(&ask(gateway, other.to_owned()).await), "hit");
    let hotter = one.replace("\"temperature\":0", "\"temperature\":0.1");
    assert_eq!(cache(&ask(gateway, hotter).await), "miss");
    // The pinned provider belongs to the question.
    let pin = ("x-gateway-provider", "openai");
    assert_eq!(cache(&ask_with(gateway, pin, one.to_owned()).await), "miss");
}

async fn cache_control_is_obeyed(gateway: &Gateway) {
    let no_store = ("cache-control", "no-store");
    for _ in 0..2 {
        let answer = ask_with(gateway, no_store, chat("forget this")).await;
        assert_eq!(cache(&answer), "bypass");
    }
    let first = ask(gateway, chat("forget this")).await;
    assert_eq!(cache(&first), "miss", "no-store must not have stored");
    assert_eq!(cache(&ask(gateway, chat("forget this")).await), "hit");

    let fresh = ask_with(gateway, ("cache-control", "no-cache"), chat("forget this")).await;
    assert_eq!(cache(&fresh), "bypass");
    assert_ne!(fresh.body, first.body, "no-cache must ask the provider again");
    let after = ask(gateway, chat("forget this")).await;
    assert_eq!(cache(&after), "hit");
    assert_eq!(after.body, fresh.body, "the fresh answer takes the place of the old one");
}

async fn what_must_not_be_cached_passes_by(gateway: &Gateway) {
    let hot = json!({"model": "gpt-4o", "temperature": 1.5, "messages": [{"role": "user", "content": "x"}]});
    let tools = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "x"}],
        "tools": [{"type": "function", "function": {"name": "f"}}]});
    for body in [hot, tools] {
        for _ in 0..2 {
            let answer = ask(gateway, body.to_string()).await;
            assert_eq!((answer.status.as_u16(), cache(&answer)), (200, "bypass"));
        }
    }
}

async fn every_worker_serves_the_same_cache(gateway: &Gateway) {
    let first = ask(gateway, chat("one for all")).await;
    let asked = gateway.emulator.stats().requests_total;
    for _ in 0..CONNECTIONS {
        // Each client opens a connection of its own, which the kernel gives to some worker.
        let answer = ask(gateway, chat("one for all")).await;
        assert_eq!(cache(&answer), "hit");
        assert_eq!(answer.body, first.body);
    }
    assert_eq!(gateway.emulator.stats().requests_total, asked);
}

async fn request_ids_are_echoed_or_made(gateway: &Gateway) {
    for path in ["/v1/models", "/health", "/v1/nowhere", "/admin/keys"] {
        let client = Client::new().with_header("x-request-id", "my-id.1");
        let answer = client.get(&gateway.url(path)).await.unwrap();
        assert_eq!(answer.header("x-request-id"), Some("my-id.1"), "{path}");
    }
    for _ in 0..2 {
        let answer = ask_with(gateway, ("x-request-id", "my-id.2"), chat("who am I")).await;
        assert_eq!(answer.header("x-request-id"), Some("my-id.2"), "{}", cache(&answer));
    }
    let seen = gateway.emulator.requests().pop().unwrap();
    assert_eq!(seen.header("x-request-id"), Some("my-id.2"));
    for unfit in ["two words".to_owned(), "x".repeat(200)] {
        // Refused in the filter, and answered by the provider.
        for path in ["/v1/nowhere", "/v1/models"] {
            let client = Client::new().with_header("x-request-id", &unfit);
            let answer = client.get(&gateway.url(path)).await.unwrap();
            let ids: Vec<_> = answer.headers.get_all("x-request-id").iter().collect();
            assert!(ids.len() == 1 && ids[0].as_bytes().starts_with(b"tg-"), "{path}: {ids:?}");
        }
    }
    let mut made = Vec::new();
    for _ in 0..3 {
        let answer = ask(gateway, chat("who am I")).await;
        made.extend(answer.header("x-request-id").map(str::to_owned));
    }
    made.sort();
    made.dedup();
    assert_eq!(made.len(), 3, "three different ids: {made:?}");
}

async fn models_are_listed(gateway: &Gateway) {
    let client = Client::new();
    let list = client.get(&gateway.url("/v1/models")).await.unwrap();
    assert_eq!(list.status, 200);
    let list = list.json();
    assert_eq!(list["object"], "list");
    let ids: Vec<&str> = list["data"].as_array().unwrap().iter().filter_map(|m| m["id"].as_str()).collect();
    // The embedding model is there too, where it is installed.
    let chat: Vec<&str> = ids.into_iter().filter(|id| id.starts_with("gpt")).collect();
    assert_eq!(chat, ["gpt-3.5-turbo-instruct", "gpt-4o", "gpt-4o-mini"]);
    let one = client.get(&gateway.url("/v1/models/gpt-4o")).await.unwrap();
    assert_eq!((one.status.as_u16(), &one.json()["id"]), (200, &Value::from("gpt-4o")));
}

async fn completions_answer(gateway: &Gateway) {
    let client = Client::new();
    let body = json!({"model": "gpt-3.5-turbo-instruct", "prompt": "hi"}).to_string();
    for expected in ["miss", "hit"] {
        let answer = client.post_json(&gateway.url("/v1/completions"), body.clone()).await.unwrap();
        assert_eq!(answer.json()["choices"][0]["text"], "You said: hi");
        assert_eq!(cache(&answer), expected);
    }
    // The same body on another path is another question.
    let elsewhere = ask(gateway, body).await;
    assert_eq!(elsewhere.status, 400, "{}", elsewhere.text());
}

async fn an_llm_bridge_body_is_understood(gateway: &Gateway) {
    let body = json!({
        "provider": "openai",
        "model": "gpt-4o",
        "messages": [{"role": "user", "content": "over the bridge"}],
        "parameters": {"temperature": 0.5, "max_tokens": 2},
    });
    let answer = ask(gateway, body.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(content(&answer), "You said:");
    let sent = gateway.emulator.requests().pop().unwrap();
    let sent: Value = serde_json::from_str(&sent.body).unwrap();
    assert_eq!(sent["max_tokens"], 2);
    assert_eq!(sent["temperature"], 0.5);
    assert!(sent.get("parameters").is_none() && sent.get("provider").is_none());
}

/// A gateway with nothing but the model that comes with it.
async fn local_gateway() -> Gateway {
    let model = chat_model().unwrap();
    let config = format!(
        "providers:\n  - name: local\n    type: local\n    model_path: \"{}\"\n    models: [smollm2-135m-instruct]\n\
         auth:\n  anonymous:\n    enabled: true\n",
        model.display()
    );
    Gateway::builder().config_yaml(&config).start().await.unwrap()
}

fn local_chat(wants_stream: bool) -> String {
    json!({
        "model": "smollm2-135m-instruct",
        "messages": [
            {"role": "system", "content": "You are brief."},
            {"role": "user", "content": "What is the capital of France?"},
        ],
        "max_tokens": 8,
        "temperature": 0,
        "stream": wants_stream,
    })
    .to_string()
}

#[tokio::test]
async fn the_local_model_generates_whole_and_as_a_stream() {
    let gateway = local_gateway().await;
    let whole = ask(&gateway, local_chat(false)).await;
    assert_eq!(whole.status, 200, "{}", whole.text());
    assert_eq!(whole.header("x-gateway-provider"), Some("local"));
    let text = content(&whole);
    assert!(!text.trim().is_empty(), "{}", whole.text());
    let usage = &whole.json()["usage"];
    let tokens = usage["completion_tokens"].as_u64().unwrap();
    assert!((1..=8).contains(&tokens), "{usage}");
    assert!(usage["prompt_tokens"].as_u64().unwrap() > 8, "{usage}");

    let streamed = ask(&gateway, local_chat(true)).await;
    assert_eq!(streamed_content(&streamed), text, "temperature 0 always says the same");
    assert_eq!(streamed.events().last().map(String::as_str), Some("[DONE]"));
    assert!(streamed.events().len() > 2, "token by token: {}", streamed.text());
    assert_eq!(cache(&ask(&gateway, local_chat(true)).await), "hit");

    let client = Client::new();
    let local = client
        .send(&Method::POST, &gateway.url("/local/chat/completions"), &[], local_chat(false))
        .await
        .unwrap();
    assert_eq!(content(&local), text);
    let unknown = ask(&gateway, chat_with("gpt-4o", "x")).await;
    assert_eq!(unknown.status, 404);
}
