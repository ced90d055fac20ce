//! A caller's request.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::content::{self, Block, Message};
use crate::chat::{ChatRequest, Effort, OutputFormat, OutputSchema, Reasoning, Tool, ToolChoice};
use crate::provider::document::{self, Others, TextOr, missing, unsupported, wrong};
use crate::provider::fit::Fit;
use crate::provider::words::{self, Thinking};
use crate::reply::Reply;

/// Fields that may be left out without changing the answer: they are about caches, bills,
/// priorities, and what of a conversation that grows too long may be forgotten.
const HINTS: [&str; 5] =
    ["service_tier", "cache_control", "container", "context_management", "inference_geo"];
/// What the schema of an answer is called, since Anthropic's callers do not name it.
const SCHEMA_NAME: &str = "answer";

/// The fields that other protocols have words for.
#[derive(Deserialize)]
#[serde(expecting = "a JSON object")]
struct Document {
    model: String,
    messages: Vec<Message>,
    max_tokens: Option<u64>,
    system: Option<TextOr<Block>>,
    stop_sequences: Option<Vec<String>>,
    stream: Option<bool>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    top_k: Option<u64>,
    tools: Option<Vec<ToolDocument>>,
    tool_choice: Option<Choice>,
    metadata: Option<Metadata>,
    thinking: Option<Thinking>,
    output_config: Option<OutputConfig>,
    #[serde(flatten)]
    others: Others,
}

#[derive(Deserialize)]
struct ToolDocument {
    r#type: Option<String>,
    name: String,
    description: Option<String>,
    input_schema: Option<Box<RawValue>>,
    strict: Option<bool>,
}

#[derive(Deserialize)]
struct Choice {
    r#type: String,
    name: Option<String>,
    disable_parallel_tool_use: Option<bool>,
}

#[derive(Deserialize)]
struct Metadata {
    user_id: Option<String>,
}

#[derive(Deserialize)]
struct OutputConfig {
    effort: Option<String>,
    format: Option<Format>,
}

#[derive(Deserialize)]
struct Format {
    r#type: String,
    schema: Option<Box<RawValue>>,
}

/// Reads a request.
pub fn read_request(body: &[u8], fit: &mut Fit) -> Result<ChatRequest, Reply> {
    let request = read_count_request(body, fit)?;
    match request.tokens_max {
        None => Err(missing("max_tokens")),
        Some(0) => Err(wrong("max_tokens", "at least 1")),
        Some(_) => Ok(request),
    }
}

/// Reads a request whose answer is not wanted, only its size.
pub fn read_count_request(body: &[u8], fit: &mut Fit) -> Result<ChatRequest, Reply> {
    let document: Document = document::read(body)?;
    document::refuse_others(&document.others, &HINTS, fit)?;
    let (tool_choice, parallel_tools) = choice(document.tool_choice)?;
    let mut tools = Vec::new();
    for (index, tool) in document.tools.unwrap_or_default().into_iter().enumerate() {
        tools.extend(read_tool(index, tool, fit)?);
    }
    let (wanted, format) = document.output_config.map_or((None, None), |c| (c.effort, c.format));
    let wanted = wanted.as_deref().map(effort).transpose()?;
    Ok(ChatRequest {
        model: document.model,
        system: content::system(document.system)?,
        turns: content::turns(document.messages, fit)?,
        tokens_max: document.max_tokens,
        temperature: document.temperature,
        top_p: document.top_p,
        top_k: document.top_k,
        stops: document.stop_sequences.unwrap_or_default(),
        stream: document.stream.unwrap_or(false),
        include_usage: true,
        tools,
        tool_choice,
        parallel_tools,
        user: document.metadata.and_then(|m| m.user_id),
        format: format.map(output_format).transpose()?.unwrap_or_default(),
        reasoning: words::reasoning(document.thinking, wanted)?,
        ..ChatRequest::default()
    })
}

/// How much to think, in Anthropic's words.
fn effort(effort: &str) -> Result<Reasoning, Reply> {
    Ok(Reasoning::Effort(match effort {
        "low" => Effort::Low,
        "medium" => Effort::Medium,
        "high" | "xhigh" | "max" => Effort::High,
        _ => return Err(wrong("output_config.effort", "low, medium or high")),
    }))
}

fn output_format(format: Format) -> Result<OutputFormat, Reply> {
    if format.r#type != "json_schema" {
        return Err(wrong("output_config.format.type", "json_schema"));
    }
    let schema = format.schema.ok_or_else(|| missing("output_config.format.schema"))?;
    let name = SCHEMA_NAME.to_owned();
    Ok(OutputFormat::Schema(OutputSchema { name, description: None, schema, strict: true }))
}

/// Tools that Anthropic itself runs have a type of their own; nobody else runs them.
fn read_tool(index: usize, tool: ToolDocument, fit: &mut Fit) -> Result<Option<Tool>, Reply> {
    if tool.r#type.is_some_and(|t| t != "custom") {
        fit.cannot(wrong(&format!("tools[{index}].type"), "absent or custom"))?;
        return Ok(None);
    }
    let schema = tool.input_schema.ok_or_else(|| missing(&format!("tools[{index}].input_schema")))?;
    let ToolDocument { name, description, strict, .. } = tool;
    Ok(Some(Tool { name, description, schema, strict: strict.unwrap_or(false) }))
}

fn choice(choice: Option<Choice>) -> Result<(Option<ToolChoice>, Option<bool>), Reply> {
    let Some(choice) = choice else { return Ok((None, None)) };
    let parallel = choice.disable_parallel_tool_use.map(|disabled| !disabled);
    let made = match choice.r#type.as_str() {
        "auto" => ToolChoice::Auto,
        "any" => ToolChoice::Any,
        "none" => ToolChoice::None,
        "tool" => ToolChoice::Named(choice.name.ok_or_else(|| missing("tool_choice.name"))?),
        _ => return Err(unsupported("tool_choice.type")),
    };
    Ok((Some(made), parallel))
}
