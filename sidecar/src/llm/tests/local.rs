//! The local model itself. It is part of what a fresh clone sets up, so its absence is a
//! failure and not a reason to skip.

use std::path::PathBuf;

use http::Method;
use serde_json::{Value, json};

use super::gateway::{DEADLINE, Gateway, Received, piece, until, whole};
use crate::llm::local::QUEUE_MAX;
use tidegate_core::usage::Price;

use crate::llm::routing::RoutingSettings;
use crate::llm::{ProviderKind, ProviderSettings, Providers};

const MODEL: &str = "smollm2-135m-instruct";

fn model_path() -> PathBuf {
    let models = std::env::var_os("TIDEGATE_MODELS")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../.tools/models"), PathBuf::from);
    let path = models.join("smollm2/model.gguf");
    assert!(path.is_file(), "{} is missing: run scripts/setup", path.display());
    path
}

fn settings(model_path: PathBuf) -> ProviderSettings {
    ProviderSettings {
        name: "local".to_owned(),
        kind: ProviderKind::Local { model_path },
        models: vec![MODEL.to_owned()],
        weight: 1,
        enabled: true,
        timeout: DEADLINE,
        connect_timeout: DEADLINE,
        price: Price::default(),
    }
}

async fn gateway() -> Gateway {
    let gateway = Gateway::start(vec![settings(model_path())]).await;
    until("the model is loaded", || gateway.providers.ready()).await;
    gateway
}

/// A chat request with the given message and further fields.
fn chat(content: &str, rest: &str) -> String {
    let content = Value::from(content);
    format!(r#"{{"model":"{MODEL}","messages":[{{"role":"user","content":{content}}}]{rest}}}"#)
}

fn content(got: &Received) -> String {
    got.json()["choices"][0]["message"]["content"]
        .as_str()
        .unwrap_or_else(|| panic!("{}", got.text()))
        .to_owned()
}

/// The JSON documents of an event stream, after checking its end.
fn documents(got: &Received) -> Vec<Value> {
    let text =
        got.text().strip_suffix("data: [DONE]\n\n").unwrap_or_else(|| panic!("no end: {}", got.text()));
    let events = text.split_terminator("\n\n").map(|e| e.strip_prefix("data: ").expect("data"));
    events.map(|e| serde_json::from_str(e).expect("JSON")).collect()
}

fn streamed_text(documents: &[Value]) -> String {
    let pieces = documents.iter().filter_map(|d| d["choices"][0]["delta"]["content"].as_str());
    pieces.collect()
}

#[tokio::test]
async fn it_answers_the_same_whole_and_streamed() {
    let gateway = gateway().await;
    let question = "Name three colors.";
    let got = gateway.chat(&chat(question, r#","temperature":0,"max_tokens":32"#)).await;
    assert_eq!(got.status, 200, "{}", got.text());
    let answer = content(&got);
    assert!(answer.contains("Red"), "{answer}");
    assert_eq!(got.headers["x-gateway-provider"], "local");
    let json = got.json();
    let usage = &json["usage"];
    let tokens = |field: &str| usage[field].as_u64().expect("a count");
    assert!(tokens("prompt_tokens") > 20, "the template counts too: {usage}");
    assert!((2..=32).contains(&tokens("completion_tokens")), "{usage}");
    assert_eq!(tokens("total_tokens"), tokens("prompt_tokens") + tokens("completion_tokens"));

    let rest = r#","temperature":0,"max_tokens":32,"stream":true,"stream_options":{"include_usage":true}"#;
    let got = gateway.chat(&chat(question, rest)).await;
    assert_eq!(got.headers["content-type"], "text/event-stream");
    let documents = documents(&got);
    assert_eq!(streamed_text(&documents), answer);
    let [.., last, counts] = &documents[..] else { panic!("{documents:?}") };
    assert_eq!(last["choices"][0]["finish_reason"], json["choices"][0]["finish_reason"]);
    assert_eq!(&counts["usage"], usage);
}

#[tokio::test]
async fn it_knows_the_capital_of_france() {
    let gateway = gateway().await;
    let question = "What is the capital of France?";
    let answer = content(&gateway.chat(&chat(question, r#","temperature":0,"max_tokens":12"#)).await);
    assert!(answer.contains("Paris"), "{answer}");
}

#[tokio::test]
async fn turns_and_the_system_message_matter() {
    let gateway = gateway().await;
    let ask = async |messages: &str| {
        let body =
            format!(r#"{{"model":"{MODEL}","temperature":0,"max_tokens":24,"messages":[{messages}]}}"#);
        content(&gateway.chat(&body).await)
    };
    let question = r#"{"role":"user","content":"What is my name?"}"#;
    let turns = r#"{"role":"user","content":"My name is Zebulon."},{"role":"assistant","content":"Hello!"}"#;
    assert_ne!(ask(&format!("{turns},{question}")).await, ask(question).await);
    let with_system = ask(&format!(r#"{{"role":"system","content":"Answer in French."}},{question}"#)).await;
    assert_ne!(with_system, ask(question).await);
}

#[tokio::test]
async fn a_seed_repeats_an_answer_and_lengths_are_kept() {
    let gateway = gateway().await;
    let ask = async |seed: u32| {
        let rest = format!(r#","temperature":1,"seed":{seed},"max_tokens":12"#);
        let got = gateway.chat(&chat("Tell me a story.", &rest)).await.json();
        assert_eq!(got["choices"][0]["finish_reason"], "length", "{got}");
        assert_eq!(got["usage"]["completion_tokens"], 12);
        got["choices"][0]["message"]["content"].to_string()
    };
    let first = ask(1).await;
    assert_eq!(first, ask(1).await);
    assert_ne!(first, ask(2).await);
}

#[tokio::test]
async fn stop_sequences_end_an_answer_before_themselves() {
    let gateway = gateway().await;
    let question = "Name three colors.";
    let full = content(&gateway.chat(&chat(question, r#","temperature":0,"max_tokens":32"#)).await);
    let at = full.find("Blue").expect("a color");
    for stream in [false, true] {
        let rest = format!(r#","temperature":0,"max_tokens":32,"stop":["Blue"],"stream":{stream}"#);
        let got = gateway.chat(&chat(question, &rest)).await;
        let (text, finish) = if stream {
            let documents = documents(&got);
            let finish = documents.last().expect("a last event")["choices"][0]["finish_reason"].clone();
            (streamed_text(&documents), finish)
        } else {
            (content(&got), got.json()["choices"][0]["finish_reason"].clone())
        };
        assert_eq!((text.as_str(), finish.as_str()), (&full[..at], Some("stop")));
    }
}

#[tokio::test]
async fn completions_go_on_with_a_text() {
    let gateway = gateway().await;
    let body = format!(r#"{{"model":"{MODEL}","prompt":"One, two, three,","temperature":0,"max_tokens":6}}"#);
    for path in ["/v1/completions", "/local/completions"] {
        let json = gateway.post(path, &[], &body).await.json();
        assert_eq!(json["object"], "text_completion");
        let text = json["choices"][0]["text"].as_str().expect("a text");
        assert!(text.contains("four"), "{text}");
    }
}

#[tokio::test]
async fn characters_of_many_tokens_come_whole_in_a_stream() {
    let gateway = gateway().await;
    let rest = r#","temperature":0,"max_tokens":40,"stream":true"#;
    let got = gateway.chat(&chat("Repeat exactly: 你好 🌍 你好 🌍 你好 🌍", rest)).await;
    let text = streamed_text(&documents(&got));
    assert!(!text.is_ascii(), "nothing to test in {text}");
    // The last character may be cut by max_tokens; every other one must be whole.
    assert!(!text.trim_end_matches('\u{fffd}').contains('\u{fffd}'), "{text}");
}

#[tokio::test]
async fn a_prompt_that_does_not_fit_is_refused() {
    let gateway = gateway().await;
    for (path, field) in [("/v1/chat/completions", "messages"), ("/v1/completions", "prompt")] {
        // Every digit is a token of its own, and the model takes 4096.
        let digits = "7".repeat(5000);
        let body = match field {
            "prompt" => format!(r#"{{"model":"{MODEL}","prompt":"{digits}","stream":true}}"#),
            _ => chat(&digits, ""),
        };
        let got = gateway.post(path, &[], &body).await;
        assert_eq!((got.status.as_u16(), got.error_code().as_str()), (400, "context_length_exceeded"));
        assert_eq!(got.json()["error"]["param"], field);
    }
}

#[tokio::test]
async fn control_tokens_in_a_message_are_text() {
    let gateway = gateway().await;
    let tokens = async |content: &str| {
        let got = gateway.chat(&chat(content, r#","max_tokens":1"#)).await;
        got.json()["usage"]["prompt_tokens"].as_u64().expect("a count")
    };
    assert!(tokens("a<|im_end|>").await > tokens("a").await + 1, "a control token was smuggled in");
}

#[tokio::test]
async fn a_full_queue_says_so_and_callers_that_leave_free_the_model() {
    let gateway = gateway().await;
    let endless = chat("Write a very long story.", r#","max_tokens":3500,"stream":true"#);
    let ask = || gateway.send(Method::POST, "/v1/chat/completions", &[], &endless);
    let mut running = ask().await.into_body();
    piece(&mut running).await.expect("it runs");

    let asked = (0..=QUEUE_MAX).map(|_| Box::pin(ask()));
    let (first, _, waiting) = futures_util::future::select_all(asked).await;
    let busy = whole(first).await;
    assert_eq!((busy.status.as_u16(), busy.error_code().as_str()), (429, "local_model_busy"));
    assert_eq!(busy.headers["retry-after"], "2");
    assert_eq!(busy.headers["x-should-retry"], "true");

    drop(waiting);
    drop(running);
    let cancelled = QUEUE_MAX + 1;
    let line =
        format!(r#"gateway_provider_requests_total{{provider="local",outcome="cancelled"}} {cancelled}"#);
    gateway.until_counted(&line).await;
    let again = tokio::time::timeout(DEADLINE, async {
        while gateway.chat(&chat("hi", r#","max_tokens":1"#)).await.status != 200 {}
    });
    assert!(again.await.is_ok(), "the model is not free again");
}

#[tokio::test]
async fn models_are_listed_and_embeddings_are_not_among_their_skills() {
    let gateway = gateway().await;
    assert_eq!(gateway.get("/v1/models").await.json()["data"][0]["id"], MODEL);
    let got = gateway.post("/v1/embeddings", &[], &format!(r#"{{"model":"{MODEL}","input":"x"}}"#)).await;
    assert_eq!((got.status.as_u16(), got.error_code().as_str()), (404, "model_not_found"));
}

#[tokio::test]
async fn several_answers_are_chosen_one_by_one_and_many_are_refused() {
    let gateway = gateway().await;
    let got = gateway.chat(&chat("hi", r#","n":2,"max_tokens":2,"seed":1"#)).await;
    assert_eq!(got.status, 200, "{}", got.text());
    let body = got.json();
    let indices: Vec<_> = body["choices"].as_array().expect("choices").iter().map(|c| &c["index"]).collect();
    assert_eq!((indices, &body["usage"]["completion_tokens"]), (vec![&json!(0), &json!(1)], &json!(4)));
    let got = gateway.chat(&chat("hi", r#","n":9"#)).await;
    assert_eq!((got.status.as_u16(), got.json()["error"]["param"].as_str()), (400, Some("n")));
}

#[tokio::test]
async fn several_completions_of_a_text_are_each_what_one_would_be() {
    let gateway = gateway().await;
    let ask = async |rest: &str| {
        let body =
            format!(r#"{{"model":"{MODEL}","prompt":"One, two,","max_tokens":4,"temperature":1{rest}}}"#);
        let got = gateway.post("/v1/completions", &[], &body).await;
        (got.status.as_u16(), got)
    };
    let mut alone = Vec::new();
    for seed in [7, 8] {
        let (status, got) = ask(&format!(r#","seed":{seed}"#)).await;
        assert_eq!(status, 200, "{}", got.text());
        alone.push(got.json()["choices"][0]["text"].clone());
    }
    let (status, got) = ask(r#","seed":7,"n":2,"best_of":2"#).await;
    assert_eq!(status, 200, "{}", got.text());
    let body = got.json();
    let texts: Vec<_> =
        body["choices"].as_array().expect("choices").iter().map(|c| c["text"].clone()).collect();
    assert_eq!((&body["object"], texts), (&json!("text_completion"), alone.clone()));

    let (status, got) = ask(r#","seed":7,"n":2,"stream":true"#).await;
    assert_eq!(status, 200, "{}", got.text());
    let mut texts = [String::new(), String::new()];
    for event in got.text().split_terminator("\n\n").filter_map(|event| event.strip_prefix("data: {")) {
        let chunk: Value = serde_json::from_str(&format!("{{{event}")).expect("JSON");
        let choice = &chunk["choices"][0];
        texts[usize::from(choice["index"] == 1)].push_str(choice["text"].as_str().expect("a text"));
    }
    assert_eq!(texts.map(Value::from).to_vec(), alone);
    assert!(got.text().ends_with("data: [DONE]\n\n"), "{}", got.text());

    for (rest, field) in
        [(r#","n":9"#, "n"), (r#","n":2,"best_of":3"#, "best_of"), (r#","best_of":2"#, "best_of")]
    {
        let (status, got) = ask(rest).await;
        assert_eq!((status, got.json()["error"]["param"].as_str()), (400, Some(field)), "{}", got.text());
    }
}

#[tokio::test]
async fn a_missing_or_broken_model_file_is_an_error_at_start() {
    let good = model_path();
    let dir = tempfile::tempdir().expect("a directory");
    let broken = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).expect("written");
        path
    };
    let head = {
        use std::io::Read;
        let mut head = Vec::new();
        let file = std::fs::File::open(&good).expect("opens");
        file.take(8 << 20).read_to_end(&mut head).expect("reads");
        head
    };
    for (path, what) in [
        (dir.path().join("none"), "cannot be opened"),
        (broken("empty", b""), "not a readable GGUF file"),
        (broken("text", b"<html>not found</html>"), "not a readable GGUF file"),
        (broken("short", &head), "is cut short"),
        (broken("shorter", &head[..1000]), "not a readable GGUF file"),
    ] {
        let mut registry = prometheus_client::registry::Registry::default();
        let error = Providers::start(vec![settings(path)], RoutingSettings::default(), &mut registry)
            .expect_err(what);
        assert_eq!(error.field, "providers[0].model_path");
        assert!(error.problem.contains(what) && error.problem.contains("scripts/setup"), "{error}");
    }
}

#[tokio::test]
async fn anthropics_callers_are_answered_too() {
    let gateway = gateway().await;
    let ask = |rest: &str| {
        format!(
            r#"{{"model":"{MODEL}","max_tokens":4,"messages":[{{"role":"user","content":"Say hello."}}]{rest}}}"#
        )
    };
    let whole = gateway.post("/v1/messages", &[], &ask("")).await.json();
    assert_eq!(
        (&whole["type"], &whole["content"][0]["type"]),
        (&"message".into(), &"text".into()),
        "{whole}"
    );
    assert!(whole["usage"]["output_tokens"].as_u64().is_some_and(|n| (1..=4).contains(&n)), "{whole}");

    let stream = gateway.post("/v1/messages", &[], &ask(r#","stream":true"#)).await;
    assert!(stream.text().starts_with("event: message_start\n"), "{}", stream.text());
    assert!(stream.text().ends_with("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"));

    let refused = gateway.post("/v1/messages", &[], &ask(r#","top_k":5"#)).await;
    assert_eq!((refused.status.as_u16(), refused.json()["type"].as_str()), (400, Some("error")));
}
