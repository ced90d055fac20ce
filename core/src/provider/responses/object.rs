//! The response object, whole or as it grows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::chat::{ChatAnswer, Finish, TokenUsage};
use crate::provider::{Exchange, document};

/// Members of a request that its response repeats, with what stands there when the request has
/// none.
const REPEATED: [(&str, &str); 16] = [
    ("instructions", "null"),
    ("max_output_tokens", "null"),
    ("max_tool_calls", "null"),
    ("metadata", "{}"),
    ("parallel_tool_calls", "true"),
    ("previous_response_id", "null"),
    ("reasoning", r#"{"effort":null,"summary":null}"#),
    ("service_tier", r#""default""#),
    ("store", "true"),
    ("temperature", "1.0"),
    ("text", r#"{"format":{"type":"text"}}"#),
    ("tool_choice", r#""auto""#),
    ("tools", "[]"),
    ("top_p", "1.0"),
    ("truncation", r#""disabled""#),
    ("user", "null"),
];

/// What a response repeats of its request.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Echo(BTreeMap<&'static str, Box<RawValue>>);

#[derive(Deserialize)]
struct Members(BTreeMap<String, Box<RawValue>>);

impl Echo {
    /// Takes the members out of a request's body.
    #[must_use]
    pub fn of(body: &[u8]) -> Self {
        let mut members = serde_json::from_slice(body).map_or_else(|_| BTreeMap::new(), |Members(m)| m);
        let one = |(name, default): (&'static str, &str)| {
            let given = members.remove(name).filter(|value| value.get() != "null");
            let value = given.or_else(|| RawValue::from_string(default.to_owned()).ok())?;
            Some((name, value))
        };
        Self(REPEATED.into_iter().filter_map(one).collect())
    }
}

#[derive(Serialize)]
pub(super) struct Response<'a> {
    pub(super) id: &'a str,
    object: &'static str,
    created_at: u64,
    status: &'static str,
    background: bool,
    error: Option<Failure<'a>>,
    incomplete_details: Option<Incomplete>,
    model: &'a str,
    output: &'a [Item],
    usage: Option<Usage>,
    #[serde(flatten)]
    echo: &'a Echo,
}

#[derive(Serialize, Clone, Copy)]
pub(super) struct Failure<'a> {
    pub(super) code: &'a str,
    pub(super) message: &'a str,
}

#[derive(Serialize)]
struct Incomplete {
    reason: &'static str,
}

#[derive(Serialize)]
struct Usage {
    input_tokens: u64,
    input_tokens_details: InputDetails,
    output_tokens: u64,
    output_tokens_details: OutputDetails,
    total_tokens: u64,
}

#[derive(Serialize)]
struct InputDetails {
    cached_tokens: u64,
    cache_write_tokens: u64,
}

#[derive(Serialize)]
struct OutputDetails {
    reasoning_tokens: u64,
}

impl From<TokenUsage> for Usage {
    fn from(usage: TokenUsage) -> Self {
        Self {
            input_tokens: usage.input,
            input_tokens_details: InputDetails {
                cached_tokens: usage.cache_read,
                cache_write_tokens: usage.cache_write,
            },
            output_tokens: usage.output,
            output_tokens_details: OutputDetails { reasoning_tokens: usage.reasoning },
            total_tokens: usage.input.saturating_add(usage.output),
        }
    }
}

/// An item of the output.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Item {
    Reasoning { id: String, summary: Vec<Summary> },
    Message { id: String, status: &'static str, role: &'static str, content: Vec<Part> },
    FunctionCall { id: String, call_id: String, name: String, arguments: String, status: &'static str },
}

#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename = "summary_text")]
pub(super) struct Summary {
    pub(super) text: String,
}

#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename = "output_text")]
pub(super) struct Part {
    pub(super) text: String,
    annotations: [(); 0],
    logprobs: [(); 0],
}

impl Part {
    pub(super) const fn new(text: String) -> Self {
        Self { text, annotations: [], logprobs: [] }
    }
}

/// Names an item of the response `response`: `resp_X` has `msg_X_0`, `fc_X_1` and so on.
pub(super) fn item_id(prefix: &str, response: &str, index: u64) -> String {
    let unique = response.strip_prefix("resp_").unwrap_or(response);
    format!("{prefix}_{unique}_{index}")
}

/// The state a response is in.
#[derive(Clone, Copy)]
pub(super) enum State<'a> {
    InProgress,
    Finished(&'a Finish, TokenUsage),
    Failed(Failure<'a>),
}

/// The response as it is now.
pub(super) fn response<'a>(
    exchange: &'a Exchange,
    model: &'a str,
    output: &'a [Item],
    state: &State<'a>,
) -> Response<'a> {
    let (status, reason, usage, error) = match *state {
        State::InProgress => ("in_progress", None, None, None),
        State::Failed(failure) => ("failed", None, None, Some(failure)),
        State::Finished(Finish::Length, usage) => {
            ("incomplete", Some("max_output_tokens"), Some(usage), None)
        }
        State::Finished(Finish::Refusal, usage) => ("incomplete", Some("content_filter"), Some(usage), None),
        State::Finished(_, usage) => ("completed", None, Some(usage), None),
    };
    Response {
        id: &exchange.answer_id,
        object: "response",
        created_at: exchange.created,
        status,
        background: false,
        error,
        incomplete_details: reason.map(|reason| Incomplete { reason }),
        model,
        output,
        usage: usage.map(Usage::from),
        echo: &exchange.echo,
    }
}

/// Writes an answer.
#[must_use]
pub fn write_answer(answer: &ChatAnswer, exchange: &Exchange) -> Vec<u8> {
    let mut output = Vec::new();
    let id = |prefix, output: &Vec<Item>| item_id(prefix, &exchange.answer_id, output.len() as u64);
    let thoughts: String = answer.thoughts.iter().map(|thought| thought.text.as_str()).collect();
    if !thoughts.is_empty() {
        output.push(Item::Reasoning { id: id("rs", &output), summary: vec![Summary { text: thoughts }] });
    }
    if !answer.text.is_empty() || answer.tool_uses.is_empty() {
        let content = vec![Part::new(answer.text.clone())];
        let id = id("msg", &output);
        output.push(Item::Message { id, status: "completed", role: "assistant", content });
    }
    for tool in &answer.tool_uses {
        output.push(Item::FunctionCall {
            id: id("fc", &output),
            call_id: tool.id.clone(),
            name: tool.name.clone(),
            arguments: tool.input.get().to_owned(),
            status: "completed",
        });
    }
    let state = State::Finished(&answer.finish, answer.usage);
    document::write(&response(exchange, &answer.model, &output, &state))
}
