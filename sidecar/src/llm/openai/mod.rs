//! Providers of type `openai`: anything that speaks OpenAI's API over HTTP.

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
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use tidegate_core::reply::Reply;
use tidegate_core::route::Endpoint;
use tidegate_core::sse::Usage;
use tokio::time::Instant;

use self::connect::Transport;
pub use self::connect::Unusable;
use self::stream::WatchedStream;
use super::metrics::{Observation, Outcome};
use crate::secret::Secret;

const EVENT_STREAM: &str = "text/event-stream";
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const AGENT: HeaderValue = HeaderValue::from_static(concat!("tidegate/", env!("CARGO_PKG_VERSION")));

/// One provider: its connections, its addresses and its keys, all made ready beforehand.
#[derive(Debug)]
pub struct Upstream {
    name: Box<str>,
    transport: Transport,
    host: HeaderValue,
    chat: Uri,
    completions: Uri,
    embeddings: Uri,
    models: Uri,
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
        base_url: &Uri,
        api_keys: &[Secret],
        timeout: Duration,
        connect_timeout: Duration,
    ) -> Result<Self, Unusable> {
        let at = |path: &str| connect::endpoint(base_url, path);
        Ok(Self {
            name: name.into(),
            transport: Transport::new(base_url, connect_timeout)?,
            host: connect::host(base_url)?,
            chat: at("chat/completions")?,
            completions: at("completions")?,
            embeddings: at("embeddings")?,
            models: at("models")?,
            keys: api_keys.iter().enumerate().map(connect::bearer).collect::<Result<_, _>>()?,
            next_key: AtomicUsize::new(0),
            timeout,
        })
    }

    /// Sends a request on and gives the provider's answer, whatever it is, in a form fit for
    /// the caller.
    ///
    /// # Errors
    /// When there is no answer: not connected, broken off, too late, too large or not JSON.
    pub async fn call(
        &self,
        endpoint: Endpoint,
        caller: &HeaderMap,
        body: Bytes,
        mut observation: Observation,
    ) -> Result<Response, Reply> {
        let deadline = Instant::from_std(observation.started()) + self.timeout;
        let request = self.request(self.uri_of(endpoint), caller, body);
        let answered = async {
            let response = self.send(request, deadline).await?;
            if response.status().is_success() && headers::is_type(response.headers(), EVENT_STREAM) {
                return Ok(Answer::Stream(response));
            }
            self.collect(response, deadline).await.map(Answer::Whole)
        };
        match answered.await {
            Ok(Answer::Stream(response)) => Ok(self.stream(response, observation)),
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

    const fn uri_of(&self, endpoint: Endpoint) -> &Uri {
        match endpoint {
            Endpoint::Completions => &self.completions,
            Endpoint::Embeddings => &self.embeddings,
            _ => &self.chat,
        }
    }

    fn request(&self, uri: &Uri, caller: &HeaderMap, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri.clone();
        let headers = request.headers_mut();
        headers::forward_request(caller, headers);
        headers.insert(CONTENT_TYPE, JSON);
        if let Some(accept) = caller.get(ACCEPT) {
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
            headers.insert(AUTHORIZATION, self.keys[turn].clone());
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

    fn stream(&self, response: http::Response<Incoming>, observation: Observation) -> Response {
        let (upstream, body) = response.into_parts();
        let mut response =
            Response::new(Body::new(WatchedStream::new(body, &self.name, self.timeout, observation)));
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
