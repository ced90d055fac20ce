//! A provider's event stream as the caller's, chunk by chunk: a chunk may end anywhere.

use crate::chat::{StreamError, StreamEvent, TokenUsage};
use crate::reply::Code;
use crate::sse::{Event, Parser};

use super::failure::in_stream;
use super::schema::Restore;
use super::{Exchange, Format, Front, Malformed, anthropic, bedrock, ernie, gemini, openai, responses};

/// Translates one stream. Memory is bounded by one event.
#[derive(Debug)]
pub struct StreamTranslator {
    parser: Parser,
    reader: Reader,
    restore: Restore,
    writer: Writer,
    end: Option<End>,
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Well,
    Badly,
}

#[derive(Debug)]
enum Reader {
    OpenAi(openai::Reader),
    Anthropic(anthropic::Reader),
    Gemini(gemini::Reader),
    Bedrock(bedrock::Reader),
    Ernie(ernie::Reader),
}

#[derive(Debug)]
enum Writer {
    OpenAi(openai::Writer),
    Completions(openai::CompletionsWriter),
    Responses(Box<responses::Writer>),
    Anthropic(anthropic::Writer),
}

impl StreamTranslator {
    /// A translator at the start of a stream.
    #[must_use]
    pub fn new(provider: Format, caller: Front, exchange: &Exchange) -> Self {
        let reader = match provider {
            Format::OpenAi => Reader::OpenAi(openai::Reader::default()),
            Format::Anthropic => Reader::Anthropic(anthropic::Reader::default()),
            Format::Gemini => Reader::Gemini(gemini::Reader::new(&exchange.request_id, &exchange.model)),
            Format::Bedrock => Reader::Bedrock(bedrock::Reader::new(&exchange.request_id, &exchange.model)),
            Format::Ernie => Reader::Ernie(ernie::Reader::new(&exchange.request_id, &exchange.model)),
        };
        let writer = match caller {
            Front::Completions => Writer::Completions(openai::CompletionsWriter::new(exchange)),
            Front::Responses => Writer::Responses(Box::new(responses::Writer::new(exchange))),
            Front::Chat => Writer::OpenAi(openai::Writer::new(exchange.created, exchange.include_usage)),
            Front::Messages => Writer::Anthropic(anthropic::Writer::new(&exchange.request_id)),
        };
        let restore = Restore::new(exchange.schema_tool.clone());
        Self { parser: Parser::new(), reader, restore, writer, end: None }
    }

    /// The same for one of several candidates that come in one stream.
    pub(super) fn of_candidate(mut self, index: u32) -> Self {
        self.reader = match self.reader {
            Reader::Gemini(reader) => Reader::Gemini(reader.of_candidate(index)),
            reader => reader,
        };
        self
    }

    /// A translator of one of several choices of OpenAI's: no event of its own ends it.
    pub(super) fn of_choice(
        provider: Format,
        caller: Front,
        exchange: &Exchange,
        index: u32,
        id: &str,
    ) -> Self {
        let mut translator = Self::new(provider, caller, exchange);
        translator.writer = match translator.writer {
            Writer::OpenAi(writer) => Writer::OpenAi(writer.of_choice(index, id)),
            Writer::Completions(writer) => Writer::Completions(writer.of_choice(index, id)),
            writer => writer,
        };
        translator
    }

    /// The model that answers and what it used, as far as OpenAI's callers are told.
    pub(super) fn told(&self) -> Option<(&str, TokenUsage)> {
        match &self.writer {
            Writer::OpenAi(writer) => Some(writer.told()),
            Writer::Completions(writer) => Some(writer.told()),
            Writer::Responses(_) | Writer::Anthropic(_) => None,
        }
    }

    /// Feeds a chunk and appends to `out` what can be said of it.
    pub fn push(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        let Self { parser, reader, restore, writer, end } = self;
        parser.push(chunk, |event| {
            if end.is_none() {
                *end = translate(reader, restore, writer, &event, out);
            }
        });
    }

    /// The provider's stream is over. Where its protocol has no last event, the caller's may get
    /// its own now.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        let complete = match &self.reader {
            Reader::OpenAi(_) | Reader::Anthropic(_) => false,
            Reader::Gemini(reader) => reader.is_complete(),
            Reader::Bedrock(reader) => reader.is_complete(),
            Reader::Ernie(reader) => reader.is_complete(),
        };
        if complete && self.end.is_none() {
            self.end = Some(End::Well);
            self.writer.write(StreamEvent::End, out);
        }
    }

    /// The provider's stream broke off: says so, unless there was nothing in it for this one.
    pub(super) fn break_off(&mut self, out: &mut Vec<u8>) {
        let begun = !matches!(&self.reader, Reader::Gemini(reader) if !reader.has_begun());
        if self.end.is_some() || !begun {
            self.end.get_or_insert(End::Well);
            return;
        }
        self.end = Some(End::Badly);
        self.writer.write(failure("The provider left an answer unfinished; it is incomplete."), out);
    }

    /// The whole response that the caller of the Responses API got, once it has ended well.
    pub fn take_whole(&mut self) -> Option<Vec<u8>> {
        match &mut self.writer {
            Writer::Responses(writer) => writer.take_whole(),
            Writer::OpenAi(_) | Writer::Completions(_) | Writer::Anthropic(_) => None,
        }
    }

    /// Whether the caller's stream has had its last event, good or bad.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    /// Whether that was an error.
    #[must_use]
    pub(super) fn has_failed(&self) -> bool {
        self.end == Some(End::Badly)
    }
}

/// One event; how the stream ended, if it was the last.
fn translate(
    reader: &mut Reader,
    restore: &mut Restore,
    writer: &mut Writer,
    event: &Event<'_>,
    out: &mut Vec<u8>,
) -> Option<End> {
    let mut end = None;
    let mut each = |event: StreamEvent| {
        let Some(event) = restore.event(event).filter(|_| end.is_none()) else { return };
        let event = match event {
            StreamEvent::ToolInput { index, .. } if !writer.takes_input_of(index) => {
                failure("The provider mixed the inputs of several tools; the answer is incomplete.")
            }
            event => event,
        };
        end = match event {
            StreamEvent::End => Some(End::Well),
            StreamEvent::Error(_) => Some(End::Badly),
            _ => None,
        };
        writer.write(event, out);
    };
    let read = match reader {
        _ if event.truncated => Err(Malformed),
        Reader::OpenAi(reader) => reader.read(event.data, &mut each),
        Reader::Anthropic(reader) => reader.read(event.data, &mut each),
        Reader::Gemini(reader) => {
            read_or_fail(Format::Gemini, event.data, &mut each, |d, e| reader.read(d, e))
        }
        Reader::Bedrock(reader) => {
            read_or_fail(Format::Bedrock, event.data, &mut each, |d, e| reader.read(d, e))
        }
        Reader::Ernie(reader) => read_or_fail(Format::Ernie, event.data, &mut each, |d, e| reader.read(d, e)),
    };
    if read.is_err() {
        each(failure("The provider sent an event that is not of its protocol; the answer is incomplete."));
    }
    end
}

/// Reads an event, which may be an error in one of several shapes.
fn read_or_fail(
    format: Format,
    data: &[u8],
    each: &mut dyn FnMut(StreamEvent),
    read: impl FnOnce(&[u8], &mut dyn FnMut(StreamEvent)) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    match in_stream(format, data) {
        Some(error) => {
            each(StreamEvent::Error(error));
            Ok(())
        }
        None => read(data, each),
    }
}

fn failure(message: &str) -> StreamEvent {
    let code = Code::UpstreamError;
    StreamEvent::Error(StreamError {
        kind: code.openai_type().to_owned(),
        message: message.to_owned(),
        code: Some(code.as_str().to_owned()),
    })
}

impl Writer {
    fn write(&mut self, event: StreamEvent, out: &mut Vec<u8>) {
        match self {
            Self::OpenAi(writer) => writer.write(event, out),
            Self::Completions(writer) => writer.write(event, out),
            Self::Responses(writer) => writer.write(event, out),
            Self::Anthropic(writer) => writer.write(event, out),
        }
    }

    fn takes_input_of(&self, index: u64) -> bool {
        match self {
            Self::OpenAi(writer) => writer.takes_input_of(index),
            Self::Completions(_) => true,
            Self::Responses(writer) => writer.takes_input_of(index),
            Self::Anthropic(writer) => writer.takes_input_of(index),
        }
    }
}
