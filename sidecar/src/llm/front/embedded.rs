//! Embeddings from providers that do not speak OpenAI's protocol: as many requests as they need
//! for the texts, some of them at a time, and one answer.

use std::future::Future;

use axum::response::Response;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt};
use http::HeaderMap;
use http_body_util::{BodyExt, Limited};
use tidegate_core::chat::estimate_tokens;
use tidegate_core::provider::{EmbeddingApi, Vendor, embeds_nothing};
use tidegate_core::reply::{Code, Reply};
use tidegate_core::sse::Usage;

use super::embeddings::Asked;
use super::request::LlmRequest;
use crate::headers::IDENTITY;
use crate::llm::upstream::{ANSWER_BYTES_MAX, tell_filter};

/// Most requests to a provider for one request of a caller.
const CALLS_MAX: usize = 128;
/// Most of them at a time.
const CALLS_AT_ONCE: usize = 4;

/// Vectors of one batch, or the provider's refusal.
enum Batch {
    Vectors(Vec<Vec<f32>>, u64),
    Refused(Response),
}

/// Answers a request by asking the provider through `call`, which sends one body on.
///
/// # Errors
/// `invalid_request` with the field at fault; what `call` fails with; `upstream_error` for an
/// answer that is none.
pub async fn answer<'a, F, Fut>(
    vendor: Vendor,
    headers: &HeaderMap,
    request: &'a LlmRequest,
    call: F,
) -> Result<Response, Reply>
where
    F: Fn(&'a LlmRequest, Bytes) -> Fut + Sync,
    Fut: Future<Output = Result<Response, Reply>> + Send,
{
    let asked = Asked::read(&request.body)?;
    let api = EmbeddingApi::of(vendor, &request.model).ok_or_else(embeds_nothing)?;
    let most = api.texts_max().saturating_mul(CALLS_MAX);
    if asked.texts.len() > most {
        let message = format!("Field `input` must have at most {most} texts for this model.");
        return Err(Reply::new(Code::InvalidRequest, message).with_param("input"));
    }
    let mut asking: Vec<BoxFuture<'_, _>> = Vec::new();
    for texts in asked.texts.chunks(api.texts_max()) {
        let body = api.write(&request.model, texts, asked.dimensions)?.into();
        let call = &call;
        asking.push(Box::pin(async move { batch(api, texts, call(request, body).await?).await }));
    }
    let mut answers = stream::iter(asking).buffered(CALLS_AT_ONCE);
    let (mut vectors, mut tokens) = (Vec::with_capacity(asked.texts.len()), 0_u64);
    while let Some(answered) = answers.next().await {
        match answered? {
            Batch::Vectors(more, cost) => {
                vectors.extend(more);
                tokens = tokens.saturating_add(cost);
            }
            Batch::Refused(refusal) => return Ok(refusal),
        }
    }
    let mut response = asked.response(vectors.iter().map(Vec::as_slice), &request.model, tokens);
    if headers.contains_key(IDENTITY) {
        let usage = Usage { prompt_tokens: tokens, cached_tokens: 0, completion_tokens: 0 };
        tell_filter(usage, response.headers_mut());
    }
    Ok(response)
}

/// Reads the answer for one batch. Where the provider does not count tokens, they are estimated.
async fn batch(api: EmbeddingApi, texts: &[String], response: Response) -> Result<Batch, Reply> {
    if !response.status().is_success() {
        return Ok(Batch::Refused(response));
    }
    let none = || Reply::new(Code::UpstreamError, "The provider answered with what are no embeddings.");
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(|_| none())?;
    let embedded = api.read(texts.len(), &body.to_bytes()).map_err(|_| none())?;
    let tokens = embedded.tokens.unwrap_or_else(|| texts.iter().map(|text| estimate_tokens(text)).sum());
    Ok(Batch::Vectors(embedded.vectors, tokens))
}
