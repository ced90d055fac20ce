//! Between a caller and a provider that speak different protocols: the request is written anew
//! on its way out, the answer on its way back. Refusals are none of its business; whoever makes
//! one writes it in the caller's protocol.

mod choices;
mod stream;

use std::time::SystemTime;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body_util::{BodyExt, Limited};
use tidegate_core::chat::{ChatAnswer, Finish, TokenUsage};
use tidegate_core::provider::{
    ChoicesTranslator, Dialect, Echo, Exchange, Fit, Format, Front, Repeated, Split, StreamTranslator,
    Vendor, adapt_openai_request, ask_for_usage, one_by_one, read_answers, read_request, split,
    write_answers, write_request,
};
use tidegate_core::reply::{Code, Reply};
use tidegate_core::route::Endpoint;
use tidegate_core::sse::Usage;
use tidegate_core::wire::header;

use self::choices::ChoicesStream;
use self::stream::TranslatedStream;
use super::front::LlmRequest;
use super::front::responses::Keep;
use super::upstream::{ANSWER_BYTES_MAX, Caller, is_event_stream, tell_filter};

const DROPPED: HeaderName = HeaderName::from_static(header::DROPPED);

/// How requests for a provider are written.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its protocol.
    pub format: Format,
    /// What kind of server it is.
    pub vendor: Vendor,
    /// In which points it differs from OpenAI.
    pub dialect: Dialect,
    /// Whether what it has no word for is left out instead of refused.
    pub lenient: bool,
}

impl Target {
    /// The model in this process: it speaks OpenAI's protocol and refuses for itself.
    pub const LOCAL: Self = Self {
        format: Format::OpenAi,
        vendor: Vendor::OpenAi,
        dialect: Vendor::OpenAi.dialect(),
        lenient: false,
    };

    /// A caller's own body, with the few names changed that differ here; and, where the server
    /// tells the usage of streams only to those who ask, with that asked for on the gateway's own
    /// account. The second value says so.
    #[must_use]
    pub fn adapted(&self, endpoint: Endpoint, request: &LlmRequest) -> (Bytes, bool) {
        let adapted = match endpoint {
            Endpoint::ChatCompletions => adapt_openai_request(&request.body, self.vendor, &self.dialect),
            _ => None,
        };
        let body = adapted.map_or_else(|| request.body.clone(), Bytes::from);
        let can_ask = request.stream
            && self.format == Format::OpenAi
            && self.dialect.stream_options
            && matches!(endpoint, Endpoint::ChatCompletions | Endpoint::Completions);
        match can_ask.then(|| ask_for_usage(&body)).flatten() {
            Some(asking) => (asking.into(), true),
            None => (body, false),
        }
    }
}

/// One exchange to translate.
#[derive(Debug)]
pub struct Translation {
    provider: Format,
    caller: Front,
    exchange: Exchange,
    stream: bool,
    /// Answers that come in one body; 1 unless the provider gives several at once.
    answers: u32,
    keep: Option<Keep>,
    dropped: Option<HeaderValue>,
}

impl Translation {
    /// Writes the caller's request in the provider's protocol: one body for each answer that is
    /// asked for, or for each prompt where the provider gives several answers at once.
    ///
    /// # Errors
    /// `invalid_request` with the field that is wrong, or that the provider has no word for.
    pub fn begin(
        caller: &Caller<'_>,
        front: Front,
        target: &Target,
        body: &[u8],
    ) -> Result<(Self, Vec<Bytes>), Reply> {
        let mut fit = if target.lenient { Fit::lenient() } else { Fit::strict() };
        let request = read_request(front, body, &mut fit)?;
        let stream = request.stream;
        let mut exchange = Exchange {
            created: now(),
            include_usage: request.include_usage,
            request_id: caller.request_id.to_owned(),
            model: request.model.clone(),
            schema_tool: None,
            answer_id: if front == Front::Responses { answer_id()? } else { String::new() },
            echo: if front == Front::Responses { Echo::of(body) } else { Echo::default() },
        };
        let Split { requests, answers } = split(target.format, request);
        let mut bodies = Vec::with_capacity(requests.len());
        for request in requests {
            let written = write_request(target.format, &target.dialect, request, &mut fit)?;
            exchange.schema_tool = written.schema_tool;
            bodies.push(written.body.into());
        }
        let dropped = Some(fit.dropped().join(", ")).filter(|fields| !fields.is_empty());
        let dropped = dropped.and_then(|fields| HeaderValue::from_str(&fields).ok());
        let (provider, caller) = (target.format, front);
        Ok((Self { provider, caller, exchange, stream, answers, keep: None, dropped }, bodies))
    }

    /// Takes a request for several answers apart, for a provider that speaks the caller's protocol
    /// but gives one at a time.
    ///
    /// # Errors
    /// `invalid_request` with the field that is wrong.
    pub fn one_by_one(caller: &Caller<'_>, front: Front, body: &[u8]) -> Result<(Self, Vec<Bytes>), Reply> {
        let Repeated { bodies, model, stream, include_usage } = one_by_one(body)?;
        let exchange = Exchange {
            created: now(),
            include_usage,
            request_id: caller.request_id.to_owned(),
            model,
            ..Exchange::default()
        };
        let (provider, caller) = (Format::OpenAi, front);
        let translation = Self { provider, caller, exchange, stream, answers: 1, keep: None, dropped: None };
        Ok((translation, bodies.into_iter().map(Bytes::from).collect()))
    }

    /// Has the response kept, once it is whole.
    #[must_use]
    pub fn keeping(self, keep: Option<Keep>) -> Self {
        Self { keep, ..self }
    }

    /// Whether the caller asked for a stream.
    #[must_use]
    pub const fn is_stream(&self) -> bool {
        self.stream
    }

    /// Writes the provider's answers in the caller's protocol, as one. One that is a refusal stands
    /// for all.
    ///
    /// # Errors
    /// `upstream_error` when one is not an answer to a chat.
    pub async fn finish(self, provider: &str, mut responses: Vec<Response>) -> Result<Response, Reply> {
        if let Some(refused) = responses.iter().position(|response| !response.status().is_success()) {
            let mut response = responses.swap_remove(refused);
            self.name_dropped(response.headers_mut());
            return Ok(response);
        }
        let (heads, bodies): (Vec<Parts>, Vec<Body>) =
            responses.into_iter().map(Response::into_parts).unzip();
        let is_stream = heads.iter().all(|head| is_event_stream(&head.headers));
        let all_tell = heads.iter().all(|head| head.headers.contains_key(header::USAGE));
        let Some(mut head) = heads.into_iter().next() else { return Err(no_answer(provider)) };
        self.name_dropped(&mut head.headers);
        if is_stream {
            return Ok(Response::from_parts(head, self.stream(bodies)));
        }
        let answers = self.read(provider, bodies).await?;
        if answers.len() > 1 {
            head.headers.remove(header::USAGE);
            let TokenUsage { input, output, .. } = answers.iter().map(|answer| answer.usage).sum();
            if all_tell {
                let sum = Usage { prompt_tokens: input, completion_tokens: output, ..Usage::default() };
                tell_filter(sum, &mut head.headers);
            }
        }
        Ok(Response::from_parts(head, self.write(&answers).into()))
    }

    fn name_dropped(&self, headers: &mut HeaderMap) {
        if let Some(dropped) = &self.dropped {
            headers.insert(DROPPED, dropped.clone());
        }
    }

    fn stream(self, mut bodies: Vec<Body>) -> Body {
        let Self { provider, caller, exchange, answers, keep, .. } = self;
        match bodies.pop() {
            Some(body) if bodies.is_empty() && answers == 1 => {
                let translator = StreamTranslator::new(provider, caller, &exchange);
                Body::new(TranslatedStream::new(body, translator, keep))
            }
            last => {
                bodies.extend(last);
                let streams = u32::try_from(bodies.len()).unwrap_or(u32::MAX);
                let translator = ChoicesTranslator::new(provider, caller, &exchange, streams, answers);
                Body::new(ChoicesStream::new(bodies, translator))
            }
        }
    }

    async fn read(&self, provider: &str, bodies: Vec<Body>) -> Result<Vec<ChatAnswer>, Reply> {
        let is_one = bodies.len() == 1;
        let wanted = usize::try_from(self.answers).unwrap_or(usize::MAX);
        let mut answers = Vec::with_capacity(bodies.len());
        for body in bodies {
            let whole = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            let whole = whole.map_err(|_| no_answer(provider))?.to_bytes();
            let read = read_answers(self.provider, &self.exchange, &whole);
            let mut read = read.map_err(|_| no_answer(provider))?;
            if !is_one {
                read.resize_with(wanted, not_given);
            }
            answers.extend(read);
        }
        Ok(answers)
    }

    fn write(&self, answers: &[ChatAnswer]) -> Vec<u8> {
        let written = write_answers(self.caller, &self.exchange, answers);
        if let Some(keep) = &self.keep {
            keep.response(&written);
        }
        written
    }
}

/// Stands where a provider gave fewer answers to a prompt than it was asked for: callers find the
/// next prompt's by counting.
fn not_given() -> ChatAnswer {
    ChatAnswer { finish: Finish::Refusal, ..ChatAnswer::default() }
}

fn no_answer(provider: &str) -> Reply {
    Reply::new(Code::UpstreamError, format!("Provider {provider} answered with what is no chat."))
}

/// A new response's id, which nobody can guess.
fn answer_id() -> Result<String, Reply> {
    let unique = crate::keys::random::token();
    let failed = |_| Reply::new(Code::InternalError, "The system gives no random numbers.");
    unique.map(|unique| format!("resp_{unique}")).map_err(failed)
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs())
}
