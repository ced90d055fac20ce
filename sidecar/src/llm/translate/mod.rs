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
use tidegate_core::chat::{ChatAnswer, ChatRequest, TokenUsage};
use tidegate_core::provider::{
    ChoicesTranslator, Dialect, Echo, Exchange, Fit, Format, Front, Repeated, StreamTranslator, Vendor,
    adapt_openai_request, ask_for_usage, one_by_one, read_answers, read_request, write_answers,
    write_request,
};
use tidegate_core::reply::{Code, Reply};
use tidegate_core::route::Endpoint;
use tidegate_core::sse::Usage;
use tidegate_core::wire::header;

use self::choices::ChoicesStream;
use self::stream::TranslatedStream;
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
    pub fn adapted(&self, endpoint: Endpoint, body: &Bytes) -> (Bytes, bool) {
        let adapted = match endpoint {
            Endpoint::ChatCompletions => adapt_openai_request(body, self.vendor, &self.dialect),
            _ => None,
        };
        let body = adapted.map_or_else(|| body.clone(), Bytes::from);
        let can_ask = self.format == Format::OpenAi
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
    together: usize,
    keep: Option<Keep>,
    dropped: Option<HeaderValue>,
}

impl Translation {
    /// Writes the caller's request in the provider's protocol: one body for each answer that is
    /// asked for, unless the provider gives several at once. With a seed, each has one of its own,
    /// or all answers would be the same.
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
        let wanted = request.alternatives + 1;
        let (count, together) =
            if target.format.gives_several(&request.model) { (1, wanted) } else { (wanted, 1) };
        let other = |choice: u64| ChatRequest {
            seed: request.seed.map(|seed| seed.wrapping_add(choice.cast_signed())),
            alternatives: 0,
            ..request.clone()
        };
        let others: Vec<_> = (1..count).map(other).collect();
        let first = ChatRequest { alternatives: together - 1, ..request };
        let mut bodies = Vec::with_capacity(1 + others.len());
        for request in std::iter::once(first).chain(others) {
            let written = write_request(target.format, &target.dialect, request, &mut fit)?;
            exchange.schema_tool = written.schema_tool;
            bodies.push(written.body.into());
        }
        let dropped = Some(fit.dropped().join(", ")).filter(|fields| !fields.is_empty());
        let dropped = dropped.and_then(|fields| HeaderValue::from_str(&fields).ok());
        let together = usize::try_from(together).unwrap_or(1);
        let (provider, caller) = (target.format, front);
        Ok((Self { provider, caller, exchange, stream, together, keep: None, dropped }, bodies))
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
        let translation = Self { provider, caller, exchange, stream, together: 1, keep: None, dropped: None };
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
        let Self { provider, caller, exchange, together, keep, .. } = self;
        if together > 1 {
            let translator = ChoicesTranslator::of_one_stream(provider, caller, &exchange, together);
            return Body::new(ChoicesStream::new(bodies, translator));
        }
        match bodies.pop() {
            Some(body) if bodies.is_empty() => {
                let translator = StreamTranslator::new(provider, caller, &exchange);
                Body::new(TranslatedStream::new(body, translator, keep))
            }
            last => {
                bodies.extend(last);
                let translator = ChoicesTranslator::new(provider, caller, &exchange, bodies.len());
                Body::new(ChoicesStream::new(bodies, translator))
            }
        }
    }

    async fn read(&self, provider: &str, bodies: Vec<Body>) -> Result<Vec<ChatAnswer>, Reply> {
        let mut answers = Vec::with_capacity(bodies.len());
        for body in bodies {
            let whole = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            let whole = whole.map_err(|_| no_answer(provider))?.to_bytes();
            let read = read_answers(self.provider, &self.exchange, &whole);
            answers.extend(read.map_err(|_| no_answer(provider))?);
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
