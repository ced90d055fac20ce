//! One piece of work in a trace.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use http::HeaderValue;

use super::Trace;
use super::context::Context;
use super::export::Queue;
use crate::keys::random;

/// Longest text of an attribute, in bytes; what a caller calls a model can be anything.
const TEXT_BYTES_MAX: usize = 256;

/// On which side of a call a span is (OTLP's `SpanKind`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Work within this process.
    Internal = 1,
    /// A request that came in.
    Server = 2,
    /// A request that went out.
    Client = 3,
}

/// What an attribute says.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Text.
    Text(Box<str>),
    /// A whole number.
    Number(u64),
    /// Any number.
    Float(f64),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        let end = (0..=TEXT_BYTES_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
        Self::Text(text.get(..end.unwrap_or(0)).unwrap_or_default().into())
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<f32> for Value {
    fn from(number: f32) -> Self {
        Self::Float(number.into())
    }
}

/// A span that has ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Where it is.
    pub context: Context,
    /// The span that it belongs to.
    pub parent: [u8; 8],
    /// What was done.
    pub name: Box<str>,
    /// On which side of a call.
    pub kind: Kind,
    /// When it began, in nanoseconds since 1970.
    pub started_ns: u64,
    /// When it ended, likewise.
    pub ended_ns: u64,
    /// What is known of it.
    pub attributes: Vec<(&'static str, Value)>,
    /// Whether it failed.
    pub failed: bool,
}

/// A span that goes on; it ends when it is dropped.
#[derive(Debug)]
pub struct Span {
    queue: Queue,
    clock: Instant,
    record: Box<Record>,
}

impl Span {
    pub(super) fn begin(trace: &Trace, name: Box<str>, kind: Kind) -> Option<Self> {
        let context = Context { span_id: random::bytes().ok()?, ..trace.context };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let started_ns = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let record = Box::new(Record {
            context,
            parent: trace.context.span_id,
            name,
            kind,
            started_ns,
            ended_ns: started_ns,
            attributes: Vec::new(),
            failed: false,
        });
        Some(Self { queue: trace.queue.clone(), clock: Instant::now(), record })
    }

    /// The place below this span.
    #[must_use]
    pub fn below(&self) -> Trace {
        Trace { queue: self.queue.clone(), context: self.record.context }
    }

    /// `traceparent` for whoever is called within this span.
    #[must_use]
    pub fn traceparent(&self) -> Option<HeaderValue> {
        HeaderValue::try_from(self.record.context.header()).ok()
    }

    /// Says something about it.
    pub fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        self.record.attributes.push((name, value.into()));
    }

    /// It failed, in this way.
    pub fn fail(&mut self, kind: &str) {
        self.record.failed = true;
        self.set("error.type", kind);
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        let lasted = u64::try_from(self.clock.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.record.ended_ns = self.record.started_ns.saturating_add(lasted);
        self.queue.push(Record {
            name: std::mem::take(&mut self.record.name),
            attributes: std::mem::take(&mut self.record.attributes),
            ..*self.record
        });
    }
}
