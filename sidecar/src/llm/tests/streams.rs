//! Event streams: untouched when they are whole, never silent when they are not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::Method;
use tokio::io::AsyncWriteExt;
use tokio::sync::{Notify, mpsc};

use super::gateway::{DEADLINE, Gateway, anthropic, openai, piece};
use super::provider::{Connection, TestProvider};
use crate::llm::ProviderKind;

const BODY: &str = r#"{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"hi"}]}"#;
const MESSAGES: &str =
    r#"{"model":"m","stream":true,"max_tokens":1,"messages":[{"role":"user","content":"hi"}]}"#;
const FIRST: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"你\"}}]}\n\n";
const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":2,\"completion_tokens\":4}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

/// A provider that streams these chunks and then breaks the connection off, or ends the
/// stream properly if `properly`.
async fn streaming(chunks: Vec<Vec<u8>>, properly: bool) -> TestProvider {
    let chunks = Arc::new(chunks);
    TestProvider::start(move |_, mut connection: Connection| {
        let chunks = Arc::clone(&chunks);
        async move {
            connection.open_stream().await;
            for chunk in chunks.iter() {
                connection.chunk(chunk).await;
            }
            if properly {
                connection.close_stream().await;
            }
            properly.then_some(connection)
        }
    })
    .await
}

fn error_of(event: &str) -> serde_json::Value {
    let data = event.strip_prefix("data: ").unwrap_or_else(|| panic!("no event: {event}"));
    let json: serde_json::Value = serde_json::from_str(data).expect("JSON");
    json["error"].clone()
}

#[tokio::test]
async fn a_whole_stream_passes_byte_by_byte_wherever_it_is_split() {
    let stream = [": hello\r\n\r\n", FIRST, USAGE, DONE].concat();
    for size in [1, 7, 64, 4096] {
        let provider = streaming(stream.as_bytes().chunks(size).map(<[u8]>::to_vec).collect(), true).await;
        let gateway = Gateway::before(&provider).await;
        let got = gateway.chat(BODY).await;
        assert_eq!((got.status.as_u16(), got.text()), (200, stream.as_str()), "chunks of {size}");
        assert_eq!(got.headers["content-type"], "text/event-stream");
        assert_eq!(got.headers["x-gateway-provider"], "p");
        assert!(gateway.counts(r#"gateway_provider_requests_total{provider="p",outcome="ok"} 1"#));
        assert!(
            gateway.counts(r#"gen_ai_client_token_usage_sum{gen_ai_token_type="output",provider="p"} 4.0"#)
        );
        assert!(gateway.counts(r#"gen_ai_server_time_to_first_token_count{provider="p"} 1"#));
    }
}

#[tokio::test]
async fn usage_is_asked_for_and_kept_from_callers_who_did_not() {
    let stream = [FIRST, USAGE, DONE].concat();
    for size in [1, 7, 64, 4096] {
        let provider = streaming(stream.as_bytes().chunks(size).map(<[u8]>::to_vec).collect(), true).await;
        let gateway = Gateway::before(&provider).await;
        let body = r#"{"model":"m", "stream":true,"messages":[{"role":"user"}]}"#;
        let got = gateway.chat(body).await;
        assert_eq!(
            (got.status.as_u16(), got.text()),
            (200, [FIRST, DONE].concat().as_str()),
            "chunks of {size}"
        );
        let asking = body.replace("}]}", r#"}],"stream_options":{"include_usage":true}}"#);
        assert_eq!(provider.requests()[0].body, asking.as_bytes());
        assert!(
            gateway.counts(r#"gen_ai_client_token_usage_sum{gen_ai_token_type="output",provider="p"} 4.0"#)
        );
    }
}

const REFUSAL: &str = r#"{"detail":[{"type":"extra_forbidden","loc":["body","stream_options"],"msg":"Extra inputs are not permitted"}]}"#;

/// Refuses the first request, as servers do that take no field they do not know; answers all others.
async fn refusing_once(status: u16) -> TestProvider {
    TestProvider::start(move |number, mut connection: Connection| async move {
        if number == 0 {
            connection.respond(status, "", REFUSAL).await;
            return Some(connection);
        }
        connection.open_stream().await;
        connection.chunk([FIRST, DONE].concat().as_bytes()).await;
        connection.close_stream().await;
        Some(connection)
    })
    .await
}

#[tokio::test]
async fn a_server_that_refuses_to_tell_usage_is_asked_without_and_that_is_remembered() {
    let chat = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
    let message = r#"{"model":"m","stream":true,"max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#;
    let cases = [
        ("/v1/chat/completions", chat, 400),
        ("/v1/chat/completions", BODY, 422),
        ("/v1/messages", message, 422),
    ];
    for (path, body, status) in cases {
        let provider = refusing_once(status).await;
        let gateway = Gateway::before(&provider).await;
        for _ in 0..2 {
            let got = gateway.post(path, &[], body).await;
            assert_eq!(got.status, 200, "{path}: {}", got.text());
            assert!(got.text().contains('你'), "{path}: {}", got.text());
            assert_eq!(got.headers["x-gateway-attempts"], "1", "nothing failed that routing should hear of");
        }
        let asks: Vec<_> = provider
            .requests()
            .iter()
            .map(|request| String::from_utf8_lossy(&request.body).contains("stream_options"))
            .collect();
        assert_eq!(asks, [true, false, false], "{path}");
    }
}

#[tokio::test]
async fn usage_is_not_asked_for_where_the_operator_says_so() {
    let provider = streaming(vec![[FIRST, DONE].concat().into_bytes()], true).await;
    let mut settings = openai("p", provider.addr);
    let ProviderKind::Remote(remote) = &mut settings.kind else { panic!("a server") };
    remote.stream_usage = false;
    let gateway = Gateway::start(vec![settings]).await;
    let body = r#"{"model":"m","stream":true,"messages":[{"role":"user"}]}"#;
    assert_eq!(gateway.chat(body).await.status, 200);
    assert_eq!(provider.requests()[0].body, body.as_bytes());
}

#[tokio::test]
async fn another_refusal_is_the_callers() {
    let provider = TestProvider::answering(400, "", r#"{"error":{"message":"temperature"}}"#).await;
    let gateway = Gateway::before(&provider).await;
    let body = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
    assert_eq!(gateway.chat(body).await.status, 400);
    assert_eq!(provider.requests().len(), 1);
}

#[tokio::test]
async fn events_pass_one_by_one_as_they_come() {
    let go_on = Arc::new(Notify::new());
    let wait = Arc::clone(&go_on);
    let provider = TestProvider::start(move |_, mut connection| {
        let wait = Arc::clone(&wait);
        async move {
            connection.open_stream().await;
            for event in [FIRST, USAGE, DONE] {
                connection.chunk(event.as_bytes()).await;
                wait.notified().await;
            }
            connection.close_stream().await;
            Some(connection)
        }
    })
    .await;
    let gateway = Gateway::before(&provider).await;
    let mut body = gateway.send(Method::POST, "/v1/chat/completions", &[], BODY).await.into_body();
    for event in [FIRST, USAGE, DONE] {
        assert_eq!(piece(&mut body).await.expect("an event"), event);
        go_on.notify_one();
    }
    assert_eq!(piece(&mut body).await, None);
}

#[tokio::test]
async fn a_cut_stream_ends_with_an_error_event_and_no_half_event() {
    for (chunks, properly) in [
        (vec![FIRST, "data: {\"choi"], false),
        (vec![FIRST, "data: {\"choi"], true),
        (vec![FIRST], true),
        (vec![FIRST, USAGE], false),
    ] {
        let provider = streaming(chunks.iter().map(|c| c.as_bytes().to_vec()).collect(), properly).await;
        let gateway = Gateway::before(&provider).await;
        let got = gateway.chat(BODY).await;
        assert_eq!(got.status, 200);
        let events: Vec<_> = got.text().split_terminator("\n\n").collect();
        assert_eq!(events[0], FIRST.trim_end());
        let error = error_of(events.last().expect("an event"));
        assert_eq!(error["code"], "upstream_stream_interrupted", "{events:?}");
        assert_eq!(error["param"], serde_json::Value::Null);
        assert!(!got.text().contains("[DONE]") && !got.text().contains("choi\n"));
        assert!(gateway.counts(r#"gateway_provider_requests_total{provider="p",outcome="interrupted"} 1"#));
    }
}

#[tokio::test]
async fn a_stream_that_goes_silent_ends_with_a_timeout_event() {
    let provider = TestProvider::start(|_, mut connection| async move {
        connection.open_stream().await;
        connection.chunk(FIRST.as_bytes()).await;
        connection.closed().await;
        None
    })
    .await;
    let mut settings = openai("p", provider.addr);
    settings.timeout = Duration::from_millis(200);
    let gateway = Gateway::start(vec![settings]).await;
    let got = gateway.chat(BODY).await;
    let events: Vec<_> = got.text().split_terminator("\n\n").collect();
    assert_eq!((events.len(), error_of(events[1])["code"].as_str()), (2, Some("upstream_timeout")));
}

#[tokio::test]
async fn a_providers_own_error_in_a_stream_is_not_followed_by_ours() {
    let failure = "data: {\"error\":{\"message\":\"m\",\"type\":\"t\",\"param\":null,\"code\":null}}\n\n";
    let provider = streaming(vec![FIRST.into(), failure.into()], true).await;
    let gateway = Gateway::before(&provider).await;
    assert_eq!(gateway.chat(BODY).await.text(), [FIRST, failure].concat());
    assert!(gateway.counts(r#"gateway_provider_requests_total{provider="p",outcome="server_error"} 1"#));
}

#[tokio::test]
async fn an_end_without_its_blank_line_is_an_end() {
    let provider = streaming(vec![FIRST.into(), "data: [DONE]\n".into()], true).await;
    let gateway = Gateway::before(&provider).await;
    assert_eq!(gateway.chat(BODY).await.text(), [FIRST, DONE].concat());

    let stop = "event: message_stop\ndata: {\"type\":\"message_stop\"}";
    let start = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"x\",\"model\":\"m\"}}\n\n";
    let provider = streaming(vec![start.into(), stop.into()], true).await;
    let gateway = Gateway::start(vec![anthropic("p", provider.addr)]).await;
    let got = gateway.post("/v1/messages", &[], MESSAGES).await;
    assert_eq!(got.text(), [start, stop, "\n\n"].concat());
    assert!(gateway.chat(MESSAGES).await.text().ends_with(DONE));
    gateway.until_counted(r#"gateway_provider_requests_total{provider="p",outcome="ok"} 2"#).await;
}

#[tokio::test]
async fn a_complete_answer_without_its_end_gets_one() {
    let last = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    for chunks in [vec![FIRST, last], vec![FIRST, last, USAGE], vec![FIRST, last, USAGE, ": bye\n\n"]] {
        let provider = streaming(chunks.iter().map(|chunk| chunk.as_bytes().to_vec()).collect(), true).await;
        let gateway = Gateway::before(&provider).await;
        assert_eq!(gateway.chat(BODY).await.text(), chunks.concat() + DONE);
        let translated = gateway.post("/v1/messages", &[], MESSAGES).await;
        assert!(
            translated.text().ends_with("data: {\"type\":\"message_stop\"}\n\n"),
            "{}",
            translated.text()
        );
        gateway.until_counted(r#"gateway_provider_requests_total{provider="p",outcome="ok"} 2"#).await;
    }
}

#[tokio::test]
async fn a_caller_that_leaves_takes_the_providers_connection_with_it() {
    let (released, mut events) = mpsc::unbounded_channel();
    let provider = TestProvider::start(move |_, mut connection| {
        let released = released.clone();
        async move {
            connection.open_stream().await;
            connection.chunk(FIRST.as_bytes()).await;
            connection.closed().await;
            let _ = released.send(());
            None
        }
    })
    .await;
    let gateway = Gateway::before(&provider).await;
    let mut body = gateway.send(Method::POST, "/v1/chat/completions", &[], BODY).await.into_body();
    assert_eq!(piece(&mut body).await.expect("an event"), FIRST);
    drop(body);
    tokio::time::timeout(DEADLINE, events.recv()).await.expect("in time").expect("released");
    gateway.until_counted(r#"gateway_provider_requests_total{provider="p",outcome="cancelled"} 1"#).await;
}

#[tokio::test]
async fn a_caller_that_does_not_read_stops_the_provider_from_sending() {
    const FAR_TOO_MUCH: u64 = 256 << 20;
    let sent = Arc::new(AtomicU64::new(0));
    let (stalled, mut events) = mpsc::unbounded_channel();
    let counter = Arc::clone(&sent);
    let provider = TestProvider::start(move |_, mut connection| {
        let (counter, stalled) = (Arc::clone(&counter), stalled.clone());
        async move {
            connection.open_stream().await;
            let event = format!("data: {}\n\n", "x".repeat(65_528));
            let chunk = format!("{:x}\r\n{event}\r\n", event.len());
            while counter.load(Ordering::Relaxed) < FAR_TOO_MUCH {
                let write = connection.socket.write_all(chunk.as_bytes());
                // The wait is long enough for any reader; it only decides when to look.
                if tokio::time::timeout(Duration::from_secs(1), write).await.is_err() {
                    break;
                }
                counter.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            }
            let _ = stalled.send(());
            None
        }
    })
    .await;
    let gateway = Gateway::before(&provider).await;
    let response = gateway.send(Method::POST, "/v1/chat/completions", &[], BODY).await;
    tokio::time::timeout(DEADLINE, events.recv()).await.expect("in time").expect("stalled");
    assert!(sent.load(Ordering::Relaxed) < FAR_TOO_MUCH, "the stream was read without anybody reading it");
    drop(response);
}
