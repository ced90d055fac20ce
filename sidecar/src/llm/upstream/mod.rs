//! Providers elsewhere: anything that speaks OpenAI's or Anthropic's API over HTTP.

mod answer;
mod connect;
mod discover;
mod error_body;
mod fault;
mod headers;
mod hold;
mod stream;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use tidegate_core::provider::TokenLimitField;
use tidegate_core::reply::Reply;
use tidegate_core::route::Protocol;
use tidegate_core::sse::Usage;
use tokio::time::Instant;

pub use self::answer::ANSWER_BYTES_MAX;
pub use self::connect::{Transport, Unusable};
use self::stream::{ErrorStyle, WatchedStream};
use super::metrics::{Observation, Outcome};
use crate::secret::Secret;

const EVENT_STREAM: &str = "text/event-stream";
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// Anthropic gives 20 models a page unless asked for more; nobody has a thousand.
const ANTHROPIC_MODELS: &str = "models?limit=1000";
const AGENT: HeaderValue = HeaderValue::from_static(concat!("tidegate/", env!("CARGO_PKG_VERSION")));

/// What is asked of a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// OpenAI's chat completions, Anthropic's messages.
    Chat,
    /// OpenAI's completions.
    Completions,
    /// OpenAI's embeddings.
    Embeddings,
    /// Anthropic's count of a prompt's tokens.
    CountTokens,
}

/// Who reads the answer.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// The protocol it speaks.
    pub protocol: Protocol,
    /// Its request's id; empty if it has none.
    pub request_id: &'a str,
}

/// One request to a provider.
#[derive(Debug)]
pub struct Call<'a> {
    /// What is asked.
    pub operation: Operation,
    /// Who asks.
    pub caller: Caller<'a>,
    /// The caller's headers.
    pub headers: &'a HeaderMap,
    /// The body, in the provider's protocol.
    pub body: Bytes,
}

/// One provider: its connections, its addresses and its keys, all made ready beforehand.
#[derive(Debug)]
pub struct Upstream {
    name: Box<str>,
    protocol: Protocol,
    transport: Transport,
    host: HeaderValue,
    chat: Uri,
    completions: Uri,
    embeddings: Uri,
    count_tokens: Uri,
    models: Uri,
    key_header: HeaderName,
    keys: Vec<HeaderValue>,
    next_key: AtomicUsize,
    timeout: Duration,
}

impl Upstream {
    /// Makes a provider's connector; connects to nothing yet.
    ///
    /// # Errors
    /// A base URL that is no HTTP URL, a key that cannot be a header, or no trusted root
    /// certificates on this machine for an `https` URL.
    pub fn new(
        name: &str,
        protocol: Protocol,
        base_url: &Uri,
        api_keys: &[Secret],
        timeout: Duration,
        connect_timeout: Duration,
    ) -> Result<Self, Unusable> {
        let at = |path: &str| connect::endpoint(base_url, path);
        let (chat, models, key_header) = match protocol {
            Protocol::OpenAi => ("chat/completions", "models", AUTHORIZATION),
            Protocol::Anthropic => ("messages", ANTHROPIC_MODELS, HeaderName::from_static("x-api-key")),
        };
        let keys = api_keys.iter().enumerate();
        Ok(Self {
            name: name.into(),
            protocol,
            transport: Transport::new(base_url, connect_timeout)?,
            host: connect::host(base_url)?,
            chat: at(chat)?,
            completions: at("completions")?,
            embeddings: at("embeddings")?,
            count_tokens: at("messages/count_tokens")?,
            models: at(models)?,
            key_header,
            keys: keys.map(|key| connect::credential(protocol, key)).collect::<Result<_, _>>()?,
            next_key: AtomicUsize::new(0),
            timeout,
        })
    }

    /// The protocol of the provider.
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Which field bounds an answer's tokens here: OpenAI itself wants the newer one, while
    /// servers that are compatible with it know the older.
    #[must_use]
    pub fn token_limit_field(&self) -> TokenLimitField {
        let is_openais =
            self.chat.host().is_some_and(|host| host == "openai.com" || host.ends_with(".openai.com"));
        if is_openais { TokenLimitField::MaxCompletionTokens } else { TokenLimitField::MaxTokens }
    }

    /// Sends a request on and gives the provider's answer. A refusal is in the caller's
    /// protocol; any other answer is as the provider gave it.
    ///
    /// # Errors
    /// When there is no answer: not connected, broken off, too late, too large or not JSON.
    pub async fn call(&self, call: Call<'_>, mut observation: Observation) -> Result<Response, Reply> {
        let deadline = Instant::from_std(observation.started()) + self.timeout;
        let caller = call.caller;
        let request = self.request(call);
        let answered = async {
            let response = self.send(request, deadline).await?;
            if response.status().is_success() && headers::is_type(response.headers(), EVENT_STREAM) {
                return Ok(Answer::Stream(response));
            }
            self.collect(response, deadline, &caller).await.map(Answer::Whole)
        };
        match answered.await {
            Ok(Answer::Stream(response)) => Ok(self.stream(response, &caller, observation)),
            Ok(Answer::Whole((response, usage))) => {
                observation.ended(Outcome::of_status(response.status().as_u16()));
                if let Some(usage) = usage {
                    observation.usage(usage);
                }
                Ok(response)
            }
            Err(reply) => {
                observation.ended(Outcome::of_code(reply.code));
                Err(reply)
            }
        }
    }

    const fn uri_of(&self, operation: Operation) -> &Uri {
        match operation {
            Operation::Chat => &self.chat,
            Operation::Completions => &self.completions,
            Operation::Embeddings => &self.embeddings,
            Operation::CountTokens => &self.count_tokens,
        }
    }

    fn request(&self, call: Call<'_>) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(call.body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri_of(call.operation).clone();
        let headers = request.headers_mut();
        headers::forward_request(call.caller.protocol, self.protocol, call.headers, headers);
        headers.insert(CONTENT_TYPE, JSON);
        if let Some(accept) = call.headers.get(ACCEPT) {
            headers.insert(ACCEPT, accept.clone());
        }
        self.sign(headers);
        request
    }

    /// Adds what every request to this provider carries.
    fn sign(&self, headers: &mut HeaderMap) {
        headers.insert(HOST, self.host.clone());
        headers.insert(USER_AGENT, AGENT);
        if !self.keys.is_empty() {
            let turn = self.next_key.fetch_add(1, Ordering::Relaxed) % self.keys.len();
            headers.insert(&self.key_header, self.keys[turn].clone());
        }
    }

    async fn send(
        &self,
        request: Request<Full<Bytes>>,
        deadline: Instant,
    ) -> Result<http::Response<Incoming>, Reply> {
        let sent = tokio::time::timeout_at(deadline, self.transport.request(request)).await;
        let response = sent.map_err(|_| self.too_late())?.map_err(|error| {
            let reply = fault::of_connection(&self.name, &error);
            let cause = fault::chain(&error);
            tracing::warn!(provider = &*self.name, code = reply.code.as_str(), cause, "provider failed");
            reply
        })?;
        if response.headers().get(CONTENT_ENCODING).is_some_and(|e| e != "identity") {
            return Err(self.no_answer(response.status(), "with an encoded body although none was asked for"));
        }
        Ok(response)
    }

    /// Errors of our own in a stream that will be translated are in OpenAI's shape, which keeps
    /// their code; the translator knows it in streams of either protocol.
    fn stream(
        &self,
        response: http::Response<Incoming>,
        caller: &Caller<'_>,
        observation: Observation,
    ) -> Response {
        let (upstream, body) = response.into_parts();
        let protocol = if caller.protocol == self.protocol { self.protocol } else { Protocol::OpenAi };
        let errors = ErrorStyle { protocol, request_id: caller.request_id.into() };
        let watched = WatchedStream::new(body, &self.name, self.timeout, observation, errors);
        let mut response = Response::new(Body::new(watched));
        *response.status_mut() = upstream.status;
        headers::forward_response(&upstream.headers, response.headers_mut());
        response
    }

    fn too_late(&self) -> Reply {
        tracing::warn!(provider = &*self.name, code = "upstream_timeout", "provider failed");
        fault::timeout(&self.name, self.timeout)
    }

    fn no_answer(&self, status: StatusCode, what: &str) -> Reply {
        tracing::warn!(provider = &*self.name, status = status.as_u16(), what, "provider's answer is none");
        fault::not_an_answer(&self.name, status.as_u16(), what)
    }
}

enum Answer {
    Stream(http::Response<Incoming>),
    Whole((Response, Option<Usage>)),
}
