//! Providers elsewhere: servers that are asked over HTTP, each in its own way.

mod access;
mod account;
mod address;
mod answer;
pub mod connect;
mod discover;
mod error_body;
mod fault;
mod headers;
mod heard;
mod hold;
mod ping;
mod sigv4;
mod stream;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use tidegate_core::provider::{Credential, Format};
use tidegate_core::reply::Reply;
use tidegate_core::route::{Endpoint, Protocol};
use tidegate_core::sse::Usage;
use tidegate_core::wire::header;
use tokio::time::Instant;

use self::account::Signer;
use self::address::Addresses;
pub use self::answer::ANSWER_BYTES_MAX;
pub use self::connect::{Transport, Unusable};
pub use self::headers::is_event_stream;
pub use self::heard::Heard;
pub use self::sigv4::rfc3339;
use self::stream::{ErrorStyle, Source, WatchedStream};
use super::metrics::{Observation, Outcome};
use super::settings::Remote;
use super::translate::Target;
use crate::headers::IDENTITY;
use crate::limits::Payer;
use crate::trace::{TRACEPARENT, Trace};

const AMAZON_STREAM: &str = "application/vnd.amazon.eventstream";
const JSON: HeaderValue = HeaderValue::from_static("application/json");
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
    /// OpenAI's responses.
    Responses,
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
    /// Who pays; `None` for requests that are not billed.
    pub payer: Option<&'a Payer>,
    /// The trace that it is in, if that is sampled.
    pub trace: Option<&'a Trace>,
}

/// One request to a provider.
#[derive(Debug)]
pub struct Call<'a> {
    /// What is asked.
    pub operation: Operation,
    /// Who asks.
    pub caller: Caller<'a>,
    /// The model asked for.
    pub model: &'a str,
    /// Whether the answer is to be a stream.
    pub stream: bool,
    /// Whether the gateway asks for a stream's usage, which the caller does not expect.
    pub asks_usage: bool,
    /// The caller's headers.
    pub headers: &'a HeaderMap,
    /// Which of the provider's keys is used.
    pub key: usize,
    /// The place in a trace that the provider is told of, if not the caller's own.
    pub traceparent: Option<HeaderValue>,
    /// The body, in the provider's protocol.
    pub body: Bytes,
}

/// One provider: its connections, its addresses and its keys, all made ready beforehand.
#[derive(Debug)]
pub struct Upstream {
    name: Box<str>,
    target: Target,
    transport: Transport,
    host: HeaderValue,
    addresses: Addresses,
    key_header: HeaderName,
    keys: Vec<HeaderValue>,
    signer: Signer,
    timeout: Duration,
    /// Whether it has refused to be asked for the usage of streams.
    refuses_stream_options: AtomicBool,
}

impl Upstream {
    /// Makes a provider's connector; connects to nothing yet.
    ///
    /// # Errors
    /// A base URL that is no HTTP URL, a key that cannot be a header, or no trusted root
    /// certificates on this machine for an `https` URL.
    pub fn new(
        name: &str,
        remote: &Remote,
        timeout: Duration,
        connect_timeout: Duration,
    ) -> Result<Self, Unusable> {
        let Remote { vendor, base_url, api_keys, lenient, stream_usage, .. } = remote;
        let (vendor, lenient) = (*vendor, *lenient);
        let mut dialect = vendor.dialect_at(base_url.host().unwrap_or_default());
        dialect.stream_options &= stream_usage;
        let keys = api_keys.iter().enumerate();
        Ok(Self {
            name: name.into(),
            target: Target { format: vendor.format(), vendor, dialect, lenient },
            transport: Transport::new(base_url, connect_timeout)?,
            host: connect::host(base_url)?,
            addresses: Addresses::new(remote)?,
            key_header: match vendor.credential() {
                Credential::Bearer => AUTHORIZATION,
                Credential::Header(name) => HeaderName::from_static(name),
            },
            keys: keys.map(|key| connect::credential(vendor.credential(), key)).collect::<Result<_, _>>()?,
            signer: Signer::new(remote, connect_timeout)?,
            timeout,
            refuses_stream_options: AtomicBool::new(false),
        })
    }

    /// How requests for it are written.
    #[must_use]
    pub fn target(&self) -> Target {
        let mut target = self.target;
        target.dialect.stream_options &= !self.refuses_stream_options.load(Ordering::Relaxed);
        target
    }

    /// It does not know `stream_options`: none are sent any more, until it is configured anew.
    pub fn stop_stream_options(&self) {
        if !self.refuses_stream_options.swap(true, Ordering::Relaxed) {
            tracing::info!(provider = &*self.name, "provider refuses stream_options: usage is estimated");
        }
    }

    /// Whether it can be asked this at all.
    #[must_use]
    pub const fn serves(&self, endpoint: Endpoint) -> bool {
        match endpoint {
            Endpoint::ChatCompletions | Endpoint::Completions | Endpoint::Messages | Endpoint::Responses => {
                true
            }
            Endpoint::Embeddings => !matches!(self.target.format, Format::Anthropic),
            Endpoint::Models => false,
        }
    }

    /// Whether it can be asked which models it has.
    #[must_use]
    pub const fn lists_models(&self) -> bool {
        self.addresses.models().is_some()
    }

    /// Sends a request on and gives the provider's answer. A refusal is in the caller's
    /// protocol; any other answer is as the provider gave it.
    ///
    /// # Errors
    /// When there is no answer: not connected, broken off, too late, too large or not JSON.
    pub async fn call(&self, call: Call<'_>, mut observation: Observation) -> Result<Response, Reply> {
        let deadline = Instant::from_std(observation.started()) + self.timeout;
        let (caller, hides_usage) = (call.caller, call.asks_usage);
        let is_filtered = call.headers.contains_key(IDENTITY);
        let answered = async {
            let request = self.request(call, deadline).await?;
            let mut response = self.send(request, deadline).await?;
            if response.status().is_success() {
                let heard = Heard::in_answer(response.headers());
                response.extensions_mut().insert(heard);
            }
            let of_answer = response.headers();
            let streams = is_event_stream(of_answer) || headers::is_type(of_answer, AMAZON_STREAM);
            if response.status().is_success() && streams {
                return Ok(Answer::Stream(response));
            }
            self.collect(response, deadline, &caller).await.map(Answer::Whole)
        };
        match answered.await {
            Ok(Answer::Stream(response)) => Ok(self.stream(response, &caller, hides_usage, observation)),
            Ok(Answer::Whole((mut response, usage))) => {
                observation.ended(Outcome::of_status(response.status().as_u16()));
                if response.extensions().get::<Heard>().is_some_and(|heard| heard.of_model) {
                    observation.blame_model();
                }
                match usage {
                    Some(usage) => {
                        observation.usage(usage);
                        if is_filtered {
                            tell_filter(usage, response.headers_mut());
                        }
                    }
                    None if response.status().is_success() => observation.seen(0),
                    None => {}
                }
                Ok(response)
            }
            Err(reply) => {
                observation.ended(Outcome::of_code(reply.code));
                Err(reply)
            }
        }
    }

    async fn request(&self, call: Call<'_>, deadline: Instant) -> Result<Request<Full<Bytes>>, Reply> {
        let mut request = Request::new(Full::new(call.body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.addresses.of(call.operation, call.model, call.stream)?;
        let headers = request.headers_mut();
        headers::forward_request(call.caller.protocol, self.target.format, call.headers, headers);
        headers.insert(CONTENT_TYPE, JSON);
        if let Some(traceparent) = call.traceparent {
            headers.insert(TRACEPARENT, traceparent);
        }
        if let Some(accept) = call.headers.get(ACCEPT) {
            headers.insert(ACCEPT, accept.clone());
        }
        self.sign(headers, call.key);
        self.signer.sign(&self.name, &mut request, &call.body, deadline).await?;
        Ok(request)
    }

    /// Adds what every request to this provider carries, with the key at this place.
    fn sign(&self, headers: &mut HeaderMap, key: usize) {
        headers.insert(HOST, self.host.clone());
        headers.insert(USER_AGENT, AGENT);
        if let Some(key) = self.keys.get(key).or_else(|| self.keys.first()) {
            headers.insert(&self.key_header, key.clone());
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
        hides_usage: bool,
        observation: Observation,
    ) -> Response {
        let (upstream, body) = response.into_parts();
        let protocol = match (self.target.format, caller.protocol) {
            (Format::Anthropic, Protocol::Anthropic) => Protocol::Anthropic,
            _ => Protocol::OpenAi,
        };
        let errors = ErrorStyle { protocol, request_id: caller.request_id.into() };
        let source = match self.target.format {
            Format::OpenAi | Format::Anthropic => Source::Known,
            Format::Gemini | Format::Ernie => Source::Foreign,
            Format::Bedrock => Source::Frames,
        };
        let watched = WatchedStream::new(body, source, &self.name, self.timeout, observation, errors);
        let watched = if hides_usage { watched.hiding_usage() } else { watched };
        let mut response = Response::new(Body::new(watched));
        *response.status_mut() = upstream.status;
        *response.extensions_mut() = upstream.extensions;
        headers::forward_response(&upstream.headers, response.headers_mut());
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(headers::EVENT_STREAM));
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

/// The filter settles its limits by it, and takes it out.
pub(in crate::llm) fn tell_filter(usage: Usage, headers: &mut HeaderMap) {
    let text = format!("{},{}", usage.prompt_tokens, usage.completion_tokens);
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(HeaderName::from_static(header::USAGE), value);
    }
}

enum Answer {
    Stream(http::Response<Incoming>),
    Whole((Response, Option<Usage>)),
}
