use proptest::prelude::*;
use serde_json::json;

use super::*;

const COMPLETION: &str = r#"{"id":"c1","object":"chat.completion","created":7,"model":"m","system_fingerprint":"f",
    "choices":[{"index":0,"message":{"role":"assistant","content":"one two three four five","refusal":null},
    "logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":2,"completion_tokens":5,"total_tokens":7}}"#;
const MESSAGE: &str = r#"{"id":"m1","type":"message","role":"assistant","model":"m",
    "content":[{"type":"thinking","thinking":"hm","signature":"s"},{"type":"text","text":"one two three four five"}],
    "stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":2,"output_tokens":5}}"#;

fn value(body: &[u8]) -> Value {
    serde_json::from_slice(body).expect("JSON")
}

fn joined(protocol: Protocol, body: &str) -> Vec<u8> {
    events(protocol, body.as_bytes(), true).expect("events").concat()
}

#[test]
fn a_kept_document_is_the_one_that_came() {
    for (protocol, body) in [(Protocol::OpenAi, COMPLETION), (Protocol::Anthropic, MESSAGE)] {
        let kept = keep(protocol, Kind::Json, body.as_bytes(), false).expect("kept");
        assert_eq!(kept.body, body.as_bytes());
        assert_eq!(kept.text, "one two three four five");
        assert_eq!(text(protocol, &kept.body), Some(kept.text));
    }
}

#[test]
fn a_document_told_as_a_stream_comes_back_as_the_same_document() {
    for (protocol, body) in [(Protocol::OpenAi, COMPLETION), (Protocol::Anthropic, MESSAGE)] {
        let stream = joined(protocol, body);
        let kept = keep(protocol, Kind::Sse, &stream, false).expect("kept");
        assert_eq!(value(&kept.body), value(body.as_bytes()));
        let events = events(protocol, body.as_bytes(), true).expect("events");
        assert!(events.len() > 4 && events.iter().all(|event| event.ends_with(b"\n\n")));
    }
}

#[test]
fn usage_comes_only_to_those_who_asked_and_is_estimated_where_nobody_did() {
    let without = events(Protocol::OpenAi, COMPLETION.as_bytes(), false).expect("events").concat();
    assert!(!String::from_utf8_lossy(&without).contains("usage"));
    let kept = keep(Protocol::OpenAi, Kind::Sse, &without, false).expect("kept");
    assert!(value(&kept.body)["usage"]["completion_tokens"].as_u64().expect("a number") >= 5);
}

#[test]
fn tools_are_kept_only_when_allowed_and_come_back_whole() {
    let completion = json!({"id": "c", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "logprobs": null, "finish_reason": "tool_calls", "message": {"role": "assistant",
            "content": null, "refusal": null, "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{\"x\":1}"}},
                {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}}]}}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}})
    .to_string();
    let message = json!({"id": "m", "type": "message", "role": "assistant", "model": "m", "stop_reason": "tool_use",
        "content": [{"type": "text", "text": "Let me see"}, {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}}],
        "stop_sequence": null, "usage": {"input_tokens": 1, "output_tokens": 1}})
    .to_string();
    for (protocol, body) in [(Protocol::OpenAi, completion), (Protocol::Anthropic, message)] {
        assert_eq!(keep(protocol, Kind::Json, body.as_bytes(), false), Err(Unfit::Tools));
        let stream = joined(protocol, &body);
        let mut kept = value(&keep(protocol, Kind::Sse, &stream, true).expect("kept").body);
        // OpenAI's streams number the calls, and begin every answer with an empty content.
        if protocol == Protocol::OpenAi {
            assert_eq!(kept["choices"][0]["message"]["content"], "");
            kept["choices"][0]["message"]["content"] = Value::Null;
        }
        assert_eq!(kept, value(body.as_bytes()));
    }
}

#[test]
fn what_is_not_a_whole_good_answer_is_not_kept() {
    let openai = joined(Protocol::OpenAi, COMPLETION);
    let anthropic = joined(Protocol::Anthropic, MESSAGE);
    for (protocol, stream) in [(Protocol::OpenAi, &openai), (Protocol::Anthropic, &anthropic)] {
        for cut in [0, 1, stream.len() / 2, stream.len() - 20] {
            assert_eq!(keep(protocol, Kind::Sse, &stream[..cut], false), Err(Unfit::Incomplete), "{cut}");
        }
    }
    let error = b"data: {\"error\":{\"message\":\"no\"}}\n\ndata: [DONE]\n\n";
    assert_eq!(keep(Protocol::OpenAi, Kind::Sse, error, false), Err(Unfit::Incomplete));
    let error = b"event: error\ndata: {\"type\":\"error\",\"error\":{}}\n\n";
    assert_eq!(keep(Protocol::Anthropic, Kind::Sse, error, false), Err(Unfit::Incomplete));
    for (from, to, why) in [
        ("\"stop\"", "\"content_filter\"", Unfit::Incomplete),
        ("\"stop\"", "null", Unfit::Incomplete),
        ("\"refusal\":null", "\"refusal\":\"I will not\"", Unfit::Incomplete),
        ("one two three four five", "", Unfit::Empty),
    ] {
        let body = COMPLETION.replace(from, to);
        assert_eq!(keep(Protocol::OpenAi, Kind::Json, body.as_bytes(), false), Err(why), "{to}");
    }
    let refused = MESSAGE.replace("end_turn", "refusal");
    assert_eq!(keep(Protocol::Anthropic, Kind::Json, refused.as_bytes(), false), Err(Unfit::Incomplete));
}

#[test]
fn a_last_line_without_its_blank_one_still_ends_a_stream() {
    let stream = joined(Protocol::OpenAi, COMPLETION);
    assert!(keep(Protocol::OpenAi, Kind::Sse, stream.trim_ascii_end(), false).is_ok());
}

proptest! {
    #[test]
    fn pieces_put_together_are_the_text(text in "\\PC{0,200}|[a-z ]{0,200}|[你好吗 a]{0,80}") {
        prop_assert_eq!(pieces::pieces(&text).concat(), text);
    }

    #[test]
    fn any_text_survives_both_forms(text in "\\PC{1,80}") {
        let mut completion = value(COMPLETION.as_bytes());
        completion["choices"][0]["message"]["content"] = json!(text);
        let stream = joined(Protocol::OpenAi, &completion.to_string());
        prop_assert_eq!(keep(Protocol::OpenAi, Kind::Sse, &stream, false).expect("kept").text, text);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), sse in any::<bool>()) {
        for protocol in [Protocol::OpenAi, Protocol::Anthropic] {
            let _ = keep(protocol, if sse { Kind::Sse } else { Kind::Json }, &bytes, true);
            let _ = events(protocol, &bytes, true);
        }
    }
}
