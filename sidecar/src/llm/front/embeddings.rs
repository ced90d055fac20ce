//! `POST /v1/embeddings` and `/local/embeddings` on the model in this process, in OpenAI's format.

use std::fmt;
use std::time::Duration;

use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, StatusCode};
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use tidegate_core::reply::{Code, Reply};
use tokio::time::Instant;

use super::request::LlmRequest;
use super::{ATTEMPTS, MODEL, PROVIDER};
use crate::embedding::{BATCH_TEXTS_MAX, EmbedError, Embedder, Embedding, little_endian};
use crate::refusal::json;

/// The `x-gateway-provider` of the model in this process, and its owner in the list of models.
pub const LOCAL: &str = "local";
/// Most inputs of one request, as in OpenAI's API.
const INPUTS_MAX: usize = 2048;
/// Longest that a request of this endpoint takes.
const DEADLINE: Duration = Duration::from_secs(60);
/// What a full queue asks a caller to wait, in milliseconds: some batches' time.
const BUSY_RETRY_MS: u64 = 500;
/// What a model that is not there asks a caller to wait, in milliseconds.
const UNAVAILABLE_RETRY_MS: u64 = 30_000;
/// What a model that is loading asks a caller to wait, in milliseconds.
const LOADING_RETRY_MS: u64 = 1000;

/// The fields looked at; `user` and others change nothing.
#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    input: &'a RawValue,
    #[serde(default)]
    encoding_format: Option<String>,
    #[serde(default)]
    dimensions: Option<u64>,
}

#[derive(Serialize)]
struct List<'a> {
    object: &'static str,
    data: Vec<Item<'a>>,
    model: &'a str,
    usage: Usage,
}

#[derive(Serialize)]
struct Item<'a> {
    object: &'static str,
    index: usize,
    embedding: Numbers<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Numbers<'a> {
    Float(&'a [f32]),
    Base64(String),
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: u64,
    total_tokens: u64,
}

/// A request for embeddings, in OpenAI's protocol.
#[derive(Debug)]
pub(super) struct Asked {
    /// At least one, at most [`INPUTS_MAX`], and none empty.
    pub(super) texts: Vec<String>,
    /// How long the vectors are to be, if the caller chose.
    pub(super) dimensions: Option<u64>,
    as_base64: bool,
}

impl Asked {
    /// Reads a request.
    ///
    /// # Errors
    /// `invalid_request` with the field at fault.
    pub(super) fn read(body: &[u8]) -> Result<Self, Reply> {
        let fields: Fields<'_> = serde_json::from_slice(body).map_err(|e| {
            // Serde's own words would quote the value.
            let place = format!("line {}, column {}", e.line(), e.column());
            Reply::new(Code::InvalidRequest, format!("A field of the body is of the wrong kind, at {place}."))
        })?;
        let as_base64 = match fields.encoding_format.as_deref() {
            None | Some("float") => false,
            Some("base64") => true,
            Some(_) => return Err(wrong("encoding_format", "must be `float` or `base64`")),
        };
        Ok(Self { texts: texts(fields.input)?, dimensions: fields.dimensions, as_base64 })
    }

    /// The answer: these vectors, in the order of the texts.
    pub(super) fn response<'a>(
        &self,
        vectors: impl Iterator<Item = &'a [f32]>,
        model: &str,
        tokens: u64,
    ) -> Response {
        let numbers =
            |vector| if self.as_base64 { Numbers::Base64(base64(vector)) } else { Numbers::Float(vector) };
        let item = |(index, vector)| Item { object: "embedding", index, embedding: numbers(vector) };
        let data = vectors.enumerate().map(item).collect();
        let usage = Usage { prompt_tokens: tokens, total_tokens: tokens };
        json(StatusCode::OK, &List { object: "list", data, model, usage })
    }
}

/// Answers one request for the model in this process.
///
/// # Errors
/// `model_not_found` for another model; `invalid_request` with the field at fault; `context_length_exceeded`, `local_model_busy`,
/// `no_provider_available` or `upstream_timeout` when there are no embeddings.
pub async fn answer(embedder: &Embedder, request: &LlmRequest) -> Result<Response, Reply> {
    if request.model != embedder.name() {
        let message = "No model in the gateway itself has this name; GET /v1/models lists those there are.";
        return Err(Reply::new(Code::ModelNotFound, message).with_param("model"));
    }
    let asked = Asked::read(&request.body)?;
    let info = embedder.model().map_err(|error| explain(&error))?;
    if asked.dimensions.is_some_and(|wanted| wanted != info.dimension as u64) {
        let what = format!("cannot be chosen for this model; leave it out or give {}", info.dimension);
        return Err(wrong("dimensions", &what));
    }
    let embeddings = embed(embedder, &asked.texts).await.map_err(|error| explain(&error))?;
    let tokens = embeddings.iter().map(|embedding| embedding.tokens as u64).sum();
    let vectors = embeddings.iter().map(|embedding| &*embedding.vector);
    let mut response = asked.response(vectors, &info.name, tokens);
    let headers = response.headers_mut();
    headers.insert(PROVIDER, HeaderValue::from_static(LOCAL));
    headers.insert(ATTEMPTS, HeaderValue::from_static("1"));
    if let Ok(model) = HeaderValue::from_str(&info.name) {
        headers.insert(MODEL, model);
    }
    Ok(response)
}

/// One batch after the other: a large request has no more than one batch in the queue, so that
/// others find room between its batches.
async fn embed(embedder: &Embedder, texts: &[String]) -> Result<Vec<Embedding>, EmbedError> {
    let deadline = Instant::now() + DEADLINE;
    let mut embeddings = Vec::with_capacity(texts.len());
    for batch in texts.chunks(BATCH_TEXTS_MAX) {
        let batch: Vec<&str> = batch.iter().map(String::as_str).collect();
        let done = embeddings.len();
        let found = embedder.embed(&batch, deadline).await.map_err(|error| match error {
            EmbedError::TooLong { index, tokens_max } => {
                EmbedError::TooLong { index: done + index, tokens_max }
            }
            other => other,
        })?;
        embeddings.extend(found);
    }
    Ok(embeddings)
}

fn explain(error: &EmbedError) -> Reply {
    match error {
        EmbedError::TooLong { index, tokens_max } => Reply::new(
            Code::ContextLengthExceeded,
            format!(
                "Input {index} is longer than the {tokens_max} tokens of this model; send a shorter one."
            ),
        )
        .with_param("input"),
        EmbedError::Busy => {
            let message = "The embedding model has too much waiting already; try again soon.";
            Reply::new(Code::LocalModelBusy, message).retry_after_ms(BUSY_RETRY_MS)
        }
        EmbedError::Loading => Reply::new(Code::NoProviderAvailable, "The embedding model is loading.")
            .retry_after_ms(LOADING_RETRY_MS),
        EmbedError::Unavailable(_) => {
            let message = "There is no embedding model here; the sidecar's log says why.";
            Reply::new(Code::NoProviderAvailable, message).retry_after_ms(UNAVAILABLE_RETRY_MS)
        }
        EmbedError::Late => {
            let seconds = DEADLINE.as_secs();
            Reply::new(Code::UpstreamTimeout, format!("The embeddings were not ready within {seconds} s."))
        }
        EmbedError::Failed => Reply::new(Code::InternalError, "The embedding model failed on this input."),
    }
}

fn wrong(field: &str, what: &str) -> Reply {
    Reply::new(Code::InvalidRequest, format!("Field `{field}` {what}.")).with_param(field)
}

/// Little-endian f32, as OpenAI's clients expect it.
fn base64(vector: &[f32]) -> String {
    STANDARD.encode(little_endian(vector))
}

/// Reads `input`: a text or a list of texts. Lists of tokens are of another model's vocabulary.
fn texts(input: &RawValue) -> Result<Vec<String>, Reply> {
    let raw = input.get();
    let inside = raw.strip_prefix('[').map(str::trim_ascii_start);
    let texts = match inside {
        Some(inside) if inside.starts_with(|c: char| c == '[' || c.is_ascii_digit()) => {
            return Err(wrong(
                "input",
                "must be texts: this model does not know the numbers of another model's tokens (in LangChain, set \
                 check_embedding_ctx_length=False)",
            ));
        }
        Some(_) => serde_json::from_str::<Texts>(raw).map(|texts| texts.0),
        None => serde_json::from_str::<String>(raw).map(|text| vec![text]),
    };
    let texts = texts.map_err(|_| wrong("input", "must be a text or a list of texts"))?;
    if texts.is_empty() || texts.iter().any(String::is_empty) {
        return Err(wrong("input", "must have at least one text, and none that is empty"));
    }
    if texts.len() > INPUTS_MAX {
        return Err(wrong("input", &format!("must have at most {INPUTS_MAX} texts")));
    }
    Ok(texts)
}

/// The texts of a list, and of a list that is too long one more than allowed: an empty text takes
/// three bytes of a body and ten times that in memory.
struct Texts(Vec<String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextsVisitor;
        impl<'de> Visitor<'de> for TextsVisitor {
            type Value = Texts;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of texts")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Texts, A::Error> {
                let mut texts = Vec::new();
                while texts.len() <= INPUTS_MAX {
                    let Some(text) = list.next_element()? else { return Ok(Texts(texts)) };
                    texts.push(text);
                }
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Texts(texts))
            }
        }
        deserializer.deserialize_seq(TextsVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(input: &str) -> Result<Vec<String>, Reply> {
        texts(&RawValue::from_string(input.to_owned()).expect("JSON"))
    }

    #[test]
    fn texts_are_taken_and_everything_else_is_refused_in_words() {
        assert_eq!(read(r#""a""#).expect("a text"), ["a"]);
        assert_eq!(read(r#"["a", "b\n"]"#).expect("a list"), ["a", "b\n"]);
        let many = format!("[{}\"x\"]", "\"x\",".repeat(INPUTS_MAX));
        for (input, words) in [
            ("\"\"", "none that is empty"),
            ("[]", "at least one"),
            ("[\"a\",\"\"]", "none that is empty"),
            ("[1,2]", "another model's tokens"),
            ("[ [1,2],[3]]", "another model's tokens"),
            ("null", "a text or a list"),
            ("{}", "a text or a list"),
            ("[\"a\",1]", "a text or a list"),
            (&many, "at most 2048"),
        ] {
            let refused = read(input).expect_err(words);
            assert!(refused.message.contains(words), "{}", refused.message);
            assert_eq!((refused.code, refused.param.as_deref()), (Code::InvalidRequest, Some("input")));
        }
    }

    #[test]
    fn base64_is_little_endian() {
        assert_eq!(base64(&[1.0, -2.0]), "AACAPwAAAMA=");
    }
}
