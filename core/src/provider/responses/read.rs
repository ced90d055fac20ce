//! A caller's request.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::items::{Conversation, Item};
use crate::chat::{ChatRequest, OutputFormat, OutputSchema, Part, Role, Tool, ToolChoice};
use crate::provider::document::{self, Others, TextOr, missing, wrong};
use crate::provider::fit::Fit;
use crate::provider::words;
use crate::reply::Reply;

/// Fields that may be left out without changing the answer, and those that the gateway itself
/// sees to.
const HINTS: [&str; 12] = [
    "include",
    "max_tool_calls",
    "metadata",
    "previous_response_id",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "store",
    "stream_options",
    "truncation",
    "background",
];

#[derive(Deserialize)]
#[serde(expecting = "a JSON object")]
struct Document {
    model: String,
    input: TextOr<Item>,
    instructions: Option<String>,
    max_output_tokens: Option<u64>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    tools: Option<Vec<ToolDocument>>,
    tool_choice: Option<Choice>,
    parallel_tool_calls: Option<bool>,
    stream: Option<bool>,
    text: Option<Text>,
    reasoning: Option<ReasoningDocument>,
    user: Option<String>,
    #[serde(flatten)]
    others: Others,
}

#[derive(Deserialize)]
struct ToolDocument {
    r#type: String,
    name: Option<String>,
    description: Option<String>,
    parameters: Option<Box<RawValue>>,
    strict: Option<bool>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Choice {
    Mode(String),
    Named { name: String },
}

#[derive(Deserialize)]
struct Text {
    format: Option<Format>,
}

#[derive(Deserialize)]
struct Format {
    r#type: String,
    name: Option<String>,
    description: Option<String>,
    schema: Option<Box<RawValue>>,
    strict: Option<bool>,
}

#[derive(Deserialize)]
struct ReasoningDocument {
    effort: Option<String>,
}

/// Reads a request; earlier responses must have been put before its input already.
pub fn read_request(body: &[u8], fit: &mut Fit) -> Result<ChatRequest, Reply> {
    let document: Document = document::read(body)?;
    document::refuse_others(&document.others, &HINTS, fit)?;
    let mut conversation = Conversation::default();
    conversation.system.extend(document.instructions);
    match document.input {
        TextOr::Text(text) => conversation.say(Role::User, vec![Part::Text(text)]),
        TextOr::Parts(items) => {
            for (index, item) in items.into_iter().enumerate() {
                conversation.add(item, &format!("input[{index}]"), fit)?;
            }
        }
    }
    let mut tools = Vec::new();
    for (index, tool) in document.tools.unwrap_or_default().into_iter().enumerate() {
        tools.extend(read_tool(index, tool, fit)?);
    }
    Ok(ChatRequest {
        model: document.model,
        system: conversation.system,
        turns: conversation.turns,
        tokens_max: document.max_output_tokens,
        temperature: document.temperature,
        top_p: document.top_p,
        stream: document.stream.unwrap_or(false),
        include_usage: true,
        tools,
        tool_choice: document.tool_choice.map(choice).transpose()?,
        parallel_tools: document.parallel_tool_calls,
        user: document.user,
        format: document.text.and_then(|text| text.format).map(format).transpose()?.unwrap_or_default(),
        reasoning: document
            .reasoning
            .and_then(|r| r.effort)
            .map(|e| words::effort("reasoning.effort", &e))
            .transpose()?,
        ..ChatRequest::default()
    })
}

fn read_tool(index: usize, tool: ToolDocument, fit: &mut Fit) -> Result<Option<Tool>, Reply> {
    let path = format!("tools[{index}]");
    if tool.r#type != "function" {
        fit.cannot(wrong(&format!("{path}.type"), "function"))?;
        return Ok(None);
    }
    let none = || document::object(r#"{"type":"object","properties":{}}"#);
    let given = tool.parameters.filter(|schema| schema.get() != "null");
    let schema = given.or_else(none).ok_or_else(|| missing(&format!("{path}.parameters")))?;
    let name = tool.name.ok_or_else(|| missing(&format!("{path}.name")))?;
    // Here functions are strict unless they are said not to be; other providers do not know it.
    let strict = tool.strict == Some(true);
    Ok(Some(Tool { name, description: tool.description, schema, strict }))
}

fn choice(choice: Choice) -> Result<ToolChoice, Reply> {
    match choice {
        Choice::Named { name } => Ok(ToolChoice::Named(name)),
        Choice::Mode(mode) => words::tool_mode(&mode),
    }
}

fn format(format: Format) -> Result<OutputFormat, Reply> {
    match format.r#type.as_str() {
        "text" => Ok(OutputFormat::Text),
        "json_object" => Ok(OutputFormat::Json),
        "json_schema" => {
            let schema = format.schema.ok_or_else(|| missing("text.format.schema"))?;
            let name = format.name.ok_or_else(|| missing("text.format.name"))?;
            let strict = format.strict.unwrap_or(false);
            Ok(OutputFormat::Schema(OutputSchema { name, description: format.description, schema, strict }))
        }
        _ => Err(wrong("text.format.type", "text, json_object or json_schema")),
    }
}

#[derive(Deserialize)]
struct Previous {
    previous_response_id: Option<String>,
    store: Option<bool>,
}

/// The response that a request goes on from, and whether its own is to be kept, which it is
/// unless the caller says no.
#[must_use]
pub fn previous_of(body: &[u8]) -> (Option<String>, bool) {
    let found: Result<Previous, _> = serde_json::from_slice(body);
    found.map_or((None, true), |found| (found.previous_response_id, found.store != Some(false)))
}

#[derive(Deserialize)]
struct Input<'a> {
    #[serde(borrow)]
    input: &'a RawValue,
}

/// The items of a request's input, as written; a text is what the user says. None when there is
/// no usable input.
#[must_use]
pub fn items_of(body: &[u8]) -> Option<Vec<Box<RawValue>>> {
    let Input { input } = serde_json::from_slice(body).ok()?;
    if input.get().starts_with('[') {
        return serde_json::from_str(input.get()).ok();
    }
    let item = format!(r#"{{"type":"message","role":"user","content":{}}}"#, input.get());
    Some(vec![RawValue::from_string(item).ok()?])
}

/// The request with these items as its input, and everything else as it was.
#[must_use]
pub fn join_items(body: &[u8], items: &[Box<RawValue>]) -> Option<Vec<u8>> {
    let mut members: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(body).ok()?;
    members.insert("input".to_owned(), serde_json::value::to_raw_value(items).ok()?);
    serde_json::to_vec(&members).ok()
}
