//! The conversation in a caller's request.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::chat::{
    Audio, CacheTtl, Document, DocumentSource, Image, Part, ResultPart, Role, Thought, ToolUse, Turn,
};
use crate::provider::caching;
use crate::provider::document::{self, TextOr, missing, unsupported, wrong};
use crate::provider::fit::Fit;
use crate::reply::Reply;

/// Fields of no effect here (`name`, `refusal`, `annotations`, `audio`) are not looked at.
#[derive(Deserialize)]
pub(super) struct Message {
    role: RoleName,
    content: Option<TextOr<PartDocument>>,
    tool_calls: Option<Vec<Call>>,
    tool_call_id: Option<String>,
    /// What thinking models said beside `content`, as DeepSeek names it.
    reasoning_content: Option<String>,
    /// The same with Anthropic's seals, as LiteLLM names it.
    thinking_blocks: Option<Vec<ThinkingBlock>>,
    /// For the whole message, as callers of LiteLLM mark one whose content is a text.
    cache_control: Option<caching::Found>,
}

/// What is said in a request.
#[derive(Default)]
pub(super) struct Conversation {
    pub(super) system: Vec<String>,
    pub(super) system_cache: BTreeMap<usize, CacheTtl>,
    pub(super) turns: Vec<Turn>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum RoleName {
    System,
    Developer,
    User,
    Assistant,
    Tool,
}

#[derive(Deserialize)]
struct PartDocument {
    r#type: String,
    text: Option<String>,
    refusal: Option<String>,
    image_url: Option<ImageUrl>,
    input_audio: Option<InputAudio>,
    file: Option<File>,
    cache_control: Option<caching::Found>,
}

/// As an object, or its URL alone, as callers of LiteLLM may write it.
#[derive(Deserialize)]
#[serde(untagged)]
enum ImageUrl {
    Object { url: String },
    Url(String),
}

#[derive(Deserialize)]
struct InputAudio {
    data: String,
    format: String,
}

#[derive(Deserialize)]
struct File {
    filename: Option<String>,
    file_data: Option<String>,
}

#[derive(Deserialize)]
struct ThinkingBlock {
    thinking: Option<String>,
    signature: Option<String>,
    data: Option<String>,
}

#[derive(Deserialize)]
struct Call {
    id: String,
    r#type: String,
    function: Option<CalledFunction>,
    extra_content: Option<Extra>,
}

#[derive(Deserialize)]
struct CalledFunction {
    name: String,
    arguments: String,
}

/// Where Google's own OpenAI-compatible API puts Gemini's seal.
#[derive(Deserialize)]
struct Extra {
    google: Option<GoogleExtra>,
}

#[derive(Deserialize)]
struct GoogleExtra {
    thought_signature: Option<String>,
}

/// System and developer messages go together, wherever they stand; what a tool gave is said by
/// the user; neighbouring messages of one side are one turn.
pub(super) fn conversation(messages: Vec<Message>, fit: &mut Fit) -> Result<Conversation, Reply> {
    let mut conversation = Conversation::default();
    for (index, mut message) in messages.into_iter().enumerate() {
        let path = format!("messages[{index}]");
        let cache = message.cache_control.take().map(|found| found.ttl(&path)).transpose()?;
        let role = match message.role {
            RoleName::System | RoleName::Developer => {
                let parts = spoken(message.content, &path, fit)?;
                conversation.instruct(parts.into_iter().chain(cache.map(Part::CachePoint)));
                continue;
            }
            RoleName::User | RoleName::Tool => Role::User,
            RoleName::Assistant => Role::Assistant,
        };
        let mut parts = parts(message, &path, fit)?;
        if !parts.is_empty() {
            parts.extend(cache.map(Part::CachePoint));
            conversation.say(role, parts);
        }
    }
    Ok(conversation)
}

impl Conversation {
    fn instruct(&mut self, parts: impl Iterator<Item = Part>) {
        for part in parts {
            match part {
                Part::Text(text) => self.system.push(text),
                Part::CachePoint(ttl) => {
                    let last = self.system.len().checked_sub(1);
                    self.system_cache.extend(last.map(|last| (last, ttl)));
                }
                _ => {}
            }
        }
    }

    fn say(&mut self, role: Role, parts: Vec<Part>) {
        match self.turns.last_mut() {
            Some(last) if last.role == role => last.parts.extend(parts),
            _ => self.turns.push(Turn { role, parts }),
        }
    }
}

fn parts(message: Message, path: &str, fit: &mut Fit) -> Result<Vec<Part>, Reply> {
    let mut parts = match (message.role, message.tool_call_id) {
        (RoleName::Tool, Some(id)) => {
            let (mut content, mut cache) = (Vec::new(), None);
            for (index, part) in contents(message.content, path, fit)?.into_iter().enumerate() {
                match part {
                    Part::Text(text) => content.push(ResultPart::Text(text)),
                    Part::Image(image) => content.push(ResultPart::Image(image)),
                    Part::CachePoint(_) => cache = Some(part),
                    _ => fit.cannot(wrong(&format!("{path}.content[{index}].type"), "text or image_url"))?,
                }
            }
            let result = Part::ToolResult { id, content, failed: false };
            return Ok(std::iter::once(result).chain(cache).collect());
        }
        (RoleName::Tool, None) => return Err(missing(&format!("{path}.tool_call_id"))),
        (RoleName::User, _) => contents(message.content, path, fit)?,
        _ => {
            let mut parts = thoughts(message.reasoning_content, message.thinking_blocks);
            parts.extend(spoken(message.content, path, fit)?);
            parts
        }
    };
    for (index, call) in message.tool_calls.unwrap_or_default().into_iter().enumerate() {
        let path = format!("{path}.tool_calls[{index}]");
        if message.role != RoleName::Assistant {
            return Err(wrong(&path, "in an assistant's message"));
        }
        parts.push(Part::ToolUse(tool_use(call, &path)?));
    }
    Ok(parts)
}

fn thoughts(text: Option<String>, blocks: Option<Vec<ThinkingBlock>>) -> Vec<Part> {
    let thought = |block: ThinkingBlock| {
        Part::Thought(Thought {
            text: block.thinking.unwrap_or_default(),
            signature: block.signature,
            redacted: block.data,
        })
    };
    match (blocks, text.filter(|text| !text.is_empty())) {
        (Some(blocks), _) if !blocks.is_empty() => blocks.into_iter().map(thought).collect(),
        (_, Some(text)) => vec![Part::Thought(Thought { text, ..Thought::default() })],
        _ => Vec::new(),
    }
}

fn tool_use(call: Call, path: &str) -> Result<ToolUse, Reply> {
    let function = call
        .function
        .filter(|_| call.r#type == "function")
        .ok_or_else(|| wrong(&format!("{path}.type"), "function"))?;
    let input = document::object(&function.arguments)
        .ok_or_else(|| wrong(&format!("{path}.function.arguments"), "a JSON object as text"))?;
    let signature = call.extra_content.and_then(|extra| extra.google?.thought_signature);
    Ok(ToolUse { id: call.id, name: function.name, input, signature })
}

/// Text only, and what of it is worth caching; empty texts are left out.
fn spoken(content: Option<TextOr<PartDocument>>, path: &str, fit: &mut Fit) -> Result<Vec<Part>, Reply> {
    let mut spoken = Vec::new();
    let mut index = 0;
    for part in contents(content, path, fit)? {
        match part {
            Part::CachePoint(_) => spoken.push(part),
            Part::Text(_) => {
                spoken.push(part);
                index += 1;
            }
            _ => {
                fit.cannot(wrong(&format!("{path}.content[{index}].type"), "text"))?;
                index += 1;
            }
        }
    }
    Ok(spoken)
}

/// Texts, pictures, sound and files; empty texts are left out.
fn contents(content: Option<TextOr<PartDocument>>, path: &str, fit: &mut Fit) -> Result<Vec<Part>, Reply> {
    let mut parts = Vec::new();
    match content {
        None => {}
        Some(TextOr::Text(text)) => parts.push(Part::Text(text)),
        Some(TextOr::Parts(found)) => {
            for (index, mut part) in found.into_iter().enumerate() {
                let path = format!("{path}.content[{index}]");
                let cache = part.cache_control.take().map(|found| found.ttl(&path)).transpose()?;
                parts.extend(content_part(part, &path, fit)?);
                parts.extend(cache.map(Part::CachePoint));
            }
        }
    }
    parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
    if parts.iter().all(|part| matches!(part, Part::CachePoint(_))) {
        parts.clear();
    }
    Ok(parts)
}

fn content_part(part: PartDocument, path: &str, fit: &mut Fit) -> Result<Option<Part>, Reply> {
    let required = |field: &str| missing(&format!("{path}.{field}"));
    Ok(Some(match part.r#type.as_str() {
        "text" => Part::Text(part.text.ok_or_else(|| required("text"))?),
        "refusal" => Part::Text(part.refusal.ok_or_else(|| required("refusal"))?),
        "image_url" => {
            let (ImageUrl::Object { url } | ImageUrl::Url(url)) =
                part.image_url.ok_or_else(|| required("image_url"))?;
            Part::Image(
                Image::of_url(&url)
                    .ok_or_else(|| wrong(&format!("{path}.image_url.url"), "a URL, or data in base64"))?,
            )
        }
        "input_audio" => {
            let InputAudio { data, format } = part.input_audio.ok_or_else(|| required("input_audio"))?;
            Part::Audio(Audio { format, data })
        }
        "file" => {
            let File { filename, file_data } = part.file.ok_or_else(|| required("file"))?;
            let Some((media_type, data)) = file_data.as_deref().and_then(data_url) else {
                fit.cannot(unsupported(&format!("{path}.file.file_id")))?;
                return Ok(None);
            };
            let source = DocumentSource::Base64 { media_type: media_type.to_owned(), data: data.to_owned() };
            Part::Document(Document { name: filename, source })
        }
        _ => {
            fit.cannot(wrong(&format!("{path}.type"), "text, image_url, input_audio or file"))?;
            return Ok(None);
        }
    }))
}

/// `data:image/png;base64,...` as media type and data.
fn data_url(url: &str) -> Option<(&str, &str)> {
    url.strip_prefix("data:")?.split_once(";base64,")
}
