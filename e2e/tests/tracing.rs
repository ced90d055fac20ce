//! One trace of a request, from Envoy to the provider that failed and the one that answered, as a
//! collector of OpenTelemetry's receives it: from Envoy in protobuf, from the sidecar in JSON.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tidegate_e2e::emulator::{Emulator, Fault, FaultMatch};
use tidegate_e2e::harness::{Client, Gateway, chat_with, eventually, stream};
use tokio::net::TcpListener;

const DEADLINE: Duration = Duration::from_secs(30);
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// What both halves say of a span.
#[derive(Debug, Clone, Default)]
struct Span {
    trace: String,
    id: String,
    parent: String,
    name: String,
    attributes: Vec<(String, String)>,
    failed: bool,
}

impl Span {
    fn get(&self, key: &str) -> Option<&str> {
        self.attributes.iter().find(|(name, _)| name == key).map(|(_, value)| &**value)
    }
}

/// A collector that keeps what it gets.
struct Collector {
    spans: Arc<Mutex<Vec<Span>>>,
    port: u16,
}

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let spans = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&spans);
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let kept = Arc::clone(&kept);
                let service = service_fn(move |request| take(Arc::clone(&kept), request));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tcp), service),
                );
            }
        });
        Self { spans, port }
    }

    fn of(&self, trace: &str) -> Vec<Span> {
        self.spans.lock().unwrap().iter().filter(|span| span.trace == trace).cloned().collect()
    }
}

async fn take(
    kept: Arc<Mutex<Vec<Span>>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    assert_eq!(request.uri().path(), "/v1/traces");
    let is_json = request.headers().get("content-type").is_some_and(|kind| kind == "application/json");
    let body = request.into_body().collect().await?.to_bytes();
    let spans = if is_json { in_json(&body) } else { in_protobuf(&body) };
    kept.lock().unwrap().extend(spans);
    Ok(Response::new(Full::new(Bytes::from_static(b"{}"))))
}

fn in_json(body: &[u8]) -> Vec<Span> {
    let request: Value = serde_json::from_slice(body).expect("JSON");
    let spans = request["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().expect("spans");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let attribute = |pair: &Value| {
        let value = pair["value"].as_object().and_then(|value| value.values().next()).expect("a value");
        (text(&pair["key"]), value.as_str().map_or(value.to_string(), str::to_owned))
    };
    spans
        .iter()
        .map(|span| Span {
            trace: text(&span["traceId"]),
            id: text(&span["spanId"]),
            parent: text(&span["parentSpanId"]),
            name: text(&span["name"]),
            attributes: span["attributes"].as_array().expect("a list").iter().map(attribute).collect(),
            failed: span["status"]["code"] == 2,
        })
        .collect()
}

/// The fields of a protobuf message, by number: those of bytes, which is all that is looked at.
fn fields(mut bytes: &[u8]) -> Vec<(u64, &[u8])> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        match tag & 7 {
            0 => drop(varint(&mut bytes)),
            1 => bytes = &bytes[8..],
            5 => bytes = &bytes[4..],
            _ => {
                let length = usize::try_from(varint(&mut bytes)).unwrap();
                let (field, rest) = bytes.split_at(length);
                found.push((tag >> 3, field));
                bytes = rest;
            }
        }
    }
    found
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first().expect("a number");
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            break;
        }
    }
    value
}

fn below(bytes: &[u8], number: u64) -> Vec<&[u8]> {
    fields(bytes).into_iter().filter(|(field, _)| *field == number).map(|(_, bytes)| bytes).collect()
}

/// `ExportTraceServiceRequest`: resource spans (1), scope spans (2), spans (2).
fn in_protobuf(body: &[u8]) -> Vec<Span> {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut spans = Vec::new();
    for scope in below(body, 1).into_iter().flat_map(|resource| below(resource, 2)) {
        for message in below(scope, 2) {
            let mut span = Span::default();
            for (number, bytes) in fields(message) {
                match number {
                    1 => span.trace = hex(bytes),
                    2 => span.id = hex(bytes),
                    4 => span.parent = hex(bytes),
                    5 => span.name = text(bytes),
                    9 => {
                        let value = below(bytes, 2).first().map(|value| below(value, 1));
                        let value = value.and_then(|value| value.first().map(|value| text(value)));
                        span.attributes.push((text(below(bytes, 1)[0]), value.unwrap_or_default()));
                    }
                    _ => {}
                }
            }
            spans.push(span);
        }
    }
    spans
}

async fn gateway(collector: &Collector, sampling: &str) -> Gateway {
    let emulator = Emulator::start(0).await.unwrap();
    let config = format!(
        "\
tracing: {{otlp_endpoint: \"http://127.0.0.1:{}\", sampling: {sampling}, service_name: gw}}
providers:
  - {{{{openai}}}}
    models: [gpt-4o]
  - name: second
    type: anthropic
    base_url: \"{{{{anthropic}}}}\"
    api_key: sk-ant-emulated-0123456789
    models: [claude-haiku-4-5]
routing:
  aliases: {{smart: [openai/gpt-4o, second/claude-haiku-4-5]}}
auth:
  anonymous: {{enabled: true, tenant: demo}}
",
        collector.port
    );
    Gateway::builder().config_yaml(&config).emulator(emulator).start().await.unwrap()
}

fn named<'a>(spans: &'a [Span], name: &str) -> Vec<&'a Span> {
    spans.iter().filter(|span| span.name == name).collect()
}

#[tokio::test]
async fn a_trace_has_envoys_span_the_sidecars_and_each_attempt() {
    let collector = Collector::start().await;
    let gateway = gateway(&collector, "0").await;
    let matches = FaultMatch { path: Some("/chat/completions".to_owned()), ..FaultMatch::default() };
    gateway.emulator.arm(Fault { status: Some(500), matches, ..Fault::default() }).unwrap();
    let client = Client::new().with_header("traceparent", &format!("00-{TRACE}-{CALLER}-01"));
    let path = gateway.url("/v1/chat/completions?key=in-the-query");
    let answer = client.post_json(&path, chat_with("smart", "a secret prompt")).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("x-gateway-provider"), Some("second"), "{:?}", answer.headers);

    let complete = || async {
        let spans = collector.of(TRACE);
        (spans.len() >= 5 && spans.iter().any(|span| span.parent == CALLER)).then_some(spans)
    };
    let spans = eventually("the trace is complete", DEADLINE, complete).await.unwrap();
    let envoys = spans.iter().find(|span| span.parent == CALLER).unwrap();
    assert_eq!(envoys.name, "POST /v1/chat/completions");
    assert_eq!(envoys.get("url.path"), Some("/v1/chat/completions"));
    let sidecars = named(&spans, "sidecar /v1/chat/completions")[0];
    assert_eq!(sidecars.parent, envoys.id);
    assert_eq!(sidecars.get("http.response.status_code"), Some("200"));
    assert_eq!(named(&spans, "admit")[0].parent, sidecars.id);
    let attempts = spans.iter().filter(|span| span.name.starts_with("chat "));
    assert_eq!(attempts.count(), 2, "{spans:#?}");
    for (provider, system, model, failed) in
        [("openai", "openai", "gpt-4o", true), ("second", "anthropic", "claude-haiku-4-5", false)]
    {
        let attempt = named(&spans, &format!("chat {model}"))[0];
        assert_eq!(attempt.get("tidegate.provider"), Some(provider));
        assert_eq!((&*attempt.parent, attempt.failed), (&*sidecars.id, failed), "{attempt:?}");
        assert_eq!(attempt.get("gen_ai.system"), Some(system));
        assert_eq!(attempt.get("gen_ai.provider.name"), Some(system));
        assert_eq!(attempt.get("gen_ai.request.model"), Some(model));
        assert_eq!(attempt.get("error.type"), failed.then_some("server_error"));
        assert_eq!(attempt.get("gen_ai.usage.output_tokens").is_some(), !failed);
        // The provider was told of the attempt, not of what is above it.
        let expected = format!("00-{TRACE}-{}-01", attempt.id);
        let asked = gateway.emulator.requests();
        assert!(asked.iter().any(|request| request.header("traceparent") == Some(&expected)), "{attempt:?}");
    }
    let all = format!("{spans:?}");
    for secret in ["secret prompt", "in-the-query", "sk-emulated"] {
        assert!(!all.contains(secret), "{secret} in {all}");
    }
}

#[tokio::test]
async fn only_sampled_requests_are_traced_and_streams_to_their_end() {
    let collector = Collector::start().await;
    let gateway = gateway(&collector, "0").await;
    let other = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    for (trace, flags) in [(other, "00"), (TRACE, "01")] {
        let client = Client::new().with_header("traceparent", &format!("00-{trace}-{CALLER}-{flags}"));
        let answer = gateway.ask(&client, stream(trace)).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    gateway.ask(&Client::new(), stream("without")).await.unwrap();
    let streamed = || async {
        let spans = collector.of(TRACE);
        let attempt = named(&spans, "chat gpt-4o").first().map(|span| (*span).clone());
        attempt.filter(|_| spans.iter().any(|span| span.parent == CALLER))
    };
    let attempt = eventually("the trace is complete", DEADLINE, streamed).await.unwrap();
    assert!(attempt.get("gen_ai.response.time_to_first_chunk").is_some(), "{attempt:?}");
    assert!(attempt.get("gen_ai.usage.input_tokens").is_some(), "{attempt:?}");
    let all = collector.spans.lock().unwrap().clone();
    assert!(all.iter().all(|span| span.trace == TRACE), "{all:#?}");
    let page = gateway.admin().get(&gateway.url("/metrics")).await.unwrap().text();
    assert!(page.contains("gateway_trace_spans_total{result=\"dropped\"} 0"), "{page}");
}
