//! Anthropic's protocol on either side.

use http::Method;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::gateway::{DEADLINE, Gateway, anthropic, piece};
use super::provider::TestProvider;
use crate::llm::ProviderKind;

const MESSAGE: &str = r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#;
const STREAM: &str =
    r#"{"model":"m","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
const START: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"model\":\"m\",\"usage\":{\"input_tokens\":7,\"output_tokens\":1}}}\n\n";
const DELTA: &str = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"你\"}}\n\n";
const END: &str = "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":4}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

async fn before(provider: &TestProvider) -> Gateway {
    Gateway::start(vec![anthropic("p", provider.addr)]).await
}

/// A provider that streams these chunks, and breaks off unless `properly`.
async fn streaming(chunks: &'static [&'static str], properly: bool) -> TestProvider {
    TestProvider::start(move |_, mut connection| async move {
        connection.open_stream().await;
        for chunk in chunks {
            connection.chunk(chunk.as_bytes()).await;
        }
        if properly {
            connection.close_stream().await;
        }
        properly.then_some(connection)
    })
    .await
}

#[tokio::test]
async fn between_the_same_protocol_bytes_pass_and_credentials_do_not() {
    const ANSWER: &str = r#"{"id":"x",  "type":"message","usage":{"input_tokens":3,"output_tokens":5}}"#;
    let provider =
        TestProvider::answering(200, "request-id: req_p\r\nanthropic-ratelimit-x: 1\r\n", ANSWER).await;
    let gateway = before(&provider).await;
    let caller = [("x-api-key", "caller"), ("anthropic-beta", "b1"), ("x-request-id", "r1")];
    let got = gateway.post("/v1/messages", &caller, MESSAGE).await;
    assert_eq!((got.status.as_u16(), got.text()), (200, ANSWER));
    assert_eq!(got.headers["request-id"], "req_p");
    assert_eq!(got.headers["x-gateway-provider"], "p");
    assert!(!got.headers.contains_key("anthropic-ratelimit-x"));

    let sent = &provider.requests()[0];
    assert!(sent.head.starts_with("POST /base/messages HTTP/1.1\r\n"), "{}", sent.head);
    assert_eq!(sent.body, MESSAGE.as_bytes());
    assert_eq!((sent.header("x-api-key"), sent.header("authorization")), (Some("sk-ant-one"), None));
    assert_eq!(sent.header("anthropic-version"), Some("2023-06-01"));
    assert_eq!(sent.header("anthropic-beta"), Some("b1"));
    assert!(gateway.counts(r#"gen_ai_client_token_usage_sum{gen_ai_token_type="input",provider="p"} 3.0"#));
}

#[tokio::test]
async fn an_openai_caller_is_answered_from_anthropics_stream() {
    let provider = streaming(&[START, DELTA, END], true).await;
    let gateway = before(&provider).await;
    let body = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
    let got = gateway.chat(body).await;
    assert_eq!(got.status, 200, "{}", got.text());
    assert!(got.text().contains(r#""delta":{"content":"你"}"#), "{}", got.text());
    assert!(got.text().ends_with("data: [DONE]\n\n") && !got.text().contains("usage"), "{}", got.text());
    let sent: Value = serde_json::from_slice(&provider.requests()[0].body).expect("JSON");
    assert_eq!((&sent["max_tokens"], &sent["stream"]), (&json!(4096), &json!(true)));
    gateway.until_counted(r#"gateway_provider_requests_total{provider="p",outcome="ok"} 1"#).await;
    for line in [
        r#"gen_ai_client_token_usage_sum{gen_ai_token_type="input",provider="p"} 7.0"#,
        r#"gen_ai_client_token_usage_sum{gen_ai_token_type="output",provider="p"} 4.0"#,
    ] {
        assert!(gateway.counts(line), "{line}");
    }
}

#[tokio::test]
async fn a_cut_stream_ends_with_an_error_event_of_the_callers_protocol() {
    for properly in [false, true] {
        let provider = streaming(&[START, DELTA, "event: content_block_delta\ndata: {\"ty"], properly).await;
        let gateway = before(&provider).await;
        let got = gateway.post("/v1/messages", &[("x-request-id", "r1")], STREAM).await;
        let rest =
            got.text().strip_prefix(&format!("{START}{DELTA}event: error\ndata: ")).expect("whole events");
        let error: Value = serde_json::from_str(rest).expect("JSON");
        assert_eq!((&error["error"]["type"], &error["request_id"]), (&json!("api_error"), &json!("r1")));

        let provider = streaming(&[START, DELTA], properly).await;
        let gateway = before(&provider).await;
        let body = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
        let got = gateway.chat(body).await;
        assert!(got.text().contains(r#""code":"upstream_stream_interrupted""#), "{}", got.text());
        gateway
            .until_counted(r#"gateway_provider_requests_total{provider="p",outcome="interrupted"} 1"#)
            .await;
    }
}

#[tokio::test]
async fn a_caller_that_leaves_a_translated_stream_takes_the_connection_with_it() {
    let (released, mut events) = mpsc::unbounded_channel();
    let provider = TestProvider::start(move |_, mut connection| {
        let released = released.clone();
        async move {
            connection.open_stream().await;
            connection.chunk(START.as_bytes()).await;
            connection.closed().await;
            let _ = released.send(());
            None
        }
    })
    .await;
    let gateway = before(&provider).await;
    let body = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
    let mut answer = gateway.send(Method::POST, "/v1/chat/completions", &[], body).await.into_body();
    assert!(piece(&mut answer).await.is_some());
    drop(answer);
    tokio::time::timeout(DEADLINE, events.recv()).await.expect("in time").expect("released");
    gateway.until_counted(r#"gateway_provider_requests_total{provider="p",outcome="cancelled"} 1"#).await;
}

#[tokio::test]
async fn what_a_provider_cannot_do_is_refused_before_it_is_asked() {
    let provider = TestProvider::answering(200, "", "{}").await;
    let gateway = before(&provider).await;
    let refused = gateway
        .chat(r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"logit_bias":{"1":1}}"#)
        .await;
    assert_eq!((refused.status.as_u16(), refused.error_code().as_str()), (400, "invalid_request"));
    assert_eq!(refused.json()["error"]["param"], "logit_bias");
    let embedding = gateway.post("/v1/embeddings", &[], r#"{"model":"m","input":"x"}"#).await;
    assert_eq!((embedding.status.as_u16(), embedding.error_code().as_str()), (404, "model_not_found"));
    assert!(provider.requests().is_empty());
    assert!(gateway.counts(r#"gateway_provider_requests_total{provider="p",outcome="client_error"} 0"#));
}

#[tokio::test]
async fn what_a_provider_cannot_do_is_left_out_and_named_where_the_operator_chose_that() {
    let answer = r#"{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[{"type":"text","text":"yes"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":1,"output_tokens":1}}"#;
    let provider = TestProvider::answering(200, "", answer).await;
    let mut settings = anthropic("p", provider.addr);
    let ProviderKind::Remote(remote) = &mut settings.kind else { panic!("a server") };
    remote.lenient = true;
    let gateway = Gateway::start(vec![settings]).await;
    let body = r#"{"model":"m","seed":7,"messages":[{"role":"user","content":"hi"}],"logit_bias":{"1":1}}"#;
    let answered = gateway.chat(body).await;
    assert_eq!(answered.status, 200, "{}", answered.text());
    assert_eq!(answered.headers["x-gateway-dropped"], "logit_bias, seed");
    assert!(!provider.requests()[0].body.windows(6).any(|w| w == b"\"seed\""));
}

#[tokio::test]
async fn an_answer_of_another_protocol_is_none() {
    let provider = TestProvider::answering(200, "", r#"{"choices":[]}"#).await;
    let gateway = before(&provider).await;
    let got = gateway.chat(r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#).await;
    assert_eq!((got.status.as_u16(), got.error_code().as_str()), (502, "upstream_error"));
}
