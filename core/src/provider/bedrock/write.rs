//! A request to a provider.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::chat::{
    ChatRequest, Document as Paper, DocumentSource, Image, OutputFormat, Part, Reasoning, ResultPart, Role,
    Thought, Tool, ToolChoice, Turn,
};
use crate::provider::claude::{OutputConfig, Plan, Thinking};
use crate::provider::document::{self, unsupported, wrong};
use crate::provider::fit::Fit;
use crate::reply::Reply;

/// Models of Anthropic's, which alone are told how much to think.
const THINKING_MODELS: &str = "anthropic.";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    messages: Vec<Message<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    system: Vec<Block<'a>>,
    inference_config: InferenceConfig<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_config: Option<ToolConfig<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    additional_model_request_fields: Option<Additional>,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: Vec<Block<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Block<'a> {
    Text(&'a str),
    Image(Picture<'a>),
    Document(File<'a>),
    ToolUse(Use<'a>),
    ToolResult(ToolResult<'a>),
    ReasoningContent(ReasoningContent<'a>),
}

#[derive(Serialize)]
struct Picture<'a> {
    format: &'a str,
    source: Source<'a>,
}

#[derive(Serialize)]
struct File<'a> {
    format: &'static str,
    name: String,
    source: Source<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Source<'a> {
    Bytes(&'a str),
    Text(&'a str),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Use<'a> {
    tool_use_id: &'a str,
    name: &'a str,
    input: &'a RawValue,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToolResult<'a> {
    tool_use_id: &'a str,
    content: Vec<Block<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum ReasoningContent<'a> {
    ReasoningText { text: &'a str, signature: &'a str },
    RedactedContent(&'a str),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct InferenceConfig<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    stop_sequences: &'a [String],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToolConfig<'a> {
    tools: Vec<ToolDocument<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Choice<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToolDocument<'a> {
    tool_spec: ToolSpec<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToolSpec<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    input_schema: InputSchema<'a>,
}

#[derive(Serialize)]
struct InputSchema<'a> {
    json: &'a RawValue,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Choice<'a> {
    Auto {},
    Any {},
    Tool { name: &'a str },
}

/// What models take beside what all of them do.
#[derive(Serialize)]
struct Additional {
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<Thinking>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_config: Option<OutputConfig>,
}

/// Writes a request; the model and whether it is a stream stand in its address.
pub fn write_request(request: &ChatRequest, fit: &mut Fit) -> Result<Vec<u8>, Reply> {
    refuse_the_unknown(request, fit)?;
    if request.turns.is_empty() {
        return Err(wrong("messages", "a list with at least one user message"));
    }
    let Plan { thinking, output_config, tokens_max } = plan(request, fit)?;
    let mut messages = Vec::with_capacity(request.turns.len());
    for (index, turn) in request.turns.iter().enumerate() {
        messages.push(message(turn, index, fit)?);
    }
    messages.retain(|message| !message.content.is_empty());
    let additional = Additional { top_k: request.top_k, thinking, output_config };
    Ok(document::write(&Document {
        messages,
        system: request.system.iter().filter(|t| !t.is_empty()).map(|text| Block::Text(text)).collect(),
        inference_config: InferenceConfig {
            max_tokens: tokens_max,
            temperature: request.temperature.filter(|_| thinking.is_none()),
            top_p: request.top_p,
            stop_sequences: &request.stops,
        },
        tool_config: tool_config(request, thinking.is_some(), fit)?,
        additional_model_request_fields: (request.top_k.is_some() || thinking.is_some())
            .then_some(additional),
    }))
}

fn refuse_the_unknown(request: &ChatRequest, fit: &mut Fit) -> Result<(), Reply> {
    let one_tool = request.parallel_tools == Some(false) && !request.tools.is_empty();
    for (field, asked) in [
        ("seed", request.seed.is_some()),
        ("frequency_penalty", request.frequency_penalty.is_some()),
        ("presence_penalty", request.presence_penalty.is_some()),
        ("logprobs", request.logprobs.is_some()),
        ("response_format", !matches!(request.format, OutputFormat::Text)),
        ("parallel_tool_calls", one_tool),
    ] {
        fit.cannot_if(asked, || unsupported(field))?;
    }
    fit.note_strict_tools(&request.tools);
    Ok(())
}

/// How Anthropic's models are to think; all others are not told.
fn plan(request: &ChatRequest, fit: &mut Fit) -> Result<Plan, Reply> {
    if request.model.contains(THINKING_MODELS) {
        return Ok(Plan::of(request, fit));
    }
    let asked = !matches!(request.reasoning, None | Some(Reasoning::Off));
    fit.cannot_if(asked, || unsupported("reasoning_effort"))?;
    Ok(Plan { tokens_max: request.tokens_max, ..Plan::default() })
}

fn message<'a>(turn: &'a Turn, index: usize, fit: &mut Fit) -> Result<Message<'a>, Reply> {
    let role = match turn.role {
        Role::User => "user",
        Role::Assistant => "assistant",
    };
    let mut content = Vec::with_capacity(turn.parts.len());
    for part in &turn.parts {
        content.extend(block(part, index, content.len(), fit)?);
    }
    Ok(Message { role, content })
}

/// Thoughts without a seal are not the model's own, and it takes no others.
fn block<'a>(part: &'a Part, turn: usize, place: usize, fit: &mut Fit) -> Result<Option<Block<'a>>, Reply> {
    Ok(match part {
        Part::Text(text) => (!text.is_empty()).then_some(Block::Text(text)),
        Part::Image(image) => picture(image, fit)?.map(Block::Image),
        Part::Audio(_) => {
            fit.cannot(wrong("messages", "without input_audio"))?;
            None
        }
        Part::Document(document) => file(document, turn, place, fit)?.map(Block::Document),
        Part::Thought(Thought { redacted: Some(data), .. }) => {
            Some(Block::ReasoningContent(ReasoningContent::RedactedContent(data)))
        }
        Part::Thought(Thought { text, signature, .. }) => signature
            .as_deref()
            .map(|signature| Block::ReasoningContent(ReasoningContent::ReasoningText { text, signature })),
        Part::ToolUse(tool) => {
            Some(Block::ToolUse(Use { tool_use_id: &tool.id, name: &tool.name, input: &tool.input }))
        }
        Part::ToolResult { id, content, failed } => {
            let mut blocks = Vec::with_capacity(content.len());
            for piece in content {
                match piece {
                    ResultPart::Text(text) => blocks.push(Block::Text(text)),
                    ResultPart::Image(image) => blocks.extend(picture(image, fit)?.map(Block::Image)),
                }
            }
            let status = failed.then_some("error");
            Some(Block::ToolResult(ToolResult { tool_use_id: id, content: blocks, status }))
        }
    })
}

fn picture<'a>(image: &'a Image, fit: &mut Fit) -> Result<Option<Picture<'a>>, Reply> {
    match image {
        Image::Base64 { media_type, data } => {
            let format = media_type.strip_prefix("image/").unwrap_or(media_type);
            let format = if format == "jpg" { "jpeg" } else { format };
            Ok(Some(Picture { format, source: Source::Bytes(data) }))
        }
        Image::Url(_) => {
            fit.cannot(wrong("messages", "with pictures in base64, not by URL,"))?;
            Ok(None)
        }
    }
}

/// Names may not repeat, and only have letters, digits, spaces and a few signs.
fn file<'a>(
    document: &'a Paper,
    turn: usize,
    place: usize,
    fit: &mut Fit,
) -> Result<Option<File<'a>>, Reply> {
    let name = format!("document {turn} {place}");
    match &document.source {
        DocumentSource::Base64 { media_type, data } => {
            let Some(format) = format_of(media_type) else {
                fit.cannot(wrong("messages", "with documents of a type such as application/pdf"))?;
                return Ok(None);
            };
            Ok(Some(File { format, name, source: Source::Bytes(data) }))
        }
        DocumentSource::Text(text) => Ok(Some(File { format: "txt", name, source: Source::Text(text) })),
        DocumentSource::Url(_) => {
            fit.cannot(wrong("messages", "with documents in base64, not by URL,"))?;
            Ok(None)
        }
    }
}

fn format_of(media_type: &str) -> Option<&'static str> {
    Some(match media_type {
        "application/pdf" => "pdf",
        "text/csv" => "csv",
        "text/html" => "html",
        "text/markdown" => "md",
        "text/plain" => "txt",
        "application/msword" => "doc",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document" => "docx",
        "application/vnd.ms-excel" => "xls",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet" => "xlsx",
        _ => return None,
    })
}

/// Bedrock wants to know the tools of a conversation that used any, and cannot forbid them.
fn tool_config<'a>(
    request: &'a ChatRequest,
    thinks: bool,
    fit: &mut Fit,
) -> Result<Option<ToolConfig<'a>>, Reply> {
    if request.tools.is_empty() {
        return Ok(None);
    }
    let used = request.turns.iter().flat_map(|turn| &turn.parts).any(|p| matches!(p, Part::ToolUse(_)));
    let tool_choice = match &request.tool_choice {
        Some(ToolChoice::None) if !used => return Ok(None),
        Some(ToolChoice::None) => {
            fit.cannot(wrong("tool_choice", "auto, required or a function"))?;
            None
        }
        None => None,
        Some(ToolChoice::Any | ToolChoice::Named(_)) if thinks => Some(Choice::Auto {}),
        Some(ToolChoice::Auto) => Some(Choice::Auto {}),
        Some(ToolChoice::Any) => Some(Choice::Any {}),
        Some(ToolChoice::Named(name)) => Some(Choice::Tool { name }),
    };
    Ok(Some(ToolConfig { tools: request.tools.iter().map(tool).collect(), tool_choice }))
}

fn tool(tool: &Tool) -> ToolDocument<'_> {
    ToolDocument {
        tool_spec: ToolSpec {
            name: &tool.name,
            description: tool.description.as_deref().filter(|text| !text.is_empty()),
            input_schema: InputSchema { json: &tool.schema },
        },
    }
}
