//! A request to a provider.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::chat::{ChatRequest, Image, Part, ResultPart, Role, Tool, ToolChoice, ToolUse, Turn};
use crate::provider::{TokenLimitField, document};
use crate::reply::Reply;

/// Most stop texts that OpenAI takes.
const STOPS_MAX: usize = 4;

#[derive(Serialize)]
struct Document<'a> {
    model: &'a str,
    messages: Vec<Message<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    stop: &'a [String],
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<StreamOptions>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<ToolDocument<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Choice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parallel_tool_calls: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Serialize)]
#[serde(tag = "role", rename_all = "lowercase")]
enum Message<'a> {
    System {
        content: String,
    },
    User {
        content: Content<'a>,
    },
    Assistant {
        content: Option<String>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<Call<'a>>,
    },
    Tool {
        tool_call_id: &'a str,
        content: String,
    },
}

#[derive(Serialize)]
#[serde(untagged)]
enum Content<'a> {
    Text(&'a str),
    Parts(Vec<ContentPart<'a>>),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ContentPart<'a> {
    Text { text: &'a str },
    ImageUrl { image_url: ImageUrl },
}

#[derive(Serialize)]
struct ImageUrl {
    url: String,
}

#[derive(Serialize)]
pub(super) struct Call<'a> {
    id: &'a str,
    r#type: &'static str,
    function: CalledFunction<'a>,
}

#[derive(Serialize)]
struct CalledFunction<'a> {
    name: &'a str,
    arguments: &'a str,
}

impl<'a> From<&'a ToolUse> for Call<'a> {
    fn from(tool: &'a ToolUse) -> Self {
        let function = CalledFunction { name: &tool.name, arguments: tool.input.get() };
        Self { id: &tool.id, r#type: "function", function }
    }
}

#[derive(Serialize)]
struct ToolDocument<'a> {
    r#type: &'static str,
    function: Function<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    parameters: &'a RawValue,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Choice<'a> {
    Mode(&'static str),
    Named { r#type: &'static str, function: NamedFunction<'a> },
}

#[derive(Serialize)]
struct NamedFunction<'a> {
    name: &'a str,
}

/// Writes a request.
pub fn write_request(request: &ChatRequest, limit: TokenLimitField) -> Result<Vec<u8>, Reply> {
    if request.top_k.is_some() {
        return Err(document::unsupported("top_k"));
    }
    if request.stops.len() > STOPS_MAX {
        return Err(document::wrong("stop_sequences", "at most 4 texts"));
    }
    let (older, newer) = match limit {
        TokenLimitField::MaxTokens => (request.tokens_max, None),
        TokenLimitField::MaxCompletionTokens => (None, request.tokens_max),
    };
    Ok(document::write(&Document {
        model: &request.model,
        messages: messages(request)?,
        max_tokens: older,
        max_completion_tokens: newer,
        temperature: request.temperature,
        top_p: request.top_p,
        stop: &request.stops,
        stream: request.stream,
        // Every other protocol's streams report usage without being asked.
        stream_options: request.stream.then_some(StreamOptions { include_usage: true }),
        tools: request.tools.iter().map(tool).collect(),
        tool_choice: request.tool_choice.as_ref().map(choice),
        parallel_tool_calls: request.parallel_tools.filter(|_| !request.tools.is_empty()),
        user: request.user.as_deref(),
    }))
}

fn messages(request: &ChatRequest) -> Result<Vec<Message<'_>>, Reply> {
    let mut messages = Vec::with_capacity(request.turns.len() + 1);
    if !request.system.is_empty() {
        messages.push(Message::System { content: request.system.join("\n") });
    }
    for turn in &request.turns {
        match turn.role {
            Role::User => user(turn, &mut messages)?,
            Role::Assistant => messages.push(assistant(turn)),
        }
    }
    Ok(messages)
}

/// What tools gave comes first, as OpenAI wants it right after the calls.
fn user<'a>(turn: &'a Turn, messages: &mut Vec<Message<'a>>) -> Result<(), Reply> {
    let mut said = Vec::new();
    for part in &turn.parts {
        match part {
            Part::Text(text) => said.push(ContentPart::Text { text }),
            Part::Image(image) => said.push(ContentPart::ImageUrl { image_url: image_url(image) }),
            Part::ToolResult { id, content, .. } => {
                messages.push(Message::Tool { tool_call_id: id, content: result(content)? });
            }
            Part::ToolUse(_) => {}
        }
    }
    match *said.as_slice() {
        [] => {}
        [ContentPart::Text { text }] => messages.push(Message::User { content: Content::Text(text) }),
        _ => messages.push(Message::User { content: Content::Parts(said) }),
    }
    Ok(())
}

fn result(content: &[ResultPart]) -> Result<String, Reply> {
    let texts = content.iter().map(|piece| match piece {
        ResultPart::Text(text) => Ok(text.as_str()),
        ResultPart::Image(_) => Err(document::wrong("messages", "without pictures in tool results")),
    });
    Ok(texts.collect::<Result<Vec<_>, _>>()?.join("\n"))
}

fn assistant(turn: &Turn) -> Message<'_> {
    let (mut text, mut tool_calls) = (String::new(), Vec::new());
    for part in &turn.parts {
        match part {
            Part::Text(piece) => text.push_str(piece),
            Part::ToolUse(tool) => tool_calls.push(Call::from(tool)),
            Part::Image(_) | Part::ToolResult { .. } => {}
        }
    }
    let content = Some(text).filter(|text| !text.is_empty() || tool_calls.is_empty());
    Message::Assistant { content, tool_calls }
}

fn image_url(image: &Image) -> ImageUrl {
    ImageUrl {
        url: match image {
            Image::Base64 { media_type, data } => format!("data:{media_type};base64,{data}"),
            Image::Url(url) => url.clone(),
        },
    }
}

fn tool(tool: &Tool) -> ToolDocument<'_> {
    let Tool { name, description, schema } = tool;
    let function = Function { name, description: description.as_deref(), parameters: schema };
    ToolDocument { r#type: "function", function }
}

fn choice(choice: &ToolChoice) -> Choice<'_> {
    match choice {
        ToolChoice::Auto => Choice::Mode("auto"),
        ToolChoice::None => Choice::Mode("none"),
        ToolChoice::Any => Choice::Mode("required"),
        ToolChoice::Named(name) => Choice::Named { r#type: "function", function: NamedFunction { name } },
    }
}
