//! Answers kept by meaning: whole, good ones only, as one JSON document in the protocol they
//! came in, and replayed as that document or as a stream of events.

mod anthropic;
mod openai;
mod pieces;

use serde_json::Value;

use super::Kind;
use crate::route::Protocol;
use crate::sse::Parser;

/// Why an answer is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// It is not a whole, good answer.
    Incomplete,
    /// It has no text.
    Empty,
    /// It asks for tools, which is not allowed.
    Tools,
}

impl Unfit {
    /// The word for it in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Incomplete => "incomplete",
            Self::Empty => "empty",
            Self::Tools => "tools",
        }
    }
}

/// An answer to keep.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// The document.
    pub body: Vec<u8>,
    /// Its text.
    pub text: String,
}

/// What is looked at in a document to decide.
struct Outline {
    text: String,
    has_tools: bool,
    /// The provider said that it was at its end, and not because of its rules.
    ended_well: bool,
}

/// Reads a whole answer.
///
/// # Errors
/// It is not one to keep.
pub fn keep(protocol: Protocol, kind: Kind, body: &[u8], allow_tools: bool) -> Result<Kept, Unfit> {
    let document = match kind {
        Kind::Json => serde_json::from_slice(body).map_err(|_| Unfit::Incomplete)?,
        Kind::Sse => match protocol {
            Protocol::OpenAi => openai::fold(body),
            Protocol::Anthropic => anthropic::fold(body),
        }
        .ok_or(Unfit::Incomplete)?,
    };
    let outline = match protocol {
        Protocol::OpenAi => openai::outline(&document),
        Protocol::Anthropic => anthropic::outline(&document),
    };
    let outline = outline.filter(|outline| outline.ended_well).ok_or(Unfit::Incomplete)?;
    if outline.has_tools && !allow_tools {
        return Err(Unfit::Tools);
    }
    if outline.text.is_empty() && !outline.has_tools {
        return Err(Unfit::Empty);
    }
    let body = match kind {
        Kind::Json => body.to_vec(),
        Kind::Sse => serde_json::to_vec(&document).map_err(|_| Unfit::Incomplete)?,
    };
    Ok(Kept { body, text: outline.text })
}

/// The events of a kept answer, each as bytes ready to be sent; `None` for a document that
/// [`keep`] did not make. OpenAI's callers get usage if `include_usage`.
#[must_use]
pub fn events(protocol: Protocol, body: &[u8], include_usage: bool) -> Option<Vec<Vec<u8>>> {
    let document: Value = serde_json::from_slice(body).ok()?;
    match protocol {
        Protocol::OpenAi => openai::events(&document, include_usage),
        Protocol::Anthropic => anthropic::events(&document),
    }
}

/// The text of a kept answer.
#[must_use]
pub fn text(protocol: Protocol, body: &[u8]) -> Option<String> {
    let document: Value = serde_json::from_slice(body).ok()?;
    let outline = match protocol {
        Protocol::OpenAi => openai::outline(&document),
        Protocol::Anthropic => anthropic::outline(&document),
    };
    outline.map(|outline| outline.text)
}

/// Calls `each` with the data of every event of a whole stream. A stream that ends with a line in
/// place of the blank one that would make it an event has it added.
fn each_data(stream: &[u8], mut each: impl FnMut(&[u8])) {
    let mut parser = Parser::new();
    for chunk in [stream, b"\n\n"] {
        parser.push(chunk, |event| {
            if !event.data.is_empty() {
                // A truncated event is no JSON, which fails the whole.
                each(event.data);
            }
        });
    }
}

#[cfg(test)]
mod tests;
