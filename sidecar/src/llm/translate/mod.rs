//! Between a caller and a provider that speak different protocols: the request is written anew
//! on its way out, the answer on its way back. Refusals are none of its business; whoever makes
//! one writes it in the caller's protocol.

mod stream;

use std::time::SystemTime;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http_body_util::{BodyExt, Limited};
use tidegate_core::provider::{
    StreamStyle, StreamTranslator, TokenLimitField, read_answer, read_request, write_answer, write_request,
};
use tidegate_core::reply::{Code, Reply};
use tidegate_core::route::Protocol;

use self::stream::TranslatedStream;
use super::upstream::{ANSWER_BYTES_MAX, Caller};

/// One exchange to translate.
#[derive(Debug)]
pub struct Translation {
    provider: Protocol,
    caller: Protocol,
    include_usage: bool,
    request_id: String,
}

impl Translation {
    /// Writes the caller's request in the provider's protocol.
    ///
    /// # Errors
    /// `invalid_request` with the field that is wrong, or that the provider has no word for.
    pub fn begin(
        caller: &Caller<'_>,
        provider: Protocol,
        limit: TokenLimitField,
        body: &[u8],
    ) -> Result<(Self, Bytes), Reply> {
        let request = read_request(caller.protocol, body)?;
        let written = write_request(provider, &request, limit)?;
        let translation = Self {
            provider,
            caller: caller.protocol,
            include_usage: request.include_usage,
            request_id: caller.request_id.to_owned(),
        };
        Ok((translation, written.into()))
    }

    /// Writes the provider's answer in the caller's protocol.
    ///
    /// # Errors
    /// `upstream_error` when it is not an answer to a chat.
    pub async fn finish(self, provider: &str, response: Response) -> Result<Response, Reply> {
        if !response.status().is_success() {
            return Ok(response);
        }
        let (head, body) = response.into_parts();
        let content_type = head.headers.get(CONTENT_TYPE);
        let is_stream = content_type.is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"));
        let body = if is_stream { self.stream(body) } else { self.whole(provider, body).await? };
        Ok(Response::from_parts(head, body))
    }

    fn stream(&self, body: Body) -> Body {
        let style =
            StreamStyle { created: now(), include_usage: self.include_usage, request_id: &self.request_id };
        let translator = StreamTranslator::new(self.provider, self.caller, style);
        Body::new(TranslatedStream::new(body, translator))
    }

    async fn whole(&self, provider: &str, body: Body) -> Result<Body, Reply> {
        let no_answer =
            || Reply::new(Code::UpstreamError, format!("Provider {provider} answered with what is no chat."));
        let whole = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|_| no_answer())?;
        let answer = read_answer(self.provider, &whole.to_bytes()).map_err(|_| no_answer())?;
        Ok(write_answer(self.caller, &answer, now()).into())
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs())
}
