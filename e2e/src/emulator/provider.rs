//! Which provider a path belongs to.

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};

use super::answer::Answer;
use super::{anthropic, openai};

/// An emulated provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Provider {
    OpenAi,
    Anthropic,
}

impl Provider {
    /// The provider at a path; what is nobody's is OpenAI's to refuse.
    pub(super) fn at(path: &str) -> Self {
        if path.starts_with("/anthropic/") { Self::Anthropic } else { Self::OpenAi }
    }

    pub(super) fn answer(self, method: &Method, path: &str, headers: &HeaderMap, body: &[u8]) -> Answer {
        match self {
            Self::OpenAi => openai::answer(method, path, headers, body),
            Self::Anthropic => anthropic::answer(method, path, headers, body),
        }
    }

    /// Its usual error with this status.
    pub(super) fn canned_error(self, status: StatusCode) -> Answer {
        match self {
            Self::OpenAi => openai::canned_error(status),
            Self::Anthropic => anthropic::canned_error(status),
        }
    }

    /// What it sends when a stream fails in the middle.
    pub(super) fn error_event(self) -> Bytes {
        match self {
            Self::OpenAi => openai::error_event(),
            Self::Anthropic => anthropic::error_event(),
        }
    }

    /// Adds the headers that all its answers carry.
    pub(super) fn add_headers(self, headers: &mut HeaderMap) {
        match self {
            Self::OpenAi => openai::add_headers(headers),
            Self::Anthropic => anthropic::add_headers(headers),
        }
    }
}
