//! The way of spans to the collector: a bounded queue, batches, and one attempt for each. What finds no
//! room, or is not taken, is counted and forgotten.

use std::future::pending;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::Settings;
use super::otlp;
use super::span::Record;
use crate::llm::connect::{self, Transport};

/// Most spans that wait.
const QUEUE_SPANS_MAX: usize = 4096;
/// Most spans sent at once.
const BATCH_SPANS_MAX: usize = 512;
/// How long the first span of a batch waits for others.
const GATHER: Duration = Duration::from_millis(500);
/// Longest time to reach the collector.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest time until it has answered.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest answer of it that is read, in bytes, so that its connection can be used again.
const ANSWER_BYTES_MAX: usize = 64 << 10;
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The collector cannot be reached by this address, and why.
#[derive(Debug)]
pub struct Unusable(String);

impl std::fmt::Display for Unusable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "tracing.otlp_endpoint {}", self.0)
    }
}

impl std::error::Error for Unusable {}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByResult {
    result: &'static str,
}

#[derive(Debug, Clone)]
struct Counts {
    exported: Counter,
    dropped: Counter,
    failed: Counter,
}

/// The beginning of the way.
#[derive(Debug, Clone)]
pub struct Queue {
    spans: mpsc::Sender<Record>,
    dropped: Counter,
}

impl Queue {
    /// Takes a span, if there is room.
    pub fn push(&self, record: Record) {
        if self.spans.try_send(record).is_err() {
            self.dropped.inc();
        }
    }
}

/// The end of the way.
#[derive(Debug)]
pub struct Exporter {
    spans: mpsc::Receiver<Record>,
    transport: Transport,
    endpoint: Uri,
    host: HeaderValue,
    service_name: String,
    counts: Counts,
}

/// A queue and its end.
///
/// # Errors
/// The collector's address cannot be used.
pub fn open(settings: &Settings, registry: &mut Registry) -> Result<(Queue, Exporter), Unusable> {
    let endpoint = settings.endpoint.clone();
    let unusable = |unusable: connect::Unusable| Unusable(unusable.problem);
    let transport = Transport::new(&endpoint, CONNECT_TIMEOUT).map_err(unusable)?;
    let host = connect::host(&endpoint).map_err(unusable)?;
    let family = Family::<ByResult, Counter>::default();
    registry.register("gateway_trace_spans", "Spans of the sidecar, by what became of them", family.clone());
    let count = |result| family.get_or_create_owned(&ByResult { result });
    let counts = Counts { exported: count("exported"), dropped: count("dropped"), failed: count("failed") };
    let (sender, spans) = mpsc::channel(QUEUE_SPANS_MAX);
    let queue = Queue { spans: sender, dropped: counts.dropped.clone() };
    let service_name = settings.service_name.clone();
    Ok((queue, Exporter { spans, transport, endpoint, host, service_name, counts }))
}

impl Exporter {
    /// Sends batch after batch, until `stop` is done, and then what is there still.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        let mut batch = Vec::with_capacity(BATCH_SPANS_MAX);
        let mut stopped = false;
        loop {
            if !stopped {
                stopped = tokio::select! {
                    () = &mut stop => true,
                    () = self.gather(&mut batch) => false,
                };
            }
            while batch.len() < BATCH_SPANS_MAX
                && let Ok(next) = self.spans.try_recv()
            {
                batch.push(next);
            }
            if stopped && batch.is_empty() {
                return;
            }
            self.send(&batch).await;
            batch.clear();
        }
    }

    /// A first span, and those that come soon after it.
    async fn gather(&mut self, batch: &mut Vec<Record>) {
        let Some(first) = self.spans.recv().await else { return pending().await };
        batch.push(first);
        let more = async {
            while batch.len() < BATCH_SPANS_MAX
                && let Some(next) = self.spans.recv().await
            {
                batch.push(next);
            }
        };
        // Whichever comes first: enough of them, or the time.
        let _ = timeout(GATHER, more).await;
    }

    async fn send(&self, batch: &[Record]) {
        let count = batch.len() as u64;
        match timeout(TIMEOUT, self.post(otlp::body(&self.service_name, batch))).await {
            Ok(Ok(())) => {
                self.counts.exported.inc_by(count);
                return;
            }
            Ok(Err(cause)) => tracing::debug!(cause, "the collector did not take spans"),
            Err(_) => tracing::debug!("the collector did not answer in time"),
        }
        self.counts.failed.inc_by(count);
    }

    async fn post(&self, body: Vec<u8>) -> Result<(), String> {
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.endpoint.clone();
        request.headers_mut().insert(CONTENT_TYPE, JSON);
        request.headers_mut().insert(HOST, self.host.clone());
        let response = self.transport.request(request).await.map_err(|error| error.to_string())?;
        let status = response.status();
        Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(|e| e.to_string())?;
        if status.is_success() { Ok(()) } else { Err(format!("status {status}")) }
    }
}
