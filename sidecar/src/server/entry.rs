//! What happens to every request before and after the router, in this order: classify the
//! path, find out who is calling, route, put errors of the router into the caller's protocol,
//! mark the answer as the sidecar's.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Request, StatusCode};
use hyper::body::Incoming;
use tidegate_core::reply::Reply;
use tidegate_core::route::{Endpoint, Protocol, RouteClass, classify};
use tidegate_core::wire::{Identity, header};
use tower_service::Service as _;

use crate::gateway::Gateway;
use crate::headers::REQUEST_ID;
use crate::identity::admit;
use crate::keys::unix_ms;
use crate::limits::{self, Payer};
use crate::llm::{AllowedModels, Llm};
use crate::refusal::{method_not_allowed, not_found, refuse};
use crate::source::Source;

const ANSWERED: HeaderName = HeaderName::from_static(header::ANSWERED);
const YES: HeaderValue = HeaderValue::from_static("1");

/// The way in. One plain function instead of a stack of layers: each layer would box a future
/// for every request.
#[derive(Debug, Clone)]
pub struct Entry {
    gateway: Arc<Gateway>,
    llm: Llm,
    router: Router,
}

impl Entry {
    /// Requests go to `llm` or else to `router`, as far as `gateway` admits them.
    #[must_use]
    pub const fn new(gateway: Arc<Gateway>, llm: Llm, router: Router) -> Self {
        Self { gateway, llm, router }
    }

    /// Answers one request.
    ///
    /// # Errors
    /// None: whatever goes wrong is an answer.
    pub async fn answer(self, request: Request<Incoming>) -> Result<Response, Infallible> {
        let Self { gateway, llm, mut router } = self;
        let mut request = request.map(Body::new);
        let class = classify(request.uri().path());
        let protocol = class.protocol();
        let request_id = match protocol {
            Protocol::Anthropic => request_id(&request),
            Protocol::OpenAi => String::new(),
        };
        if !matches!(class, RouteClass::Llm(_)) {
            let source = Source::of(request.headers(), &gateway.token);
            request.extensions_mut().insert(source);
        }
        let mut response = match admit(&gateway.control, &gateway.token, class, request.headers()).await {
            Ok(identity) => match identity.map_or(Ok(()), |who| note(&gateway, class, who, &mut request)) {
                Ok(()) => match llm.answer(request).await {
                    Ok(response) => response,
                    Err(request) => {
                        let Ok(response) = router.call(request).await;
                        spelled_out(response, protocol, &request_id)
                    }
                },
                Err(reply) => refuse(&reply, protocol, &request_id),
            },
            Err(reply) => refuse(&reply, protocol, &request_id),
        };
        response.headers_mut().insert(ANSWERED, YES);
        log(class, &response);
        Ok(response)
    }
}

/// One line a request, for those who ask for it; failures always, except of health checks, which
/// may fail every second while a model is loading.
fn log(class: RouteClass, response: &Response) {
    let status = response.status();
    if status.is_server_error() && class != RouteClass::Public {
        tracing::warn!(class = class.label(), status = status.as_u16(), "answered with a failure");
    } else {
        tracing::debug!(class = class.label(), status = status.as_u16(), "answered");
    }
}

/// What handlers need to know of the caller.
///
/// # Errors
/// 429 when the caller's tenant has no money left for what it asks.
fn note(
    gateway: &Gateway,
    class: RouteClass,
    identity: Identity,
    request: &mut Request<Body>,
) -> Result<(), Reply> {
    let (keys, now_ms) = (gateway.control.keys(), unix_ms());
    keys.used(&identity, now_ms);
    if let Some(models) = keys.allowed_models(&identity) {
        request.extensions_mut().insert(AllowedModels(models));
    }
    let RouteClass::Llm(endpoint) = class else {
        request.extensions_mut().insert(identity);
        return Ok(());
    };
    if endpoint != Endpoint::Models {
        limits::check(&gateway.control.budgets(), &gateway.ledger, &identity.tenant, now_ms)?;
    }
    request.extensions_mut().insert(Payer { ledger: gateway.ledger.clone(), identity });
    Ok(())
}

/// Only Anthropic's error bodies carry it.
fn request_id(request: &Request<Body>) -> String {
    let id = request.headers().get(REQUEST_ID).and_then(|value| value.to_str().ok());
    id.unwrap_or_default().to_owned()
}

/// The router says "no such path" and "not with this method" by a bare status; our own answers
/// always have a content type.
fn spelled_out(response: Response, protocol: Protocol, request_id: &str) -> Response {
    if response.headers().contains_key(CONTENT_TYPE) {
        return response;
    }
    match response.status() {
        StatusCode::NOT_FOUND => not_found(protocol, request_id),
        StatusCode::METHOD_NOT_ALLOWED => {
            method_not_allowed(protocol, request_id, response.headers().get(ALLOW).cloned())
        }
        _ => response,
    }
}
