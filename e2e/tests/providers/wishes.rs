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
/// Providers with a completions API of their own.
const OLDER: [&str; 2] = ["openai", "azure"];

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
        assert_eq!(
            sum_of(&stream.events(), 2),
            [wanted(0), wanted(1)],
            "{}: {}",
            provider.name,
            stream.text()
        );
    }
}

/// The older completions take several prompts, which those that only chat are asked one by one.
#[tokio::test]
async fn several_prompts_are_answered_by_every_provider_in_their_order() {
    let setup = Setup::new("").await;
    let prompts = ["first", "second", "third"];
    let wanted: Vec<_> = (0..6).zip(prompts.iter().flat_map(|prompt| [prompt; 2])).collect();
    let wanted: Vec<_> =
        wanted.iter().map(|(index, prompt)| (*index, format!("You said: {prompt}"), json!("stop"))).collect();
    let ask = async |body: &Value| {
        let url = setup.gateway.url("/v1/completions");
        let answer = setup.gateway.admin().post_json(&url, body.to_string()).await.unwrap();
        assert_eq!(answer.status, 200, "{body}: {}", answer.text());
        answer
    };
    for provider in EMULATED.iter().filter(|provider| !OLDER.contains(&provider.name)) {
        let mut body = json!({"model": provider.target(), "prompt": prompts, "n": 2, "max_tokens": 50});
        let whole = ask(&body).await.json();
        let said: Vec<_> = whole["choices"].as_array().unwrap().iter().map(told).collect();
        assert_eq!(said, wanted, "{}", provider.name);
        let tokens = whole["usage"]["completion_tokens"].as_u64();
        assert_eq!(tokens, Some(20), "{}: the sum of all", provider.name);

        body["stream"] = json!(true);
        body["stream_options"] = json!({"include_usage": true});
        let events = ask(&body).await.events();
        assert_eq!(sum_of(&events, 6), wanted, "{}: {events:?}", provider.name);
        let last: Value = serde_json::from_str(&events[events.len() - 2]).unwrap();
        assert_eq!(last["usage"], whole["usage"], "{}", provider.name);
    }
}

/// How often providers were asked.
fn calls(setup: &Setup) -> usize {
    setup.gateway.emulator.requests().iter().filter(|request| request.body.contains(PROMPT)).count()
}

fn told(choice: &Value) -> (u64, String, Value) {
    let text = choice["message"]["content"].as_str().or(choice["text"].as_str());
    let text = text.unwrap_or_default().to_owned();
    (choice["index"].as_u64().unwrap(), text, choice["finish_reason"].clone())
}

/// The choices of a stream put together.
fn sum_of(events: &[String], choices: u64) -> Vec<(u64, String, Value)> {
    assert_eq!(events.last().map(String::as_str), Some("[DONE]"), "{events:?}");
    let mut sums: Vec<_> = (0..choices).map(|index| (index, String::new(), Value::Null)).collect();
    for event in &events[..events.len() - 1] {
        let chunk: Value = serde_json::from_str(event).unwrap();
        for choice in chunk["choices"].as_array().into_iter().flatten() {
            let sum = &mut sums[usize::try_from(choice["index"].as_u64().unwrap()).unwrap()];
            let text = choice["delta"]["content"].as_str().or(choice["text"].as_str());
            sum.1 += text.unwrap_or_default();
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
    let several = json!({"model": provider.target(), "prompt": ["a", "b"], "n": 2, "stream": true});
    let mut calls = 0;
    for (path, body, more) in [(Front::Chat.path(), body, 3), ("/v1/completions", several, 4)] {
        let client = tidegate_e2e::harness::Client::new();
        let url = setup.gateway.url(path);
        let mut answer = client.open(&Method::POST, &url, &[], body.to_string()).await.unwrap();
        answer.next_chunk().await.unwrap().unwrap();
        drop(answer);
        calls += more;
        setup.all_calls_end(calls).await;
    }
}

/// As callers of LiteLLM and OpenRouter mark what is worth caching; those who cannot tell a provider
/// leave it out.
#[tokio::test]
async fn marks_of_what_is_worth_caching_reach_the_providers_that_know_them() {
    let setup = Setup::new("").await;
    let mark = json!({"type": "ephemeral", "ttl": "1h"});
    let function = json!({"name": "weather", "parameters": {"type": "object"}});
    let text = json!({"type": "text", "text": PROMPT, "cache_control": mark});
    let system = json!({"role": "system", "content": "a long book", "cache_control": {"type": "ephemeral"}});
    for provider in EMULATED.iter().filter(|provider| !GIVING_SEVERAL.contains(&provider.name)) {
        let body = json!({
            "model": provider.target(),
            "messages": [system, {"role": "user", "content": [text]}],
            "tools": [{"type": "function", "function": function, "cache_control": mark}],
        });
        let answer = setup.post(Front::Chat, &body).await;
        assert_eq!(answer.status, 200, "{}: {}", provider.name, answer.text());
        assert_eq!(answer.header("x-gateway-dropped"), None, "{}", provider.name);
        let asked = setup.gateway.emulator.requests().pop().unwrap();
        let marks = asked.body.matches("ephemeral").count() + asked.body.matches("cachePoint").count();
        let knows = matches!(provider.name, "anthropic" | "bedrock");
        assert_eq!(marks, if knows { 3 } else { 0 }, "{}: {}", provider.name, asked.body);
        if provider.name == "anthropic" {
            let usage = &answer.json()["usage"];
            assert_eq!(usage["prompt_tokens_details"]["cache_write_tokens"], usage["prompt_tokens"]);
        }
    }
}

/// Official clients write the slash of `provider/model` as %2F.
#[tokio::test]
async fn a_model_is_looked_up_however_its_slash_is_written() {
    let setup = Setup::new("").await;
    let admin = setup.gateway.admin();
    for provider in &EMULATED {
        let target = provider.target();
        for (slash, status) in [("/", 200), ("%2F", 200), ("%2f", 200), ("%252F", 404)] {
            let path = format!("/v1/models/{}", target.replacen('/', slash, 1));
            let found = admin.get(&setup.gateway.url(&path)).await.unwrap();
            assert_eq!(found.status, status, "{path}: {}", found.text());
            assert!(status != 200 || found.json()["id"] == target, "{path}: {}", found.text());
        }
    }
}
