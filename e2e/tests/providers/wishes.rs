//! What callers wish for and not every provider knows.

use http::Method;
use serde_json::{Value, json};
use tidegate_e2e::emulator::{Fault, FaultMatch};
use tidegate_e2e::harness::{EMULATED, EmulatedProvider};

use super::front::{Ask, FRONTS, Front};
use super::setup::Setup;

const PROMPT: &str = "twice, please";
/// Providers whose model gives several answers to one request.
const GIVING_SEVERAL: [&str; 4] = ["openai", "azure", "ernie", "gemini"];

fn named(name: &str) -> &'static EmulatedProvider {
    EMULATED.iter().find(|provider| provider.name == name).unwrap()
}

/// Compatible servers there are that refuse what they do not know.
#[tokio::test]
async fn a_provider_that_refuses_stream_options_streams_without_on_every_front() {
    let setup = Setup::new("").await;
    let detail = json!([{"type": "extra_forbidden", "loc": ["body", "stream_options"]}]);
    let contains = Some("stream_options".to_owned());
    let matches = FaultMatch { contains, ..FaultMatch::default() };
    let body = Some(json!({"object": "error", "message": detail, "code": 400}));
    let fault = Fault { status: Some(422), body, matches, ..Fault::default() };
    setup.gateway.emulator.arm(fault).unwrap();
    let azure = named("azure");
    for front in FRONTS {
        for provider in [named("openai"), azure] {
            let heard = setup.ask(front, provider, &Ask::say(PROMPT).streamed()).await;
            assert_eq!(heard.status, 200, "{front:?} on {}: {}", provider.name, heard.text());
            assert!(heard.text().contains("twice"), "{}", heard.text());
        }
    }
    let asks = setup.gateway.emulator.requests();
    let refused = asks.iter().filter(|request| request.body.contains("stream_options")).count();
    assert_eq!((refused, asks.len()), (2, 8), "each of the two is asked once with, and that is remembered");
}

/// Where a provider gives one answer at a time, it is asked several times.
#[tokio::test]
async fn several_answers_come_from_every_provider() {
    let setup = Setup::new("").await;
    for provider in &EMULATED {
        let mut body = Front::Chat.body(&provider.target(), &Ask::say(PROMPT));
        body["n"] = json!(2);
        let calls_before = calls(&setup);
        let whole = setup.post(Front::Chat, &body).await;
        assert_eq!(whole.status, 200, "{}: {}", provider.name, whole.text());
        let said: Vec<_> = whole.json()["choices"].as_array().unwrap().iter().map(told).collect();
        let wanted = |index| (index, format!("You said: {PROMPT}"), json!("stop"));
        assert_eq!(said, [wanted(0), wanted(1)], "{}", provider.name);
        let calls = calls(&setup);
        let gives_several = GIVING_SEVERAL.contains(&provider.name);
        assert_eq!(calls - calls_before, if gives_several { 1 } else { 2 }, "{}", provider.name);

        body["stream"] = json!(true);
        body["stream_options"] = json!({"include_usage": true});
        let stream = setup.post(Front::Chat, &body).await;
        assert_eq!(stream.status, 200, "{}: {}", provider.name, stream.text());
        assert_eq!(sum_of(&stream.events()), [wanted(0), wanted(1)], "{}: {}", provider.name, stream.text());
    }
}

/// How often providers were asked.
fn calls(setup: &Setup) -> usize {
    setup.gateway.emulator.requests().iter().filter(|request| request.body.contains(PROMPT)).count()
}

fn told(choice: &Value) -> (u64, String, Value) {
    let text = choice["message"]["content"].as_str().unwrap_or_default().to_owned();
    (choice["index"].as_u64().unwrap(), text, choice["finish_reason"].clone())
}

/// The choices of a stream put together.
fn sum_of(events: &[String]) -> Vec<(u64, String, Value)> {
    assert_eq!(events.last().map(String::as_str), Some("[DONE]"), "{events:?}");
    let mut sums: Vec<_> = (0..2).map(|index| (index, String::new(), Value::Null)).collect();
    for event in &events[..events.len() - 1] {
        let chunk: Value = serde_json::from_str(event).unwrap();
        for choice in chunk["choices"].as_array().into_iter().flatten() {
            let sum = &mut sums[usize::try_from(choice["index"].as_u64().unwrap()).unwrap()];
            sum.1 += choice["delta"]["content"].as_str().unwrap_or_default();
            if choice["finish_reason"].is_string() {
                sum.2 = choice["finish_reason"].clone();
            }
        }
    }
    sums
}

/// OpenAI's callers rarely send back the sealed thought that led to a tool, without which Anthropic
/// refuses to think on.
#[tokio::test]
async fn a_tools_result_without_the_thought_before_it_is_answered_without_thinking() {
    let setup = Setup::new("").await;
    let asked = json!({"role": "user", "content": "weather?"});
    let call = json!({"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}});
    let called = json!({"role": "assistant", "content": null, "tool_calls": [call]});
    let given = json!({"role": "tool", "tool_call_id": "c1", "content": "7 degrees"});
    let tool = json!({"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}});
    let body = json!({
        "model": named("anthropic").target(), "reasoning_effort": "low", "tools": [tool],
        "messages": [asked, called, given],
    });
    let answer = setup.post(Front::Chat, &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("x-gateway-dropped"), Some("reasoning_effort"));
}

/// A caller that leaves takes the calls for all choices with it.
#[tokio::test]
async fn leaving_ends_the_calls_for_all_choices() {
    let setup = Setup::new("").await;
    let provider = named("anthropic");
    setup.gateway.emulator.arm(Fault { stall_after_chunks: Some(4), ..Fault::default() }).unwrap();
    let mut body = Front::Chat.body(&provider.target(), &Ask::say(PROMPT).streamed());
    body["n"] = json!(3);
    let client = tidegate_e2e::harness::Client::new();
    let url = setup.gateway.url(Front::Chat.path());
    let mut answer = client.open(&Method::POST, &url, &[], body.to_string()).await.unwrap();
    answer.next_chunk().await.unwrap().unwrap();
    drop(answer);
    setup.all_calls_end(3).await;
}
