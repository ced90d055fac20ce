//! An event stream for a caller.

use serde::Serialize;

use super::answer::{UsageWritten, stop};
use crate::chat::{Finish, StreamError, StreamEvent, TokenUsage};
use crate::provider::{document, error_kind};
use crate::route::Protocol;

/// Writes events; knows which block is open, because Anthropic's blocks come one after another.
#[derive(Debug)]
pub struct Writer {
    request_id: String,
    started: bool,
    open: Option<Open>,
    blocks: u64,
    finish: Finish,
    usage: TokenUsage,
}

/// The block that deltas belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    Text,
    Thought,
    /// By the provider's number of the use.
    Tool(u64),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Event<'a> {
    MessageStart {
        message: Message<'a>,
    },
    ContentBlockStart {
        index: u64,
        content_block: Block<'a>,
    },
    ContentBlockDelta {
        index: u64,
        delta: Delta<'a>,
    },
    ContentBlockStop {
        index: u64,
    },
    MessageDelta {
        delta: Stop<'a>,
        usage: UsageWritten,
    },
    MessageStop,
    Ping,
    Error {
        error: ErrorWritten<'a>,
        #[serde(skip_serializing_if = "str::is_empty")]
        request_id: &'a str,
    },
}

#[derive(Serialize)]
struct Message<'a> {
    id: &'a str,
    r#type: &'static str,
    role: &'static str,
    model: &'a str,
    content: [(); 0],
    stop_reason: Option<&'static str>,
    stop_sequence: Option<&'static str>,
    usage: UsageWritten,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block<'a> {
    Text {
        text: &'static str,
    },
    Thinking {
        thinking: &'static str,
        signature: &'static str,
    },
    RedactedThinking {
        data: &'a str,
    },
    ToolUse {
        id: &'a str,
        name: &'a str,
        input: Empty,
        /// Gemini's seal, which its own callers send back.
        #[serde(skip_serializing_if = "Option::is_none")]
        signature: Option<&'a str>,
    },
}

#[derive(Serialize)]
struct Empty {}

#[derive(Serialize)]
#[serde(tag = "type")]
enum Delta<'a> {
    #[serde(rename = "text_delta")]
    Text { text: &'a str },
    #[serde(rename = "input_json_delta")]
    Input { partial_json: &'a str },
    #[serde(rename = "thinking_delta")]
    Thinking { thinking: &'a str },
    #[serde(rename = "signature_delta")]
    Signature { signature: &'a str },
}

#[derive(Serialize)]
struct Stop<'a> {
    stop_reason: &'static str,
    stop_sequence: Option<&'a str>,
}

#[derive(Serialize)]
struct ErrorWritten<'a> {
    r#type: &'a str,
    message: &'a str,
}

impl Writer {
    /// A writer at the start of a stream; errors carry `request_id`.
    pub fn new(request_id: &str) -> Self {
        Self {
            request_id: request_id.to_owned(),
            started: false,
            open: None,
            blocks: 0,
            finish: Finish::Stop,
            usage: TokenUsage::default(),
        }
    }

    /// Appends what `event` is in Anthropic's words; nothing for what only the end will tell.
    pub fn write(&mut self, event: StreamEvent, out: &mut Vec<u8>) {
        match event {
            StreamEvent::Start { id, model } => self.start(&id, &model, out),
            StreamEvent::Text(text) => {
                if self.open != Some(Open::Text) {
                    self.begin(Open::Text, Block::Text { text: "" }, out);
                }
                self.delta(Delta::Text { text: &text }, out);
            }
            StreamEvent::Thought(text) => {
                self.think(out);
                self.delta(Delta::Thinking { thinking: &text }, out);
            }
            StreamEvent::ThoughtSignature(signature) => {
                self.think(out);
                self.delta(Delta::Signature { signature: &signature }, out);
                self.close(out);
            }
            StreamEvent::RedactedThought(data) => {
                self.begin(Open::Thought, Block::RedactedThinking { data: &data }, out);
                self.close(out);
            }
            StreamEvent::Logprobs(_) => {}
            StreamEvent::ToolStart { index, id, name, signature } => {
                let signature = signature.as_deref();
                let block = Block::ToolUse { id: &id, name: &name, input: Empty {}, signature };
                self.begin(Open::Tool(index), block, out);
            }
            StreamEvent::ToolInput { json, .. } => {
                self.delta(Delta::Input { partial_json: &json }, out);
            }
            StreamEvent::Finish(finish) => self.finish = finish,
            StreamEvent::Usage(usage) => self.usage = usage,
            StreamEvent::Ping if self.started => push(out, "ping", &Event::Ping),
            StreamEvent::Ping => {}
            StreamEvent::End => self.end(out),
            StreamEvent::Error(error) => self.error(&error, out),
        }
    }

    /// Whether more of the input of the use `index` can be written now.
    pub fn takes_input_of(&self, index: u64) -> bool {
        self.open == Some(Open::Tool(index))
    }

    fn start(&mut self, id: &str, model: &str, out: &mut Vec<u8>) {
        self.started = true;
        let message = Message {
            id,
            r#type: "message",
            role: "assistant",
            model,
            content: [],
            stop_reason: None,
            stop_sequence: None,
            usage: self.usage.into(),
        };
        push(out, "message_start", &Event::MessageStart { message });
    }

    fn think(&mut self, out: &mut Vec<u8>) {
        if self.open != Some(Open::Thought) {
            self.begin(Open::Thought, Block::Thinking { thinking: "", signature: "" }, out);
        }
    }

    fn begin(&mut self, open: Open, content_block: Block<'_>, out: &mut Vec<u8>) {
        self.close(out);
        self.open = Some(open);
        push(out, "content_block_start", &Event::ContentBlockStart { index: self.blocks, content_block });
    }

    fn delta(&self, delta: Delta<'_>, out: &mut Vec<u8>) {
        push(out, "content_block_delta", &Event::ContentBlockDelta { index: self.blocks, delta });
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        if self.open.take().is_some() {
            push(out, "content_block_stop", &Event::ContentBlockStop { index: self.blocks });
            self.blocks += 1;
        }
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.close(out);
        let (stop_reason, stop_sequence) = stop(&self.finish);
        let delta = Stop { stop_reason, stop_sequence };
        push(out, "message_delta", &Event::MessageDelta { delta, usage: self.usage.into() });
        push(out, "message_stop", &Event::MessageStop);
    }

    fn error(&self, error: &StreamError, out: &mut Vec<u8>) {
        let kind = error_kind(Protocol::Anthropic, &error.kind);
        let error = ErrorWritten { r#type: kind, message: &error.message };
        push(out, "error", &Event::Error { error, request_id: &self.request_id });
    }
}

fn push(out: &mut Vec<u8>, name: &str, event: &Event<'_>) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\ndata: ");
    out.extend_from_slice(&document::write(event));
    out.extend_from_slice(b"\n\n");
}
