//! Answers read back, with the order of events that each protocol insists on.

use serde_json::{Value, json};
use tidegate_e2e::harness::Answer;

use super::front::Heard;

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn parsed(arguments: &Value) -> Value {
    serde_json::from_str(arguments.as_str().unwrap_or_default()).expect("arguments are JSON")
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("no number: {value}"))
}

fn openais_finish(reason: &Value) -> String {
    match reason.as_str() {
        Some("tool_calls") => "tools".to_owned(),
        Some("content_filter") => "refusal".to_owned(),
        other => other.unwrap_or_default().to_owned(),
    }
}

fn anthropics_finish(reason: &Value) -> String {
    match reason.as_str() {
        Some("end_turn" | "stop_sequence") => "stop".to_owned(),
        Some("max_tokens") => "length".to_owned(),
        Some("tool_use") => "tools".to_owned(),
        other => other.unwrap_or_default().to_owned(),
    }
}

pub fn chat(body: &Value) -> Heard {
    let choice = &body["choices"][0];
    let calls = choice["message"]["tool_calls"].as_array().map(Vec::as_slice).unwrap_or_default();
    let call = |call: &Value| {
        (text(&call["id"]), text(&call["function"]["name"]), parsed(&call["function"]["arguments"]))
    };
    assert_eq!(body["object"], "chat.completion", "{body}");
    Heard {
        text: text(&choice["message"]["content"]),
        calls: calls.iter().map(call).collect(),
        finish: openais_finish(&choice["finish_reason"]),
        input_tokens: number(&body["usage"]["prompt_tokens"]),
        output_tokens: number(&body["usage"]["completion_tokens"]),
    }
}

pub fn chat_stream(answer: &Answer) -> Heard {
    let events = answer.events();
    assert_eq!(events.last().map(String::as_str), Some("[DONE]"), "{}", answer.text());
    let mut heard = Heard::default();
    let mut calls: Vec<(String, String, String)> = Vec::new();
    for event in &events[..events.len() - 1] {
        let chunk: Value = serde_json::from_str(event).expect("a chunk");
        if chunk["usage"].is_object() {
            heard.input_tokens = number(&chunk["usage"]["prompt_tokens"]);
            heard.output_tokens = number(&chunk["usage"]["completion_tokens"]);
        }
        let choice = &chunk["choices"][0];
        heard.text += choice["delta"]["content"].as_str().unwrap_or_default();
        for call in choice["delta"]["tool_calls"].as_array().into_iter().flatten() {
            let index = usize::try_from(number(&call["index"])).expect("small");
            assert!(index <= calls.len(), "calls come in order: {event}");
            if index == calls.len() {
                calls.push((text(&call["id"]), text(&call["function"]["name"]), String::new()));
            }
            calls[index].2 += call["function"]["arguments"].as_str().unwrap_or_default();
        }
        if choice["finish_reason"].is_string() {
            assert_eq!(heard.finish, "", "one reason to finish");
            heard.finish = openais_finish(&choice["finish_reason"]);
        }
    }
    heard.calls = calls.into_iter().map(|(id, name, json)| (id, name, parsed(&json!(json)))).collect();
    heard
}

pub fn message(body: &Value) -> Heard {
    assert_eq!((&body["type"], &body["role"]), (&json!("message"), &json!("assistant")), "{body}");
    let blocks = body["content"].as_array().expect("blocks");
    let of = |kind: &str| blocks.iter().filter(|block| block["type"] == *kind).collect::<Vec<_>>();
    let call = |block: &&Value| (text(&block["id"]), text(&block["name"]), block["input"].clone());
    Heard {
        text: of("text").iter().map(|block| text(&block["text"])).collect(),
        calls: of("tool_use").iter().map(call).collect(),
        finish: anthropics_finish(&body["stop_reason"]),
        input_tokens: number(&body["usage"]["input_tokens"]),
        output_tokens: number(&body["usage"]["output_tokens"]),
    }
}

/// Blocks come one after the other: started, filled, stopped.
pub fn message_stream(answer: &Answer) -> Heard {
    let mut heard = Heard::default();
    let mut open: Option<(u64, Value, String)> = None;
    let (mut next, mut ended) = (0, false);
    let events = answer.events();
    for event in &events {
        let event: Value = serde_json::from_str(event).expect("an event");
        assert!(!ended, "nothing comes after message_stop: {event}");
        match event["type"].as_str().expect("a type") {
            "message_start" => heard.input_tokens = number(&event["message"]["usage"]["input_tokens"]),
            "content_block_start" => {
                assert!(open.is_none() && event["index"] == next, "{}", answer.text());
                open = Some((next, event["content_block"].clone(), String::new()));
                next += 1;
            }
            "content_block_delta" => {
                let (index, _, said) = open.as_mut().expect("a block is open");
                assert_eq!(event["index"], *index, "{event}");
                for field in ["text", "partial_json"] {
                    *said += event["delta"][field].as_str().unwrap_or_default();
                }
            }
            "content_block_stop" => {
                let (_, block, said) = open.take().expect("a block is open");
                match block["type"].as_str() {
                    Some("text") => heard.text += &said,
                    Some("tool_use") => {
                        heard.calls.push((text(&block["id"]), text(&block["name"]), parsed(&json!(said))));
                    }
                    _ => {}
                }
            }
            "message_delta" => {
                heard.finish = anthropics_finish(&event["delta"]["stop_reason"]);
                heard.output_tokens = number(&event["usage"]["output_tokens"]);
                if let Some(input) = event["usage"]["input_tokens"].as_u64() {
                    heard.input_tokens = input;
                }
            }
            "message_stop" => ended = true,
            "ping" => {}
            other => panic!("{other}: {}", answer.text()),
        }
    }
    assert!(ended && open.is_none(), "{}", answer.text());
    heard
}

pub fn response(body: &Value) -> Heard {
    assert_eq!(body["object"], "response", "{body}");
    let output = body["output"].as_array().expect("items");
    let of = |kind: &str| output.iter().filter(|item| item["type"] == *kind).collect::<Vec<_>>();
    let call = |item: &&Value| (text(&item["call_id"]), text(&item["name"]), parsed(&item["arguments"]));
    let calls: Vec<_> = of("function_call").iter().map(call).collect();
    let finish = match (body["status"].as_str(), body["incomplete_details"]["reason"].as_str()) {
        (Some("completed"), _) if !calls.is_empty() => "tools",
        (Some("completed"), _) => "stop",
        (Some("incomplete"), Some("max_output_tokens")) => "length",
        (Some("incomplete"), Some("content_filter")) => "refusal",
        _ => panic!("{body}"),
    };
    Heard {
        text: of("message").iter().map(|item| text(&item["content"][0]["text"])).collect(),
        calls,
        finish: finish.to_owned(),
        input_tokens: number(&body["usage"]["input_tokens"]),
        output_tokens: number(&body["usage"]["output_tokens"]),
    }
}

/// Events are numbered without a gap; the last one has the whole response, which is the sum of
/// the pieces before it.
pub fn response_stream(answer: &Answer) -> Heard {
    let mut said = String::new();
    let mut last = Value::Null;
    for (number, event) in answer.events().iter().enumerate() {
        let event: Value = serde_json::from_str(event).expect("an event");
        assert_eq!(event["sequence_number"], number, "{}", answer.text());
        if event["type"] == "response.output_text.delta" {
            said += event["delta"].as_str().expect("a delta");
        }
        last = event;
    }
    assert!(
        matches!(last["type"].as_str(), Some("response.completed" | "response.incomplete")),
        "{}",
        answer.text()
    );
    let heard = response(&last["response"]);
    assert_eq!(heard.text, said, "{}", answer.text());
    heard
}
