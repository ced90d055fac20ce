//! The way of one request: through the log and the faults to a provider, and back.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;

use super::answer::{Answer, Payload};
use super::body::{AnswerBody, PacedBy};
use super::control;
use super::fault::{Asked, Fault};
use super::log::{Outcome, RequestLog, Ticket};
use super::provider::Provider;
use super::server::State;
use super::socket::Connection;
use super::stats::Stats;

/// The largest request body that is read; above it the answer is 413.
const REQUEST_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Where keys are.
const KEY_HEADERS: [&str; 4] = ["authorization", "x-api-key", "api-key", "x-goog-api-key"];

/// Answers one request.
///
/// # Errors
/// The request broke off, or a fault wants the connection closed without an answer.
pub(super) async fn handle(
    request: Request<Incoming>,
    state: &State,
    connection: &Arc<Connection>,
) -> Result<Response<AnswerBody>, io::Error> {
    let (head, body) = request.into_parts();
    let body = match Limited::new(body, REQUEST_BYTES_MAX).collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            let provider = Provider::at(head.uri.path());
            return Ok(plain_response(provider.canned_error(StatusCode::PAYLOAD_TOO_LARGE)));
        }
        Err(error) => return Err(io::Error::other(error)),
    };
    let path = head.uri.path();
    let provider = Provider::at(path);
    if control::owns(path) {
        let answer = control::answer(state, &head.method, path, &body);
        return Ok(plain_response(answer));
    }
    let path_and_query = head.uri.path_and_query().map_or(path, |p| p.as_str());
    let id = state.log.open(&head.method, path_and_query, &head.headers, &body);
    let mut ticket = Ticket::new(state.log.clone(), state.stats.clone(), id);
    let fault = take_fault(state, &head, &body);
    if let Some(fault) = &fault {
        if let Some(delay_ms) = fault.delay_ms {
            tokio::time::sleep(Duration::from_millis(delay_ms)).await;
        }
        if fault.reset && fault.truncate_after_chunks.is_none() {
            connection.reset_on_close();
            ticket.end(Outcome::CutByFault);
            return Err(io::Error::other("reset by a fault"));
        }
    }
    let mut answer = match fault.as_ref().and_then(|fault| faulty_answer(fault, provider)) {
        Some(answer) => answer,
        None => provider.answer(&head, &body),
    };
    let own = std::mem::take(&mut answer.headers);
    let mut response = into_response(
        answer,
        |body| match fault.as_ref().filter(|f| f.paces_body()) {
            None => body,
            Some(fault) => body.paced(
                fault,
                PacedBy { error_event: provider.error_event(), connection, release: &state.release },
            ),
        },
        ticket,
    );
    let headers = response.headers_mut();
    provider.add_headers(headers);
    for (name, value) in own {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
    for (name, value) in fault.iter().flat_map(|f| &f.headers) {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.insert(name, value);
        }
    }
    Ok(response)
}

fn take_fault(state: &State, head: &Parts, body: &[u8]) -> Option<Fault> {
    if state.faults.is_empty() {
        return None;
    }
    let document: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let model = document.as_ref().and_then(|d| d.get("model")).and_then(|m| m.as_str());
    let key = KEY_HEADERS.iter().find_map(|name| head.headers.get(*name));
    let fault = state.faults.take(&Asked {
        method: head.method.as_str(),
        path: head.uri.path(),
        model,
        key: key.and_then(|key| key.to_str().ok()).unwrap_or_default(),
        body,
    })?;
    state.stats.faults_total.add_one();
    Some(fault)
}

/// The answer that a fault asks for instead of the provider's own, if it asks for one.
fn faulty_answer(fault: &Fault, provider: Provider) -> Option<Answer> {
    if let Some(refusal) = fault.refusal {
        return Some(provider.refusal(refusal));
    }
    let status = match (fault.status, &fault.body) {
        (None, None) => return None,
        (status, _) => StatusCode::from_u16(status.unwrap_or(200)).unwrap_or(StatusCode::OK),
    };
    Some(match &fault.body {
        None => provider.canned_error(status),
        Some(serde_json::Value::String(text)) => {
            Answer { status, ..Answer::ok(Payload::Raw(Bytes::from(text.clone()))) }
        }
        Some(document) => Answer::json(status, document),
    })
}

fn into_response(
    answer: Answer,
    pace: impl FnOnce(AnswerBody) -> AnswerBody,
    mut ticket: Ticket,
) -> Response<AnswerBody> {
    ticket.answered(answer.status.as_u16(), &answer.payload);
    let content_type = answer.payload.content_type();
    let (body, length) = match answer.payload {
        Payload::Json(bytes) | Payload::Raw(bytes) => {
            let length = bytes.len();
            (AnswerBody::whole(bytes, ticket), Some(length))
        }
        Payload::Events(chunks) | Payload::Frames(chunks) => (AnswerBody::stream(chunks, ticket), None),
    };
    let mut response = Response::new(pace(body));
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Some(length) = length {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    response
}

/// A response outside the log: to a control call, or to a request too large to read.
fn plain_response(answer: Answer) -> Response<AnswerBody> {
    let silent = Ticket::new(Arc::new(RequestLog::new(false)), Arc::new(Stats::default()), None);
    into_response(answer, |body| body, silent)
}
