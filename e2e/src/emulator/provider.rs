//! Which provider a path belongs to, and what all providers do in their own way.

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, StatusCode};

use super::answer::Answer;
use super::fault::Refusal;
use super::{anthropic, azure, bedrock, ernie, gemini, openai};

/// An emulated provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Provider {
    OpenAi,
    Anthropic,
    Gemini,
    Azure,
    Bedrock,
    Ernie,
}

impl Provider {
    /// The provider at a path; what is nobody's is OpenAI's to refuse.
    pub(super) fn at(path: &str) -> Self {
        match path.split('/').nth(1).unwrap_or_default() {
            "anthropic" => Self::Anthropic,
            "gemini" | "vertex" => Self::Gemini,
            "azure" => Self::Azure,
            "bedrock" => Self::Bedrock,
            // Version 2 speaks as OpenAI does, also of its errors.
            "ernie" if !path.starts_with(ernie::V2_PATH) => Self::Ernie,
            _ => Self::OpenAi,
        }
    }

    pub(super) fn answer(self, head: &Parts, body: &[u8]) -> Answer {
        match self {
            Self::OpenAi if head.uri.path().starts_with(ernie::V2_PATH) => ernie::answer(head, body),
            Self::OpenAi => openai::answer(head, body),
            Self::Anthropic => anthropic::answer(head, body),
            Self::Gemini => gemini::answer(head, body),
            Self::Azure => azure::answer(head, body),
            Self::Bedrock => bedrock::answer(head, body),
            Self::Ernie => ernie::answer(head, body),
        }
    }

    /// Its usual error with this status.
    pub(super) fn canned_error(self, status: StatusCode) -> Answer {
        match self {
            Self::OpenAi => openai::canned_error(status),
            Self::Anthropic => anthropic::canned_error(status),
            Self::Gemini => gemini::canned_error(status),
            Self::Azure => azure::canned_error(status),
            Self::Bedrock => bedrock::canned_error(status),
            Self::Ernie => ernie::canned_error(status),
        }
    }

    /// Its own way of refusing for this reason.
    pub(super) fn refusal(self, refusal: Refusal) -> Answer {
        match self {
            Self::OpenAi => openai::refusal(refusal),
            Self::Anthropic => anthropic::refusal(refusal),
            Self::Gemini => gemini::refusal(refusal),
            Self::Azure => azure::refusal(refusal),
            Self::Bedrock => bedrock::refusal(refusal),
            Self::Ernie => ernie::refusal(refusal),
        }
    }

    /// What it sends when a stream fails in the middle.
    pub(super) fn error_event(self) -> Bytes {
        match self {
            Self::OpenAi | Self::Azure => openai::error_event(),
            Self::Anthropic => anthropic::error_event(),
            Self::Gemini => gemini::error_event(),
            Self::Bedrock => bedrock::error_event(),
            Self::Ernie => ernie::error_event(),
        }
    }

    /// Adds the headers that all its answers carry.
    pub(super) fn add_headers(self, headers: &mut HeaderMap) {
        match self {
            Self::OpenAi | Self::Azure => openai::add_headers(headers),
            Self::Anthropic => anthropic::add_headers(headers),
            Self::Gemini | Self::Bedrock | Self::Ernie => {}
        }
    }
}

/// The first value of a header, if it is text; `name` in lower case.
pub(super) fn header<'a>(head: &'a Parts, name: &str) -> Option<&'a str> {
    head.headers.get(name).and_then(|value| value.to_str().ok())
}

/// The bearer token of a request.
pub(super) fn bearer(head: &Parts) -> Option<&str> {
    header(head, "authorization")?.strip_prefix("Bearer ")
}

/// A parameter of the query, decoded.
pub(super) fn query(head: &Parts, name: &str) -> Option<String> {
    let query = head.uri.query().unwrap_or_default();
    let value = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    Some(decoded(value))
}

/// A part of an address without its percent signs (RFC 3986, 2.1).
pub(super) fn decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        out.extend_from_slice(before.as_bytes());
        match after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &after[2..];
            }
            None => {
                out.push(b'%');
                rest = after;
            }
        }
    }
    out.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_says_whose_it_is() {
        assert_eq!(Provider::at("/gemini/v1beta/models"), Provider::Gemini);
        assert_eq!(Provider::at("/ernie/v2/chat/completions"), Provider::OpenAi);
        assert_eq!(Provider::at("/ernie/oauth/2.0/token"), Provider::Ernie);
        assert_eq!(Provider::at("/"), Provider::OpenAi);
    }

    #[test]
    fn percent_signs_are_decoded() {
        assert_eq!(decoded("a%3A0%2fb%"), "a:0/b%");
        assert_eq!(decoded("%E4%BD%A0"), "你");
    }
}
