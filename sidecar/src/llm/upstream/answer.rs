//! Complete answers: read whole before anything of them is passed on, so that a provider that
//! breaks off half-way gives an error and not half an answer.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde::Deserialize;
use tidegate_core::provider::{Failure, Format, hidden_failure, read_failure};
use tidegate_core::reply::Reply;
use tidegate_core::route::Protocol;
use tidegate_core::sse::{Usage, foreign_usage};
use tokio::time::Instant;

use super::{Caller, Heard, JSON, Upstream, error_body, fault, headers};
use crate::llm::front::refusal::SHOULD_RETRY;

/// Largest JSON answer taken from a provider, in bytes.
pub const ANSWER_BYTES_MAX: usize = 32 << 20;
/// Where Amazon says what kind of an error it is.
const AMAZON_ERROR: &str = "x-amzn-errortype";
/// Anthropic's status of an overloaded provider.
const OVERLOADED: u16 = 529;
/// What a 429 or 503 without a time of its own asks the caller to wait, in seconds.
const RETRY_AFTER_SECONDS: u16 = 1;

impl Upstream {
    /// Reads an answer whole, and the usage it reports.
    ///
    /// # Errors
    /// An answer that breaks off, comes too late, is too large or is not JSON.
    pub(super) async fn collect(
        &self,
        response: http::Response<Incoming>,
        deadline: Instant,
        caller: &Caller<'_>,
    ) -> Result<(Response, Option<Usage>), Reply> {
        let (upstream, body) = response.into_parts();
        let status = upstream.status;
        let body = tokio::time::timeout_at(deadline, Limited::new(body, ANSWER_BYTES_MAX).collect())
            .await
            .map_err(|_| self.too_late())?
            .map_err(|error| self.broken(status, &*error))?
            .to_bytes();
        let mut headers = HeaderMap::with_capacity(8);
        headers::forward_response(&upstream.headers, &mut headers);
        headers.insert(CONTENT_TYPE, JSON);
        let format = self.target.format;
        if status.is_success() {
            if let Some(failure) = hidden_failure(format, &body) {
                return Ok((self.failed(failure, &upstream.headers, headers, &body, caller).await, None));
            }
            let usage = match format {
                Format::OpenAi | Format::Anthropic => {
                    let parsed = serde_json::from_slice::<Envelope>(&body).map(|envelope| envelope.usage);
                    parsed.map_err(|_| self.no_answer(status, "with a body that is not a JSON object"))?
                }
                Format::Gemini | Format::Bedrock | Format::Ernie => foreign_usage(&body),
            };
            let mut response = respond(status, headers, body);
            *response.extensions_mut() = upstream.extensions;
            return Ok((response, usage));
        }
        let error_type = upstream.headers.get(AMAZON_ERROR).and_then(|value| value.to_str().ok());
        if let Some(failure) = read_failure(format, status.as_u16(), error_type, &body) {
            return Ok((self.failed(failure, &upstream.headers, headers, &body, caller).await, None));
        }
        let heard = Heard::in_refusal(status.as_u16(), &upstream.headers, &body);
        let mut response = self.refused(status, headers, &body, caller)?;
        response.extensions_mut().insert(heard);
        Ok((response, None))
    }

    /// A refusal whose kind had to be found out.
    async fn failed(
        &self,
        failure: Failure,
        upstream: &HeaderMap,
        mut headers: HeaderMap,
        body: &Bytes,
        caller: &Caller<'_>,
    ) -> Response {
        if failure.status == StatusCode::UNAUTHORIZED {
            self.signer.refused().await;
        }
        if let Some(ms) = failure.retry_after_ms {
            headers.entry("retry-after").or_insert(ms.div_ceil(1000).max(1).into());
            headers.entry("retry-after-ms").or_insert(ms.into());
        }
        let status = StatusCode::from_u16(failure.status).unwrap_or(StatusCode::BAD_GATEWAY);
        let heard = Heard::in_refusal(failure.status, upstream, body);
        let body = error_body::of_failure(&failure, caller);
        add_retry_advice(status, failure.code.as_deref(), &mut headers);
        let mut response = respond(status, headers, body);
        response.extensions_mut().insert(heard);
        response
    }

    /// A provider's refusal, in the caller's protocol. It passes with the provider's status, and
    /// says when to come back even if the provider did not.
    fn refused(
        &self,
        status: StatusCode,
        mut headers: HeaderMap,
        body: &Bytes,
        caller: &Caller<'_>,
    ) -> Result<Response, Reply> {
        if !(status.is_client_error() || status.is_server_error()) {
            return Err(self.no_answer(status, "instead of an answer"));
        }
        let passed = status_for(status, caller.protocol);
        let Some(error) = error_body::normalise(status.as_u16(), body, caller) else {
            tracing::warn!(provider = &*self.name, status = status.as_u16(), "provider's error is not JSON");
            let reply = fault::not_an_answer(&self.name, status.as_u16(), "with a body that is not JSON");
            let body = reply.body(caller.protocol, caller.request_id);
            add_retry_advice(passed, None, &mut headers);
            return Ok(respond(passed, headers, body.into()));
        };
        add_retry_advice(passed, error.code.as_deref(), &mut headers);
        Ok(respond(passed, headers, error.body))
    }

    fn broken(&self, status: StatusCode, error: &(dyn std::error::Error + Send + Sync + 'static)) -> Reply {
        if error.is::<LengthLimitError>() {
            return self.no_answer(status, &format!("with more than {ANSWER_BYTES_MAX} bytes"));
        }
        let cause = fault::chain(error);
        tracing::warn!(provider = &*self.name, code = "upstream_reset", cause, "provider failed");
        fault::reset(&self.name)
    }
}

/// The part of a JSON answer that is of interest to us.
#[derive(Deserialize)]
struct Envelope {
    #[serde(default)]
    usage: Option<Usage>,
}

fn respond(status: StatusCode, headers: HeaderMap, body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// Anthropic's 529 means what everybody else's 503 does, and only its own callers know it.
fn status_for(status: StatusCode, caller: Protocol) -> StatusCode {
    let is_overload = status.as_u16() == OVERLOADED && caller == Protocol::OpenAi;
    if is_overload { StatusCode::SERVICE_UNAVAILABLE } else { status }
}

/// Completes `retry-after` and `x-should-retry`. An account without credit stays without it,
/// so OpenAI's `insufficient_quota` is not worth another attempt.
fn add_retry_advice(status: StatusCode, code: Option<&str>, headers: &mut HeaderMap) {
    if !matches!(status.as_u16(), 429 | 503 | OVERLOADED) {
        return;
    }
    let seconds = headers.get("retry-after").and_then(|v| v.to_str().ok()?.parse::<u32>().ok());
    if seconds.is_none() {
        headers.entry("retry-after").or_insert(RETRY_AFTER_SECONDS.into());
    }
    let ms = u64::from(seconds.unwrap_or(RETRY_AFTER_SECONDS.into())) * 1000;
    headers.entry("retry-after-ms").or_insert(ms.into());
    let worth_it = if code == Some("insufficient_quota") { "false" } else { "true" };
    headers.entry(SHOULD_RETRY).or_insert(HeaderValue::from_static(worth_it));
}
