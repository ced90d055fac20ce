//! The content filter: what it finds stands beside each answer, and what it refuses is a 400.

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use crate::emulator::answer::{Answer, Payload};
use crate::emulator::script::Asked;

/// Whether the filter refuses a request's messages.
pub(super) fn refuses(document: &Value) -> bool {
    Asked { text: document["messages"].to_string(), ..Asked::default() }.is_forbidden()
}

/// The refusal, as Azure documents it.
pub(super) fn refusal() -> Answer {
    let mut found = clean();
    found["violence"] = json!({"filtered": true, "severity": "high"});
    let document = json!({"error": {
        "message": "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. \
                    Please modify your prompt and retry.",
        "type": null, "param": "prompt", "code": "content_filter", "status": 400,
        "innererror": {"code": "ResponsibleAIPolicyViolation", "content_filter_result": found},
    }});
    Answer::json(StatusCode::BAD_REQUEST, &document)
}

/// The answer with what the filter found.
pub(super) fn annotated(answer: Answer) -> Answer {
    if !answer.status.is_success() {
        return answer;
    }
    let payload = match answer.payload {
        Payload::Json(bytes) => Payload::Json(whole(&bytes).unwrap_or(bytes)),
        Payload::Events(events) => Payload::Events(stream(events)),
        other => other,
    };
    Answer { payload, ..answer }
}

fn whole(bytes: &Bytes) -> Option<Bytes> {
    let mut document: Value = serde_json::from_slice(bytes).ok()?;
    for choice in document["choices"].as_array_mut()? {
        choice["content_filter_results"] = clean();
    }
    document["prompt_filter_results"] = of_prompt();
    Some(document.to_string().into())
}

/// A first chunk without choices says what was found in the prompt.
fn stream(events: Vec<Bytes>) -> Vec<Bytes> {
    let first = json!({
        "id": "", "object": "", "created": 0, "model": "", "choices": [], "prompt_filter_results": of_prompt(),
    });
    let mut out = vec![Bytes::from(format!("data: {first}\n\n"))];
    out.extend(events.into_iter().map(|event| annotated_event(&event).unwrap_or(event)));
    out
}

fn annotated_event(event: &Bytes) -> Option<Bytes> {
    let data = event.strip_prefix(b"data: ")?;
    let mut chunk: Value = serde_json::from_slice(data).ok()?;
    for choice in chunk["choices"].as_array_mut()? {
        choice["content_filter_results"] = json!({});
    }
    Some(format!("data: {chunk}\n\n").into())
}

fn of_prompt() -> Value {
    json!([{"prompt_index": 0, "content_filter_results": clean()}])
}

fn clean() -> Value {
    let safe = json!({"filtered": false, "severity": "safe"});
    json!({"hate": safe, "self_harm": safe, "sexual": safe, "violence": safe})
}
