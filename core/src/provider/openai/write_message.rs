//! The conversation in a request to a provider.

use std::borrow::Cow;

use serde::Serialize;

use crate::chat::{
    Audio, ChatRequest, Document, DocumentSource, Image, Part, ResultPart, Role, ToolUse, Turn,
};
use crate::provider::{Dialect, Fit, document};
use crate::reply::Reply;

#[derive(Serialize)]
#[serde(tag = "role", rename_all = "lowercase")]
pub(super) enum Message<'a> {
    System {
        content: String,
    },
    User {
        content: Content<'a>,
    },
    Assistant {
        content: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        reasoning_content: Option<String>,
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
pub(super) enum Content<'a> {
    Text(&'a str),
    Parts(Vec<ContentPart<'a>>),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum ContentPart<'a> {
    Text { text: Cow<'a, str> },
    ImageUrl { image_url: ImageUrl },
    InputAudio { input_audio: InputAudio<'a> },
    File { file: File<'a> },
}

#[derive(Serialize)]
pub(super) struct InputAudio<'a> {
    data: &'a str,
    format: &'a str,
}

#[derive(Serialize)]
pub(super) struct File<'a> {
    filename: &'a str,
    file_data: String,
}

#[derive(Serialize)]
pub(super) struct ImageUrl {
    url: String,
}

#[derive(Serialize)]
pub(super) struct Call<'a> {
    id: &'a str,
    r#type: &'static str,
    function: CalledFunction<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extra_content: Option<Extra<'a>>,
}

/// Where Google's own OpenAI-compatible API puts Gemini's seal.
#[derive(Serialize)]
pub(super) struct Extra<'a> {
    google: GoogleExtra<'a>,
}

#[derive(Serialize)]
struct GoogleExtra<'a> {
    thought_signature: &'a str,
}

impl<'a> Extra<'a> {
    /// The extra of a call, if there is anything to say.
    pub(super) fn of(signature: Option<&'a str>) -> Option<Self> {
        Some(Self { google: GoogleExtra { thought_signature: signature? } })
    }
}

#[derive(Serialize)]
struct CalledFunction<'a> {
    name: &'a str,
    arguments: &'a str,
}

impl<'a> From<&'a ToolUse> for Call<'a> {
    fn from(tool: &'a ToolUse) -> Self {
        let function = CalledFunction { name: &tool.name, arguments: tool.input.get() };
        let extra_content = Extra::of(tool.signature.as_deref());
        Self { id: &tool.id, r#type: "function", function, extra_content }
    }
}

/// The whole conversation. Thoughts go back only where they are wanted: elsewhere they are the
/// model's own scratch paper.
pub(super) fn messages<'a>(
    request: &'a ChatRequest,
    dialect: &Dialect,
    fit: &mut Fit,
) -> Result<Vec<Message<'a>>, Reply> {
    let mut messages = Vec::with_capacity(request.turns.len() + 1);
    if !request.system.is_empty() {
        let content = request.system.join("\n");
        messages.push(Message::System { content });
    }
    for turn in &request.turns {
        match turn.role {
            Role::User => user(turn, &mut messages, fit)?,
            Role::Assistant => messages.push(assistant(turn, dialect.keeps_thoughts)),
        }
    }
    Ok(messages)
}

/// What tools gave comes first, as OpenAI wants it right after the calls.
fn user<'a>(turn: &'a Turn, messages: &mut Vec<Message<'a>>, fit: &mut Fit) -> Result<(), Reply> {
    let mut said = Vec::new();
    for part in &turn.parts {
        match part {
            Part::Text(text) => said.push(ContentPart::Text { text: text.into() }),
            Part::Image(image) => said.push(ContentPart::ImageUrl { image_url: image_url(image) }),
            Part::ToolResult { id, content, .. } => {
                messages.push(Message::Tool { tool_call_id: id, content: texts(content) });
                said.extend(pictures(id, content));
            }
            Part::Audio(Audio { format, data }) => {
                said.push(ContentPart::InputAudio { input_audio: InputAudio { data, format } });
            }
            Part::Document(document) => said.extend(file(document, fit)?),
            Part::ToolUse(_) | Part::Thought(_) => {}
        }
    }
    match *said.as_slice() {
        [] => {}
        [ContentPart::Text { text: Cow::Borrowed(text) }] => {
            messages.push(Message::User { content: Content::Text(text) });
        }
        _ => messages.push(Message::User { content: Content::Parts(said) }),
    }
    Ok(())
}

fn file<'a>(document: &'a Document, fit: &mut Fit) -> Result<Option<ContentPart<'a>>, Reply> {
    let filename = document.name.as_deref().unwrap_or("document.pdf");
    Ok(match &document.source {
        DocumentSource::Text(text) => Some(ContentPart::Text { text: text.into() }),
        DocumentSource::Base64 { media_type, data } => {
            let file_data = format!("data:{media_type};base64,{data}");
            Some(ContentPart::File { file: File { filename, file_data } })
        }
        DocumentSource::Url(_) => {
            fit.cannot(document::wrong("messages", "without documents by URL"))?;
            None
        }
    })
}

fn texts(content: &[ResultPart]) -> String {
    let texts = content.iter().filter_map(|piece| match piece {
        ResultPart::Text(text) => Some(text.as_str()),
        ResultPart::Image(_) => None,
    });
    texts.collect::<Vec<_>>().join("\n")
}

/// A tool's message has no room for pictures: the user shows them, and says whose they are.
fn pictures<'a>(id: &str, content: &'a [ResultPart]) -> Vec<ContentPart<'a>> {
    let shown = content.iter().filter_map(|piece| match piece {
        ResultPart::Image(image) => Some(ContentPart::ImageUrl { image_url: image_url(image) }),
        ResultPart::Text(_) => None,
    });
    let mut shown: Vec<_> = shown.collect();
    if !shown.is_empty() {
        shown.insert(0, ContentPart::Text { text: format!("Given by tool call {id}:").into() });
    }
    shown
}

fn assistant(turn: &Turn, with_thoughts: bool) -> Message<'_> {
    let (mut text, mut thoughts, mut tool_calls) = (String::new(), String::new(), Vec::new());
    for part in &turn.parts {
        match part {
            Part::Text(piece) => text.push_str(piece),
            Part::ToolUse(tool) => tool_calls.push(Call::from(tool)),
            Part::Thought(thought) if with_thoughts => thoughts.push_str(&thought.text),
            Part::Thought(_)
            | Part::Image(_)
            | Part::Audio(_)
            | Part::Document(_)
            | Part::ToolResult { .. } => {}
        }
    }
    let content = Some(text).filter(|text| !text.is_empty() || tool_calls.is_empty());
    let reasoning_content = Some(thoughts).filter(|text| !text.is_empty());
    Message::Assistant { content, reasoning_content, tool_calls }
}

fn image_url(image: &Image) -> ImageUrl {
    ImageUrl {
        url: match image {
            Image::Base64 { media_type, data } => format!("data:{media_type};base64,{data}"),
            Image::Url(url) => url.clone(),
        },
    }
}
