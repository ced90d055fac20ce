//! One attempt, and what came of it.

use axum::response::Response;
use http::StatusCode;
use http_body_util::BodyExt as _;
use tidegate_core::event::ERROR_HEAD_BYTES;
use tidegate_core::reply::{Code, Reply};
use tidegate_core::routing::{FaultKind, classify};
use tidegate_core::sse::Scanner;

use super::Exchange;
use super::held::{Begun, begin};
use crate::llm::front::run;
use crate::llm::routing::Picked;
use crate::llm::upstream::{Caller, Heard};

/// What came of an attempt.
#[derive(Debug)]
pub enum Attempted {
    /// An answer that may go to the caller.
    Answered(Response),
    /// None.
    Failed(Failure),
}

/// An attempt that failed.
#[derive(Debug)]
pub struct Failure {
    /// In which way.
    pub kind: FaultKind,
    /// How long the provider asks to wait, in milliseconds.
    pub wait_ms: Option<u64>,
    /// What the caller gets if this was the last attempt.
    pub result: Result<Response, Reply>,
}

impl Failure {
    /// The status that its caller would see.
    #[must_use]
    pub fn status(&self) -> u16 {
        match &self.result {
            Ok(response) => response.status().as_u16(),
            Err(reply) => reply.code.status(),
        }
    }

    /// The beginning of what its caller would read: of a body, or the error event of a stream.
    /// Whether it is of a stream comes first.
    pub async fn words(self, caller: &Caller<'_>) -> (bool, String) {
        let response = match self.result {
            Err(reply) => {
                let body = reply.body(caller.protocol, caller.request_id);
                return (false, head_of(&body));
            }
            Ok(response) => response,
        };
        let in_stream = response.status().is_success();
        // What failed is here already: nothing is waited for.
        let frame = response.into_body().frame().await;
        let chunk = frame.and_then(Result::ok).and_then(|frame| frame.into_data().ok()).unwrap_or_default();
        if !in_stream {
            return (false, head_of(&chunk));
        }
        let mut scanner = Scanner::new();
        scanner.push(&chunk);
        (true, head_of(scanner.failure()))
    }
}

fn head_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.get(..ERROR_HEAD_BYTES).unwrap_or(bytes)).into_owned()
}

/// Asks one provider. Returns when a whole answer has come, or a stream's first token.
pub async fn attempt(exchange: Exchange<'_>, picked: &Picked) -> Attempted {
    let Exchange { task, caller, headers, request, .. } = exchange;
    let answered = match request.for_model(&picked.model) {
        Ok(request) => run(task, picked, caller, headers, &request).await,
        Err(reply) => Err(reply),
    };
    let response = match answered {
        Ok(response) => response,
        Err(reply) => {
            let (kind, wait_ms) = (kind_of(reply.code), reply.retry_after_ms);
            return Attempted::Failed(Failure { kind, wait_ms, result: Err(reply) });
        }
    };
    if response.status().is_success() {
        return match begin(response, caller.protocol).await {
            Begun::Well(response) => Attempted::Answered(response),
            Begun::Error(kind, response) => {
                Attempted::Failed(Failure { kind, wait_ms: None, result: Ok(response) })
            }
        };
    }
    let heard = response.extensions().get::<Heard>();
    let kind =
        heard.and_then(|heard| heard.fault).unwrap_or_else(|| classify(response.status().as_u16(), ""));
    let wait_ms = heard.and_then(|heard| heard.signals.wait_ms);
    Attempted::Failed(Failure { kind, wait_ms, result: Ok(response) })
}

/// Passes on what an answer says about the provider's limits.
pub fn heard(response: &Response, by: &Picked, (prompt, answer): (u64, u64)) {
    if response.status() == StatusCode::OK
        && let Some(heard) = response.extensions().get::<Heard>()
    {
        by.provider.state.heard(by.key, by.model_hash(), heard.signals, prompt.saturating_add(answer));
    }
}

/// What kind of failure our own refusal is. What a translation has no word for, another
/// provider may have.
const fn kind_of(code: Code) -> FaultKind {
    match code {
        Code::UpstreamTimeout => FaultKind::Timeout,
        Code::UpstreamUnreachable | Code::UpstreamReset => FaultKind::Connection,
        Code::LocalModelBusy => FaultKind::RateLimit,
        Code::ContextLengthExceeded => FaultKind::ContextLength,
        code if code.status() < 500 => FaultKind::Unsupported,
        _ => FaultKind::Server,
    }
}
