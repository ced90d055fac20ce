//! A caller's request.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::chat::{ChatRequest, Image, Part, ResultPart, Role, Tool, ToolChoice, ToolUse, Turn};
use crate::provider::document::{self, TextOr, missing, wrong};
use crate::reply::Reply;

/// Most stop texts, as in OpenAI's API.
const STOPS_MAX: usize = 4;

/// The fields that other protocols have words for, and those that are harmless at one value.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a JSON object")]
struct Document {
    model: String,
    messages: Vec<Message>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    stop: Option<TextOr<String>>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    tools: Option<Vec<ToolDocument>>,
    tool_choice: Option<Choice>,
    parallel_tool_calls: Option<bool>,
    user: Option<String>,
    n: Option<u64>,
    logprobs: Option<bool>,
    frequency_penalty: Option<f64>,
    presence_penalty: Option<f64>,
    response_format: Option<Typed>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StreamOptions {
    include_usage: Option<bool>,
    #[serde(rename = "include_obfuscation")]
    _include_obfuscation: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Typed {
    r#type: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    role: RoleName,
    content: Option<TextOr<PartDocument>>,
    tool_calls: Option<Vec<Call>>,
    tool_call_id: Option<String>,
    #[serde(rename = "name")]
    _name: Option<IgnoredAny>,
    #[serde(rename = "refusal")]
    _refusal: Option<IgnoredAny>,
    #[serde(rename = "annotations")]
    _annotations: Option<IgnoredAny>,
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
    image_url: Option<ImageUrl>,
}

#[derive(Deserialize)]
struct ImageUrl {
    url: String,
}

#[derive(Deserialize)]
struct Call {
    id: String,
    r#type: String,
    function: Option<CalledFunction>,
}

#[derive(Deserialize)]
struct CalledFunction {
    name: String,
    arguments: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ToolDocument {
    r#type: String,
    function: Option<Function>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
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
pub fn read_request(body: &[u8]) -> Result<ChatRequest, Reply> {
    let document: Document = document::read(body)?;
    document.refuse_the_impossible()?;
    let (system, turns) = conversation(document.messages)?;
    let tools = document.tools.unwrap_or_default().into_iter().enumerate();
    Ok(ChatRequest {
        model: document.model,
        system,
        turns,
        tokens_max: document.max_completion_tokens.or(document.max_tokens),
        temperature: document.temperature,
        top_p: document.top_p,
        top_k: None,
        stops: stops(document.stop)?,
        stream: document.stream.unwrap_or(false),
        include_usage: document.stream_options.and_then(|o| o.include_usage).unwrap_or(false),
        tools: tools.map(tool).collect::<Result<_, _>>()?,
        tool_choice: document.tool_choice.map(choice).transpose()?,
        parallel_tools: document.parallel_tool_calls,
        user: document.user,
    })
}

impl Document {
    fn refuse_the_impossible(&self) -> Result<(), Reply> {
        let cannot = |field, asked: bool, can| if asked { Err(wrong(field, can)) } else { Ok(()) };
        let penalises = |penalty: Option<f64>| penalty.is_some_and(|p| p != 0.0);
        cannot("n", self.n.is_some_and(|n| n != 1), "1")?;
        cannot("logprobs", self.logprobs == Some(true), "false")?;
        cannot("frequency_penalty", penalises(self.frequency_penalty), "0")?;
        cannot("presence_penalty", penalises(self.presence_penalty), "0")?;
        let format = self.response_format.as_ref();
        cannot("response_format", format.is_some_and(|f| f.r#type != "text"), "of type text")?;
        cannot("max_tokens", self.max_tokens == Some(0), "at least 1")?;
        cannot("max_completion_tokens", self.max_completion_tokens == Some(0), "at least 1")
    }
}

/// System and developer messages go together, wherever they stand; what a tool gave is said by
/// the user; neighbouring messages of one side are one turn.
fn conversation(messages: Vec<Message>) -> Result<(Vec<String>, Vec<Turn>), Reply> {
    let (mut system, mut turns) = (Vec::new(), Vec::<Turn>::new());
    for (index, message) in messages.into_iter().enumerate() {
        let path = format!("messages[{index}]");
        let role = match message.role {
            RoleName::System | RoleName::Developer => {
                system.extend(texts(message.content, &path)?);
                continue;
            }
            RoleName::User | RoleName::Tool => Role::User,
            RoleName::Assistant => Role::Assistant,
        };
        let parts = parts(message, &path)?;
        match turns.last_mut() {
            Some(last) if last.role == role => last.parts.extend(parts),
            _ if parts.is_empty() => {}
            _ => turns.push(Turn { role, parts }),
        }
    }
    Ok((system, turns))
}

fn parts(message: Message, path: &str) -> Result<Vec<Part>, Reply> {
    let mut parts = match (message.role, message.tool_call_id) {
        (RoleName::Tool, Some(id)) => {
            let content = texts(message.content, path)?.into_iter().map(ResultPart::Text).collect();
            return Ok(vec![Part::ToolResult { id, content, failed: false }]);
        }
        (RoleName::Tool, None) => return Err(missing(&format!("{path}.tool_call_id"))),
        (RoleName::User, _) => contents(message.content, path)?,
        _ => texts(message.content, path)?.into_iter().map(Part::Text).collect(),
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

fn tool_use(call: Call, path: &str) -> Result<ToolUse, Reply> {
    let function = call
        .function
        .filter(|_| call.r#type == "function")
        .ok_or_else(|| wrong(&format!("{path}.type"), "function"))?;
    let input = document::object(&function.arguments)
        .ok_or_else(|| wrong(&format!("{path}.function.arguments"), "a JSON object as text"))?;
    Ok(ToolUse { id: call.id, name: function.name, input })
}

/// Text only; empty texts are left out.
fn texts(content: Option<TextOr<PartDocument>>, path: &str) -> Result<Vec<String>, Reply> {
    let texts = contents(content, path)?.into_iter().enumerate().map(|(index, part)| match part {
        Part::Text(text) => Ok(text),
        _ => Err(wrong(&format!("{path}.content[{index}].type"), "text")),
    });
    texts.collect()
}

/// Texts and pictures; empty texts are left out.
fn contents(content: Option<TextOr<PartDocument>>, path: &str) -> Result<Vec<Part>, Reply> {
    let mut parts = match content {
        None => return Ok(Vec::new()),
        Some(TextOr::Text(text)) => vec![Part::Text(text)],
        Some(TextOr::Parts(parts)) => {
            let read = |(index, part)| content_part(part, &format!("{path}.content[{index}]"));
            parts.into_iter().enumerate().map(read).collect::<Result<Vec<_>, _>>()?
        }
    };
    parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
    Ok(parts)
}

fn content_part(part: PartDocument, path: &str) -> Result<Part, Reply> {
    match (part.r#type.as_str(), part.text, part.image_url) {
        ("text", Some(text), _) => Ok(Part::Text(text)),
        ("text", None, _) => Err(missing(&format!("{path}.text"))),
        ("image_url", _, Some(image)) => image_of(&image.url, path).map(Part::Image),
        ("image_url", _, None) => Err(missing(&format!("{path}.image_url"))),
        _ => Err(wrong(&format!("{path}.type"), "text or image_url")),
    }
}

/// `data:image/png;base64,...`, or where the picture is.
fn image_of(url: &str, path: &str) -> Result<Image, Reply> {
    let Some(inline) = url.strip_prefix("data:") else { return Ok(Image::Url(url.to_owned())) };
    let (media_type, data) = inline
        .split_once(";base64,")
        .ok_or_else(|| wrong(&format!("{path}.image_url.url"), "a URL, or data in base64"))?;
    Ok(Image::Base64 { media_type: media_type.to_owned(), data: data.to_owned() })
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
fn tool((index, tool): (usize, ToolDocument)) -> Result<Tool, Reply> {
    let path = format!("tools[{index}]");
    let function = tool
        .function
        .filter(|_| tool.r#type == "function")
        .ok_or_else(|| wrong(&format!("{path}.type"), "function"))?;
    if function.strict == Some(true) {
        return Err(wrong(&format!("{path}.function.strict"), "false"));
    }
    let none = || document::object(r#"{"type":"object","properties":{}}"#);
    let schema = function.parameters.or_else(none).ok_or_else(|| missing(&format!("{path}.function")))?;
    Ok(Tool { name: function.name, description: function.description, schema })
}

fn choice(choice: Choice) -> Result<ToolChoice, Reply> {
    match choice {
        Choice::Named { function } => Ok(ToolChoice::Named(function.name)),
        Choice::Mode(mode) => match mode.as_str() {
            "auto" => Ok(ToolChoice::Auto),
            "none" => Ok(ToolChoice::None),
            "required" => Ok(ToolChoice::Any),
            _ => Err(wrong("tool_choice", "auto, none, required or a function")),
        },
    }
}
