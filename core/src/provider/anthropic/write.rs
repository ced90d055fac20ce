//! A request to a provider.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::chat::{ChatRequest, Image, Part, ResultPart, Role, Tool, ToolChoice, Turn};
use crate::provider::document::{self, wrong};
use crate::reply::Reply;

/// The bound on tokens when the caller sets none: Anthropic insists on one, and every model it
/// serves can generate this many.
const TOKENS_MAX_DEFAULT: u64 = 4096;
/// Highest temperature that Anthropic takes.
const TEMPERATURE_MAX: f64 = 1.0;

#[derive(Serialize)]
struct Document<'a> {
    model: &'a str,
    max_tokens: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    system: Vec<Block<'a>>,
    messages: Vec<Message<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u64>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    stop_sequences: &'a [String],
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stream: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<ToolDocument<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Choice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Metadata<'a>>,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: Vec<Block<'a>>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block<'a> {
    Text {
        text: &'a str,
    },
    Image {
        source: Source<'a>,
    },
    ToolUse {
        id: &'a str,
        name: &'a str,
        input: &'a RawValue,
    },
    ToolResult {
        tool_use_id: &'a str,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        content: Vec<Self>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        is_error: bool,
    },
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Source<'a> {
    Base64 { media_type: &'a str, data: &'a str },
    Url { url: &'a str },
}

#[derive(Serialize)]
struct ToolDocument<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    input_schema: &'a RawValue,
}

#[derive(Serialize)]
struct Choice<'a> {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disable_parallel_tool_use: Option<bool>,
}

#[derive(Serialize)]
struct Metadata<'a> {
    user_id: &'a str,
}

/// Writes a request.
pub fn write_request(request: &ChatRequest) -> Result<Vec<u8>, Reply> {
    if request.temperature.is_some_and(|t| t > TEMPERATURE_MAX) {
        return Err(wrong("temperature", "at most 1"));
    }
    if request.turns.is_empty() {
        return Err(wrong("messages", "a list with at least one user message"));
    }
    Ok(document::write(&Document {
        model: &request.model,
        max_tokens: request.tokens_max.unwrap_or(TOKENS_MAX_DEFAULT),
        system: texts(&request.system),
        messages: request.turns.iter().map(message).collect(),
        temperature: request.temperature,
        top_p: request.top_p,
        top_k: request.top_k,
        stop_sequences: &request.stops,
        stream: request.stream,
        tools: request.tools.iter().map(tool).collect(),
        tool_choice: choice(request),
        metadata: request.user.as_deref().map(|user_id| Metadata { user_id }),
    }))
}

/// Anthropic refuses empty texts, which OpenAI's callers send with every tool call.
fn texts(texts: &[String]) -> Vec<Block<'_>> {
    texts.iter().filter(|text| !text.is_empty()).map(|text| Block::Text { text }).collect()
}

fn message(turn: &Turn) -> Message<'_> {
    let role = match turn.role {
        Role::User => "user",
        Role::Assistant => "assistant",
    };
    Message { role, content: turn.parts.iter().filter_map(block).collect() }
}

fn block(part: &Part) -> Option<Block<'_>> {
    Some(match part {
        Part::Text(text) if text.is_empty() => return None,
        Part::Text(text) => Block::Text { text },
        Part::Image(image) => Block::Image { source: source(image) },
        Part::ToolUse(tool) => Block::ToolUse { id: &tool.id, name: &tool.name, input: &tool.input },
        Part::ToolResult { id, content, failed } => {
            let content = content.iter().filter_map(|piece| match piece {
                ResultPart::Text(text) if text.is_empty() => None,
                ResultPart::Text(text) => Some(Block::Text { text }),
                ResultPart::Image(image) => Some(Block::Image { source: source(image) }),
            });
            Block::ToolResult { tool_use_id: id, content: content.collect(), is_error: *failed }
        }
    })
}

fn source(image: &Image) -> Source<'_> {
    match image {
        Image::Base64 { media_type, data } => Source::Base64 { media_type, data },
        Image::Url(url) => Source::Url { url },
    }
}

fn tool(tool: &Tool) -> ToolDocument<'_> {
    ToolDocument { name: &tool.name, description: tool.description.as_deref(), input_schema: &tool.schema }
}

/// Whether tools may be used in parallel is part of the choice here, so it makes one.
fn choice(request: &ChatRequest) -> Option<Choice<'_>> {
    let only_one = request.parallel_tools == Some(false) && !request.tools.is_empty();
    let (r#type, name) = match &request.tool_choice {
        None if only_one => ("auto", None),
        None => return None,
        Some(ToolChoice::None) => {
            return Some(Choice { r#type: "none", name: None, disable_parallel_tool_use: None });
        }
        Some(ToolChoice::Auto) => ("auto", None),
        Some(ToolChoice::Any) => ("any", None),
        Some(ToolChoice::Named(name)) => ("tool", Some(name.as_str())),
    };
    Some(Choice { r#type, name, disable_parallel_tool_use: only_one.then_some(true) })
}
