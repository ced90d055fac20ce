//! Spans of the sidecar's own work, for requests whose trace is sampled.
//!
//! Whether a trace is sampled was decided before: by the caller, or by Envoy, whose span is the parent
//! of what is recorded here. Spans go to the collector by a bounded queue ([`export`]); a request never
//! waits for them, and one that is not sampled costs a look at a header.

mod context;
mod export;
mod otlp;
mod span;

use http::{HeaderMap, HeaderName, Uri};
use prometheus_client::registry::Registry;

pub use self::context::Context;
pub use self::export::{Exporter, Unusable};
pub use self::span::{Kind, Span, Value};

use self::export::Queue;

/// W3C Trace Context: which trace a request belongs to.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Where spans go, and under which name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The collector's path for spans, by OTLP/HTTP.
    pub endpoint: Uri,
    /// This service's name in traces.
    pub service_name: String,
}

/// Begins traces' parts in this process.
#[derive(Debug, Clone)]
pub struct Tracer {
    queue: Queue,
}

impl Tracer {
    /// A tracer, and what sends its spans once it runs.
    ///
    /// # Errors
    /// The collector's address cannot be used.
    pub fn new(settings: &Settings, registry: &mut Registry) -> Result<(Self, Exporter), Unusable> {
        let (queue, exporter) = export::open(settings, registry)?;
        Ok((Self { queue }, exporter))
    }

    /// The trace of a request; `None` unless it is sampled.
    #[must_use]
    pub fn of(&self, headers: &HeaderMap) -> Option<Trace> {
        let context = Context::parse(headers.get(TRACEPARENT)?.to_str().ok()?)?;
        context.sampled.then(|| Trace { queue: self.queue.clone(), context })
    }
}

/// A place in a sampled trace, below which spans can begin.
#[derive(Debug, Clone)]
pub struct Trace {
    queue: Queue,
    context: Context,
}

impl Trace {
    /// A span below this place, from now until it is dropped; `None` where the system gives no random
    /// bytes for its id.
    #[must_use]
    pub fn span(&self, name: impl Into<Box<str>>, kind: Kind) -> Option<Span> {
        Span::begin(self, name.into(), kind)
    }
}
