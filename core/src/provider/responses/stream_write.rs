//! An event stream for a caller.

use serde::Serialize;

use super::object::{Failure, Item, Part, Response, State, Summary, item_id, response};
use crate::chat::{Finish, StreamError, StreamEvent, TokenUsage};
use crate::provider::{Exchange, document};

/// Longest answer kept for the events that repeat it whole, in bytes.
const OUTPUT_BYTES_MAX: usize = 8 << 20;

/// Writes events, each with its number; keeps the output, which the last events repeat.
#[derive(Debug)]
pub struct Writer {
    exchange: Exchange,
    model: String,
    sequence: u64,
    output: Vec<Item>,
    bytes: usize,
    /// The provider's number of the tool whose use is the last item, while that is open.
    open: Option<Open>,
    finish: Finish,
    usage: TokenUsage,
    whole: Option<Vec<u8>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    Thought,
    Text,
    Tool(u64),
}

#[derive(Serialize)]
struct Event<'a, T> {
    r#type: &'a str,
    sequence_number: u64,
    #[serde(flatten)]
    rest: T,
}

#[derive(Serialize)]
struct Whole<'a> {
    response: Response<'a>,
}

#[derive(Serialize)]
struct OfItem<'a> {
    output_index: usize,
    item: &'a Item,
}

/// Where a part stands: texts by `content_index`, thoughts by `summary_index`.
#[derive(Serialize)]
struct At<'a, T> {
    item_id: &'a str,
    output_index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_index: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary_index: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<[(); 0]>,
    #[serde(flatten)]
    rest: T,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Piece<'a> {
    Delta(&'a str),
    Text(&'a str),
    Arguments(&'a str),
    Part(&'a Part),
    #[serde(rename = "part")]
    Summary(&'a Summary),
}

#[derive(Serialize)]
struct ErrorFields<'a> {
    code: Option<&'a str>,
    message: &'a str,
    param: Option<()>,
}

impl Writer {
    /// A writer at the start of a stream.
    pub fn new(exchange: &Exchange) -> Self {
        Self {
            exchange: exchange.clone(),
            model: exchange.model.clone(),
            sequence: 0,
            output: Vec::new(),
            bytes: 0,
            open: None,
            finish: Finish::Stop,
            usage: TokenUsage::default(),
            whole: None,
        }
    }

    /// Appends what `event` is in the Responses API's words.
    pub fn write(&mut self, event: StreamEvent, out: &mut Vec<u8>) {
        match event {
            StreamEvent::Start { model, .. } => {
                self.model = model;
                self.whole("response.created", &State::InProgress, out);
                self.whole("response.in_progress", &State::InProgress, out);
            }
            StreamEvent::Thought(text) => self.grow(Open::Thought, &text, out),
            StreamEvent::Text(text) => self.grow(Open::Text, &text, out),
            StreamEvent::ToolStart { index, id, name, .. } => {
                self.close(out);
                let item_id = item_id("fc", &self.exchange.answer_id, self.output.len() as u64);
                let (arguments, status) = (String::new(), "in_progress");
                self.begin(
                    Open::Tool(index),
                    Item::FunctionCall { id: item_id, call_id: id, name, arguments, status },
                    out,
                );
            }
            StreamEvent::ToolInput { index, json } => self.grow(Open::Tool(index), &json, out),
            StreamEvent::Finish(finish) => self.finish = finish,
            StreamEvent::Usage(usage) => self.usage = usage,
            StreamEvent::Ping => out.extend_from_slice(b": ping\n\n"),
            StreamEvent::End => self.end(out),
            StreamEvent::Error(error) => self.error(&error, out),
            StreamEvent::ThoughtSignature(_) | StreamEvent::RedactedThought(_) | StreamEvent::Logprobs(_) => {
            }
        }
    }

    /// Whether more of the input of the use `index` can be written now.
    pub fn takes_input_of(&self, index: u64) -> bool {
        self.open == Some(Open::Tool(index))
    }

    /// The whole response, once the stream has ended well.
    pub fn take_whole(&mut self) -> Option<Vec<u8>> {
        self.whole.take()
    }

    fn begin(&mut self, open: Open, item: Item, out: &mut Vec<u8>) {
        self.open = Some(open);
        self.output.push(item);
        self.item("response.output_item.added", out);
        match open {
            Open::Text => {
                self.piece("response.content_part.added", &Piece::Part(&Part::new(String::new())), out)
            }
            Open::Thought => {
                let part = Summary { text: String::new() };
                self.piece("response.reasoning_summary_part.added", &Piece::Summary(&part), out);
            }
            Open::Tool(_) => {}
        }
    }

    fn grow(&mut self, open: Open, text: &str, out: &mut Vec<u8>) {
        if self.open != Some(open) {
            self.close(out);
            let index = self.output.len() as u64;
            let id = |prefix| item_id(prefix, &self.exchange.answer_id, index);
            let item = match open {
                Open::Thought => Item::Reasoning { id: id("rs"), summary: Vec::new() },
                _ => Item::Message {
                    id: id("msg"),
                    status: "in_progress",
                    role: "assistant",
                    content: Vec::new(),
                },
            };
            self.begin(open, item, out);
        }
        let name = match open {
            Open::Thought => "response.reasoning_summary_text.delta",
            Open::Text => "response.output_text.delta",
            Open::Tool(_) => "response.function_call_arguments.delta",
        };
        self.piece(name, &Piece::Delta(text), out);
        self.bytes = self.bytes.saturating_add(text.len());
        if self.bytes > OUTPUT_BYTES_MAX {
            return;
        }
        match self.output.last_mut() {
            Some(Item::Reasoning { summary, .. }) => match summary.last_mut() {
                Some(part) => part.text.push_str(text),
                None => summary.push(Summary { text: text.to_owned() }),
            },
            Some(Item::Message { content, .. }) => match content.last_mut() {
                Some(part) => part.text.push_str(text),
                None => content.push(Part::new(text.to_owned())),
            },
            Some(Item::FunctionCall { arguments, .. }) => arguments.push_str(text),
            None => {}
        }
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        let Some(open) = self.open.take() else { return };
        if let Some(Item::FunctionCall { arguments, .. }) = self.output.last_mut()
            && arguments.is_empty()
        {
            arguments.push_str("{}");
        }
        if let Some(Item::FunctionCall { status, .. } | Item::Message { status, .. }) = self.output.last_mut()
        {
            *status = "completed";
        }
        let last = self.output.last().cloned();
        match (open, last) {
            (Open::Text, Some(Item::Message { content, .. })) => {
                let part = content.into_iter().next().unwrap_or(Part::new(String::new()));
                self.piece("response.output_text.done", &Piece::Text(&part.text), out);
                self.piece("response.content_part.done", &Piece::Part(&part), out);
            }
            (Open::Thought, Some(Item::Reasoning { summary, .. })) => {
                let part = summary.into_iter().next().unwrap_or(Summary { text: String::new() });
                self.piece("response.reasoning_summary_text.done", &Piece::Text(&part.text), out);
                self.piece("response.reasoning_summary_part.done", &Piece::Summary(&part), out);
            }
            (Open::Tool(_), Some(Item::FunctionCall { arguments, .. })) => {
                self.piece("response.function_call_arguments.done", &Piece::Arguments(&arguments), out);
            }
            _ => {}
        }
        self.item("response.output_item.done", out);
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.close(out);
        let finish = self.finish.clone();
        let name = match finish {
            Finish::Length | Finish::Refusal => "response.incomplete",
            Finish::Stop | Finish::StopText(_) | Finish::ToolUse => "response.completed",
        };
        self.whole(name, &State::Finished(&finish, self.usage), out);
        let state = State::Finished(&finish, self.usage);
        self.whole = Some(document::write(&response(&self.exchange, &self.model, &self.output, &state)));
    }

    fn error(&mut self, error: &StreamError, out: &mut Vec<u8>) {
        let code = error.code.as_deref();
        let fields = ErrorFields { code, message: &error.message, param: None };
        self.push("error", &fields, out);
        let failure = Failure { code: code.unwrap_or("server_error"), message: &error.message };
        self.whole("response.failed", &State::Failed(failure), out);
    }

    fn whole(&mut self, name: &str, state: &State<'_>, out: &mut Vec<u8>) {
        let sequence_number = self.next();
        let rest = Whole { response: response(&self.exchange, &self.model, &self.output, state) };
        push(name, &Event { r#type: name, sequence_number, rest }, out);
    }

    fn item(&mut self, name: &str, out: &mut Vec<u8>) {
        let sequence_number = self.next();
        let Some(item) = self.output.last() else { return };
        let rest = OfItem { output_index: self.output.len() - 1, item };
        push(name, &Event { r#type: name, sequence_number, rest }, out);
    }

    fn piece(&mut self, name: &str, rest: &Piece<'_>, out: &mut Vec<u8>) {
        let sequence_number = self.next();
        let Some(item) = self.output.last() else { return };
        let (item_id, content_index, summary_index) = match item {
            Item::Message { id, .. } => (id, Some(0), None),
            Item::Reasoning { id, .. } => (id, None, Some(0)),
            Item::FunctionCall { id, .. } => (id, None, None),
        };
        let output_index = self.output.len() - 1;
        let is_text = content_index.is_some() && matches!(rest, Piece::Delta(_) | Piece::Text(_));
        let logprobs = is_text.then_some([]);
        let rest = At { item_id, output_index, content_index, summary_index, logprobs, rest };
        push(name, &Event { r#type: name, sequence_number, rest }, out);
    }

    fn push(&mut self, name: &str, rest: &impl Serialize, out: &mut Vec<u8>) {
        let sequence_number = self.next();
        push(name, &Event { r#type: name, sequence_number, rest }, out);
    }

    const fn next(&mut self) -> u64 {
        let number = self.sequence;
        self.sequence += 1;
        number
    }
}

fn push(name: &str, event: &impl Serialize, out: &mut Vec<u8>) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\ndata: ");
    out.extend_from_slice(&document::write(event));
    out.extend_from_slice(b"\n\n");
}
