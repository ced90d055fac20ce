//! Between a caller and a provider that speak different protocols: the request is written anew
//! on its way out, the answer on its way back. Refusals are none of its business; whoever makes
//! one writes it in the caller's protocol.

mod stream;

use std::time::SystemTime;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue};
use http_body_util::{BodyExt, Limited};
use tidegate_core::provider::{
    Dialect, Echo, Exchange, Fit, Format, Front, StreamTranslator, Vendor, adapt_openai_request,
    ask_for_usage, read_answer, read_request, write_answer, write_request,
};
use tidegate_core::reply::{Code, Reply};
use tidegate_core::route::Endpoint;
use tidegate_core::wire::header;

use self::stream::TranslatedStream;
use super::front::responses::Keep;
use super::upstream::{ANSWER_BYTES_MAX, Caller};

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
    keep: Option<Keep>,
    dropped: Option<HeaderValue>,
}

impl Translation {
    /// Writes the caller's request in the provider's protocol.
    ///
    /// # Errors
    /// `invalid_request` with the field that is wrong, or that the provider has no word for.
    pub fn begin(
        caller: &Caller<'_>,
        front: Front,
        target: &Target,
        body: &[u8],
    ) -> Result<(Self, Bytes), Reply> {
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
        let written = write_request(target.format, &target.dialect, request, &mut fit)?;
        exchange.schema_tool = written.schema_tool;
        let dropped = Some(fit.dropped().join(", ")).filter(|fields| !fields.is_empty());
        let dropped = dropped.and_then(|fields| HeaderValue::from_str(&fields).ok());
        let translation =
            Self { provider: target.format, caller: front, exchange, stream, keep: None, dropped };
        Ok((translation, written.body.into()))
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

    /// Writes the provider's answer in the caller's protocol.
    ///
    /// # Errors
    /// `upstream_error` when it is not an answer to a chat.
    pub async fn finish(self, provider: &str, mut response: Response) -> Result<Response, Reply> {
        if let Some(dropped) = &self.dropped {
            response.headers_mut().insert(DROPPED, dropped.clone());
        }
        if !response.status().is_success() {
            return Ok(response);
        }
        let (head, body) = response.into_parts();
        let content_type = head.headers.get(CONTENT_TYPE);
        let is_stream = content_type.is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"));
        let body = if is_stream { self.stream(body) } else { self.whole(provider, body).await? };
        Ok(Response::from_parts(head, body))
    }

    fn stream(self, body: Body) -> Body {
        let translator = StreamTranslator::new(self.provider, self.caller, &self.exchange);
        Body::new(TranslatedStream::new(body, translator, self.keep))
    }

    async fn whole(&self, provider: &str, body: Body) -> Result<Body, Reply> {
        let no_answer =
            || Reply::new(Code::UpstreamError, format!("Provider {provider} answered with what is no chat."));
        let whole = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|_| no_answer())?;
        let answer =
            read_answer(self.provider, &self.exchange, &whole.to_bytes()).map_err(|_| no_answer())?;
        let written = write_answer(self.caller, &self.exchange, &answer);
        if let Some(keep) = &self.keep {
            keep.response(&written);
        }
        Ok(written.into())
    }
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
