//! Providers that fail in every way there is: what the caller sees, and that none of it is cached.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tidegate_e2e::emulator::{Fault, FaultMatch, Outcome};
use tidegate_e2e::harness::{
    Answer, Client, Gateway, Port, chat, chat_with, eventually, expect_error, stream, stream_of,
    streamed_content,
};

const DEADLINE: Duration = Duration::from_secs(20);
/// Providers for each kind of fault; breakers are kept out of the way.
const CONFIG: &str = "\
providers:
  - {{openai}}
    models: [gpt-4o]
  - name: impatient
    type: openai
    base_url: \"{{emulator}}\"
    api_key: sk-emulated-0123456789
    models: [gpt-4o-mini]
    timeout: 1500ms
  - name: closed
    type: openai
    base_url: \"http://127.0.0.1:{{closed}}/v1\"
    api_key: sk-emulated-0123456789
    models: [unreachable]
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
    _closed: Port,
}

impl Setup {
    async fn new() -> Self {
        // Leased, so that nobody else listens there; and nobody does.
        let closed = Port::lease().unwrap();
        let config = CONFIG.replace("{{closed}}", &closed.number().to_string());
        Self {
            gateway: Gateway::builder().config_yaml(&config).start().await.unwrap(),
            client: Client::new(),
            _closed: closed,
        }
    }

    async fn ask(&self, body: impl Into<bytes::Bytes>) -> Answer {
        self.gateway.ask(&self.client, body).await.unwrap()
    }

    /// Arms a fault for one request.
    fn arm_once(&self, fault: Fault) {
        let times = Some(1);
        self.gateway.emulator.arm(Fault { times, ..fault }).unwrap();
    }

    /// Asks again and again: the bad answer must not come back, the good one must be kept.
    async fn was_not_cached(&self, body: &str) {
        for (cache, what) in
            [("miss", "the bad answer was stored"), ("hit", "the good answer was not stored")]
        {
            let answer = self.ask(body.to_owned()).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert_eq!(answer.header("x-gateway-cache"), Some(cache), "{what}");
        }
    }

    async fn last_request_ends(&self, wanted: Outcome) {
        eventually("the provider sees how it ended", DEADLINE, || async {
            let last = self.gateway.emulator.requests().pop();
            (last.map(|r| r.outcome) == Some(wanted)).then_some(())
        })
        .await
        .unwrap();
    }
}

#[tokio::test]
async fn every_fault_of_a_provider_is_told_and_none_is_cached() {
    let setup = Setup::new().await;
    a_stream_that_is_cut_ends_with_an_error_event(&setup).await;
    an_error_inside_a_stream_is_passed_and_not_cached(&setup).await;
    half_an_answer_is_an_error(&setup).await;
    an_error_dressed_as_success_is_not_cached(&setup).await;
    connection_faults_have_their_codes(&setup).await;
    a_providers_refusal_passes_through(&setup).await;
    what_is_not_json_is_wrapped(&setup).await;
}

async fn a_stream_that_is_cut_ends_with_an_error_event(setup: &Setup) {
    for reset in [false, true] {
        let body = stream(&format!("cut me short {reset}"));
        setup.arm_once(Fault { truncate_after_chunks: Some(3), reset, ..Fault::default() });
        let answer = setup.ask(body.clone()).await;
        assert_eq!(answer.status, 200);
        let events = answer.events();
        let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
        assert_eq!(last["error"]["code"], "upstream_stream_interrupted", "{events:?}");
        assert!(last["error"]["message"].is_string() && last["error"]["type"].is_string());
        assert!(!events.contains(&"[DONE]".to_owned()), "a cut stream must not look whole");
        assert!(answer.text().ends_with("\n\n"), "the error event is whole");
        setup.was_not_cached(&body).await;
    }
}

async fn an_error_inside_a_stream_is_passed_and_not_cached(setup: &Setup) {
    let body = stream("fail in the middle");
    setup.arm_once(Fault { error_in_stream_after_chunks: Some(2), ..Fault::default() });
    let answer = setup.ask(body.clone()).await;
    assert_eq!(answer.status, 200);
    assert!(answer.events().iter().any(|event| event.contains("\"error\"")), "{}", answer.text());
    setup.was_not_cached(&body).await;
}

async fn half_an_answer_is_an_error(setup: &Setup) {
    let body = chat("a rather long question, so that its answer has several slices of bytes");
    setup.arm_once(Fault { truncate_after_chunks: Some(1), ..Fault::default() });
    expect_error(&setup.ask(body.clone()).await, 502, "upstream_reset");
    setup.was_not_cached(&body).await;
}

async fn an_error_dressed_as_success_is_not_cached(setup: &Setup) {
    let body = chat("pretend");
    let error =
        json!({"error": {"message": "out of capacity", "type": "server_error", "param": null, "code": null}});
    setup.arm_once(Fault { status: Some(200), body: Some(error), ..Fault::default() });
    let answer = setup.ask(body.clone()).await;
    assert!(answer.text().contains("out of capacity"), "{}", answer.text());
    setup.was_not_cached(&body).await;
    let body = chat("not even json");
    setup.arm_once(Fault { body: Some(json!("plain text")), ..Fault::default() });
    expect_error(&setup.ask(body.clone()).await, 502, "upstream_error");
    setup.was_not_cached(&body).await;
}

async fn connection_faults_have_their_codes(setup: &Setup) {
    let refused = setup.ask(chat_with("unreachable", "x")).await;
    expect_error(&refused, 502, "upstream_unreachable");
    assert_eq!(refused.header("x-gateway-provider"), Some("closed"));
    assert_eq!(refused.header("x-should-retry"), Some("true"));

    let body = chat("reset me");
    setup.arm_once(Fault { reset: true, ..Fault::default() });
    expect_error(&setup.ask(body.clone()).await, 502, "upstream_reset");
    setup.was_not_cached(&body).await;

    for (body, fault) in [
        (chat_with("gpt-4o-mini", "headers too late"), Fault { delay_ms: Some(600_000), ..Fault::default() }),
        (
            chat_with("gpt-4o-mini", "the rest too late"),
            Fault { stall_after_chunks: Some(1), ..Fault::default() },
        ),
    ] {
        setup.arm_once(fault);
        expect_error(&setup.ask(body.clone()).await, 504, "upstream_timeout");
        setup.last_request_ends(Outcome::ClientLeft).await;
        setup.was_not_cached(&body).await;
    }
    let body = stream_of("gpt-4o-mini", "a stream that stops");
    setup.arm_once(Fault { stall_after_chunks: Some(2), ..Fault::default() });
    let events = setup.ask(body.clone()).await.events();
    let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
    assert!(last["error"]["code"].is_string(), "{events:?}");
    setup.last_request_ends(Outcome::ClientLeft).await;
    setup.was_not_cached(&body).await;
}

async fn a_providers_refusal_passes_through(setup: &Setup) {
    let headers = [("retry-after".to_owned(), "7".to_owned())].into();
    setup.arm_once(Fault { status: Some(429), headers, ..Fault::default() });
    let answer = setup.ask(chat("slow down")).await;
    expect_error(&answer, 429, "rate_limit_exceeded");
    assert_eq!(answer.header("retry-after"), Some("7"));
    assert_eq!(answer.header("x-gateway-provider"), Some("openai"));

    for status in [400, 401, 403, 404, 500, 503] {
        setup.arm_once(Fault { status: Some(status), ..Fault::default() });
        let answer = setup.ask(chat(&format!("refuse {status}"))).await;
        assert_eq!(answer.status, status, "{}", answer.text());
        let error = &answer.json()["error"];
        assert!(error["message"].is_string(), "{}", answer.text());
        for field in ["type", "param", "code"] {
            assert!(error.get(field).is_some(), "{field}: {}", answer.text());
        }
        assert_eq!(answer.header("retry-after").is_some(), status == 503);
    }
    // None of these is kept, and the provider's own words are not lost.
    let message = json!({"error": {"message": "custom words", "type": "invalid_request_error", "param": "n", "code": "odd"}});
    setup.arm_once(Fault { status: Some(400), body: Some(message), ..Fault::default() });
    let body = chat("refuse 400");
    let answer = setup.ask(body.clone()).await;
    expect_error(&answer, 400, "odd");
    assert_eq!(answer.json()["error"]["message"], "custom words");
    setup.was_not_cached(&body).await;
}

async fn what_is_not_json_is_wrapped(setup: &Setup) {
    let body = chat("wrap me");
    let html = Some(json!("<html><h1>502 Bad Gateway</h1></html>"));
    setup.arm_once(Fault { status: Some(502), body: html, ..Fault::default() });
    let answer = setup.ask(body.clone()).await;
    expect_error(&answer, 502, "upstream_error");
    assert!(!answer.text().contains("<html>"));
    setup.was_not_cached(&body).await;
}

#[tokio::test]
async fn a_client_that_leaves_cancels_the_call_and_a_slow_stream_comes_as_it_is_made() {
    let setup = Setup::new().await;
    events_arrive_before_the_last_one_is_made(&setup).await;
    leaving_cancels_the_call_upstream(&setup).await;
}

async fn events_arrive_before_the_last_one_is_made(setup: &Setup) {
    let prompt = "slow and steady";
    setup.arm_once(Fault { stall_after_chunks: Some(2), ..Fault::default() });
    let mut answer = setup.gateway.open_chat(&setup.client, stream(prompt)).await.unwrap();
    let mut body = Vec::new();
    while String::from_utf8_lossy(&body).matches("data: ").count() < 2 {
        body.extend_from_slice(&answer.next_chunk().await.unwrap().unwrap());
    }
    // Everything that was made is here, while the provider still holds the rest back.
    let request = setup.gateway.emulator.requests().pop().unwrap();
    assert_eq!((request.chunks_sent, request.outcome), (2, Outcome::InFlight));
    setup.gateway.emulator.release_stalled();
    body.extend_from_slice(&answer.finish().await.unwrap().body);
    let whole = setup.ask(stream(prompt)).await;
    assert_eq!(whole.header("x-gateway-cache"), Some("hit"));
    assert_eq!(whole.body, body, "what was streamed is what is replayed");
    assert_eq!(streamed_content(&whole), format!("You said: {prompt}"));
}

async fn leaving_cancels_the_call_upstream(setup: &Setup) {
    // In the middle of a stream.
    setup.arm_once(Fault { stall_after_chunks: Some(2), ..Fault::default() });
    let mut answer = setup.gateway.open_chat(&Client::new(), stream("leaving soon")).await.unwrap();
    answer.next_chunk().await.unwrap().unwrap();
    drop(answer);
    setup.last_request_ends(Outcome::ClientLeft).await;

    // While waiting for the first byte, of a stream and of a whole answer.
    for body in [stream("leaving at once"), chat("leaving at once")] {
        let before = setup.gateway.emulator.stats().requests_total;
        setup.arm_once(Fault { delay_ms: Some(600_000), ..Fault::default() });
        let (url, client) = (setup.gateway.url("/v1/chat/completions"), Client::new());
        let waiting = tokio::spawn(async move { client.open(&Method::POST, &url, &[], body).await });
        eventually("the provider has the request", DEADLINE, || async {
            (setup.gateway.emulator.stats().requests_total > before).then_some(())
        })
        .await
        .unwrap();
        waiting.abort();
        setup.last_request_ends(Outcome::ClientLeft).await;
    }
    let matches = FaultMatch { model: Some("gpt-4o".to_owned()), ..FaultMatch::default() };
    setup.arm_once(Fault { delay_ms: Some(1), matches, ..Fault::default() });
    let answer = setup.ask(stream("leaving soon")).await;
    assert_eq!(answer.header("x-gateway-cache"), Some("miss"), "half a stream is not kept");
    assert_eq!(setup.gateway.emulator.stats().in_flight, 0);
}
