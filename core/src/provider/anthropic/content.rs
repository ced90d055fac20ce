//! The conversation in a caller's request. Hints on caching and citations are not looked at.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::chat::{Document, DocumentSource, Image, Part, ResultPart, Role, Thought, ToolUse, Turn};
use crate::provider::document::{TextOr, missing, wrong};
use crate::provider::fit::Fit;
use crate::reply::Reply;

#[derive(Deserialize)]
pub(super) struct Message {
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
pub(super) struct Block {
    r#type: String,
    text: Option<String>,
    source: Option<Source>,
    id: Option<String>,
    name: Option<String>,
    input: Option<Box<RawValue>>,
    tool_use_id: Option<String>,
    content: Option<TextOr<Self>>,
    is_error: Option<bool>,
    thinking: Option<String>,
    signature: Option<String>,
    data: Option<String>,
    title: Option<String>,
}

#[derive(Deserialize)]
struct Source {
    r#type: String,
    media_type: Option<String>,
    data: Option<String>,
    url: Option<String>,
    content: Option<TextOr<Block>>,
}

/// The system texts.
pub(super) fn system(system: Option<TextOr<Block>>) -> Result<Vec<String>, Reply> {
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
pub(super) fn turns(messages: Vec<Message>, fit: &mut Fit) -> Result<Vec<Turn>, Reply> {
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
                let mut parts = Vec::with_capacity(blocks.len());
                for (i, block) in blocks.into_iter().enumerate() {
                    parts.extend(part(role, block, &format!("{path}[{i}]"), fit)?);
                }
                parts
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

fn part(role: Role, block: Block, path: &str, fit: &mut Fit) -> Result<Option<Part>, Reply> {
    let required = |field: &str| missing(&format!("{path}.{field}"));
    Ok(Some(match (role, block.r#type.as_str()) {
        (_, "text") => Part::Text(block.text.ok_or_else(|| required("text"))?),
        (Role::User, "image") => Part::Image(image(block.source.ok_or_else(|| required("source"))?, path)?),
        (Role::User, "document") => {
            let source = block.source.ok_or_else(|| required("source"))?;
            let source = document_source(source, path)?;
            Part::Document(Document { name: block.title, source })
        }
        (Role::Assistant, "thinking") => Part::Thought(Thought {
            text: block.thinking.ok_or_else(|| required("thinking"))?,
            signature: block.signature.filter(|signature| !signature.is_empty()),
            redacted: None,
        }),
        (Role::Assistant, "redacted_thinking") => Part::Thought(Thought {
            redacted: Some(block.data.ok_or_else(|| required("data"))?),
            ..Thought::default()
        }),
        (Role::Assistant, "tool_use") => {
            let input = block.input.ok_or_else(|| required("input"))?;
            if !input.get().starts_with('{') {
                return Err(wrong(&format!("{path}.input"), "an object"));
            }
            let id = block.id.ok_or_else(|| required("id"))?;
            let name = block.name.ok_or_else(|| required("name"))?;
            Part::ToolUse(ToolUse { id, name, input, signature: block.signature })
        }
        (Role::User, "tool_result") => Part::ToolResult {
            id: block.tool_use_id.ok_or_else(|| required("tool_use_id"))?,
            content: result(block.content, path, fit)?,
            failed: block.is_error.unwrap_or(false),
        },
        (Role::User, _) => {
            let known = "text, image, document or tool_result";
            return fit.cannot(wrong(&format!("{path}.type"), known)).map(|()| None);
        }
        (Role::Assistant, _) => {
            let known = "text, thinking or tool_use";
            return fit.cannot(wrong(&format!("{path}.type"), known)).map(|()| None);
        }
    }))
}

fn result(content: Option<TextOr<Block>>, path: &str, fit: &mut Fit) -> Result<Vec<ResultPart>, Reply> {
    let blocks = match content {
        None => return Ok(Vec::new()),
        Some(TextOr::Text(text)) => return Ok(vec![ResultPart::Text(text)]),
        Some(TextOr::Parts(blocks)) => blocks,
    };
    let mut parts = Vec::with_capacity(blocks.len());
    for (index, block) in blocks.into_iter().enumerate() {
        let path = format!("{path}.content[{index}]");
        match part(Role::User, block, &path, fit)? {
            Some(Part::Text(text)) => parts.push(ResultPart::Text(text)),
            Some(Part::Image(image)) => parts.push(ResultPart::Image(image)),
            Some(_) => fit.cannot(wrong(&format!("{path}.type"), "text or image"))?,
            None => {}
        }
    }
    Ok(parts)
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

fn document_source(source: Source, path: &str) -> Result<DocumentSource, Reply> {
    let required = |field: &str| missing(&format!("{path}.source.{field}"));
    match (source.r#type.as_str(), source.content) {
        ("base64", _) => Ok(DocumentSource::Base64 {
            media_type: source.media_type.ok_or_else(|| required("media_type"))?,
            data: source.data.ok_or_else(|| required("data"))?,
        }),
        ("text", _) => source.data.map(DocumentSource::Text).ok_or_else(|| required("data")),
        ("url", _) => source.url.map(DocumentSource::Url).ok_or_else(|| required("url")),
        ("content", Some(TextOr::Text(text))) => Ok(DocumentSource::Text(text)),
        ("content", Some(TextOr::Parts(blocks))) => {
            Ok(DocumentSource::Text(blocks.into_iter().filter_map(|block| block.text).collect()))
        }
        _ => Err(wrong(&format!("{path}.source.type"), "base64, text, content or url")),
    }
}
