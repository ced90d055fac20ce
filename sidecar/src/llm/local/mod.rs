//! Providers of type `local`: a small language model inside this process, so that the gateway
//! answers before anybody has given it a key.

mod answer;
mod fields;
mod model;
mod prompt;
mod stream;
mod task;
mod text;
mod threads;
mod vocabulary;
mod weights;
mod worker;

use std::path::Path;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use tidegate_core::reply::{Code, Reply};
use tidegate_core::route::Endpoint;
use tidegate_core::sse::Usage;
use tokio::time::Instant;

#[cfg(test)]
pub use self::worker::QUEUE_MAX;

pub use self::threads::compute_on_one_thread;

use self::answer::Writer;
use self::model::Piece;
use self::stream::LocalStream;
use self::task::Task;
use self::worker::{Answer, Worker};
use super::metrics::{Observation, Outcome};

/// A local model as a provider.
#[derive(Debug)]
pub struct LocalModel {
    worker: Worker,
    timeout: Duration,
}

impl LocalModel {
    /// Checks the model file and begins to load it.
    ///
    /// # Errors
    /// What is wrong with the file, and how to get a good one.
    pub fn start(provider: &str, path: &Path, timeout: Duration) -> Result<Self, String> {
        let worker = Worker::start(provider, path)
            .map_err(|problem| format!("{} {problem}; fetch the model with scripts/setup", path.display()))?;
        Ok(Self { worker, timeout })
    }

    /// Why the model cannot answer yet; `None` when it can.
    #[must_use]
    pub fn not_ready(&self) -> Option<&'static str> {
        self.worker.not_ready()
    }

    /// Answers a request. Dropping the future, or the body of a streamed answer, cancels the
    /// generation.
    ///
    /// # Errors
    /// What is wrong with the request, or why the model cannot answer it now.
    pub async fn call(
        &self,
        endpoint: Endpoint,
        model: &str,
        body: &[u8],
        mut observation: Observation,
    ) -> Result<Response, Reply> {
        let answered = self.begin(endpoint, model, body, &mut observation).await;
        match answered {
            Ok(Begun::Whole(body)) => Ok(respond("application/json", body.into())),
            Ok(Begun::Stream(writer, answer, usage)) => {
                let stream = LocalStream::new(writer, answer, usage, self.timeout, observation);
                Ok(respond("text/event-stream", Body::new(stream)))
            }
            Err(reply) => {
                observation.ended(Outcome::of_code(reply.code));
                Err(reply)
            }
        }
    }

    async fn begin(
        &self,
        endpoint: Endpoint,
        model: &str,
        body: &[u8],
        observation: &mut Observation,
    ) -> Result<Begun, Reply> {
        let deadline = Instant::from_std(observation.started()) + self.timeout;
        let task = Task::read(endpoint, body)?;
        let (stream, include_usage) = (task.stream, task.include_usage);
        let writer = Writer::new(endpoint, model);
        let mut answer = self.worker.submit(task)?;
        let late = |_| {
            let ms = self.timeout.as_millis();
            Reply::new(Code::UpstreamTimeout, format!("The local model did not answer within {ms} ms."))
        };
        let prompt_tokens = tokio::time::timeout_at(deadline, started(&mut answer)).await.map_err(late)??;
        if stream {
            let usage = Usage { prompt_tokens, ..Usage::default() };
            return Ok(Begun::Stream(writer, answer, PromisedUsage { usage, wanted: include_usage }));
        }
        let whole = tokio::time::timeout_at(deadline, collect(&mut answer, observation));
        let (text, finish, completion_tokens) = whole.await.map_err(late)??;
        let usage = Usage { prompt_tokens, completion_tokens, ..Usage::default() };
        observation.usage(usage);
        observation.ended(Outcome::Ok);
        Ok(Begun::Whole(writer.whole(&text, finish, usage)))
    }
}

enum Begun {
    Whole(Vec<u8>),
    Stream(Writer, Answer, PromisedUsage),
}

/// Token counts of a stream, and whether its caller asked for them.
#[derive(Debug)]
struct PromisedUsage {
    usage: Usage,
    wanted: bool,
}

async fn next(answer: &mut Answer) -> Result<Piece, Reply> {
    answer.recv().await.unwrap_or_else(|| Err(gone()))
}

/// The thread ended without a word; only a panic in the model's code does that.
fn gone() -> Reply {
    Reply::new(Code::InternalError, "The local model failed on this request.")
}

async fn started(answer: &mut Answer) -> Result<u64, Reply> {
    match next(answer).await? {
        Piece::Started { prompt_tokens } => Ok(prompt_tokens),
        Piece::Text(_) | Piece::Done { .. } => Err(gone()),
    }
}

async fn collect(
    answer: &mut Answer,
    observation: &mut Observation,
) -> Result<(String, model::Finish, u64), Reply> {
    let mut whole = String::new();
    loop {
        match next(answer).await? {
            Piece::Started { .. } => {}
            Piece::Text(text) => {
                observation.first_token();
                whole.push_str(&text);
            }
            Piece::Done { finish, completion_tokens } => return Ok((whole, finish, completion_tokens)),
        }
    }
}

fn respond(content_type: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
