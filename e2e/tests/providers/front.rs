//! The protocols that callers speak: how a thing is asked in each, and what was heard.

use serde_json::{Value, json};
use tidegate_e2e::harness::Answer;

/// A protocol in front.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Front {
    Chat,
    Messages,
    Responses,
}

pub const FRONTS: [Front; 3] = [Front::Chat, Front::Messages, Front::Responses];

/// What is asked, in no protocol yet.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    pub text: String,
    /// A picture in base64 stands beside the text.
    pub picture: bool,
    /// Names of the tools on offer.
    pub tools: Vec<&'static str>,
    /// The tool that must be used.
    pub forced: Option<&'static str>,
    /// The answer must fit this schema.
    pub schema: Option<Value>,
    pub tokens_max: Option<u64>,
    /// What a tool that was used before has given: its name, its call's id, its result.
    pub result: Option<(String, String, String)>,
    pub stream: bool,
}

impl Ask {
    pub fn say(text: &str) -> Self {
        Self { text: text.to_owned(), ..Self::default() }
    }

    pub fn streamed(self) -> Self {
        Self { stream: true, ..self }
    }
}

/// What came back, in no protocol any more.
#[derive(Debug, Default, PartialEq)]
pub struct Heard {
    pub text: String,
    /// Id, name and arguments of each call.
    pub calls: Vec<(String, String, Value)>,
    /// `stop`, `length`, `tools` or `refusal`.
    pub finish: String,
    pub input_tokens: u64,
    pub output_tokens: u64,
}

/// A single red pixel.
const PICTURE: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==";
const TOKENS_MAX: u64 = 1000;

pub fn schema() -> Value {
    json!({
        "type": "object", "additionalProperties": false, "required": ["text", "numbers"],
        "properties": {"text": {"type": "string"}, "numbers": {"type": "array", "items": {"type": "integer"}}},
    })
}

impl Front {
    pub const fn path(self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Messages => "/v1/messages",
            Self::Responses => "/v1/responses",
        }
    }

    /// The request in this protocol.
    pub fn body(self, model: &str, ask: &Ask) -> Value {
        match self {
            Self::Chat => chat(model, ask),
            Self::Messages => message(model, ask),
            Self::Responses => response(model, ask),
        }
    }

    /// What an answer in this protocol says; panics if it is none.
    pub fn heard(self, answer: &Answer, stream: bool) -> Heard {
        assert_eq!(answer.status, 200, "{}", answer.text());
        match (self, stream) {
            (Self::Chat, false) => super::hear::chat(&answer.json()),
            (Self::Chat, true) => super::hear::chat_stream(answer),
            (Self::Messages, false) => super::hear::message(&answer.json()),
            (Self::Messages, true) => super::hear::message_stream(answer),
            (Self::Responses, false) => super::hear::response(&answer.json()),
            (Self::Responses, true) => super::hear::response_stream(answer),
        }
    }
}

fn chat(model: &str, ask: &Ask) -> Value {
    let mut content = json!(ask.text);
    if ask.picture {
        let url = format!("data:image/png;base64,{PICTURE}");
        content =
            json!([{"type": "text", "text": ask.text}, {"type": "image_url", "image_url": {"url": url}}]);
    }
    let mut messages =
        vec![json!({"role": "system", "content": "Repeat."}), json!({"role": "user", "content": content})];
    if let Some((name, id, result)) = &ask.result {
        let function = json!({"name": name, "arguments": "{\"text\":\"x\"}"});
        let call = json!({"id": id, "type": "function", "function": function});
        messages.push(json!({"role": "assistant", "content": null, "tool_calls": [call]}));
        messages.push(json!({"role": "tool", "tool_call_id": id, "content": result}));
    }
    let mut body =
        json!({"model": model, "messages": messages, "max_tokens": ask.tokens_max.unwrap_or(TOKENS_MAX)});
    let tool = |name: &&str| json!({"type": "function", "function": {"name": name, "description": "Tells.", "parameters": schema()}});
    if !ask.tools.is_empty() {
        body["tools"] = ask.tools.iter().map(tool).collect();
    }
    if let Some(name) = ask.forced {
        body["tool_choice"] = json!({"type": "function", "function": {"name": name}});
    }
    if let Some(schema) = &ask.schema {
        body["response_format"] =
            json!({"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}});
    }
    if ask.stream {
        body["stream"] = json!(true);
        body["stream_options"] = json!({"include_usage": true});
    }
    body
}

fn message(model: &str, ask: &Ask) -> Value {
    let mut content = vec![json!({"type": "text", "text": ask.text})];
    if ask.picture {
        let source = json!({"type": "base64", "media_type": "image/png", "data": PICTURE});
        content.push(json!({"type": "image", "source": source}));
    }
    let mut messages = vec![json!({"role": "user", "content": content})];
    if let Some((name, id, result)) = &ask.result {
        let call = json!({"type": "tool_use", "id": id, "name": name, "input": {"text": "x"}});
        messages.push(json!({"role": "assistant", "content": [call]}));
        let result = json!({"type": "tool_result", "tool_use_id": id, "content": result});
        messages.push(json!({"role": "user", "content": [result]}));
    }
    let mut body = json!({
        "model": model, "system": "Repeat.", "messages": messages, "max_tokens": ask.tokens_max.unwrap_or(TOKENS_MAX),
    });
    let tool = |name: &&str| json!({"name": name, "description": "Tells.", "input_schema": schema()});
    if !ask.tools.is_empty() {
        body["tools"] = ask.tools.iter().map(tool).collect();
    }
    if let Some(name) = ask.forced {
        body["tool_choice"] = json!({"type": "tool", "name": name});
    }
    if let Some(schema) = &ask.schema {
        body["output_config"] = json!({"format": {"type": "json_schema", "schema": schema}});
    }
    if ask.stream {
        body["stream"] = json!(true);
    }
    body
}

fn response(model: &str, ask: &Ask) -> Value {
    let mut content = vec![json!({"type": "input_text", "text": ask.text})];
    if ask.picture {
        let url = format!("data:image/png;base64,{PICTURE}");
        content.push(json!({"type": "input_image", "image_url": url}));
    }
    let mut input = vec![json!({"type": "message", "role": "user", "content": content})];
    if let Some((name, id, result)) = &ask.result {
        input.push(
            json!({"type": "function_call", "call_id": id, "name": name, "arguments": "{\"text\":\"x\"}"}),
        );
        input.push(json!({"type": "function_call_output", "call_id": id, "output": result}));
    }
    let mut body = json!({
        "model": model, "instructions": "Repeat.", "input": input,
        "max_output_tokens": ask.tokens_max.unwrap_or(TOKENS_MAX), "store": false,
    });
    let tool = |name: &&str| json!({"type": "function", "name": name, "description": "Tells.", "parameters": schema()});
    if !ask.tools.is_empty() {
        body["tools"] = ask.tools.iter().map(tool).collect();
    }
    if let Some(name) = ask.forced {
        body["tool_choice"] = json!({"type": "function", "name": name});
    }
    if let Some(schema) = &ask.schema {
        body["text"] = json!({"format": {"type": "json_schema", "name": "answer", "schema": schema}});
    }
    if ask.stream {
        body["stream"] = json!(true);
    }
    body
}

impl Front {
    /// Checks that a refusal is told in this protocol.
    #[track_caller]
    pub fn expect_error(self, answer: &Answer, case: &str) {
        let body = answer.json();
        let shown = format!("{case}: {} {:?}\n{}", answer.status, answer.headers, answer.text());
        let error = &body["error"];
        assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()), "{shown}");
        assert!(error["type"].is_string(), "{shown}");
        if self == Self::Messages {
            assert_eq!(body["type"], "error", "{shown}");
            assert!(body["request_id"].is_string(), "{shown}");
        } else {
            assert!(error.get("param").is_some() && error.get("code").is_some(), "{shown}");
        }
        if matches!(answer.status.as_u16(), 429 | 503 | 529) {
            assert!(answer.header("retry-after").is_some(), "{shown}");
        }
    }

    /// Checks that a stream's last event is an error in this protocol, and gives it.
    #[track_caller]
    pub fn last_error(self, answer: &Answer, case: &str) -> Value {
        let shown = format!("{case}: {}", answer.text());
        let events = answer.events();
        let last: Value =
            events.last().and_then(|event| serde_json::from_str(event).ok()).unwrap_or_default();
        let error = match self {
            Self::Chat => last["error"].clone(),
            Self::Messages => {
                assert_eq!(last["type"], "error", "{shown}");
                last["error"].clone()
            }
            Self::Responses if last["type"] == "response.failed" => last["response"]["error"].clone(),
            Self::Responses => {
                assert_eq!(last["type"], "error", "{shown}");
                last.clone()
            }
        };
        assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()), "{shown}");
        error
    }
}
