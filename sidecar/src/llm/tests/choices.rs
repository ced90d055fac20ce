//! Several answers (`n`) from providers that give one at a time.

use serde_json::{Value, json};

use super::gateway::{Gateway, anthropic};
use super::provider::{Connection, TestProvider};

const BODY: &str =
    r#"{"model":"m","n":3,"seed":5,"max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#;

fn answer(number: usize) -> String {
    format!(
        r#"{{"id":"msg_{number}","type":"message","role":"assistant","model":"m","content":[{{"type":"text","text":"answer {number}"}}],"stop_reason":"end_turn","usage":{{"input_tokens":7,"output_tokens":2}}}}"#
    )
}

fn stream(number: usize) -> String {
    [
        json!({"type": "message_start", "message": {"id": "msg", "model": "m", "usage": {"input_tokens": 7, "output_tokens": 1}}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": format!("answer {number}")}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}}),
        json!({"type": "message_stop"}),
    ]
    .iter()
    .map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().expect("a type")))
    .collect()
}

/// Each request has an answer of its own; the one with this number is refused.
async fn provider(refused: Option<usize>, streams: bool) -> TestProvider {
    TestProvider::start(move |number, mut connection: Connection| async move {
        if refused == Some(number) {
            let error = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
            connection.respond(529, "", error).await;
        } else if streams {
            connection.open_stream().await;
            connection.chunk(stream(number).as_bytes()).await;
            connection.close_stream().await;
        } else {
            connection.respond(200, "", &answer(number)).await;
        }
        Some(connection)
    })
    .await
}

async fn before(provider: &TestProvider) -> Gateway {
    let mut settings = anthropic("p", provider.addr);
    let crate::llm::ProviderKind::Remote(remote) = &mut settings.kind else { panic!("a server") };
    remote.lenient = true;
    Gateway::start(vec![settings]).await
}

fn sorted(mut texts: Vec<String>) -> Vec<String> {
    texts.sort();
    texts
}

#[tokio::test]
async fn each_choice_is_an_answer_of_its_own_and_all_are_counted() {
    let provider = provider(None, false).await;
    let gateway = before(&provider).await;
    let got = gateway.chat(BODY).await;
    assert_eq!(got.status, 200, "{}", got.text());
    let body = got.json();
    let choices = body["choices"].as_array().expect("choices");
    let indices: Vec<_> = choices.iter().map(|choice| &choice["index"]).collect();
    assert_eq!(indices, [0, 1, 2]);
    let text = |choice: &Value| choice["message"]["content"].as_str().expect("a text").to_owned();
    assert_eq!(sorted(choices.iter().map(text).collect()), ["answer 0", "answer 1", "answer 2"]);
    assert_eq!(
        (&body["usage"]["prompt_tokens"], &body["usage"]["completion_tokens"]),
        (&json!(21), &json!(6))
    );
    assert_eq!(provider.requests().len(), 3);
    assert!(gateway.counts(r#"gateway_provider_requests_total{provider="p",outcome="ok"} 3"#));
    assert!(gateway.counts(r#"gen_ai_client_token_usage_sum{gen_ai_token_type="output",provider="p"} 6.0"#));
}

#[tokio::test]
async fn choices_of_a_stream_are_told_apart_by_their_index() {
    let provider = provider(None, true).await;
    let gateway = before(&provider).await;
    let body = BODY.replace("\"n\":3", "\"n\":3,\"stream\":true,\"stream_options\":{\"include_usage\":true}");
    let got = gateway.chat(&body).await;
    assert_eq!(got.status, 200, "{}", got.text());
    let events: Vec<_> = got.text().split_terminator("\n\n").collect();
    assert_eq!(events.last(), Some(&"data: [DONE]"), "{events:?}");
    let mut texts = vec![String::new(); 3];
    let mut usage = Value::Null;
    let mut ids = std::collections::BTreeSet::new();
    for event in &events[..events.len() - 1] {
        let chunk: Value = serde_json::from_str(event.strip_prefix("data: ").expect("data")).expect("JSON");
        ids.insert(chunk["id"].as_str().expect("an id").to_owned());
        let Some(choice) = chunk["choices"].get(0) else {
            usage = chunk["usage"].clone();
            continue;
        };
        let index = usize::try_from(choice["index"].as_u64().expect("an index")).expect("small");
        texts[index].push_str(choice["delta"]["content"].as_str().unwrap_or_default());
    }
    assert_eq!(sorted(texts), ["answer 0", "answer 1", "answer 2"]);
    assert_eq!((&usage["prompt_tokens"], &usage["completion_tokens"]), (&json!(21), &json!(6)));
    assert_eq!(ids.len(), 1, "one answer has one id: {ids:?}");
    gateway.until_counted(r#"gateway_provider_requests_total{provider="p",outcome="ok"} 3"#).await;
}

#[tokio::test]
async fn one_that_is_refused_is_refused_for_all_and_too_many_are_too() {
    let provider = provider(Some(1), false).await;
    let gateway = before(&provider).await;
    let refused = gateway.chat(BODY).await;
    assert_eq!(
        (refused.status.as_u16(), refused.json()["error"]["message"].as_str()),
        (503, Some("Overloaded"))
    );

    let gateway = Gateway::start(vec![anthropic("p", provider.addr)]).await;
    let asked = provider.requests().len();
    for n in ["0", "9", "1000000000000"] {
        let body = BODY.replace("\"n\":3,\"seed\":5", &format!("\"n\":{n}"));
        let refused = gateway.chat(&body).await;
        assert_eq!((refused.status.as_u16(), &refused.json()["error"]["param"]), (400, &json!("n")));
        assert!(refused.text().contains("1 to 8"), "{}", refused.text());
    }
    assert_eq!(provider.requests().len(), asked);
}
