//! OpenAI's Responses API and its older completions, on providers that only chat.

use http::Method;
use serde_json::{Value, json};

use super::gateway::{Gateway, anthropic, whole};
use super::provider::TestProvider;

const CHAT: &str = r#"{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"yes"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}"#;
const MESSAGE: &str = r#"{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[{"type":"text","text":"yes"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":3,"output_tokens":1}}"#;

fn sent(provider: &TestProvider, index: usize) -> Value {
    serde_json::from_slice(&provider.requests()[index].body).expect("JSON")
}

#[tokio::test]
async fn a_conversation_goes_on_from_a_kept_response() {
    let provider = TestProvider::answering(200, "", CHAT).await;
    let gateway = Gateway::before(&provider).await;
    let first = gateway.post("/v1/responses", &[], r#"{"model":"m","input":"hi","temperature":0.5}"#).await;
    assert_eq!(first.status, 200, "{}", first.text());
    let response = first.json();
    let id = response["id"].as_str().expect("an id").to_owned();
    assert_eq!((&response["object"], &response["status"]), (&json!("response"), &json!("completed")));
    assert_eq!(response["output"][0]["content"][0]["text"], "yes");
    assert_eq!((&response["temperature"], &response["usage"]["total_tokens"]), (&json!(0.5), &json!(4)));
    assert!(provider.requests()[0].head.starts_with("POST /base/chat/completions "));

    let body = json!({"model": "m", "input": "and?", "previous_response_id": id}).to_string();
    let second = gateway.post("/v1/responses", &[], &body).await;
    assert_eq!(second.json()["previous_response_id"], *id);
    let said: Vec<_> = sent(&provider, 1)["messages"].as_array().expect("a list").clone();
    let said: Vec<_> = said.iter().map(|message| message["content"].as_str().expect("text")).collect();
    assert_eq!(said, ["hi", "yes", "and?"]);

    let path = format!("/v1/responses/{id}");
    assert_eq!(gateway.get(&path).await.json(), response);
    let deleted = whole(gateway.send(Method::DELETE, &path, &[], "").await).await;
    assert_eq!(deleted.json()["deleted"], true);
    let lost = gateway.post("/v1/responses", &[], &body).await;
    assert_eq!((lost.status.as_u16(), lost.error_code().as_str()), (400, "previous_response_not_found"));
    assert_eq!(provider.requests().len(), 2);
}

#[tokio::test]
async fn a_streamed_response_has_its_events_in_order_and_is_kept_too() {
    let provider = TestProvider::start(|_, mut connection| async move {
        connection.open_stream().await;
        for data in [
            r#"{"id":"c","model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#,
            r#"{"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"ye"}}]}"#,
            r#"{"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"s"},"finish_reason":"stop"}]}"#,
            "[DONE]",
        ] {
            connection.chunk(format!("data: {data}\n\n").as_bytes()).await;
        }
        connection.close_stream().await;
        None
    })
    .await;
    let gateway = Gateway::before(&provider).await;
    let body = r#"{"model":"m","input":"hi","stream":true}"#;
    let got = gateway.post("/v1/responses", &[], body).await;
    let events: Vec<_> = got.text().lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!(
        events,
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed",
        ],
        "{}",
        got.text()
    );
    let data = got.text().lines().filter_map(|line| line.strip_prefix("data: "));
    let events: Vec<Value> = data.map(|data| serde_json::from_str(data).expect("JSON")).collect();
    assert!(events.iter().enumerate().all(|(index, event)| event["sequence_number"] == index));
    let response = &events.last().expect("an event")["response"];
    assert_eq!(response["output"][0]["content"][0]["text"], "yes");
    let path = format!("/v1/responses/{}", response["id"].as_str().expect("an id"));
    assert_eq!(gateway.get(&path).await.json(), *response);
}

#[tokio::test]
async fn completions_are_chats_where_there_is_nothing_else() {
    let provider = TestProvider::answering(200, "", MESSAGE).await;
    let gateway = Gateway::start(vec![anthropic("p", provider.addr)]).await;
    let got = gateway.post("/v1/completions", &[], r#"{"model":"m","prompt":"hi","max_tokens":5}"#).await;
    assert_eq!(got.status, 200, "{}", got.text());
    assert_eq!(
        (&got.json()["object"], &got.json()["choices"][0]["text"]),
        (&json!("text_completion"), &json!("yes"))
    );
    assert_eq!(sent(&provider, 0)["messages"][0]["content"][0]["text"], "hi");
    let refused = gateway.post("/v1/completions", &[], r#"{"model":"m","prompt":"hi","suffix":"x"}"#).await;
    assert_eq!((refused.status.as_u16(), &refused.json()["error"]["param"]), (400, &json!("suffix")));
}
