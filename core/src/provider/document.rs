//! Reading and writing JSON documents: strictly, and with the path of what is wrong.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::IgnoredAny;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::fit::Fit;
use crate::reply::{Code, Reply};

/// Reads a request. Errors never quote values, which may be part of a prompt.
pub(super) fn read<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, Reply> {
    let mut json = serde_json::Deserializer::from_slice(body);
    serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let cause = error.into_inner();
        let text = cause.to_string();
        if cause.is_syntax() || cause.is_eof() {
            let place = format!("line {}, column {}", cause.line(), cause.column());
            return Reply::new(Code::InvalidJson, format!("The body is not valid JSON at {place}."));
        }
        if text.starts_with("unknown field") {
            return unsupported(&path);
        }
        match text.strip_prefix("missing field `").and_then(|rest| rest.split('`').next()) {
            Some(field) if path == "." => missing(field),
            Some(field) => missing(&format!("{path}.{field}")),
            None => wrong(&path, "of another kind"),
        }
    })
}

/// Strings, numbers and checked JSON cannot fail to serialise; an empty body would be the worst
/// outcome.
pub(super) fn write(document: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(document).unwrap_or_default()
}

/// A field that there is no word for on the other side.
pub(super) fn unsupported(field: &str) -> Reply {
    let message = format!("Field `{field}` is not supported by this model's provider; remove it.");
    Reply::new(Code::InvalidRequest, message).with_param(field)
}

/// A value that there is no word for on the other side; `what` is one there is.
pub(super) fn wrong(field: &str, what: &str) -> Reply {
    Reply::new(Code::InvalidRequest, format!("Field `{field}` must be {what} for this model's provider."))
        .with_param(field)
}

/// Fields of a request that the other side has no words for. Clients write `null` for what they do
/// not ask for.
pub(super) type Others = BTreeMap<String, Option<IgnoredAny>>;

/// Refuses the fields that are asked for and no `hints`, which may be left out without changing the
/// answer.
pub(super) fn refuse_others(others: &Others, hints: &[&str], fit: &mut Fit) -> Result<(), Reply> {
    let asked = others.iter().filter(|(_, value)| value.is_some()).map(|(field, _)| field);
    for field in asked.filter(|field| !hints.contains(&field.as_str())) {
        fit.cannot(unsupported(field))?;
    }
    Ok(())
}

/// A field that must be there.
pub(super) fn missing(field: &str) -> Reply {
    Reply::new(Code::InvalidRequest, format!("Field `{field}` is missing.")).with_param(field)
}

/// The JSON object in `text`, as written; an empty text is an empty object.
pub(super) fn object(text: &str) -> Option<Box<RawValue>> {
    let text = if text.trim_ascii().is_empty() { "{}" } else { text.trim_ascii() };
    let raw = RawValue::from_string(text.to_owned()).ok()?;
    raw.get().starts_with('{').then_some(raw)
}

/// Content as both protocols write it: a text, or a list of parts. Unlike an untagged enum it
/// keeps raw JSON raw and knows the path of a mistake.
pub(super) enum TextOr<T> {
    Text(String),
    Parts(Vec<T>),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for TextOr<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Either<T> {
            type Value = TextOr<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(TextOr::Text(text.to_owned()))
            }
            fn visit_string<E: Error>(self, text: String) -> Result<Self::Value, E> {
                Ok(TextOr::Text(text))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(TextOr::Parts)
            }
        }
        deserializer.deserialize_any(Either(PhantomData))
    }
}

/// Answers' content in OpenAI's protocol is a text, but some servers send parts, with thinking
/// among them.
#[derive(Deserialize)]
pub(super) struct Piece {
    text: Option<String>,
    /// As Mistral writes it: pieces again.
    thinking: Option<TextOr<Piece>>,
}

impl TextOr<Piece> {
    /// The text there is, and the thoughts.
    pub(super) fn joined(self) -> (String, String) {
        let (mut text, mut thoughts) = (String::new(), String::new());
        match self {
            Self::Text(whole) => text = whole,
            Self::Parts(pieces) => {
                for Piece { text: piece, thinking } in pieces {
                    text.push_str(&piece.unwrap_or_default());
                    thoughts.push_str(&thinking.map(Self::joined).unwrap_or_default().0);
                }
            }
        }
        (text, thoughts)
    }
}
