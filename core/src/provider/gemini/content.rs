//! The conversation in a request.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::chat::{
    Audio, ChatRequest, Document, DocumentSource, Image, Part, ResultPart, Role, ToolUse, Turn,
};
use crate::provider::document::object;

/// What Google documents for calls of tools whose seal is not known: they are taken without one.
const NO_SEAL: &str = "skip_thought_signature_validator";
/// Models that insist on seals.
const SEALING_MODELS: &str = "gemini-3";

#[derive(Serialize)]
pub(super) struct Content<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) role: Option<&'static str>,
    pub(super) parts: Vec<Piece<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Piece<'a> {
    Text(&'a str),
    InlineData(Blob<'a>),
    FileData(File<'a>),
    FunctionResponse(FunctionResponse<'a>),
    #[serde(untagged)]
    Call(Call<'a>),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Blob<'a> {
    mime_type: String,
    data: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct File<'a> {
    mime_type: &'static str,
    file_uri: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Call<'a> {
    function_call: FunctionCall<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thought_signature: Option<&'a str>,
}

#[derive(Serialize)]
struct FunctionCall<'a> {
    name: &'a str,
    args: &'a RawValue,
}

#[derive(Serialize)]
pub(super) struct FunctionResponse<'a> {
    name: &'a str,
    response: Response,
}

/// An object, whatever the tool gave.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Response {
    Result(String),
    Error(String),
    #[serde(untagged)]
    Object(Box<RawValue>),
}

/// The whole conversation. Thoughts stay here: Gemini wants back only their seals.
pub(super) fn contents(request: &ChatRequest) -> Vec<Content<'_>> {
    let sealing = request.model.contains(SEALING_MODELS);
    let mut names = HashMap::new();
    let mut contents = Vec::with_capacity(request.turns.len());
    for turn in &request.turns {
        for part in &turn.parts {
            if let Part::ToolUse(tool) = part {
                names.insert(tool.id.as_str(), tool.name.as_str());
            }
        }
        let parts = pieces(turn, &names, sealing);
        if !parts.is_empty() {
            let role = match turn.role {
                Role::User => "user",
                Role::Assistant => "model",
            };
            contents.push(Content { role: Some(role), parts });
        }
    }
    contents
}

fn pieces<'a>(turn: &'a Turn, names: &HashMap<&'a str, &'a str>, sealing: bool) -> Vec<Piece<'a>> {
    let mut pieces = Vec::with_capacity(turn.parts.len());
    let mut called = false;
    for part in &turn.parts {
        match part {
            Part::Text(text) if text.is_empty() => {}
            Part::Text(text) => pieces.push(Piece::Text(text)),
            Part::Image(image) => pieces.push(picture(image)),
            Part::Audio(Audio { format, data }) => {
                pieces.push(Piece::InlineData(Blob { mime_type: format!("audio/{format}"), data }));
            }
            Part::Document(document) => pieces.push(paper(document)),
            Part::Thought(_) => {}
            Part::ToolUse(tool) => {
                // Of several calls at once only the first has a seal.
                let needed = sealing && !std::mem::replace(&mut called, true);
                pieces.push(Piece::Call(call(tool, needed)));
            }
            Part::ToolResult { id, content, failed } => {
                let name = names.get(id.as_str()).copied().unwrap_or(id.as_str());
                let response = response(content, *failed);
                pieces.push(Piece::FunctionResponse(FunctionResponse { name, response }));
                pieces.extend(content.iter().filter_map(|piece| match piece {
                    ResultPart::Image(image) => Some(picture(image)),
                    ResultPart::Text(_) => None,
                }));
            }
        }
    }
    pieces
}

fn call(tool: &ToolUse, needs_seal: bool) -> Call<'_> {
    let thought_signature = tool.signature.as_deref().or(needs_seal.then_some(NO_SEAL));
    Call { function_call: FunctionCall { name: &tool.name, args: &tool.input }, thought_signature }
}

fn response(content: &[ResultPart], failed: bool) -> Response {
    let mut texts = content.iter().filter_map(|piece| match piece {
        ResultPart::Text(text) => Some(text.as_str()),
        ResultPart::Image(_) => None,
    });
    let first = texts.next().unwrap_or_default();
    let text = texts.fold(first.to_owned(), |joined, text| joined + "\n" + text);
    match object(&text).filter(|_| !text.trim_ascii().is_empty()) {
        _ if failed => Response::Error(text),
        Some(object) => Response::Object(object),
        None => Response::Result(text),
    }
}

fn picture(image: &Image) -> Piece<'_> {
    match image {
        Image::Base64 { media_type, data } => Piece::InlineData(Blob { mime_type: media_type.clone(), data }),
        Image::Url(url) => Piece::FileData(File { mime_type: media_type_of(url), file_uri: url }),
    }
}

fn paper(document: &Document) -> Piece<'_> {
    match &document.source {
        DocumentSource::Base64 { media_type, data } => {
            Piece::InlineData(Blob { mime_type: media_type.clone(), data })
        }
        DocumentSource::Text(text) => Piece::Text(text),
        DocumentSource::Url(url) => Piece::FileData(File { mime_type: "application/pdf", file_uri: url }),
    }
}

/// Google asks what lies at an address; its ending mostly tells.
fn media_type_of(url: &str) -> &'static str {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    match path.rsplit('.').next().unwrap_or_default().to_ascii_lowercase().as_str() {
        "png" => "image/png",
        "webp" => "image/webp",
        "gif" => "image/gif",
        "heic" => "image/heic",
        _ => "image/jpeg",
    }
}
