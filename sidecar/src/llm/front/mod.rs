//! OpenAI's API towards the caller.

mod body;
mod models;
pub(super) mod refusal;
mod request;

use std::sync::Arc;
use std::time::SystemTime;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use axum::routing::{get, post};
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};
use tidegate_core::reply::{Code, Reply};
use tidegate_core::route::Endpoint;
use tidegate_core::wire::header;

use self::refusal::refuse;
use self::request::LlmRequest;
use super::metrics::Observation;
use super::providers::{Engine, Picked, Providers, Scope};

const PROVIDER: HeaderName = HeaderName::from_static(header::PROVIDER);
const MODEL: HeaderName = HeaderName::from_static(header::MODEL);
const ATTEMPTS: HeaderName = HeaderName::from_static(header::ATTEMPTS);

/// What every handler needs.
#[derive(Debug)]
struct Front {
    providers: Arc<Providers>,
    body_bytes_max: u64,
    /// When this process started, in Unix seconds: the `created` of every model.
    started: u64,
}

/// The LLM API's routes. Bodies over `body_bytes_max` are refused with 413.
pub fn router(providers: Arc<Providers>, body_bytes_max: u64) -> Router {
    let started = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let front = Arc::new(Front { providers, body_bytes_max, started });
    let complete = |endpoint, scope| {
        post(move |State(front): State<Arc<Front>>, request: Request| async move {
            front.complete(endpoint, scope, request).await
        })
    };
    Router::new()
        .route("/v1/chat/completions", complete(Endpoint::ChatCompletions, Scope::Any))
        .route("/v1/completions", complete(Endpoint::Completions, Scope::Any))
        .route("/v1/embeddings", complete(Endpoint::Embeddings, Scope::Any))
        .route("/local/chat/completions", complete(Endpoint::ChatCompletions, Scope::Local))
        .route("/local/completions", complete(Endpoint::Completions, Scope::Local))
        .route("/local/embeddings", complete(Endpoint::Embeddings, Scope::Local))
        .route("/v1/models", get(list_models))
        .route("/v1/models/{*id}", get(look_up_model))
        .with_state(front)
}

async fn list_models(State(front): State<Arc<Front>>) -> Response {
    models::list(&front.providers, front.started)
}

async fn look_up_model(State(front): State<Arc<Front>>, Path(id): Path<String>) -> Response {
    models::look_up(&front.providers, front.started, &id)
}

impl Front {
    async fn complete(&self, endpoint: Endpoint, scope: Scope, request: Request) -> Response {
        self.answer(endpoint, scope, request).await.unwrap_or_else(|reply| refuse(&reply))
    }

    /// Read, pick, call. A refusal by the picked provider names it in the headers as an answer
    /// does; one of our own names nobody.
    async fn answer(&self, endpoint: Endpoint, scope: Scope, request: Request) -> Result<Response, Reply> {
        let (caller, body) = request.into_parts();
        let body = body::read(&caller.headers, body, self.body_bytes_max).await?;
        let request = LlmRequest::read(endpoint, body)?;
        let pinned = pinned(&caller.headers)?.or(request.provider.as_deref());
        let picked = self.providers.pick(endpoint, scope, &request.model, pinned)?;
        let answered = call(&picked, endpoint, &caller.headers, request).await;
        let mut response = answered.unwrap_or_else(|reply| refuse(&reply));
        let headers = response.headers_mut();
        headers.insert(PROVIDER, picked.provider.name_header.clone());
        headers.insert(MODEL, picked.model_header);
        headers.insert(ATTEMPTS, HeaderValue::from_static("1"));
        Ok(response)
    }
}

async fn call(
    picked: &Picked<'_>,
    endpoint: Endpoint,
    caller: &HeaderMap,
    request: LlmRequest,
) -> Result<Response, Reply> {
    let observation = Observation::start(Arc::clone(&picked.provider.metrics));
    match &picked.provider.engine {
        Engine::OpenAi(upstream) => upstream.call(endpoint, caller, request.body, observation).await,
        Engine::Local(model) => model.call(endpoint, &request.model, &request.body, observation).await,
        Engine::Disabled => {
            Err(Reply::new(Code::InternalError, "A provider that is switched off was picked."))
        }
    }
}

/// The provider named by header, which goes before one named in the body.
fn pinned(headers: &HeaderMap) -> Result<Option<&str>, Reply> {
    let Some(value) = headers.get(PROVIDER) else { return Ok(None) };
    value.to_str().map(Some).map_err(|_| {
        let message = "Header x-gateway-provider must be the name of a provider, in ASCII.";
        Reply::new(Code::InvalidHeader, message).with_param(header::PROVIDER)
    })
}
