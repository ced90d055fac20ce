//! A provider's event stream as the caller's, chunk by chunk: a chunk may end anywhere.

use std::ops::Range;

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
    /// One for each answer in the stream.
    lanes: Vec<Lane>,
}

/// The way of one answer to the caller.
#[derive(Debug)]
struct Lane {
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

/// How far an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// There is nothing of it.
    None,
    /// There is more to come.
    Begun,
    /// The stream may end now.
    Complete,
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
    /// A translator at the start of a stream of one answer.
    #[must_use]
    pub fn new(provider: Format, caller: Front, exchange: &Exchange) -> Self {
        Self::of_lanes(provider, exchange, vec![Lane::new(caller, exchange)])
    }

    /// A translator of these choices of OpenAI's, which come in one stream: no event of its own
    /// ends any of them.
    pub(super) fn of_choices(
        provider: Format,
        caller: Front,
        exchange: &Exchange,
        numbers: Range<u32>,
        id: &str,
    ) -> Self {
        let lane = |number| Lane::new(caller, exchange).of_choice(number, id);
        Self::of_lanes(provider, exchange, numbers.map(lane).collect())
    }

    fn of_lanes(provider: Format, exchange: &Exchange, lanes: Vec<Lane>) -> Self {
        let Exchange { request_id, model, .. } = exchange;
        let reader = match provider {
            Format::OpenAi => Reader::OpenAi(openai::Reader::default()),
            Format::Anthropic => Reader::Anthropic(anthropic::Reader::default()),
            Format::Gemini => Reader::Gemini(gemini::Reader::new(request_id, model, lanes.len())),
            Format::Bedrock => Reader::Bedrock(bedrock::Reader::new(request_id, model)),
            Format::Ernie => Reader::Ernie(ernie::Reader::new(request_id, model)),
        };
        Self { parser: Parser::new(), reader, lanes }
    }

    /// For each answer the model that gives it and what it used, as far as OpenAI's callers are
    /// told.
    pub(super) fn told(&self) -> impl Iterator<Item = (&str, TokenUsage)> + Clone {
        self.lanes.iter().filter_map(|lane| match &lane.writer {
            Writer::OpenAi(writer) => Some(writer.told()),
            Writer::Completions(writer) => Some(writer.told()),
            Writer::Responses(_) | Writer::Anthropic(_) => None,
        })
    }

    /// Feeds a chunk and appends to `out` what can be said of it.
    pub fn push(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        let Self { parser, reader, lanes } = self;
        parser.push(chunk, |event| {
            if !all_have_ended(lanes) {
                translate(reader, lanes, &event, out);
            }
        });
    }

    /// The provider's stream is over. Where its protocol has no last event, the caller's may get
    /// its own now. One of several answers that has begun and is not complete is a failure.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        let is_one = self.lanes.len() == 1;
        for (number, lane) in self.lanes.iter_mut().enumerate() {
            if lane.end.is_some() {
                continue;
            }
            match self.reader.progress(number) {
                Progress::Complete => lane.take(StreamEvent::End, out),
                _ if is_one => {}
                Progress::None => lane.end = Some(End::Well),
                Progress::Begun => {
                    let message = "The provider left an answer unfinished; it is incomplete.";
                    return lane.take(failure(message), out);
                }
            }
        }
    }

    /// The whole response that the caller of the Responses API got, once it has ended well.
    pub fn take_whole(&mut self) -> Option<Vec<u8>> {
        match self.lanes.as_mut_slice() {
            [Lane { writer: Writer::Responses(writer), .. }] => writer.take_whole(),
            _ => None,
        }
    }

    /// Whether the caller's stream has had its last event, good or bad.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        all_have_ended(&self.lanes)
    }

    /// Whether that was an error.
    #[must_use]
    pub(super) fn has_failed(&self) -> bool {
        self.lanes.iter().any(Lane::has_failed)
    }
}

/// All answers are at their end, or one has failed, after which there is nothing to be said.
fn all_have_ended(lanes: &[Lane]) -> bool {
    lanes.iter().all(|lane| lane.end.is_some()) || lanes.iter().any(Lane::has_failed)
}

/// One event.
fn translate(reader: &mut Reader, lanes: &mut [Lane], event: &Event<'_>, out: &mut Vec<u8>) {
    let mut each = |number: usize, event: StreamEvent| {
        if !lanes.iter().any(Lane::has_failed)
            && let Some(lane) = lanes.get_mut(number)
        {
            lane.take(event, out);
        }
    };
    let mut only = |event: StreamEvent| each(0, event);
    let read = match reader {
        _ if event.truncated => Err(Malformed),
        Reader::OpenAi(reader) => reader.read(event.data, &mut only),
        Reader::Anthropic(reader) => reader.read(event.data, &mut only),
        Reader::Gemini(reader) => match in_stream(Format::Gemini, event.data) {
            Some(error) => {
                only(StreamEvent::Error(error));
                Ok(())
            }
            None => reader.read(event.data, &mut each),
        },
        Reader::Bedrock(reader) => {
            read_or_fail(Format::Bedrock, event.data, &mut only, |d, e| reader.read(d, e))
        }
        Reader::Ernie(reader) => read_or_fail(Format::Ernie, event.data, &mut only, |d, e| reader.read(d, e)),
    };
    if read.is_err() {
        each(0, failure("The provider sent an event that is not of its protocol; the answer is incomplete."));
    }
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

impl Reader {
    /// How far one of the answers is; of no concern where the protocol has a last event.
    fn progress(&self, number: usize) -> Progress {
        let is_complete = match self {
            Self::OpenAi(_) | Self::Anthropic(_) => false,
            Self::Gemini(reader) => return reader.progress(number),
            Self::Bedrock(reader) => reader.is_complete(),
            Self::Ernie(reader) => reader.is_complete(),
        };
        if is_complete { Progress::Complete } else { Progress::Begun }
    }
}

impl Lane {
    fn new(caller: Front, exchange: &Exchange) -> Self {
        let writer = match caller {
            Front::Completions => Writer::Completions(openai::CompletionsWriter::new(exchange)),
            Front::Responses => Writer::Responses(Box::new(responses::Writer::new(exchange))),
            Front::Chat => Writer::OpenAi(openai::Writer::new(exchange.created, exchange.include_usage)),
            Front::Messages => Writer::Anthropic(anthropic::Writer::new(&exchange.request_id)),
        };
        Self { restore: Restore::new(exchange.schema_tool.clone()), writer, end: None }
    }

    fn of_choice(self, number: u32, id: &str) -> Self {
        let writer = match self.writer {
            Writer::OpenAi(writer) => Writer::OpenAi(writer.of_choice(number, id)),
            Writer::Completions(writer) => Writer::Completions(writer.of_choice(number, id)),
            writer => writer,
        };
        Self { writer, ..self }
    }

    fn has_failed(&self) -> bool {
        self.end == Some(End::Badly)
    }

    fn take(&mut self, event: StreamEvent, out: &mut Vec<u8>) {
        let Some(event) = self.restore.event(event).filter(|_| self.end.is_none()) else { return };
        let event = match event {
            StreamEvent::ToolInput { index, .. } if !self.writer.takes_input_of(index) => {
                failure("The provider mixed the inputs of several tools; the answer is incomplete.")
            }
            event => event,
        };
        self.end = match event {
            StreamEvent::End => Some(End::Well),
            StreamEvent::Error(_) => Some(End::Badly),
            _ => None,
        };
        self.writer.write(event, out);
    }
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
