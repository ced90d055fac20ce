//! A model elsewhere: a server with OpenAI's `/embeddings`. It takes the same batches from the same
//! queue as a model in this process; whatever goes wrong with it is an embedding that is not there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tidegate_core::provider::Credential;
use tokio::time::{Instant, timeout_at};

use super::error::EmbedError;
use super::queue::{Job, Queue};
use super::settings::{Remote, Settings};
use super::{Embedding, ModelInfo};
use crate::llm::connect::{self, Transport, Unusable};

/// Longest answer, in bytes: a full batch of the longest vectors, at 24 characters a number.
const ANSWER_BYTES_MAX: usize = 8 << 20;
/// Shortest vector that has a direction.
const NORM_MIN: f32 = 1e-12;
const JSON: HeaderValue = HeaderValue::from_static("application/json");

#[derive(Serialize)]
struct Asked<'a> {
    model: &'a str,
    input: &'a [&'a str],
    encoding_format: &'static str,
}

#[derive(Deserialize)]
struct Answer {
    data: Vec<Item>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Item {
    index: Option<usize>,
    embedding: Vec<f32>,
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: Option<usize>,
}

/// Why a batch has no vectors.
enum Refused {
    /// The server does not take these texts.
    Texts(String),
    /// It has too much to do.
    Busy(String),
    /// It did not answer in time.
    Late,
    /// Anything else.
    Failed(String),
}

/// The server, and how it is asked.
pub struct Server {
    transport: Transport,
    uri: Uri,
    host: HeaderValue,
    authorization: Option<HeaderValue>,
    settings: Settings,
    /// Whether the last call failed: only changes are worth a line in the log.
    is_failing: AtomicBool,
}

impl Server {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// What cannot be used, by its name in the configuration.
    pub fn new(settings: &Settings, remote: &Remote) -> Result<Self, String> {
        let wrong = |unusable: Unusable| format!("embedding.{} {}", unusable.field, unusable.problem);
        let uri = connect::endpoint(&remote.base_url, "embeddings").map_err(wrong)?;
        let transport = Transport::new(&uri, settings.deadline).map_err(wrong)?;
        let host = connect::host(&uri).map_err(wrong)?;
        let bearer = |key| connect::credential(Credential::Bearer, (0, key));
        let authorization = remote.api_key.as_ref().map(bearer).transpose();
        let authorization =
            authorization.map_err(|unusable| format!("embedding.api_key {}", unusable.problem))?;
        Ok(Self {
            transport,
            uri,
            host,
            authorization,
            settings: settings.clone(),
            is_failing: AtomicBool::new(false),
        })
    }

    /// What is known of its model: vectors of another server may be others, whatever the name.
    #[must_use]
    pub fn info(&self) -> ModelInfo {
        let Settings { model, dimension, tokens_max, prefix, .. } = &self.settings;
        let mut digest = Sha256::new();
        for part in [&self.uri.to_string(), model, &dimension.to_string(), prefix] {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        ModelInfo {
            name: model.clone(),
            dimension: *dimension,
            tokens_max: *tokens_max,
            digest: digest.finalize().into(),
        }
    }

    /// Has jobs from the queue answered until it is closed, by so many calls at once as there are
    /// threads configured.
    pub fn serve(self, queue: &Arc<Queue>) {
        let server = Arc::new(self);
        for _ in 0..server.settings.threads {
            let (server, queue) = (Arc::clone(&server), Arc::clone(queue));
            tokio::spawn(async move {
                while let Some(jobs) = queue.next().await {
                    server.answer(jobs).await;
                }
            });
        }
    }

    async fn answer(&self, jobs: Vec<Job>) {
        let texts: Vec<&str> = jobs.iter().flat_map(|job| job.texts.iter().map(|text| &**text)).collect();
        let Some(deadline) = jobs.iter().map(|job| job.deadline).max() else { return };
        match self.ask(&texts, deadline).await {
            Ok(vectors) => {
                let mut vectors = vectors.into_iter();
                for Job { texts, done, deadline: _ } in jobs {
                    // Whoever asked may be gone.
                    let _ = done.send(Ok(vectors.by_ref().take(texts.len()).collect()));
                }
            }
            // One text that is too long must not cost the others their vectors.
            Err(Refused::Texts(_)) if jobs.len() > 1 => {
                for job in jobs {
                    let texts: Vec<&str> = job.texts.iter().map(|text| &**text).collect();
                    let outcome = self.ask(&texts, job.deadline).await;
                    let _ = job.done.send(outcome.map_err(|refused| self.failed(refused)));
                }
            }
            Err(refused) => {
                let error = self.failed(refused);
                for job in jobs {
                    let _ = job.done.send(Err(error.clone()));
                }
            }
        }
    }

    async fn ask(&self, texts: &[&str], deadline: Instant) -> Result<Vec<Embedding>, Refused> {
        let vectors = timeout_at(deadline, self.call(texts)).await.unwrap_or(Err(Refused::Late))?;
        if self.is_failing.swap(false, Ordering::Relaxed) {
            tracing::info!(model = self.settings.model, "the embedding server answers again");
        }
        Ok(vectors)
    }

    /// Notes a failure; the log has the first of a row of them.
    fn failed(&self, refused: Refused) -> EmbedError {
        let (error, cause) = match refused {
            Refused::Busy(cause) => (EmbedError::Busy, cause),
            Refused::Late => (EmbedError::Late, "no answer in time".to_owned()),
            Refused::Texts(cause) | Refused::Failed(cause) => (EmbedError::Failed, cause),
        };
        if !self.is_failing.swap(true, Ordering::Relaxed) {
            tracing::warn!(model = self.settings.model, cause, "the embedding server gives no vectors");
        }
        error
    }

    async fn call(&self, texts: &[&str]) -> Result<Vec<Embedding>, Refused> {
        let failed = |error: &dyn std::fmt::Display| Refused::Failed(error.to_string());
        let response = self.transport.request(self.request(texts)?).await.map_err(|e| failed(&e))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| failed(&error))?.to_bytes();
        match status {
            status if status.is_success() => self.read(&body, texts.len()),
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY => {
                Err(Refused::Texts(format!("status {status}")))
            }
            StatusCode::TOO_MANY_REQUESTS => Err(Refused::Busy(format!("status {status}"))),
            status => Err(Refused::Failed(format!("status {status}"))),
        }
    }

    fn request(&self, texts: &[&str]) -> Result<Request<Full<Bytes>>, Refused> {
        let prefixed: Vec<String>;
        let mut input = texts;
        let with_prefix: Vec<&str>;
        if !self.settings.prefix.is_empty() {
            prefixed = texts.iter().map(|text| format!("{}{text}", self.settings.prefix)).collect();
            with_prefix = prefixed.iter().map(String::as_str).collect();
            input = &with_prefix;
        }
        let asked = Asked { model: &self.settings.model, input, encoding_format: "float" };
        let body = serde_json::to_vec(&asked).map_err(|error| Refused::Failed(error.to_string()))?;
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        headers.insert(HOST, self.host.clone());
        headers.insert(CONTENT_TYPE, JSON);
        if let Some(authorization) = &self.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        Ok(request)
    }

    /// The vectors of an answer, in the order of the texts, each of length one.
    fn read(&self, body: &[u8], texts: usize) -> Result<Vec<Embedding>, Refused> {
        let wrong = |what: String| Refused::Failed(what);
        let answer: Answer =
            serde_json::from_slice(body).map_err(|_| wrong("an answer without embeddings".to_owned()))?;
        let tokens = answer.usage.and_then(|usage| usage.prompt_tokens).unwrap_or(0).div_ceil(texts.max(1));
        let mut found: Vec<Option<Embedding>> = vec![None; texts];
        for (place, Item { index, embedding }) in answer.data.into_iter().enumerate() {
            let dimension = self.settings.dimension;
            if embedding.len() != dimension {
                let got = embedding.len();
                return Err(wrong(format!("vectors of {got} numbers; embedding.dimension is {dimension}")));
            }
            let vector = unit(embedding).ok_or_else(|| wrong("a vector without a direction".to_owned()))?;
            if let Some(slot) = found.get_mut(index.unwrap_or(place)) {
                *slot = Some(Embedding { vector: vector.into(), tokens });
            }
        }
        let found: Option<Vec<Embedding>> = found.into_iter().collect();
        found.ok_or_else(|| wrong("an answer that leaves texts out".to_owned()))
    }
}

/// The vector of length one in the same direction; none for one without, or with what is no number.
fn unit(mut vector: Vec<f32>) -> Option<Vec<f32>> {
    let norm = vector.iter().map(|number| number * number).sum::<f32>().sqrt();
    if !norm.is_finite() || norm < NORM_MIN {
        return None;
    }
    vector.iter_mut().for_each(|number| *number /= norm);
    Some(vector)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Env, parse};

    fn server() -> Server {
        let yaml = "embedding: {type: openai, base_url: 'http://h/v1', model: m, dimension: 2}";
        let settings = parse(yaml, &Env::new()).unwrap_or_else(|problems| panic!("{problems}")).embedding;
        let remote = settings.remote.clone().expect("remote");
        Server::new(&settings, &remote).expect("usable")
    }

    #[test]
    fn vectors_come_back_in_the_order_of_their_texts_and_of_length_one() {
        let body = br#"{"data": [{"index": 1, "embedding": [0, 2]}, {"index": 0, "embedding": [3, 4]}],
            "usage": {"prompt_tokens": 8}}"#;
        let Ok(found) = server().read(body, 2) else { panic!("refused") };
        let vectors: Vec<&[f32]> = found.iter().map(|embedding| &*embedding.vector).collect();
        assert_eq!(vectors, [&[0.6, 0.8][..], &[0.0, 1.0]]);
        assert_eq!(found[0].tokens, 4);
    }

    #[test]
    fn answers_that_are_none_are_refused() {
        for body in [
            "{}",
            "[]",
            r#"{"data": []}"#,
            r#"{"data": [{"embedding": [1, 0, 0]}]}"#,
            r#"{"data": [{"embedding": [0, 0]}]}"#,
            r#"{"data": [{"embedding": [3e38, 3e38]}]}"#,
            r#"{"data": [{"index": 7, "embedding": [1, 0]}]}"#,
            r#"{"data": [{"embedding": "AAAA"}]}"#,
        ] {
            assert!(server().read(body.as_bytes(), 1).is_err(), "{body}");
        }
    }
}
