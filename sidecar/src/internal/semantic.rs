//! The semantic cache for requests that Envoy does not send to the sidecar: the filter asks before
//! it lets one go, and brings the answer afterwards.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::header::CACHE_CONTROL;
use http::{HeaderName, HeaderValue, StatusCode};
use tidegate_core::cache::Kind;
use tidegate_core::cache::control::RequestControl;
use tidegate_core::cache::slots::SET_BYTES;
use tidegate_core::reply::{Code, Reply};
use tidegate_core::route::Protocol;
use tidegate_core::wire::semantic::{CHAT_BYTES_MAX, HEAD_BYTES_MAX, LookupHead, StoreHead, split};
use tidegate_core::wire::{Identity, header};
use tokio::time::Instant;

use crate::body;
use crate::gateway::Gateway;
use crate::l2::{Answer, Looked, Request};
use crate::llm::replay;
use crate::refusal::{empty, refuse_here};

const TICKET: HeaderName = HeaderName::from_static(header::TICKET);

/// The answer to serve, or how to go on without one.
pub async fn look_up(State(gateway): State<Arc<Gateway>>, body: Body) -> Response {
    let bytes = match body::read(body, HEAD_BYTES_MAX + 1 + CHAT_BYTES_MAX).await {
        Ok(bytes) => bytes,
        Err(reply) => return refuse_here(&reply),
    };
    let Some((head, chat)) = split::<LookupHead>(&bytes) else {
        return malformed();
    };
    let Some(identity) = Identity::from_header(&head.identity) else {
        return malformed();
    };
    let LookupHead { path, cluster, pin, anthropic, may_serve, may_store, identity: _ } = head;
    // No provider has such a name, so answers of clusters and of providers never meet.
    let pin = format!("envoy:{cluster};{pin}");
    let request = Request {
        identity: &identity,
        path: &path,
        pin: &pin,
        protocol: if anthropic { Protocol::Anthropic } else { Protocol::OpenAi },
        control: RequestControl { may_serve, may_store },
        body: chat,
    };
    let cache = &gateway.cache;
    let Some(mut asked) = cache.plan(request) else {
        return empty(StatusCode::NO_CONTENT);
    };
    if asked.control.may_serve
        && let Looked::Hit(hit) = cache.look_up(&mut asked).await
        && let Some(response) = replay(&hit, &asked)
    {
        return response;
    }
    let mut response = empty(StatusCode::NO_CONTENT);
    let headers = response.headers_mut();
    if !asked.control.may_store {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    } else if let Some(ticket) = cache.tickets.issue(asked, Instant::now())
        && let Ok(ticket) = HeaderValue::from_str(&ticket)
    {
        headers.insert(TICKET, ticket);
    }
    response
}

/// Stores the answer to a question that was asked about.
pub async fn store(State(gateway): State<Arc<Gateway>>, body: Body) -> Response {
    let bytes_max = HEAD_BYTES_MAX + 1 + usize::try_from(SET_BYTES).unwrap_or(usize::MAX);
    let bytes = match body::read(body, bytes_max).await {
        Ok(bytes) => bytes,
        Err(reply) => return refuse_here(&reply),
    };
    let Some((StoreHead { ticket, stream, provider, model }, answer)) = split(&bytes) else {
        return malformed();
    };
    let Some(asked) = gateway.cache.tickets.redeem(&ticket) else {
        let message = "no question waits under this ticket; it may have waited too long";
        return refuse_here(&Reply::new(Code::NotFound, message));
    };
    let kind = if stream { Kind::Sse } else { Kind::Json };
    let answer = Answer { kind, body: answer, provider: &provider, model: &model };
    gateway.cache.store(&asked, answer).await;
    empty(StatusCode::NO_CONTENT)
}

fn malformed() -> Response {
    let message = "the body must be a head as one line of JSON, a line break, and what the head is about";
    refuse_here(&Reply::new(Code::InvalidRequest, message))
}
