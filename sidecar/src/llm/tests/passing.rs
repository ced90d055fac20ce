//! What passes through, and what does not.

use http::Method;
use serde_json::{Value, json};

use super::gateway::{BODY_BYTES_MAX, Gateway, openai, whole};
use super::provider::TestProvider;
use crate::llm::routing::RoutingSettings;

const BODY: &str = r#"{ "model":"m","x-new":{"a":1e999}, "messages":[{"role":"user","content":"\u4f60"}] }"#;
const ANSWER: &str =
    r#"{"id":"x",  "choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8}}"#;

#[tokio::test]
async fn bodies_pass_byte_by_byte_and_headers_by_the_lists() {
    let headers = "content-type: application/json\r\nopenai-version: 2020\r\nset-cookie: a=b\r\nx-ratelimit-limit-requests: 9\r\n";
    let provider = TestProvider::answering(200, headers, ANSWER).await;
    let gateway = Gateway::before(&provider).await;
    let caller = [
        ("authorization", "Bearer caller"),
        ("x-api-key", "caller"),
        ("x-tidegate-proxied", "t"),
        ("x-request-id", "r1"),
    ];
    let got = gateway.post("/v1/chat/completions", &caller, BODY).await;

    assert_eq!((got.status.as_u16(), got.text()), (200, ANSWER));
    assert_eq!(got.headers["x-gateway-provider"], "p");
    assert_eq!(got.headers["x-gateway-model"], "m");
    assert_eq!(got.headers["x-gateway-attempts"], "1");
    assert_eq!(got.headers["openai-version"], "2020");
    assert!(
        !got.headers.contains_key("set-cookie") && !got.headers.contains_key("x-ratelimit-limit-requests")
    );

    let sent = &provider.requests()[0];
    assert!(sent.head.starts_with("POST /base/chat/completions HTTP/1.1\r\n"), "{}", sent.head);
    assert_eq!(sent.body, BODY.as_bytes());
    assert_eq!(sent.header("authorization"), Some("Bearer sk-one"));
    assert_eq!(sent.header("host"), Some(provider.addr.to_string().as_str()));
    assert_eq!(sent.header("x-request-id"), Some("r1"));
    assert!(!sent.head.contains("caller") && !sent.head.contains("tidegate-proxied"), "{}", sent.head);
    assert!(gateway.counts(r#"gateway_provider_requests_total{provider="p",outcome="ok"} 1"#));
    assert!(gateway.counts(r#"gen_ai_client_token_usage_sum{gen_ai_token_type="input",provider="p"} 3.0"#));
}

#[tokio::test]
async fn a_byte_of_an_answers_text_that_is_no_utf_8_passes_too() {
    let answer: &[u8] = b"{\"choices\":[{\"message\":{\"content\":\"cut \xe4\xbd\"}}],\"usage\":null}";
    let provider = TestProvider::start(move |_, mut connection| async move {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", answer.len());
        connection.send([head.as_bytes(), answer].concat()).await;
        Some(connection)
    })
    .await;
    let got = Gateway::before(&provider).await.chat(BODY).await;
    assert_eq!((got.status.as_u16(), &*got.body), (200, answer));
}

#[tokio::test]
async fn keys_take_turns_on_one_connection() {
    let provider = TestProvider::answering(200, "", ANSWER).await;
    let gateway = Gateway::before(&provider).await;
    for _ in 0..3 {
        gateway.chat(BODY).await;
    }
    let keys: Vec<_> =
        provider.requests().iter().map(|r| r.header("authorization").map(str::to_owned)).collect();
    assert_eq!(keys, ["sk-one", "sk-two", "sk-one"].map(|k| Some(format!("Bearer {k}"))));
}

#[tokio::test]
async fn each_endpoint_has_its_path() {
    let provider = TestProvider::answering(200, "", ANSWER).await;
    let gateway = Gateway::before(&provider).await;
    for (path, field) in [("/v1/completions", "prompt"), ("/v1/embeddings", "input")] {
        let got = gateway.post(path, &[], &format!(r#"{{"model":"m","{field}":"x"}}"#)).await;
        assert_eq!(got.status, 200, "{path}");
    }
    let lines: Vec<_> =
        provider.requests().iter().map(|r| r.head.lines().next().map(str::to_owned)).collect();
    assert_eq!(lines, ["/completions", "/embeddings"].map(|p| Some(format!("POST /base{p} HTTP/1.1"))));
}

#[tokio::test]
async fn requests_that_make_no_sense_never_reach_a_provider() {
    let provider = TestProvider::answering(200, "", ANSWER).await;
    let mut off = openai("off", provider.addr);
    off.models = vec!["resting".to_owned()];
    off.enabled = false;
    let gateway = Gateway::start(vec![openai("p", provider.addr), off]).await;
    let large =
        format!(r#"{{"model":"m","messages":[{{"content":"{}"}}]}}"#, "x".repeat(BODY_BYTES_MAX as usize));
    for (body, status, code) in [
        ("{", 400, "invalid_json"),
        (r#"{"messages":[{}]}"#, 400, "invalid_request"),
        (r#"{"model":"other","messages":[{}]}"#, 404, "model_not_found"),
        (r#"{"model":"resting","messages":[{}]}"#, 503, "no_provider_available"),
        (r#"{"provider":"nobody","model":"m","messages":[{}]}"#, 400, "invalid_request"),
        (r#"{"provider":"off","model":"m","messages":[{}]}"#, 503, "no_provider_available"),
        (&large, 413, "request_too_large"),
    ] {
        let got = gateway.chat(body).await;
        assert_eq!((got.status.as_u16(), got.error_code().as_str()), (status, code), "{body:.60}");
        assert_eq!(got.headers.contains_key("retry-after"), status == 503, "{body:.60}");
        assert!(!got.headers.contains_key("x-gateway-provider"));
    }
    let local = gateway.post("/local/chat/completions", &[], BODY).await;
    assert_eq!(local.error_code(), "no_provider_available");
    assert!(provider.requests().is_empty());
}

#[tokio::test]
async fn providers_of_one_model_share_by_weight_and_can_be_pinned() {
    let one = TestProvider::answering(200, "", ANSWER).await;
    let two = TestProvider::answering(200, "", ANSWER).await;
    let mut heavy = openai("two", two.addr);
    heavy.weight = 3;
    let gateway = Gateway::routing(vec![openai("one", one.addr), heavy], RoutingSettings::default()).await;
    for _ in 0..8 {
        gateway.chat(BODY).await;
    }
    assert_eq!((one.requests().len(), two.requests().len()), (2, 6));
    for _ in 0..3 {
        let got = gateway.post("/v1/chat/completions", &[("x-gateway-provider", "one")], BODY).await;
        assert_eq!(got.headers["x-gateway-provider"], "one");
    }
    assert_eq!(one.requests().len(), 5);
}

#[tokio::test]
async fn models_are_listed_once_and_looked_up_whatever_their_name() {
    let provider = TestProvider::answering(200, "", ANSWER).await;
    let mut second = openai("q", provider.addr);
    second.models = vec!["m".to_owned(), "org/deep model".to_owned()];
    let gateway = Gateway::start(vec![openai("p", provider.addr), second]).await;
    let list = gateway.get("/v1/models").await.json();
    let ids: Vec<_> = list["data"].as_array().expect("a list").iter().map(|m| m["id"].as_str()).collect();
    assert_eq!(ids, [Some("m"), Some("org/deep model")]);
    assert_eq!((&list["object"], &list["data"][0]["owned_by"]), (&"list".into(), &"p".into()));
    let one = gateway.get("/v1/models/org/deep%20model").await;
    assert_eq!((one.status.as_u16(), &one.json()["owned_by"]), (200, &"q".into()));
    assert_eq!(gateway.get("/v1/models/none").await.error_code(), "model_not_found");
    for (id, owner) in [("q/m", json!("q")), ("q:org/deep%20model", json!("q")), ("q/none", Value::Null)] {
        let shown = gateway.get(&format!("/v1/models/{id}")).await.json();
        assert_eq!(shown["owned_by"], owner, "{shown}");
    }

    let anthropics = [("anthropic-version", "2023-06-01")];
    let ask = async |path: &str| whole(gateway.send(Method::GET, path, &anthropics, "").await).await.json();
    let list = ask("/v1/models").await;
    assert_eq!(
        (&list["has_more"], &list["first_id"], &list["last_id"]),
        (&json!(false), &json!("m"), &json!("org/deep model"))
    );
    let one = ask("/v1/models/m").await;
    assert_eq!((&one, &one["type"], &one["display_name"]), (&list["data"][0], &json!("model"), &json!("m")));
    assert!(one["created_at"].as_str().is_some_and(|at| at.ends_with('Z')), "{one}");
    let none = ask("/v1/models/none").await;
    assert_eq!((&none["type"], &none["error"]["type"]), (&json!("error"), &json!("not_found_error")));
}

#[tokio::test]
async fn a_provider_without_configured_models_is_asked_for_them() {
    let list = r#"{"object":"list","data":[{"id":"found","extra":1},{"id":""}]}"#;
    let provider = TestProvider::answering(200, "", list).await;
    let mut settings = openai("p", provider.addr);
    settings.models.clear();
    let gateway = Gateway::start(vec![settings]).await;
    super::gateway::until("the list is read", || {
        !gateway.providers.table().list[0].catalog.list().is_empty()
    })
    .await;
    assert!(provider.requests()[0].head.starts_with("GET /base/models HTTP/1.1\r\n"));
    let got = gateway.chat(&BODY.replace("\"m\"", "\"found\"")).await;
    assert_eq!((got.status.as_u16(), got.headers["x-gateway-model"].as_bytes()), (200, &b"found"[..]));
    assert_eq!(gateway.chat(BODY).await.error_code(), "model_not_found");
}
