//! A caller's request.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::chat::{ChatRequest, Image, Part, ResultPart, Role, Tool, ToolChoice, ToolUse, Turn};
use crate::provider::document::{self, TextOr, missing, unsupported, wrong};
use crate::reply::Reply;

/// The fields that other protocols have words for, and those that may be left out without
/// changing the answer: hints on caching and on the priority of the request.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a JSON object")]
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
    #[serde(rename = "service_tier")]
    _service_tier: Option<IgnoredAny>,
    #[serde(rename = "cache_control")]
    _cache_control: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    role: RoleName,
    content: TextOr<Block>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum RoleName {
    User,
    Assistant,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Block {
    r#type: String,
    text: Option<String>,
    source: Option<Source>,
    id: Option<String>,
    name: Option<String>,
    input: Option<Box<RawValue>>,
    tool_use_id: Option<String>,
    content: Option<TextOr<Self>>,
    is_error: Option<bool>,
    #[serde(rename = "cache_control")]
    _cache_control: Option<IgnoredAny>,
    #[serde(rename = "citations")]
    _citations: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Source {
    r#type: String,
    media_type: Option<String>,
    data: Option<String>,
    url: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ToolDocument {
    r#type: Option<String>,
    name: String,
    description: Option<String>,
    input_schema: Option<Box<RawValue>>,
    #[serde(rename = "cache_control")]
    _cache_control: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Choice {
    r#type: String,
    name: Option<String>,
    disable_parallel_tool_use: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    user_id: Option<String>,
}

#[derive(Deserialize)]
struct Thinking {
    r#type: String,
}

/// Reads a request.
pub fn read_request(body: &[u8]) -> Result<ChatRequest, Reply> {
    let request = read_count_request(body)?;
    match request.tokens_max {
        None => Err(missing("max_tokens")),
        Some(0) => Err(wrong("max_tokens", "at least 1")),
        Some(_) => Ok(request),
    }
}

/// Reads a request whose answer is not wanted, only its size.
pub fn read_count_request(body: &[u8]) -> Result<ChatRequest, Reply> {
    let document: Document = document::read(body)?;
    if document.thinking.is_some_and(|t| t.r#type != "disabled") {
        return Err(wrong("thinking", "absent or of type disabled"));
    }
    let (tool_choice, parallel_tools) = choice(document.tool_choice)?;
    let tools = document.tools.unwrap_or_default().into_iter().enumerate();
    Ok(ChatRequest {
        model: document.model,
        system: system(document.system)?,
        turns: turns(document.messages)?,
        tokens_max: document.max_tokens,
        temperature: document.temperature,
        top_p: document.top_p,
        top_k: document.top_k,
        stops: document.stop_sequences.unwrap_or_default(),
        stream: document.stream.unwrap_or(false),
        include_usage: true,
        tools: tools.map(tool).collect::<Result<_, _>>()?,
        tool_choice,
        parallel_tools,
        user: document.metadata.and_then(|m| m.user_id),
    })
}

fn system(system: Option<TextOr<Block>>) -> Result<Vec<String>, Reply> {
    match system {
        None => Ok(Vec::new()),
        Some(TextOr::Text(text)) => Ok(vec![text]),
        Some(TextOr::Parts(blocks)) => {
            let text = |(index, block): (usize, Block)| match (block.r#type.as_str(), block.text) {
                ("text", Some(text)) => Ok(text),
                _ => Err(wrong(&format!("system[{index}]"), "a text block")),
            };
            blocks.into_iter().enumerate().map(text).collect()
        }
    }
}

/// Neighbouring messages of one role count as one turn, as they do at Anthropic.
fn turns(messages: Vec<Message>) -> Result<Vec<Turn>, Reply> {
    let mut turns: Vec<Turn> = Vec::with_capacity(messages.len());
    for (index, message) in messages.into_iter().enumerate() {
        let role = match message.role {
            RoleName::User => Role::User,
            RoleName::Assistant => Role::Assistant,
        };
        let path = format!("messages[{index}].content");
        let parts = match message.content {
            TextOr::Text(text) => vec![Part::Text(text)],
            TextOr::Parts(blocks) => {
                let read = |(i, block)| part(role, block, &format!("{path}[{i}]"));
                blocks.into_iter().enumerate().map(read).collect::<Result<_, _>>()?
            }
        };
        match turns.last_mut() {
            Some(last) if last.role == role => last.parts.extend(parts),
            _ if parts.is_empty() => return Err(wrong(&path, "a text or at least one block")),
            _ => turns.push(Turn { role, parts }),
        }
    }
    Ok(turns)
}

fn part(role: Role, block: Block, path: &str) -> Result<Part, Reply> {
    let required = |field: &str| missing(&format!("{path}.{field}"));
    match (role, block.r#type.as_str()) {
        (_, "text") => block.text.map(Part::Text).ok_or_else(|| required("text")),
        (Role::User, "image") => {
            image(block.source.ok_or_else(|| required("source"))?, path).map(Part::Image)
        }
        (Role::Assistant, "tool_use") => {
            let input = block.input.ok_or_else(|| required("input"))?;
            if !input.get().starts_with('{') {
                return Err(wrong(&format!("{path}.input"), "an object"));
            }
            let id = block.id.ok_or_else(|| required("id"))?;
            Ok(Part::ToolUse(ToolUse { id, name: block.name.ok_or_else(|| required("name"))?, input }))
        }
        (Role::User, "tool_result") => Ok(Part::ToolResult {
            id: block.tool_use_id.ok_or_else(|| required("tool_use_id"))?,
            content: result(block.content, path)?,
            failed: block.is_error.unwrap_or(false),
        }),
        (Role::User, _) => Err(wrong(&format!("{path}.type"), "text, image or tool_result")),
        (Role::Assistant, _) => Err(wrong(&format!("{path}.type"), "text or tool_use")),
    }
}

fn result(content: Option<TextOr<Block>>, path: &str) -> Result<Vec<ResultPart>, Reply> {
    let blocks = match content {
        None => return Ok(Vec::new()),
        Some(TextOr::Text(text)) => return Ok(vec![ResultPart::Text(text)]),
        Some(TextOr::Parts(blocks)) => blocks,
    };
    let read = |(index, block): (usize, Block)| {
        let path = format!("{path}.content[{index}]");
        match part(Role::User, block, &path)? {
            Part::Text(text) => Ok(ResultPart::Text(text)),
            Part::Image(image) => Ok(ResultPart::Image(image)),
            Part::ToolUse(_) | Part::ToolResult { .. } => {
                Err(wrong(&format!("{path}.type"), "text or image"))
            }
        }
    };
    blocks.into_iter().enumerate().map(read).collect()
}

fn image(source: Source, path: &str) -> Result<Image, Reply> {
    let required = |field: &str| missing(&format!("{path}.source.{field}"));
    match source.r#type.as_str() {
        "base64" => Ok(Image::Base64 {
            media_type: source.media_type.ok_or_else(|| required("media_type"))?,
            data: source.data.ok_or_else(|| required("data"))?,
        }),
        "url" => source.url.map(Image::Url).ok_or_else(|| required("url")),
        _ => Err(wrong(&format!("{path}.source.type"), "base64 or url")),
    }
}

/// Tools that Anthropic itself runs have a type of their own; nobody else runs them.
fn tool((index, tool): (usize, ToolDocument)) -> Result<Tool, Reply> {
    if tool.r#type.is_some_and(|t| t != "custom") {
        return Err(wrong(&format!("tools[{index}].type"), "absent or custom"));
    }
    let schema = tool.input_schema.ok_or_else(|| missing(&format!("tools[{index}].input_schema")))?;
    Ok(Tool { name: tool.name, description: tool.description, schema })
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
