//! A caller's request.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::message::{self, Message};
use crate::chat::{ChatRequest, OutputFormat, OutputSchema, Tool, ToolChoice};
use crate::provider::choices::CHOICES_MAX;
use crate::provider::document::{self, Others, TextOr, missing, wrong};
use crate::provider::fit::Fit;
use crate::provider::words::{self, Thinking};
use crate::reply::Reply;

/// Most stop texts, as in OpenAI's API.
const STOPS_MAX: usize = 4;
/// Most alternatives beside a token, as in OpenAI's API.
const TOP_LOGPROBS_MAX: u64 = 20;
/// Fields that may be left out without changing the answer: they are about caches, bills and
/// priorities.
const HINTS: [&str; 7] = [
    "metadata",
    "prediction",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "store",
];

/// The fields that other protocols have words for, and those that are harmless at one value.
#[derive(Deserialize)]
#[serde(expecting = "a JSON object")]
struct Document {
    model: String,
    messages: Vec<Message>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    top_k: Option<u64>,
    stop: Option<TextOr<String>>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    tools: Option<Vec<ToolDocument>>,
    tool_choice: Option<Choice>,
    parallel_tool_calls: Option<bool>,
    user: Option<String>,
    seed: Option<i64>,
    n: Option<u64>,
    logprobs: Option<bool>,
    top_logprobs: Option<u64>,
    frequency_penalty: Option<f64>,
    presence_penalty: Option<f64>,
    response_format: Option<Format>,
    reasoning_effort: Option<String>,
    /// As Anthropic has it, and callers of LiteLLM and OpenRouter send it.
    thinking: Option<Thinking>,
    modalities: Option<Vec<String>>,
    #[serde(flatten)]
    others: Others,
}

#[derive(Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

#[derive(Deserialize)]
struct Format {
    r#type: String,
    json_schema: Option<Schema>,
}

#[derive(Deserialize)]
struct Schema {
    name: String,
    description: Option<String>,
    schema: Option<Box<RawValue>>,
    strict: Option<bool>,
}

#[derive(Deserialize)]
struct ToolDocument {
    r#type: String,
    function: Option<Function>,
}

#[derive(Deserialize)]
struct Function {
    name: String,
    description: Option<String>,
    parameters: Option<Box<RawValue>>,
    strict: Option<bool>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Choice {
    Mode(String),
    Named { function: NamedFunction },
}

#[derive(Deserialize)]
struct NamedFunction {
    name: String,
}

/// Reads a request.
pub fn read_request(body: &[u8], fit: &mut Fit) -> Result<ChatRequest, Reply> {
    let document: Document = document::read(body)?;
    let alternatives = alternatives(document.n, fit)?;
    document.check(fit)?;
    let effort = document.reasoning_effort.as_deref();
    let effort = effort.map(|effort| words::effort("reasoning_effort", effort)).transpose()?;
    let (system, turns) = message::conversation(document.messages, fit)?;
    let mut tools = Vec::new();
    for (index, tool) in document.tools.unwrap_or_default().into_iter().enumerate() {
        tools.extend(read_tool(index, tool, fit)?);
    }
    Ok(ChatRequest {
        model: document.model,
        system,
        turns,
        tokens_max: document.max_completion_tokens.or(document.max_tokens),
        temperature: document.temperature,
        top_p: document.top_p,
        top_k: document.top_k,
        stops: stops(document.stop)?,
        stream: document.stream.unwrap_or(false),
        include_usage: document.stream_options.and_then(|o| o.include_usage).unwrap_or(false),
        tools,
        tool_choice: document.tool_choice.map(choice).transpose()?,
        parallel_tools: document.parallel_tool_calls,
        user: document.user,
        seed: document.seed,
        frequency_penalty: document.frequency_penalty.filter(|p| *p != 0.0),
        presence_penalty: document.presence_penalty.filter(|p| *p != 0.0),
        logprobs: document.logprobs.filter(|asked| *asked).map(|_| document.top_logprobs.unwrap_or(0)),
        format: document.response_format.map(format).transpose()?.unwrap_or_default(),
        reasoning: words::reasoning(document.thinking, effort)?,
        alternatives,
    })
}

/// The answers asked for beside the first.
pub(super) fn alternatives(n: Option<u64>, fit: &mut Fit) -> Result<u64, Reply> {
    let n = n.unwrap_or(1);
    let possible = (1..=CHOICES_MAX).contains(&n);
    fit.cannot_if(!possible, || wrong("n", &format!("1 to {CHOICES_MAX}")))?;
    Ok(if possible { n - 1 } else { 0 })
}

impl Document {
    fn check(&self, fit: &mut Fit) -> Result<(), Reply> {
        for (field, limit) in
            [("max_tokens", self.max_tokens), ("max_completion_tokens", self.max_completion_tokens)]
        {
            if limit == Some(0) {
                return Err(wrong(field, "at least 1"));
            }
        }
        if self.top_logprobs.is_some_and(|n| n > TOP_LOGPROBS_MAX) {
            return Err(wrong("top_logprobs", "at most 20"));
        }
        let speaks = self.modalities.iter().flatten().any(|modality| modality != "text");
        fit.cannot_if(speaks, || wrong("modalities", "[\"text\"]"))?;
        document::refuse_others(&self.others, &HINTS, fit)
    }
}

fn format(format: Format) -> Result<OutputFormat, Reply> {
    match (format.r#type.as_str(), format.json_schema) {
        ("text", _) => Ok(OutputFormat::Text),
        ("json_object", _) => Ok(OutputFormat::Json),
        ("json_schema", Some(Schema { name, description, schema, strict })) => {
            let schema = schema.ok_or_else(|| missing("response_format.json_schema.schema"))?;
            let strict = strict.unwrap_or(false);
            Ok(OutputFormat::Schema(OutputSchema { name, description, schema, strict }))
        }
        ("json_schema", None) => Err(missing("response_format.json_schema")),
        _ => Err(wrong("response_format.type", "text, json_object or json_schema")),
    }
}

fn stops(stop: Option<TextOr<String>>) -> Result<Vec<String>, Reply> {
    match stop {
        None => Ok(Vec::new()),
        Some(TextOr::Text(text)) => Ok(vec![text]),
        Some(TextOr::Parts(texts)) if texts.len() <= STOPS_MAX => Ok(texts),
        Some(TextOr::Parts(_)) => Err(wrong("stop", "at most 4 texts")),
    }
}

/// A function without parameters takes none, which JSON Schema says with an empty object.
fn read_tool(index: usize, tool: ToolDocument, fit: &mut Fit) -> Result<Option<Tool>, Reply> {
    let path = format!("tools[{index}]");
    let Some(function) = tool.function.filter(|_| tool.r#type == "function") else {
        fit.cannot(wrong(&format!("{path}.type"), "function"))?;
        return Ok(None);
    };
    let none = || document::object(r#"{"type":"object","properties":{}}"#);
    let schema = function.parameters.or_else(none).ok_or_else(|| missing(&format!("{path}.function")))?;
    let Function { name, description, strict, .. } = function;
    Ok(Some(Tool { name, description, schema, strict: strict.unwrap_or(false) }))
}

fn choice(choice: Choice) -> Result<ToolChoice, Reply> {
    match choice {
        Choice::Named { function } => Ok(ToolChoice::Named(function.name)),
        Choice::Mode(mode) => words::tool_mode(&mode),
    }
}
