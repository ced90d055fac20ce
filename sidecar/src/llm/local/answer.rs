//! A local model's answers in OpenAI's form, whole and as events.

use std::time::SystemTime;

use bytes::Bytes;
use serde::Serialize;
use tidegate_core::route::Endpoint;
use tidegate_core::sse::Usage;

use super::model::Finish;
use super::task::any_number;

/// The end of an event stream.
pub const DONE: &[u8] = b"data: [DONE]\n\n";

/// What all events of one answer share.
#[derive(Debug)]
pub struct Writer {
    endpoint: Endpoint,
    id: String,
    created: u64,
    model: String,
}

#[derive(Serialize)]
struct Document<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: &'a [Choice<'a>],
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Counts>,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: u32,
    #[serde(flatten)]
    content: Content<'a>,
    logprobs: Option<()>,
    finish_reason: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Content<'a> {
    Message { role: &'static str, content: &'a str, refusal: Option<()> },
    Delta(Delta<'a>),
    Text(&'a str),
}

#[derive(Serialize)]
struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
}

#[derive(Serialize)]
#[expect(clippy::struct_field_names, reason = "the names are OpenAI's")]
struct Counts {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
}

impl From<Usage> for Counts {
    fn from(usage: Usage) -> Self {
        let Usage { prompt_tokens, completion_tokens, cached_tokens: _ } = usage;
        Self { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens }
    }
}

const fn reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
    }
}

impl Writer {
    /// Begins an answer of `model`, with an id of its own.
    #[must_use]
    pub fn new(endpoint: Endpoint, model: &str) -> Self {
        let prefix = if endpoint == Endpoint::ChatCompletions { "chatcmpl" } else { "cmpl" };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self {
            endpoint,
            id: format!("{prefix}-{:016x}", any_number()),
            created: now.map_or(0, |d| d.as_secs()),
            model: model.to_owned(),
        }
    }

    const fn is_chat(&self) -> bool {
        matches!(self.endpoint, Endpoint::ChatCompletions)
    }

    /// The whole answer as one JSON document.
    #[must_use]
    pub fn whole(&self, text: &str, finish: Finish, usage: Usage) -> Vec<u8> {
        let (object, content) = if self.is_chat() {
            ("chat.completion", Content::Message { role: "assistant", content: text, refusal: None })
        } else {
            ("text_completion", Content::Text(text))
        };
        let choice = Choice { index: 0, content, logprobs: None, finish_reason: Some(reason(finish)) };
        to_json(&self.document(object, &[choice], Some(usage)))
    }

    /// The event that opens a chat answer; completions have none.
    #[must_use]
    pub fn opening(&self) -> Option<Bytes> {
        let delta = Delta { role: Some("assistant"), content: Some("") };
        self.is_chat().then(|| self.event(Content::Delta(delta), None))
    }

    /// A piece of text.
    #[must_use]
    pub fn piece(&self, text: &str) -> Bytes {
        self.event(self.content(Some(text)), None)
    }

    /// The last event of the choice, then the usage if asked for, then the stream's end.
    #[must_use]
    pub fn closing(&self, finish: Finish, usage: Option<Usage>) -> Bytes {
        let mut out = self.event(self.content(None), Some(reason(finish))).to_vec();
        if usage.is_some() {
            out.extend_from_slice(&frame(&self.document(self.chunk_object(), &[], usage)));
        }
        out.extend_from_slice(DONE);
        out.into()
    }

    const fn content<'a>(&self, text: Option<&'a str>) -> Content<'a> {
        match (self.is_chat(), text) {
            (true, content) => Content::Delta(Delta { role: None, content }),
            (false, Some(text)) => Content::Text(text),
            (false, None) => Content::Text(""),
        }
    }

    const fn chunk_object(&self) -> &'static str {
        if self.is_chat() { "chat.completion.chunk" } else { "text_completion" }
    }

    fn event(&self, content: Content<'_>, finish_reason: Option<&'static str>) -> Bytes {
        let choice = Choice { index: 0, content, logprobs: None, finish_reason };
        frame(&self.document(self.chunk_object(), &[choice], None)).into()
    }

    fn document<'a>(
        &'a self,
        object: &'static str,
        choices: &'a [Choice<'a>],
        usage: Option<Usage>,
    ) -> Document<'a> {
        let Self { id, created, model, .. } = self;
        Document { id, object, created: *created, model, choices, usage: usage.map(Counts::from) }
    }
}

fn frame(document: &Document<'_>) -> Vec<u8> {
    let mut out = b"data: ".to_vec();
    out.extend_from_slice(&to_json(document));
    out.extend_from_slice(b"\n\n");
    out
}

/// Strings and numbers cannot fail to serialise; an empty body would be the worst outcome.
fn to_json(document: &Document<'_>) -> Vec<u8> {
    serde_json::to_vec(document).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer(endpoint: Endpoint) -> Writer {
        Writer { endpoint, id: "id".into(), created: 7, model: "m".into() }
    }

    const USAGE: Usage = Usage { prompt_tokens: 2, cached_tokens: 0, completion_tokens: 3 };

    #[test]
    fn a_whole_chat_answer_is_openais() {
        let body = writer(Endpoint::ChatCompletions).whole("hi", Finish::Stop, USAGE);
        assert_eq!(
            String::from_utf8(body).expect("utf-8"),
            concat!(
                r#"{"id":"id","object":"chat.completion","created":7,"model":"m","choices":[{"index":0,"#,
                r#""message":{"role":"assistant","content":"hi","refusal":null},"logprobs":null,"#,
                r#""finish_reason":"stop"}],"usage":{"prompt_tokens":2,"completion_tokens":3,"total_tokens":5}}"#,
            )
        );
    }

    #[test]
    fn a_whole_completion_is_openais() {
        let body = writer(Endpoint::Completions).whole("hi", Finish::Length, USAGE);
        let body = String::from_utf8(body).expect("utf-8");
        assert!(body.contains(r#""object":"text_completion""#), "{body}");
        assert!(
            body.contains(r#"{"index":0,"text":"hi","logprobs":null,"finish_reason":"length"}"#),
            "{body}"
        );
    }

    #[test]
    fn chat_events_open_go_on_and_close() {
        let writer = writer(Endpoint::ChatCompletions);
        let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).expect("utf-8");
        let opening = text(writer.opening().expect("chat has one"));
        assert!(opening.contains(r#""delta":{"role":"assistant","content":""}"#), "{opening}");
        assert!(text(writer.piece("a\n")).contains(r#""delta":{"content":"a\n"}"#));
        let closing = text(writer.closing(Finish::Length, Some(USAGE)));
        let events: Vec<_> = closing.split_terminator("\n\n").collect();
        assert_eq!(events.len(), 3, "{closing}");
        assert!(events[0].contains(r#""delta":{},"logprobs":null,"finish_reason":"length""#), "{closing}");
        assert!(events[1].contains(r#""choices":[],"usage":{"prompt_tokens":2"#), "{closing}");
        assert_eq!(events[2], "data: [DONE]");
        assert!(!text(writer.closing(Finish::Stop, None)).contains("usage"));
    }

    #[test]
    fn completion_events_have_text() {
        let writer = writer(Endpoint::Completions);
        assert!(writer.opening().is_none());
        let piece = writer.piece("a");
        assert!(piece.starts_with(b"data: {") && piece.ends_with(b"}\n\n"));
        assert!(String::from_utf8_lossy(&piece).contains(r#""text":"a""#));
    }
}
