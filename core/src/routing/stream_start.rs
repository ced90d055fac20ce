//! How a stream begins. Until its first token has gone to the caller, a stream that fails can be
//! begun again elsewhere; what comes before it (a role, a ping, an empty block) is no token yet.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::route::Protocol;
use crate::sse::{Event, Parser};

/// What has been seen of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamStartKind {
    /// Nothing that a caller would miss.
    Preamble,
    /// A token, or the end.
    Content,
    /// An error before any token.
    Error,
}

/// Watches a stream until its first token or its error.
#[derive(Debug)]
pub struct StreamStart {
    protocol: Protocol,
    parser: Parser,
    kind: StreamStartKind,
}

impl StreamStart {
    /// The start of a stream in `protocol`.
    #[must_use]
    pub fn new(protocol: Protocol) -> Self {
        Self { protocol, parser: Parser::new(), kind: StreamStartKind::Preamble }
    }

    /// Feeds one chunk, split anywhere; the first token or error decides for good.
    pub fn push(&mut self, chunk: &[u8]) -> StreamStartKind {
        let (protocol, kind) = (self.protocol, &mut self.kind);
        self.parser.push(chunk, |event| {
            if *kind == StreamStartKind::Preamble {
                *kind = judge(protocol, &event);
            }
        });
        self.kind
    }
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    choices: Option<Vec<Choice<'a>>>,
    #[serde(borrow, default)]
    r#type: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow, default)]
    delta: Option<std::collections::BTreeMap<&'a str, &'a RawValue>>,
    #[serde(borrow, default)]
    text: Option<&'a RawValue>,
    #[serde(borrow, default)]
    finish_reason: Option<&'a RawValue>,
}

fn judge(protocol: Protocol, event: &Event<'_>) -> StreamStartKind {
    if event.name == b"error" {
        return StreamStartKind::Error;
    }
    match protocol {
        Protocol::Anthropic => match event.name {
            b"message_start" | b"content_block_start" | b"ping" => StreamStartKind::Preamble,
            _ => StreamStartKind::Content,
        },
        Protocol::OpenAi => serde_json::from_slice::<Chunk<'_>>(event.data)
            .map_or(StreamStartKind::Content, |chunk| judge_chunk(&chunk)),
    }
}

fn judge_chunk(chunk: &Chunk<'_>) -> StreamStartKind {
    const RESPONSES_PREAMBLE: [&str; 5] = [
        "\"response.created\"",
        "\"response.queued\"",
        "\"response.in_progress\"",
        "\"response.output_item.added\"",
        "\"response.content_part.added\"",
    ];
    if chunk.error.is_some_and(says_something) {
        return StreamStartKind::Error;
    }
    if let Some(kind) = chunk.r#type.map(RawValue::get) {
        return match kind {
            "\"error\"" | "\"response.failed\"" => StreamStartKind::Error,
            kind if RESPONSES_PREAMBLE.contains(&kind) => StreamStartKind::Preamble,
            _ => StreamStartKind::Content,
        };
    }
    let Some(choices) = &chunk.choices else { return StreamStartKind::Content };
    let has_token = choices.iter().any(|choice| {
        let in_delta =
            choice.delta.iter().flatten().any(|(key, value)| *key != "role" && says_something(value));
        in_delta
            || choice.text.is_some_and(says_something)
            || choice.finish_reason.is_some_and(says_something)
    });
    if has_token { StreamStartKind::Content } else { StreamStartKind::Preamble }
}

fn says_something(value: &RawValue) -> bool {
    !matches!(value.get(), "null" | "\"\"" | "[]" | "{}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(protocol: Protocol, stream: &str) -> StreamStartKind {
        let mut whole = StreamStart::new(protocol);
        let kind = whole.push(stream.as_bytes());
        let mut split = StreamStart::new(protocol);
        let last = stream.as_bytes().chunks(3).map(|part| split.push(part)).last();
        assert_eq!(last.unwrap_or(StreamStartKind::Preamble), kind, "split: {stream}");
        kind
    }

    #[test]
    fn a_role_or_a_ping_is_no_token() {
        for (protocol, stream) in [
            (Protocol::OpenAi, ""),
            (
                Protocol::OpenAi,
                ": ping\n\ndata: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
            ),
            (Protocol::OpenAi, "data: {\"choices\":[],\"prompt_filter_results\":[{}]}\n\n"),
            (Protocol::OpenAi, "data: {\"type\":\"response.created\"}\n\n"),
            (Protocol::OpenAi, "data: {\"choices\":[{\"delta\":{\"content\":\"half"),
            (Protocol::Anthropic, "event: message_start\ndata: {}\n\nevent: ping\ndata: {}\n\n"),
        ] {
            assert_eq!(start(protocol, stream), StreamStartKind::Preamble, "{stream}");
        }
    }

    #[test]
    fn the_first_token_and_the_first_error_decide() {
        let role = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n";
        let token = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n";
        let error = "data: {\"error\":{\"message\":\"overloaded\"}}\n\n";
        for (stream, kind) in [
            (format!("{role}{token}{error}"), StreamStartKind::Content),
            (format!("{role}{error}{token}"), StreamStartKind::Error),
            (format!("{role}data: [DONE]\n\n"), StreamStartKind::Content),
            (
                "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0}]}}]}\n\n".to_owned(),
                StreamStartKind::Content,
            ),
            ("data: {\"choices\":[{\"text\":\"a\"}]}\n\n".to_owned(), StreamStartKind::Content),
            ("data: {\"type\":\"response.failed\"}\n\n".to_owned(), StreamStartKind::Error),
            ("data: what is this\n\n".to_owned(), StreamStartKind::Content),
        ] {
            assert_eq!(start(Protocol::OpenAi, &stream), kind, "{stream}");
        }
        for (stream, kind) in [
            ("event: message_start\ndata: {}\n\nevent: error\ndata: {}\n\n", StreamStartKind::Error),
            ("event: content_block_delta\ndata: {}\n\n", StreamStartKind::Content),
        ] {
            assert_eq!(start(Protocol::Anthropic, stream), kind, "{stream}");
        }
    }
}
