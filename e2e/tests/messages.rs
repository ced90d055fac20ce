//! Anthropic's Messages API in front, Anthropic behind, and both, through a real Envoy.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tidegate_e2e::emulator::{Fault, Outcome};
use tidegate_e2e::harness::{
    Answer, Client, Gateway, chat_with, content, eventually, expect_error, stream_of, streamed_content,
};

const DEADLINE: Duration = Duration::from_secs(20);
const CLAUDE: &str = "claude-sonnet-4-5";
const GPT: &str = "gpt-4o";
const MESSAGES: &str = "/v1/messages";
const CONFIG: &str = "\
providers:
  - {{openai}}
    models: [gpt-4o]
  - name: anthropic
    type: anthropic
    base_url: \"{{anthropic}}\"
    api_key: sk-ant-emulated-0123456789
    models: [claude-sonnet-4-5]
  - name: impatient
    type: anthropic
    base_url: \"{{anthropic}}\"
    api_key: sk-ant-emulated-0123456789
    models: [claude-haiku-4-5]
    timeout: 1500ms
auth:
  anonymous:
    enabled: true
breaker:
  failure_threshold: 100000
routing:
  enabled: false
";

struct Setup {
    gateway: Gateway,
    client: Client,
}

impl Setup {
    async fn new() -> Self {
        let gateway = Gateway::builder().config_yaml(CONFIG).start().await.unwrap();
        Self { gateway, client: Client::new().with_header("anthropic-version", "2023-06-01") }
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        self.client.post_json(&self.gateway.url(path), body.to_string()).await.unwrap()
    }

    async fn message(&self, body: &Value) -> Answer {
        self.post(MESSAGES, body).await
    }

    fn arm_once(&self, fault: Fault) {
        self.gateway.emulator.arm(Fault { times: Some(1), ..fault }).unwrap();
    }

    fn last_body(&self) -> Value {
        serde_json::from_str(&self.gateway.emulator.requests().pop().unwrap().body).unwrap()
    }
}

fn asking(model: &str, prompt: &str) -> Value {
    json!({"model": model, "max_tokens": 100, "messages": [{"role": "user", "content": prompt}]})
}

fn streaming(model: &str, prompt: &str) -> Value {
    let mut body = asking(model, prompt);
    body["stream"] = true.into();
    body
}

/// The `event:` names of a stream, without repetitions and pings.
fn event_names(answer: &Answer) -> Vec<String> {
    let text = answer.text();
    let names = text.lines().filter_map(|line| line.strip_prefix("event: ")).filter(|name| *name != "ping");
    let mut names: Vec<_> = names.map(str::to_owned).collect();
    names.dedup();
    names
}

fn last_event(answer: &Answer) -> Value {
    serde_json::from_str(answer.events().last().unwrap()).unwrap()
}

/// An error in Anthropic's shape, with the request's id in the body and in the header.
#[track_caller]
fn expect_anthropic_error(answer: &Answer, status: u16, kind: &str) {
    let shown = format!("{} {:?}\n{}", answer.status, answer.headers, answer.text());
    let body = answer.json();
    assert_eq!(answer.status, status, "{shown}");
    assert_eq!((&body["type"], &body["error"]["type"]), (&json!("error"), &json!(kind)), "{shown}");
    assert!(body["error"]["message"].as_str().is_some_and(|m| !m.is_empty()), "{shown}");
    assert!(body["request_id"].as_str().is_some_and(|id| !id.is_empty()), "{shown}");
    if matches!(status, 429 | 503 | 529) {
        assert!(answer.header("retry-after").is_some(), "{shown}");
    }
}

#[tokio::test]
async fn each_front_is_answered_by_each_provider() {
    let setup = Setup::new().await;
    whole_answers(&setup).await;
    streams(&setup).await;
    the_same_protocol_passes_untouched(&setup).await;
    tokens_are_counted(&setup).await;
    mistakes_are_told_in_the_callers_protocol(&setup).await;
}

async fn whole_answers(setup: &Setup) {
    for (model, provider) in [(GPT, "openai"), (CLAUDE, "anthropic")] {
        let answer = setup.message(&asking(model, "hello")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let body = answer.json();
        assert_eq!(body["content"], json!([{"type": "text", "text": "You said: hello"}]), "{body}");
        assert_eq!((&body["type"], &body["role"]), (&json!("message"), &json!("assistant")));
        assert_eq!((&body["stop_reason"], &body["model"]), (&json!("end_turn"), &json!(model)));
        assert!(body["usage"]["input_tokens"].as_u64().is_some_and(|n| n > 0), "{body}");
        assert_eq!(answer.header("x-gateway-provider"), Some(provider));
        assert!(answer.header("request-id").is_some());

        let answer = setup.gateway.ask(&setup.client, chat_with(model, "hello")).await.unwrap();
        assert_eq!(content(&answer), "You said: hello", "{}", answer.text());
        assert_eq!(answer.json()["choices"][0]["finish_reason"], "stop");
        assert_eq!(answer.header("x-gateway-provider"), Some(provider));
    }
    // What the translation asks of OpenAI is what OpenAI's own callers would have asked.
    setup
        .message(&json!({
            "model": GPT, "max_tokens": 7, "system": "be kind", "stop_sequences": ["x"],
            "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}],
        }))
        .await;
    let expected = json!({
        "model": GPT, "max_tokens": 7, "stop": ["x"],
        "messages": [{"role": "system", "content": "be kind"}, {"role": "user", "content": "a"}],
    });
    assert_eq!(setup.last_body(), expected);
}

async fn streams(setup: &Setup) {
    let order = [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ];
    for model in [GPT, CLAUDE] {
        let answer = setup.message(&streaming(model, "hello 你好")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.header("content-type").unwrap().starts_with("text/event-stream"));
        assert_eq!(event_names(&answer), order, "{}", answer.text());
        let deltas = answer.events();
        let deltas = deltas.iter().filter_map(|event| serde_json::from_str::<Value>(event).ok());
        let said: String = deltas.filter_map(|e| e["delta"]["text"].as_str().map(str::to_owned)).collect();
        assert_eq!(said, "You said: hello 你好");

        let answer = setup.gateway.ask(&setup.client, stream_of(model, "hello 你好")).await.unwrap();
        assert_eq!(streamed_content(&answer), "You said: hello 你好", "{}", answer.text());
        assert_eq!(answer.events().last().unwrap(), "[DONE]");
    }
}

async fn the_same_protocol_passes_untouched(setup: &Setup) {
    // White space, order and numbers as no translator would write them.
    let body = r#"{ "messages":[{"content":"raw","role":"user"}],"temperature":1.0e0, "max_tokens":9,"model":"claude-sonnet-4-5" }"#;
    let url = setup.gateway.url(MESSAGES);
    let answer = setup.client.post_json(&url, body).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = setup.gateway.emulator.requests().pop().unwrap();
    assert_eq!(seen.body, body);
    assert_eq!(seen.header("anthropic-version"), Some("2023-06-01"));
    assert!(seen.header("x-api-key").is_some_and(|key| key.ends_with("6789")));
    assert_eq!(seen.header("authorization"), None);
    assert!(answer.header("anthropic-ratelimit-requests-remaining").is_none());
}

async fn tokens_are_counted(setup: &Setup) {
    let mut body = asking(CLAUDE, "hello there");
    body.as_object_mut().unwrap().remove("max_tokens");
    let path = "/v1/messages/count_tokens";
    let counted = setup.post(path, &body).await;
    assert_eq!((counted.status.as_u16(), counted.json()), (200, json!({"input_tokens": 6})));
    assert_eq!(setup.gateway.emulator.requests().pop().unwrap().path, "/anthropic/v1/messages/count_tokens");

    setup.gateway.emulator.forget_requests();
    body["model"] = GPT.into();
    let estimated = setup.post(path, &body).await;
    assert_eq!((estimated.status.as_u16(), estimated.json()), (200, json!({"input_tokens": 6})));
    assert!(setup.gateway.emulator.requests().is_empty(), "an estimate asks nobody");
}

async fn mistakes_are_told_in_the_callers_protocol(setup: &Setup) {
    let url = setup.gateway.url(MESSAGES);
    let broken = setup.client.post_json(&url, "{").await.unwrap();
    expect_anthropic_error(&broken, 400, "invalid_request_error");
    expect_anthropic_error(&setup.message(&asking("claude-9", "x")).await, 404, "not_found_error");
    for (model, field, value) in
        [(GPT, "top_k", json!(5)), (GPT, "max_tokens", Value::Null), (CLAUDE, "temperature", json!(3))]
    {
        let mut body = asking(model, "x");
        body[field] = value;
        let answer = setup.message(&body).await;
        expect_anthropic_error(&answer, 400, "invalid_request_error");
        assert!(answer.text().contains(field), "{}", answer.text());
    }
    let got = setup.client.send(&Method::GET, &url, &[], "").await.unwrap();
    expect_anthropic_error(&got, 405, "invalid_request_error");

    let mut body: Value = serde_json::from_str(&chat_with(CLAUDE, "x")).unwrap();
    body["logit_bias"] = json!({"1": 2});
    let refused = setup.gateway.ask(&setup.client, body.to_string()).await.unwrap();
    expect_error(&refused, 400, "invalid_request");
    assert_eq!(refused.json()["error"]["param"], "logit_bias");
}

#[tokio::test]
async fn every_fault_is_told_in_the_callers_protocol() {
    let setup = Setup::new().await;
    refusals(&setup).await;
    streams_that_fail(&setup).await;
    silence_is_a_timeout(&setup).await;
    a_caller_that_leaves_takes_the_call_with_it(&setup).await;
}

async fn refusals(setup: &Setup) {
    for model in [GPT, CLAUDE] {
        for (status, kind) in [(429, "rate_limit_error"), (500, "api_error"), (529, "overloaded_error")] {
            setup.arm_once(Fault { status: Some(status), ..Fault::default() });
            expect_anthropic_error(&setup.message(&asking(model, "x")).await, status, kind);
        }
        setup.arm_once(Fault { status: Some(502), body: Some("<html>".into()), ..Fault::default() });
        expect_anthropic_error(&setup.message(&asking(model, "x")).await, 502, "api_error");
        setup.arm_once(Fault { reset: true, ..Fault::default() });
        expect_anthropic_error(&setup.message(&asking(model, "x")).await, 502, "api_error");
        setup.arm_once(Fault { truncate_after_chunks: Some(1), ..Fault::default() });
        expect_anthropic_error(&setup.message(&asking(model, "x")).await, 502, "api_error");
    }
    // An overload that OpenAI's callers know.
    setup.arm_once(Fault { status: Some(529), ..Fault::default() });
    let answer = setup.gateway.ask(&setup.client, chat_with(CLAUDE, "overloaded")).await.unwrap();
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(answer.json()["error"]["type"], "service_unavailable_error");
    assert!(answer.header("retry-after").is_some());
    // A provider that speaks another protocol than it should.
    let foreign = json!({"id": "x", "choices": [{"message": {"content": "hi"}}]});
    setup.arm_once(Fault { body: Some(foreign), ..Fault::default() });
    let answer = setup.gateway.ask(&setup.client, chat_with(CLAUDE, "foreign")).await.unwrap();
    expect_error(&answer, 502, "upstream_error");
}

async fn streams_that_fail(setup: &Setup) {
    for model in [GPT, CLAUDE] {
        setup.arm_once(Fault { error_in_stream_after_chunks: Some(4), ..Fault::default() });
        let failed = setup.message(&streaming(model, "fail")).await;
        assert_eq!(event_names(&failed).last().unwrap(), "error", "{}", failed.text());
        assert_eq!(last_event(&failed)["type"], "error");

        for reset in [false, true] {
            setup.arm_once(Fault { truncate_after_chunks: Some(4), reset, ..Fault::default() });
            let cut = setup.message(&streaming(model, "cut")).await;
            assert_eq!(event_names(&cut).last().unwrap(), "error", "{}", cut.text());
            let error = last_event(&cut);
            assert_eq!(error["error"]["type"], "api_error", "{error}");
            assert!(error["request_id"].as_str().is_some_and(|id| !id.is_empty()), "{error}");
            assert!(!cut.text().contains("message_stop"));
        }
    }
    setup.arm_once(Fault { error_in_stream_after_chunks: Some(4), ..Fault::default() });
    let failed = setup.gateway.ask(&setup.client, stream_of(CLAUDE, "fail")).await.unwrap();
    assert_eq!(last_event(&failed)["error"]["type"], "service_unavailable_error", "{}", failed.text());
    setup.arm_once(Fault { truncate_after_chunks: Some(4), ..Fault::default() });
    let cut = setup.gateway.ask(&setup.client, stream_of(CLAUDE, "cut")).await.unwrap();
    assert_eq!(last_event(&cut)["error"]["code"], "upstream_stream_interrupted", "{}", cut.text());
}

async fn silence_is_a_timeout(setup: &Setup) {
    let impatient = "claude-haiku-4-5";
    setup.arm_once(Fault { delay_ms: Some(600_000), ..Fault::default() });
    expect_anthropic_error(&setup.message(&asking(impatient, "late")).await, 504, "timeout_error");
    setup.arm_once(Fault { stall_after_chunks: Some(3), ..Fault::default() });
    let stalled = setup.message(&streaming(impatient, "stall")).await;
    assert_eq!(last_event(&stalled)["error"]["type"], "timeout_error", "{}", stalled.text());
    setup.arm_once(Fault { stall_after_chunks: Some(3), ..Fault::default() });
    let stalled = setup.gateway.ask(&setup.client, stream_of(impatient, "stall")).await.unwrap();
    assert_eq!(last_event(&stalled)["error"]["code"], "upstream_timeout", "{}", stalled.text());
}

async fn a_caller_that_leaves_takes_the_call_with_it(setup: &Setup) {
    for model in [GPT, CLAUDE] {
        setup.arm_once(Fault { stall_after_chunks: Some(4), ..Fault::default() });
        let url = setup.gateway.url(MESSAGES);
        let json = [("content-type", "application/json")];
        let body = streaming(model, "leave").to_string();
        let mut answer = setup.client.open(&Method::POST, &url, &json, body).await.unwrap();
        assert!(answer.next_chunk().await.unwrap().is_some());
        drop(answer);
        eventually("the provider sees it", DEADLINE, || async {
            let last = setup.gateway.emulator.requests().pop();
            (last.map(|r| r.outcome) == Some(Outcome::ClientLeft)).then_some(())
        })
        .await
        .unwrap();
        setup.gateway.emulator.release_stalled();
    }
}
