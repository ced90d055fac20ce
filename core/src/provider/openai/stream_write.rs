//! An event stream for a caller.

use serde::Serialize;
use serde_json::value::RawValue;

use super::answer::{ThinkingBlock, UsageWritten, reason};
use super::write_message::Extra;
use crate::chat::{Finish, StreamError, StreamEvent, TokenUsage};
use crate::provider::{Exchange, Front, document, error_kind};
use crate::route::Protocol;

/// `object` of a chat's chunks.
const CHUNK: &str = "chat.completion.chunk";
/// Longest thought kept for its seal, in bytes.
const THOUGHT_BYTES_MAX: usize = 1 << 20;

/// Writes events.
#[derive(Debug)]
pub struct Writer {
    created: u64,
    include_usage: bool,
    /// One of several choices: its number. Who writes all of them writes the end.
    choice: Option<u32>,
    id: String,
    model: String,
    /// Tool calls begun; OpenAI numbers them from 0, whatever else the answer holds.
    tools: u64,
    /// The provider's number of the use that is open, and whether it has any input yet.
    open: Option<(u64, bool)>,
    /// The thought so far, for the day its seal comes.
    thought: String,
    usage: TokenUsage,
}

/// What chunks of a stream and the older completions have around their choices.
#[derive(Serialize)]
pub(super) struct Envelope<'a, C> {
    pub(super) id: &'a str,
    pub(super) object: &'static str,
    pub(super) created: u64,
    pub(super) model: &'a str,
    pub(super) choices: &'a [C],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) usage: Option<UsageWritten>,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: u32,
    delta: Delta<'a>,
    logprobs: Option<&'a RawValue>,
    finish_reason: Option<&'static str>,
}

#[derive(Serialize, Default)]
struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_blocks: Option<[ThinkingBlock<'a>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<[Call<'a>; 1]>,
}

#[derive(Serialize)]
struct Call<'a> {
    index: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<&'static str>,
    function: Function<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extra_content: Option<Extra<'a>>,
}

#[derive(Serialize)]
struct Function<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    arguments: &'a str,
}

#[derive(Serialize)]
struct Failure<'a> {
    error: FailureFields<'a>,
}

#[derive(Serialize)]
struct FailureFields<'a> {
    message: &'a str,
    r#type: &'a str,
    param: Option<()>,
    code: Option<&'a str>,
}

impl Writer {
    /// A writer at the start of a stream; `created` is in Unix seconds.
    pub fn new(created: u64, include_usage: bool) -> Self {
        Self {
            created,
            include_usage,
            choice: None,
            id: String::new(),
            model: String::new(),
            tools: 0,
            open: None,
            thought: String::new(),
            usage: TokenUsage::default(),
        }
    }

    /// The writer of one of several choices of the answer `id`.
    pub fn of_choice(self, index: u32, id: &str) -> Self {
        Self { choice: Some(index), id: id.to_owned(), ..self }
    }

    /// The model, and what was used.
    pub fn told(&self) -> (&str, TokenUsage) {
        (&self.model, self.usage)
    }

    /// Appends what `event` is in OpenAI's words; nothing for what only the end will tell.
    pub fn write(&mut self, event: StreamEvent, out: &mut Vec<u8>) {
        match event {
            StreamEvent::Start { id, model } => {
                self.model = model;
                if self.choice.is_none() {
                    self.id = id;
                }
                let delta = Delta { role: Some("assistant"), content: Some(""), ..Delta::default() };
                self.say(delta, None, out);
            }
            StreamEvent::Text(text) => {
                self.say(Delta { content: Some(&text), ..Delta::default() }, None, out);
            }
            StreamEvent::Thought(text) => {
                self.keep_thought(&text);
                self.say(Delta { reasoning_content: Some(&text), ..Delta::default() }, None, out);
            }
            StreamEvent::ThoughtSignature(signature) => {
                let thinking = std::mem::take(&mut self.thought);
                let block = ThinkingBlock::Thinking { thinking: &thinking, signature: &signature };
                self.say(Delta { thinking_blocks: Some([block]), ..Delta::default() }, None, out);
            }
            StreamEvent::RedactedThought(data) => {
                let block = ThinkingBlock::RedactedThinking { data: &data };
                self.say(Delta { thinking_blocks: Some([block]), ..Delta::default() }, None, out);
            }
            StreamEvent::Logprobs(logprobs) => {
                self.chunk(Delta::default(), Some(&logprobs), None, out);
            }
            StreamEvent::ToolStart { index, id, name, signature } => {
                self.tool(index, &id, &name, signature.as_deref(), out);
            }
            StreamEvent::ToolInput { json, .. } => {
                self.open = self.open.map(|(index, _)| (index, true));
                self.input(&json, out);
            }
            StreamEvent::Finish(finish) => self.finish(&finish, out),
            StreamEvent::Usage(usage) => self.usage = usage,
            StreamEvent::Ping => out.extend_from_slice(b": ping\n\n"),
            StreamEvent::End => self.end(out),
            StreamEvent::Error(error) => fail(&error, out),
        }
    }

    /// Whether more of the input of the use `index` can be written now.
    pub fn takes_input_of(&self, index: u64) -> bool {
        self.open.is_some_and(|(open, _)| open == index)
    }

    /// A thought longer than any real one has no seal worth keeping it for.
    fn keep_thought(&mut self, text: &str) {
        if self.thought.len() + text.len() <= THOUGHT_BYTES_MAX {
            self.thought.push_str(text);
        }
    }

    fn tool(&mut self, index: u64, id: &str, name: &str, signature: Option<&str>, out: &mut Vec<u8>) {
        self.close_tool(out);
        self.open = Some((index, false));
        let function = Function { name: Some(name), arguments: "" };
        let extra_content = Extra::of(signature);
        let call =
            Call { index: self.tools, id: Some(id), r#type: Some("function"), function, extra_content };
        self.tools += 1;
        self.say(Delta { tool_calls: Some([call]), ..Delta::default() }, None, out);
    }

    fn input(&self, json: &str, out: &mut Vec<u8>) {
        let function = Function { name: None, arguments: json };
        let index = self.tools.saturating_sub(1);
        let call = Call { index, id: None, r#type: None, function, extra_content: None };
        self.say(Delta { tool_calls: Some([call]), ..Delta::default() }, None, out);
    }

    /// A tool without input has the empty object for one: OpenAI's callers parse what they get.
    fn close_tool(&mut self, out: &mut Vec<u8>) {
        if let Some((_, false)) = self.open.take() {
            self.input("{}", out);
        }
    }

    fn finish(&mut self, finish: &Finish, out: &mut Vec<u8>) {
        self.close_tool(out);
        self.say(Delta::default(), Some(reason(finish)), out);
    }

    fn end(&self, out: &mut Vec<u8>) {
        if self.choice.is_none() {
            let Self { id, model, usage, created, .. } = self;
            end(CHUNK, *created, &End { id, model, usage: *usage }, self.include_usage, out);
        }
    }

    fn say(&self, delta: Delta<'_>, finish_reason: Option<&'static str>, out: &mut Vec<u8>) {
        self.chunk(delta, None, finish_reason, out);
    }

    fn chunk(
        &self,
        delta: Delta<'_>,
        logprobs: Option<&RawValue>,
        finish_reason: Option<&'static str>,
        out: &mut Vec<u8>,
    ) {
        let Self { id, model, created, .. } = self;
        let choices = &[Choice { index: self.choice.unwrap_or(0), delta, logprobs, finish_reason }];
        push(out, &Envelope { id, object: CHUNK, created: *created, model, choices, usage: None });
    }
}

/// What the end of a stream tells.
pub struct End<'a> {
    /// The answer's id.
    pub id: &'a str,
    /// Who gave it.
    pub model: &'a str,
    /// What it used.
    pub usage: TokenUsage,
}

/// Ends a stream of chunks of this kind: with the usage, if it is wanted.
pub(super) fn end(
    object: &'static str,
    created: u64,
    said: &End<'_>,
    include_usage: bool,
    out: &mut Vec<u8>,
) {
    if include_usage {
        let End { id, model, usage } = *said;
        let choices: &[Choice<'_>] = &[];
        push(out, &Envelope { id, object, created, model, choices, usage: Some(usage.into()) });
    }
    out.extend_from_slice(b"data: [DONE]\n\n");
}

/// Ends the stream of several choices.
pub fn write_end(front: Front, exchange: &Exchange, said: &End<'_>, out: &mut Vec<u8>) {
    let object = if front == Front::Completions { "text_completion" } else { CHUNK };
    end(object, exchange.created, said, exchange.include_usage, out);
}

pub(super) fn fail(error: &StreamError, out: &mut Vec<u8>) {
    let kind = if error.kind.is_empty() { "api_error" } else { error_kind(Protocol::OpenAi, &error.kind) };
    let code = error.code.as_deref();
    push(out, &Failure { error: FailureFields { message: &error.message, r#type: kind, param: None, code } });
}

pub(super) fn push(out: &mut Vec<u8>, document: &impl Serialize) {
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(&document::write(document));
    out.extend_from_slice(b"\n\n");
}
