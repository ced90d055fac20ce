//! Spans as OTLP/HTTP has them in JSON (OpenTelemetry protocol 1.x, `ExportTraceServiceRequest`): ids in
//! hex, 64-bit numbers as text.

use serde::Serialize;

use super::span::{Record, Value};
use crate::keys::random::hex;

const STATUS_ERROR: u8 = 2;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    resource_spans: [ResourceSpans<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans<'a> {
    resource: Resource<'a>,
    scope_spans: [ScopeSpans<'a>; 1],
}

#[derive(Serialize)]
struct Resource<'a> {
    attributes: [Attribute<'a>; 1],
}

#[derive(Serialize)]
struct ScopeSpans<'a> {
    scope: Scope,
    spans: Vec<SpanJson<'a>>,
}

#[derive(Serialize)]
struct Scope {
    name: &'static str,
    version: &'static str,
}

#[derive(Serialize)]
struct Attribute<'a> {
    key: &'a str,
    value: AnyValue<'a>,
}

#[derive(Serialize)]
enum AnyValue<'a> {
    #[serde(rename = "stringValue")]
    Text(&'a str),
    #[serde(rename = "intValue")]
    Number(String),
    #[serde(rename = "doubleValue")]
    Float(f64),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SpanJson<'a> {
    trace_id: String,
    span_id: String,
    parent_span_id: String,
    name: &'a str,
    kind: u8,
    start_time_unix_nano: String,
    end_time_unix_nano: String,
    attributes: Vec<Attribute<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
}

#[derive(Serialize)]
struct Status {
    code: u8,
}

/// The body of a request to the collector.
#[must_use]
pub fn body(service_name: &str, records: &[Record]) -> Vec<u8> {
    let name = Attribute { key: "service.name", value: AnyValue::Text(service_name) };
    let scope = Scope { name: "tidegate", version: env!("CARGO_PKG_VERSION") };
    let scope_spans = ScopeSpans { scope, spans: records.iter().map(span).collect() };
    let resource = Resource { attributes: [name] };
    let request = Request { resource_spans: [ResourceSpans { resource, scope_spans: [scope_spans] }] };
    // Plain data with text for keys: it always can be written.
    serde_json::to_vec(&request).unwrap_or_default()
}

fn span(record: &Record) -> SpanJson<'_> {
    let attributes = record.attributes.iter().map(|(key, value)| Attribute { key, value: any(value) });
    SpanJson {
        trace_id: hex(&record.context.trace_id),
        span_id: hex(&record.context.span_id),
        parent_span_id: hex(&record.parent),
        name: &record.name,
        kind: record.kind as u8,
        start_time_unix_nano: record.started_ns.to_string(),
        end_time_unix_nano: record.ended_ns.to_string(),
        attributes: attributes.collect(),
        status: record.failed.then_some(Status { code: STATUS_ERROR }),
    }
}

fn any(value: &Value) -> AnyValue<'_> {
    match value {
        Value::Text(text) => AnyValue::Text(text),
        Value::Number(number) => AnyValue::Number(number.to_string()),
        Value::Float(number) => AnyValue::Float(*number),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::context::Context;
    use super::super::span::Kind;
    use super::*;

    #[test]
    fn spans_are_written_as_the_protocol_has_them() {
        let record = Record {
            context: Context { trace_id: [1; 16], span_id: [2; 8], sampled: true },
            parent: [3; 8],
            name: "chat gpt-4o".into(),
            kind: Kind::Client,
            started_ns: 1_700_000_000_000_000_000,
            ended_ns: 1_700_000_000_000_000_007,
            attributes: vec![
                ("gen_ai.request.model", "gpt-4o".into()),
                ("gen_ai.usage.input_tokens", 7_u64.into()),
                ("similarity", Value::Float(0.5)),
            ],
            failed: true,
        };
        let written: serde_json::Value = serde_json::from_slice(&body("gw", &[record])).expect("JSON");
        assert_eq!(
            written,
            json!({"resourceSpans": [{
                "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "gw"}}]},
                "scopeSpans": [{
                    "scope": {"name": "tidegate", "version": env!("CARGO_PKG_VERSION")},
                    "spans": [{
                        "traceId": "01".repeat(16),
                        "spanId": "02".repeat(8),
                        "parentSpanId": "03".repeat(8),
                        "name": "chat gpt-4o",
                        "kind": 3,
                        "startTimeUnixNano": "1700000000000000000",
                        "endTimeUnixNano": "1700000000000000007",
                        "attributes": [
                            {"key": "gen_ai.request.model", "value": {"stringValue": "gpt-4o"}},
                            {"key": "gen_ai.usage.input_tokens", "value": {"intValue": "7"}},
                            {"key": "similarity", "value": {"doubleValue": 0.5}},
                        ],
                        "status": {"code": 2},
                    }],
                }],
            }]})
        );
    }
}
