//! The items of a conversation.

use serde::Deserialize;

use crate::chat::{Document, DocumentSource, Image, Part, ResultPart, Role, Thought, ToolUse, Turn};
use crate::provider::document::{self, TextOr, missing, wrong};
use crate::provider::fit::Fit;
use crate::reply::Reply;

/// An item of any type; fields of no effect here are not looked at.
#[derive(Deserialize)]
pub(super) struct Item {
    r#type: Option<String>,
    role: Option<String>,
    content: Option<TextOr<PartDocument>>,
    call_id: Option<String>,
    name: Option<String>,
    arguments: Option<String>,
    output: Option<TextOr<PartDocument>>,
    summary: Option<Vec<Summary>>,
}

#[derive(Deserialize)]
struct Summary {
    #[serde(default)]
    text: String,
}

#[derive(Deserialize)]
struct PartDocument {
    r#type: String,
    text: Option<String>,
    refusal: Option<String>,
    image_url: Option<String>,
    filename: Option<String>,
    file_data: Option<String>,
    file_url: Option<String>,
}

/// A conversation's system texts and turns.
#[derive(Default)]
pub(super) struct Conversation {
    pub(super) system: Vec<String>,
    pub(super) turns: Vec<Turn>,
}

impl Conversation {
    /// Adds what one item says.
    pub(super) fn add(&mut self, item: Item, path: &str, fit: &mut Fit) -> Result<(), Reply> {
        let required = |field: &str| missing(&format!("{path}.{field}"));
        match item.r#type.as_deref().unwrap_or("message") {
            "message" => {
                let parts = parts(item.content.ok_or_else(|| required("content"))?, path, fit)?;
                match item.role.as_deref() {
                    Some("user") => self.say(Role::User, parts),
                    Some("assistant") => self.say(Role::Assistant, parts),
                    Some("system" | "developer") => {
                        self.system.extend(parts.into_iter().filter_map(|part| match part {
                            Part::Text(text) => Some(text),
                            _ => None,
                        }));
                    }
                    _ => return Err(wrong(&format!("{path}.role"), "user, assistant, system or developer")),
                }
            }
            "function_call" => {
                let arguments = item.arguments.ok_or_else(|| required("arguments"))?;
                let input = document::object(&arguments)
                    .ok_or_else(|| wrong(&format!("{path}.arguments"), "a JSON object as text"))?;
                let id = item.call_id.ok_or_else(|| required("call_id"))?;
                let name = item.name.ok_or_else(|| required("name"))?;
                let call = Part::ToolUse(ToolUse { id, name, input, signature: None });
                self.say(Role::Assistant, vec![call]);
            }
            "function_call_output" => {
                let id = item.call_id.ok_or_else(|| required("call_id"))?;
                let output = parts(item.output.ok_or_else(|| required("output"))?, path, fit)?;
                let content = output.into_iter().filter_map(|part| match part {
                    Part::Text(text) => Some(ResultPart::Text(text)),
                    Part::Image(image) => Some(ResultPart::Image(image)),
                    _ => None,
                });
                let result = Part::ToolResult { id, content: content.collect(), failed: false };
                self.say(Role::User, vec![result]);
            }
            "reasoning" => {
                let text: String = item.summary.into_iter().flatten().map(|summary| summary.text).collect();
                self.say(Role::Assistant, vec![Part::Thought(Thought { text, ..Thought::default() })]);
            }
            _ => fit.cannot(wrong(
                &format!("{path}.type"),
                "message, function_call, function_call_output or reasoning",
            ))?,
        }
        Ok(())
    }

    /// Neighbouring items of one side are one turn.
    pub(super) fn say(&mut self, role: Role, parts: Vec<Part>) {
        match self.turns.last_mut() {
            Some(last) if last.role == role => last.parts.extend(parts),
            _ if parts.is_empty() => {}
            _ => self.turns.push(Turn { role, parts }),
        }
    }
}

fn parts(content: TextOr<PartDocument>, path: &str, fit: &mut Fit) -> Result<Vec<Part>, Reply> {
    let documents = match content {
        TextOr::Text(text) => return Ok(vec![Part::Text(text)]),
        TextOr::Parts(documents) => documents,
    };
    let mut parts = Vec::with_capacity(documents.len());
    for (index, part) in documents.into_iter().enumerate() {
        parts.extend(content_part(part, &format!("{path}.content[{index}]"), fit)?);
    }
    Ok(parts)
}

fn content_part(part: PartDocument, path: &str, fit: &mut Fit) -> Result<Option<Part>, Reply> {
    let required = |field: &str| missing(&format!("{path}.{field}"));
    Ok(Some(match part.r#type.as_str() {
        "input_text" | "output_text" | "text" => Part::Text(part.text.ok_or_else(|| required("text"))?),
        "refusal" => Part::Text(part.refusal.ok_or_else(|| required("refusal"))?),
        "input_image" => {
            let url = part.image_url.ok_or_else(|| required("image_url"))?;
            let image = Image::of_url(&url);
            Part::Image(image.ok_or_else(|| wrong(&format!("{path}.image_url"), "a URL, or data in base64"))?)
        }
        "input_file" => {
            let source = match (part.file_data, part.file_url) {
                (Some(data), _) => {
                    let inline = data.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,"));
                    let (media_type, data) = inline.unwrap_or(("application/pdf", &data));
                    DocumentSource::Base64 { media_type: media_type.to_owned(), data: data.to_owned() }
                }
                (None, Some(url)) => DocumentSource::Url(url),
                (None, None) => return Err(required("file_data")),
            };
            Part::Document(Document { name: part.filename, source })
        }
        _ => {
            fit.cannot(wrong(&format!("{path}.type"), "input_text, input_image or input_file"))?;
            return Ok(None);
        }
    }))
}
