//! The emulated OpenAI against the documented wire formats, and its faults.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tidegate_e2e::emulator::{Emulator, Outcome};
use tidegate_e2e::harness::{Answer, Client, HarnessError, RawConnection, eventually};

const DEADLINE: Duration = Duration::from_secs(20);
const CHAT: &str = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hello there"}]}"#;
const CHAT_STREAM: &str =
    r#"{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"hello there"}]}"#;

struct Setup {
    emulator: Emulator,
    client: Client,
}

impl Setup {
    async fn new() -> Self {
        let emulator = Emulator::start(0).await.unwrap();
        Self { emulator, client: Client::new().with_key("sk-test-0123456789") }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.emulator.base_url())
    }

    async fn post(&self, path: &str, body: &str) -> Answer {
        self.try_post(path, body).await.unwrap()
    }

    async fn try_post(&self, path: &str, body: &str) -> Result<Answer, HarnessError> {
        self.client.post_json(&self.url(path), body.to_owned()).await
    }

    async fn fault(&self, fault: Value) {
        let url = format!("http://{}/__faults", self.emulator.address());
        let answer = self.client.post_json(&url, fault.to_string()).await.unwrap();
        assert_eq!(answer.status, 201, "{}", answer.text());
    }

    async fn last_outcome_is(&self, wanted: Outcome) {
        eventually("the outcome is logged", DEADLINE, || async {
            let last = self.emulator.requests().last().map(|r| r.outcome);
            (last == Some(wanted)).then_some(())
        })
        .await
        .unwrap();
    }
}

fn content_of(events: &[String]) -> String {
    let chunks = events.iter().filter_map(|e| serde_json::from_str::<Value>(e).ok());
    chunks.filter_map(|c| c["choices"][0]["delta"]["content"].as_str().map(str::to_owned)).collect()
}

#[tokio::test]
async fn a_chat_completion_is_deterministic_and_counts_its_tokens() {
    let setup = Setup::new().await;
    let first = setup.post("/chat/completions", CHAT).await;
    let second = setup.post("/chat/completions", CHAT).await;
    assert_eq!(first.status, 200);
    assert_eq!(first.header("content-type"), Some("application/json"));
    assert!(first.header("x-request-id").is_some_and(|id| id.starts_with("req_")));
    let (first, second) = (first.json(), second.json());
    assert_eq!(first["object"], "chat.completion");
    assert_eq!(first["choices"], second["choices"]);
    assert_eq!(first["choices"][0]["message"]["content"], "You said: hello there");
    assert_eq!(first["choices"][0]["finish_reason"], "stop");
    let usage = &first["usage"];
    let sum = usage["prompt_tokens"].as_u64().unwrap() + usage["completion_tokens"].as_u64().unwrap();
    assert_eq!(usage["total_tokens"], sum);
}

#[tokio::test]
async fn a_chat_stream_has_role_content_finish_usage_and_done() {
    let setup = Setup::new().await;
    let body = r#"{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":true},
        "messages":[{"role":"user","content":[{"type":"text","text":"hello there"}]}]}"#;
    let answer = setup.post("/chat/completions", body).await;
    assert_eq!(answer.header("content-type"), Some("text/event-stream; charset=utf-8"));
    let events = answer.events();
    assert_eq!(events.last().map(String::as_str), Some("[DONE]"));
    assert_eq!(content_of(&events), "You said: hello there");
    let chunks: Vec<Value> =
        events[..events.len() - 1].iter().map(|e| serde_json::from_str(e).unwrap()).collect();
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    assert!(chunks[0]["usage"].is_null());
    let [.., finish, usage] = &chunks[..] else { panic!("too few chunks") };
    assert_eq!(finish["choices"][0]["finish_reason"], "stop");
    assert_eq!(usage["choices"], json!([]));
    let whole = setup.post("/chat/completions", CHAT).await.json();
    assert_eq!(usage["usage"], whole["usage"]);
}

#[tokio::test]
async fn a_token_limit_cuts_the_answer() {
    let setup = Setup::new().await;
    let body = r#"{"model":"gpt-4o","max_tokens":2,"messages":[{"role":"user","content":"hello there"}]}"#;
    let answer = setup.post("/chat/completions", body).await.json();
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert_eq!(answer["usage"]["completion_tokens"], 2);
}

#[tokio::test]
async fn completions_models_and_embeddings_answer() {
    let setup = Setup::new().await;
    let body = r#"{"model":"gpt-3.5-turbo-instruct","prompt":"hi","stream":true}"#;
    let events = setup.post("/completions", body).await.events();
    let text: String = events
        .iter()
        .filter_map(|e| serde_json::from_str::<Value>(e).ok())
        .filter_map(|c| c["choices"][0]["text"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(text, "You said: hi");
    assert_eq!(events.last().map(String::as_str), Some("[DONE]"));

    let models = setup.client.get(&setup.url("/models")).await.unwrap().json();
    assert_eq!(models["data"].as_array().map(Vec::len), Some(5));
    let one = setup.client.get(&setup.url("/models/gpt-4o")).await.unwrap().json();
    assert_eq!(one["object"], "model");

    let body = r#"{"model":"text-embedding-3-small","input":["a","b"],"dimensions":8}"#;
    let first = setup.post("/embeddings", body).await.json();
    assert_eq!(first["data"][1]["embedding"].as_array().map(Vec::len), Some(8));
    assert_eq!(first, setup.post("/embeddings", body).await.json());
}

#[tokio::test]
async fn bad_requests_are_refused_in_openais_shape() {
    let setup = Setup::new().await;
    let messages = r#""messages":[{"role":"user","content":"x"}]"#;
    let cases = [
        ("/chat/completions", "{".to_owned(), 400, "", ""),
        ("/chat/completions", format!("{{{messages}}}"), 400, "", ""),
        (
            "/chat/completions",
            r#"{"model":"gpt-4o"}"#.to_owned(),
            400,
            "messages",
            "missing_required_parameter",
        ),
        (
            "/chat/completions",
            r#"{"model":"gpt-4o","messages":[]}"#.to_owned(),
            400,
            "messages",
            "empty_array",
        ),
        (
            "/chat/completions",
            format!(r#"{{"model":"gpt-4o",{messages},"shape":1}}"#),
            400,
            "shape",
            "unknown_parameter",
        ),
        (
            "/chat/completions",
            format!(r#"{{"model":"gpt-4o",{messages},"temperature":3}}"#),
            400,
            "temperature",
            "invalid_value",
        ),
        (
            "/chat/completions",
            r#"{"model":"gpt-4o","messages":[{"role":"me"}]}"#.to_owned(),
            400,
            "messages[0].role",
            "invalid_value",
        ),
        ("/chat/completions", format!(r#"{{"model":"gpt-5000",{messages}}}"#), 404, "", "model_not_found"),
        ("/completions", r#"{"model":"gpt-4o","prompt":"x"}"#.to_owned(), 400, "model", ""),
        ("/nowhere", "{}".to_owned(), 404, "", ""),
        ("/models", "{}".to_owned(), 405, "", "method_not_supported"),
    ];
    for (path, body, status, param, code) in cases {
        let answer = setup.post(path, &body).await;
        let error = &answer.json()["error"];
        assert_eq!(answer.status, status, "{path} {body}: {error}");
        assert_eq!(error["type"], "invalid_request_error", "{path} {body}");
        assert_eq!(error["param"].as_str().unwrap_or_default(), param, "{path} {body}");
        assert_eq!(error["code"].as_str().unwrap_or_default(), code, "{path} {body}");
        assert!(error["message"].is_string());
    }
}

#[tokio::test]
async fn a_key_is_needed_and_never_logged() {
    let setup = Setup::new().await;
    let url = setup.url("/chat/completions");
    let none = Client::new().post_json(&url, CHAT).await.unwrap();
    assert_eq!(none.status, StatusCode::UNAUTHORIZED);
    let wrong = Client::new().with_key("pk-wrong-key-9876").post_json(&url, CHAT).await.unwrap();
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
    assert_eq!(wrong.json()["error"]["code"], "invalid_api_key");
    assert_eq!(setup.emulator.requests()[1].header("authorization"), Some("***9876"));
}

#[tokio::test]
async fn a_fault_answers_with_status_headers_and_body_as_often_as_told() {
    let setup = Setup::new().await;
    setup
        .fault(json!({"status": 429, "headers": {"retry-after": "7"}, "times": 1,
                      "match": {"model": "gpt-4o", "path": "/chat/completions"}}))
        .await;
    let other = setup.client.get(&setup.url("/models")).await.unwrap();
    assert_eq!(other.status, 200);
    let hit = setup.post("/chat/completions", CHAT).await;
    assert_eq!((hit.status.as_u16(), hit.header("retry-after")), (429, Some("7")));
    assert_eq!(hit.json()["error"]["code"], "rate_limit_exceeded");
    assert_eq!(setup.post("/chat/completions", CHAT).await.status, 200);

    setup.fault(json!({"body": "<html>oops</html>", "status": 502})).await;
    assert_eq!(setup.post("/chat/completions", CHAT).await.text(), "<html>oops</html>");
    setup.emulator.disarm_all();
    assert_eq!(setup.post("/chat/completions", CHAT).await.status, 200);
}

#[tokio::test]
async fn a_wrong_fault_is_refused() {
    let setup = Setup::new().await;
    let url = format!("http://{}/__faults", setup.emulator.address());
    let answer = setup.client.post_json(&url, r#"{"stauts":500}"#).await.unwrap();
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("stauts"));
    assert!(setup.client.send(&Method::PUT, &url, &[], "").await.unwrap().status == 405);
}

#[tokio::test]
async fn streams_are_truncated_reset_or_fail_in_the_middle() {
    let setup = Setup::new().await;
    for reset in [false, true] {
        setup.fault(json!({"truncate_after_chunks": 2, "reset": reset, "times": 1})).await;
        let url = setup.url("/chat/completions");
        let mut answer = setup.client.open(&Method::POST, &url, &[], CHAT_STREAM).await.unwrap();
        let mut received = 0;
        let end = loop {
            match answer.next_chunk().await {
                Ok(Some(_)) => received += 1,
                other => break other,
            }
        };
        assert!(end.is_err(), "a cut stream must not look whole");
        assert!(received >= 1);
        setup.last_outcome_is(Outcome::CutByFault).await;
    }
    setup.fault(json!({"error_in_stream_after_chunks": 2, "times": 1})).await;
    let events = setup.post("/chat/completions", CHAT_STREAM).await.events();
    assert_eq!(events.len(), 3);
    let error: Value = serde_json::from_str(&events[2]).unwrap();
    assert_eq!(error["error"]["type"], "server_error");
}

#[tokio::test]
async fn a_json_answer_can_be_truncated_and_a_connection_reset() {
    let setup = Setup::new().await;
    setup.fault(json!({"truncate_after_chunks": 1, "times": 1})).await;
    assert!(setup.try_post("/chat/completions", CHAT).await.is_err());
    setup.fault(json!({"reset": true, "times": 1})).await;
    assert!(setup.try_post("/chat/completions", CHAT).await.is_err());
    assert_eq!(setup.post("/chat/completions", CHAT).await.status, 200);
    assert_eq!(setup.emulator.stats().faults_total, 2);
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed_in_a_delay_and_in_a_stall() {
    let setup = Setup::new().await;
    let address = setup.emulator.address();
    let request = format!(
        "POST /openai/v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-x\r\n\
         content-length: {}\r\n\r\n{CHAT_STREAM}",
        CHAT_STREAM.len()
    );
    setup.fault(json!({"delay_ms": 600_000, "times": 1})).await;
    let mut raw = RawConnection::open(address).await.unwrap();
    raw.send(request.as_bytes()).await.unwrap();
    setup.last_outcome_is(Outcome::InFlight).await;
    drop(raw);
    setup.last_outcome_is(Outcome::ClientLeft).await;

    setup.fault(json!({"stall_after_chunks": 3, "times": 1})).await;
    let mut raw = RawConnection::open(address).await.unwrap();
    raw.send(request.as_bytes()).await.unwrap();
    let events = |bytes: &[u8]| String::from_utf8_lossy(bytes).matches("data: ").count();
    raw.read_until(|bytes| events(bytes) >= 3).await.unwrap();
    drop(raw);
    setup.last_outcome_is(Outcome::ClientLeft).await;
    let last = setup.emulator.requests().pop().unwrap();
    assert_eq!((last.chunks_sent, last.status), (3, Some(200)));
    assert_eq!(setup.emulator.stats().clients_left_total, 2);
    assert_eq!(setup.emulator.stats().in_flight, 0);
}

#[tokio::test]
async fn the_log_and_the_counters_can_be_read_over_http() {
    let setup = Setup::new().await;
    setup.post("/chat/completions", CHAT).await;
    let base = format!("http://{}", setup.emulator.address());
    let log = setup.client.get(&format!("{base}/__requests")).await.unwrap().json();
    assert_eq!(log[0]["path"], "/openai/v1/chat/completions");
    assert_eq!(log[0]["body"], CHAT);
    assert_eq!(log[0]["outcome"], "complete");
    let stats = setup.client.get(&format!("{base}/__stats")).await.unwrap().json();
    assert_eq!(stats["requests_total"], 1);
}

#[tokio::test]
async fn a_stalled_answer_goes_on_when_released() {
    let setup = Setup::new().await;
    setup.fault(json!({"stall_after_chunks": 2, "times": 1})).await;
    let url = setup.url("/chat/completions");
    let mut answer = setup.client.open(&Method::POST, &url, &[], CHAT_STREAM).await.unwrap();
    answer.next_chunk().await.unwrap().unwrap();
    let release = format!("http://{}/__release", setup.emulator.address());
    let released = setup.client.post_json(&release, "").await.unwrap();
    assert_eq!(released.status, 202);
    let rest = answer.finish().await.unwrap().events();
    assert_eq!(rest.last().map(String::as_str), Some("[DONE]"));
}
