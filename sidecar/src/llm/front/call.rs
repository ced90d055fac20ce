//! One request to the provider that was picked for it.

use std::sync::Arc;

use axum::response::Response;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use tidegate_core::chat::estimate_request_tokens;
use tidegate_core::provider::{Format, Front, read_count_request};
use tidegate_core::reply::{Code, Reply};
use tidegate_core::route::Endpoint;

use super::embedded;
use super::request::LlmRequest;
use super::responses::unknown_previous;
use crate::limits::Bill;
use crate::llm::metrics::Observation;
use crate::llm::operations::conventional_name;
use crate::llm::providers::Engine;
use crate::llm::routing::Picked;
use crate::llm::translate::{Target, Translation};
use crate::llm::upstream::{Call, Caller, Heard, Operation};
use crate::refusal::json;
use crate::trace::{Kind, Span, Trace};

/// Most calls begun at once for one request.
const CALLS_AT_ONCE: usize = 8;

/// What a path is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// To have something generated, or embedded.
    Complete(Endpoint),
    /// To know how many tokens an Anthropic request has.
    CountTokens,
}

impl Task {
    /// The operation as the rest of the gateway knows it.
    #[must_use]
    pub const fn endpoint(self) -> Endpoint {
        match self {
            Self::Complete(endpoint) => endpoint,
            Self::CountTokens => Endpoint::Messages,
        }
    }

    const fn operation(self) -> Operation {
        match self {
            Self::Complete(Endpoint::Completions) => Operation::Completions,
            Self::Complete(Endpoint::Embeddings) => Operation::Embeddings,
            Self::Complete(Endpoint::Responses) => Operation::Responses,
            Self::Complete(_) => Operation::Chat,
            Self::CountTokens => Operation::CountTokens,
        }
    }
}

#[derive(Serialize)]
struct Count {
    input_tokens: u64,
}

/// Has the provider answer, in the caller's protocol whichever its own is. One that turns out not
/// to know `stream_options`, which no answer depends on, is asked once more without.
///
/// # Errors
/// What is wrong with the request, or why there is no answer.
pub async fn run(
    task: Task,
    picked: &Picked,
    caller: &Caller<'_>,
    headers: &HeaderMap,
    request: &LlmRequest,
) -> Result<Response, Reply> {
    let engine = &picked.provider.engine;
    let target = engine.target();
    let response = ask(&target, task, picked, caller, headers, request).await?;
    match &**engine {
        Engine::Remote(upstream) if target.dialect.stream_options && refuses_stream_options(&response) => {
            upstream.stop_stream_options();
            ask(&upstream.target(), task, picked, caller, headers, request).await
        }
        _ => Ok(response),
    }
}

fn refuses_stream_options(response: &Response) -> bool {
    response.extensions().get::<Heard>().is_some_and(|heard| heard.refuses_stream_options)
}

async fn ask(
    target: &Target,
    task: Task,
    picked: &Picked,
    caller: &Caller<'_>,
    headers: &HeaderMap,
    request: &LlmRequest,
) -> Result<Response, Reply> {
    if task == Task::Complete(Endpoint::Embeddings) && target.format != Format::OpenAi {
        let call = |request, body| async move {
            let sent = Sent { body, stream: false, asks_usage: false };
            call(task, picked, caller, headers, request, sent).await
        };
        return embedded::answer(target.vendor, headers, request, call).await;
    }
    let front = Front::of(task.endpoint());
    // The model in this process gives one answer at a time, but speaks as OpenAI.
    let repeats = request.several && matches!(&*picked.provider.engine, Engine::Local(_));
    let passes = |front: Front| target.format.takes(front, &target.dialect);
    if let Some(front) = front.filter(|front| repeats && passes(*front)) {
        let (translation, bodies) = Translation::one_by_one(caller, front, &request.body)?;
        return together(task, picked, caller, headers, request, translation, bodies).await;
    }
    let Some(front) = front.filter(|front| !passes(*front)) else {
        let (body, asks_usage) = match &*picked.provider.engine {
            Engine::Remote(_) => target.adapted(task.endpoint(), request),
            Engine::Local(_) | Engine::Disabled => (request.body.clone(), false),
        };
        let sent = Sent { body, stream: false, asks_usage };
        return call(task, picked, caller, headers, request, sent).await;
    };
    if task == Task::CountTokens {
        let input_tokens = estimate_request_tokens(&read_count_request(&request.body)?);
        return Ok(json(StatusCode::OK, &Count { input_tokens }));
    }
    if request.lost {
        return Err(unknown_previous());
    }
    let (translation, bodies) = Translation::begin(caller, front, target, &request.body)?;
    let translation = translation.keeping(request.keep.clone());
    let chat = Task::Complete(Endpoint::ChatCompletions);
    together(chat, picked, caller, headers, request, translation, bodies).await
}

/// Sends all parts of a request, and makes one answer of what comes back. The first refusal ends the
/// rest, as it stands for all.
async fn together(
    task: Task,
    picked: &Picked,
    caller: &Caller<'_>,
    headers: &HeaderMap,
    request: &LlmRequest,
    translation: Translation,
    bodies: Vec<Bytes>,
) -> Result<Response, Reply> {
    let is_stream = translation.is_stream();
    let calls = bodies
        .into_iter()
        .map(|body| Sent { body, stream: is_stream, asks_usage: false })
        .map(|sent| call(task, picked, caller, headers, request, sent));
    let mut calls = stream::iter(calls).buffered(CALLS_AT_ONCE);
    let mut responses = Vec::new();
    while let Some(response) = calls.try_next().await? {
        let is_refusal = !response.status().is_success();
        responses.push(response);
        if is_refusal {
            break;
        }
    }
    translation.finish(&picked.provider.name, responses).await
}

/// What is sent in a caller's place.
struct Sent {
    body: Bytes,
    /// Whether a translated answer is to be a stream.
    stream: bool,
    /// Whether usage was asked for that the caller does not want to hear of.
    asks_usage: bool,
}

async fn call(
    task: Task,
    picked: &Picked,
    caller: &Caller<'_>,
    headers: &HeaderMap,
    request: &LlmRequest,
    sent: Sent,
) -> Result<Response, Reply> {
    let Sent { body, stream, asks_usage } = sent;
    let provider = &picked.provider;
    let ticket = provider.state.begin(picked.model_hash(), request.stream, picked.probe);
    let payer = caller.payer.filter(|_| task != Task::CountTokens);
    let price = provider.price().unwrap_or_default();
    let bill = payer.map(|p| Bill::open(p, &provider.name, &request.model, price, body.clone()));
    let span = caller.trace.and_then(|trace| span_of(trace, task, picked));
    let traceparent = span.as_ref().and_then(Span::traceparent);
    let asked = (task.operation(), request.model.as_str());
    let observation =
        Observation::start(Arc::clone(&provider.metrics), asked, Some(ticket)).billed(bill).traced(span);
    match &*provider.engine {
        Engine::Remote(upstream) => {
            let (operation, key) = (task.operation(), picked.key);
            let model = &request.model;
            let caller = *caller;
            let call = Call { operation, caller, model, stream, asks_usage, headers, key, traceparent, body };
            upstream.call(call, observation).await
        }
        Engine::Local(model) => model.call(task.endpoint(), &request.model, &body, observation).await,
        Engine::Disabled => {
            Err(Reply::new(Code::InternalError, "A provider that is switched off was picked."))
        }
    }
}

/// The span of one call of a provider, in the terms of OpenTelemetry's conventions for generative AI.
fn span_of(trace: &Trace, task: Task, picked: &Picked) -> Option<Span> {
    let operation = conventional_name(task.operation());
    let system = picked.provider.metrics.provider_name();
    let mut span = trace.span(format!("{operation} {}", picked.model), Kind::Client)?;
    span.set("gen_ai.operation.name", operation);
    span.set("gen_ai.system", system);
    span.set("gen_ai.provider.name", system);
    span.set("gen_ai.request.model", &*picked.model);
    span.set("tidegate.provider", &*picked.provider.name);
    Some(span)
}
