//! OpenAI's and Anthropic's APIs towards the caller.

mod body;
mod cached;
mod call;
mod described;
mod embedded;
mod embeddings;
mod lookup;
mod models;
pub(super) mod refusal;
mod request;
pub(super) mod responses;

use std::sync::Arc;
use std::time::SystemTime;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use axum::routing::{MethodRouter, get, post};
use axum::{Extension, Router};
use http::header::HeaderName;
use http::request::Parts;
use http::{HeaderMap, Method};
use tidegate_core::hash::hash;
use tidegate_core::reply::{Code, Reply};
use tidegate_core::route::{Endpoint, Protocol};
use tidegate_core::wire::header;

pub use self::cached::replay;
pub(super) use self::call::{Task, run};
pub(super) use self::described::Described;
use self::refusal::refuse;
pub(super) use self::request::LlmRequest;
use self::responses::Responses;
use super::idempotency::{self, Claim, Idempotency};
use super::providers::{Providers, Scope};
use super::resilience::{self, Exchange};
use super::routing::Asked;
use super::upstream::Caller;
use crate::embedding::Embedder;
use crate::headers::REQUEST_ID;
use crate::l2::{self, SemanticCache};
use crate::limits::Payer;
use crate::trace::{Kind, Span, Trace, Tracer};

/// Who answered.
pub(super) const PROVIDER: HeaderName = HeaderName::from_static(header::PROVIDER);
/// With which of its keys; for the filter.
pub(super) const PROVIDER_KEY: HeaderName = HeaderName::from_static(header::PROVIDER_KEY);
/// With which model.
pub(super) const MODEL: HeaderName = HeaderName::from_static(header::MODEL);
/// After how many attempts.
pub(super) const ATTEMPTS: HeaderName = HeaderName::from_static(header::ATTEMPTS);
/// Tokens of an answer whose caller set no bound, for estimates of its price.
pub(super) const ANSWER_TOKENS: u64 = 500;
/// Bytes at the beginning of a body by which conversations without a session are told apart.
const PREFIX_BYTES: usize = 1024;
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const SESSION: HeaderName = HeaderName::from_static("x-session-id");
/// Where Anthropic's clients look for the request's id.
const ANTHROPIC_ID: HeaderName = HeaderName::from_static("request-id");

/// The models a caller may use, among the extensions of its requests; without it, all.
#[derive(Debug, Clone)]
pub struct AllowedModels(pub Arc<[String]>);

impl AllowedModels {
    fn has(&self, model: &str) -> bool {
        self.0.iter().any(|allowed| allowed == model)
    }
}

/// What answers are made with.
#[derive(Debug, Clone)]
pub struct Services {
    /// Who answers.
    pub providers: Arc<Providers>,
    /// Texts as vectors.
    pub embedder: Arc<Embedder>,
    /// Answers to questions asked before in other words.
    pub cache: Arc<SemanticCache>,
    /// Records spans, if there is a collector.
    pub tracer: Option<Tracer>,
    /// Headers that may say where a request comes from; the first that is there counts.
    pub region_headers: Vec<String>,
}

/// What every handler needs.
#[derive(Debug)]
struct Front {
    services: Services,
    body_bytes_max: u64,
    responses: Arc<Responses>,
    idempotency: Idempotency,
    /// When this process started, in Unix seconds: the `created` of every model.
    started: u64,
}

/// What is POSTed to be answered by a model, and by which of them.
const TASKS: [(&str, Task, Scope); 9] = [
    ("/v1/chat/completions", Task::Complete(Endpoint::ChatCompletions), Scope::Any),
    ("/v1/completions", Task::Complete(Endpoint::Completions), Scope::Any),
    ("/v1/embeddings", Task::Complete(Endpoint::Embeddings), Scope::Any),
    ("/v1/responses", Task::Complete(Endpoint::Responses), Scope::Any),
    ("/v1/messages", Task::Complete(Endpoint::Messages), Scope::Any),
    ("/v1/messages/count_tokens", Task::CountTokens, Scope::Any),
    ("/local/chat/completions", Task::Complete(Endpoint::ChatCompletions), Scope::Local),
    ("/local/completions", Task::Complete(Endpoint::Completions), Scope::Local),
    ("/local/embeddings", Task::Complete(Endpoint::Embeddings), Scope::Local),
];

/// The LLM API.
#[derive(Debug, Clone)]
pub struct Llm(Arc<Front>);

impl Llm {
    /// Answers with these services. Bodies over `body_bytes_max` are refused with 413.
    #[must_use]
    pub fn new(services: Services, body_bytes_max: u64) -> Self {
        let started = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let (idempotency, responses) = (Idempotency::default(), Arc::default());
        Self(Arc::new(Front { services, body_bytes_max, idempotency, responses, started }))
    }

    /// All its paths.
    pub fn router(&self) -> Router {
        let tasks = TASKS.into_iter().map(|(path, task, scope)| (path, on(task, scope)));
        let router = tasks.fold(Router::new(), |router, (path, methods)| router.route(path, methods));
        router
            .route("/v1/responses/{id}", get(show_response).delete(delete_response))
            .route("/v1/cache/lookup", post(lookup::look_up))
            .route("/v1/cache/feedback", post(lookup::feedback))
            .route("/v1/models", get(list_models))
            .route("/v1/models/{*id}", get(look_up_model))
            .with_state(self.0.clone())
    }

    /// The busiest paths, past the router: it would look the path up in a tree and box the future of
    /// each request, 8 KiB of it. Anything else comes back.
    ///
    /// # Errors
    /// The request, if it is for the router.
    pub async fn answer(self, request: Request) -> Result<Response, Request> {
        let path = request.uri().path();
        let found = TASKS.iter().find(|(of, ..)| *of == path && request.method() == Method::POST);
        match found {
            Some((_, task, scope)) => Ok(self.0.serve(*task, *scope, request).await),
            None => Err(request),
        }
    }
}

fn on(task: Task, scope: Scope) -> MethodRouter<Arc<Front>> {
    post(move |State(front): State<Arc<Front>>, request: Request| async move {
        front.serve(task, scope, request).await
    })
}

type Allowed = Option<Extension<AllowedModels>>;

async fn list_models(State(front): State<Arc<Front>>, allowed: Allowed, headers: HeaderMap) -> Response {
    asking(&front, allowed.as_ref(), &headers).list(&front.services)
}

/// Anthropic's clients say which version of its API they speak; nobody else does.
fn asking(
    front: &Front,
    allowed: Option<&Extension<AllowedModels>>,
    headers: &HeaderMap,
) -> models::Asking<impl Fn(&str) -> bool> {
    let is_anthropics = headers.contains_key("anthropic-version");
    let protocol = if is_anthropics { Protocol::Anthropic } else { Protocol::OpenAi };
    let is_allowed = move |id: &str| allowed.is_none_or(|list| list.has(id));
    models::Asking { created: front.started, protocol, is_allowed }
}

async fn look_up_model(
    State(front): State<Arc<Front>>,
    allowed: Allowed,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    asking(&front, allowed.as_ref(), &headers).look_up(&front.services, &id)
}

/// A request that was read, and all that is needed to have it answered.
#[derive(Debug)]
struct Ask {
    task: Task,
    scope: Scope,
    head: Parts,
    request: LlmRequest,
}

impl Ask {
    /// The provider that the caller wants, by header or in the body.
    fn pinned(&self) -> Result<Option<&str>, Reply> {
        Ok(pinned(&self.head.headers)?.or(self.request.provider.as_deref()))
    }
}

type Caused = Option<Extension<Payer>>;

async fn show_response(State(front): State<Arc<Front>>, who: Caused, Path(id): Path<String>) -> Response {
    front.responses.show(tenant(who.as_deref()), &id)
}

async fn delete_response(State(front): State<Arc<Front>>, who: Caused, Path(id): Path<String>) -> Response {
    front.responses.delete(tenant(who.as_deref()), &id)
}

/// Whose responses these are; without authentication there is one for all.
fn tenant(payer: Option<&Payer>) -> &str {
    payer.map_or("", |payer| &payer.identity.tenant)
}

impl Front {
    async fn serve(self: Arc<Self>, task: Task, scope: Scope, request: Request) -> Response {
        let (mut head, body) = request.into_parts();
        let protocol = task.endpoint().protocol();
        let id = head.headers.get(REQUEST_ID).cloned();
        let span = self.services.tracer.as_ref().and_then(|tracer| begin_span(tracer, &mut head));
        let answered = self.answer(task, scope, head, body).await;
        let mut response = answered.unwrap_or_else(|reply| {
            let id = id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or_default();
            refuse(&reply, protocol, id)
        });
        if protocol == Protocol::Anthropic
            && let Some(id) = id
        {
            response.headers_mut().entry(ANTHROPIC_ID).or_insert(id);
        }
        if let Some(span) = span {
            end_span(span, &response);
        }
        response
    }

    /// Read, see whether it repeats another, look into the cache, route and call.
    async fn answer(
        self: Arc<Self>,
        task: Task,
        scope: Scope,
        head: Parts,
        body: Body,
    ) -> Result<Response, Reply> {
        let admitting = head.extensions.get::<Trace>().and_then(|t| t.span("admit", Kind::Internal));
        let body = body::read(&head.headers, body, self.body_bytes_max).await?;
        let mut request = LlmRequest::read(task.endpoint(), body)?;
        if task.endpoint() == Endpoint::Responses {
            let tenant = tenant(head.extensions.get());
            request.go_on(self.responses.continued(tenant, &request.body));
        }
        if head.extensions.get::<AllowedModels>().is_some_and(|allowed| !allowed.has(&request.model)) {
            let message = "This key may not use this model; GET /v1/models lists those it may.";
            return Err(Reply::new(Code::ModelNotAllowed, message).with_param("model"));
        }
        let ask = Ask { task, scope, head, request };
        let pinned = ask.pinned()?;
        if task.endpoint() == Endpoint::Embeddings && self.embeds(scope, &ask.request.model, pinned) {
            return embeddings::answer(&self.services.embedder, &ask.request).await;
        }
        let question = self.question(&ask, pinned.unwrap_or_default());
        drop(admitting);
        let front = Arc::clone(&self);
        let asking = match front.claim(&ask.head, &ask.request).await? {
            Some(Claim::Answered(response)) => return Ok(response),
            Some(Claim::Ask(asking)) => Some(asking),
            None => None,
        };
        let response = match question {
            Some(question) => cached::answer(self, ask, question).await,
            None => self.forward(&ask).await,
        }?;
        Ok(match asking {
            Some(asking) => asking.answered(response).await,
            None => response,
        })
    }

    /// What the semantic cache makes of a request; `None` if it has nothing to do with it.
    fn question(&self, ask: &Ask, pin: &str) -> Option<l2::Asked> {
        if !matches!(ask.task, Task::Complete(Endpoint::ChatCompletions | Endpoint::Messages)) {
            return None;
        }
        self.services.cache.plan(l2::Request {
            identity: &ask.head.extensions.get::<Payer>()?.identity,
            path: ask.head.uri.path(),
            pin,
            protocol: ask.task.endpoint().protocol(),
            control: cached::control(&ask.head.headers),
            body: &ask.request.body,
        })
    }

    /// Route and call. A refusal by a provider names it in the headers as an answer does; one of
    /// our own names nobody.
    async fn forward(&self, ask: &Ask) -> Result<Response, Reply> {
        let Ask { task, scope, head, request } = ask;
        let headers = &head.headers;
        let (protocol, payer) = (task.endpoint().protocol(), head.extensions.get::<Payer>());
        let trace = head.extensions.get::<Trace>();
        let caller = Caller { protocol, request_id: request_id(headers), payer, trace };
        let asked = Asked {
            endpoint: task.endpoint(),
            scope: *scope,
            model: &request.model,
            pinned: ask.pinned()?,
            stream: request.stream,
            session: session(headers, request),
            tokens: (request.prompt_tokens(), request.answer_tokens.unwrap_or(ANSWER_TOKENS)),
        };
        let plan = self.services.providers.plan(&asked)?;
        let described = Described::new(task.endpoint(), head, request, &self.services.region_headers);
        let exchange = Exchange { task: *task, caller: &caller, headers, request, described: &described };
        resilience::answer(&self.services.providers, plan, exchange).await
    }

    /// What to do with a request that has an idempotency key; `None` for one that has none.
    async fn claim(&self, head: &Parts, request: &LlmRequest) -> Result<Option<Claim<'_>>, Reply> {
        let Some(key) = head.headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
        idempotency::check(key.as_bytes())?;
        let tenant = tenant(head.extensions.get());
        let key = idempotency::key_of(tenant, head.uri.path(), key.as_bytes());
        self.idempotency.claim(key, &request.body).await.map(Some)
    }

    /// Whether the embedding model in this process is the one that is meant.
    fn embeds(&self, scope: Scope, model: &str, pinned: Option<&str>) -> bool {
        let embedder = &self.services.embedder;
        let is_own = embedder.name() == model;
        embedder.is_local()
            && (scope == Scope::Local || (is_own && pinned.is_none_or(|name| name == embeddings::LOCAL)))
    }
}

/// The sidecar's span of a request in a sampled trace; what is done for the request begins below it.
fn begin_span(tracer: &Tracer, head: &mut Parts) -> Option<Span> {
    let trace = tracer.of(&head.headers)?;
    let mut span = trace.span(format!("sidecar {}", head.uri.path()), Kind::Server)?;
    span.set("http.request.method", head.method.as_str());
    span.set("url.path", head.uri.path());
    head.extensions.insert(span.below());
    Some(span)
}

/// Ends it with the answer's head: a stream goes on in the span of whoever gives it.
fn end_span(mut span: Span, response: &Response) {
    span.set("http.response.status_code", u64::from(response.status().as_u16()));
    if let Some(attempts) = response.headers().get(ATTEMPTS).and_then(|value| value.to_str().ok()) {
        span.set("tidegate.attempts", attempts);
    }
    if response.status().is_server_error() {
        span.fail(response.status().as_str());
    }
}

/// What this request has in common with others that should meet the same provider: the session
/// that the caller names, else how its conversation begins, which is what providers cache by.
fn session(headers: &HeaderMap, request: &LlmRequest) -> Option<u64> {
    let named = headers.get(SESSION).map(|value| value.as_bytes());
    Some(hash(&[named.unwrap_or_else(|| request.body.get(..PREFIX_BYTES).unwrap_or(&request.body))]))
}

fn request_id(headers: &HeaderMap) -> &str {
    headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()).unwrap_or_default()
}

/// The provider named by header, which goes before one named in the body.
fn pinned(headers: &HeaderMap) -> Result<Option<&str>, Reply> {
    let Some(value) = headers.get(PROVIDER) else { return Ok(None) };
    value.to_str().map(Some).map_err(|_| {
        let message = "Header x-gateway-provider must be the name of a provider, in ASCII.";
        Reply::new(Code::InvalidHeader, message).with_param(header::PROVIDER)
    })
}
