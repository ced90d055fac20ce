//! An HTTP client that shows everything: statuses are values, and bodies can be read as they come.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde_json::Value;
use tokio::time::timeout;

use super::error::HarnessError;

/// How long any step of an exchange may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(60);

/// A keep-alive HTTP/1.1 client.
#[derive(Debug, Clone)]
pub struct Client {
    pool: Pool<HttpConnector, Full<Bytes>>,
    headers: Vec<(String, String)>,
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

impl Client {
    /// A client that adds no headers of its own.
    #[must_use]
    pub fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let pool = Pool::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector);
        Self { pool, headers: Vec::new() }
    }

    /// The same client with one more header on every request.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same client with a bearer token on every request.
    #[must_use]
    pub fn with_key(self, key: &str) -> Self {
        self.with_header("authorization", &format!("Bearer {key}"))
    }

    /// `GET url`.
    ///
    /// # Errors
    /// There was no whole answer.
    pub async fn get(&self, url: &str) -> Result<Answer, HarnessError> {
        self.send(&Method::GET, url, &[], Bytes::new()).await
    }

    /// `POST url` with a JSON body.
    ///
    /// # Errors
    /// There was no whole answer.
    pub async fn post_json(&self, url: &str, body: impl Into<Bytes>) -> Result<Answer, HarnessError> {
        self.send(&Method::POST, url, &[("content-type", "application/json")], body).await
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// There was no whole answer.
    pub async fn send(
        &self,
        method: &Method,
        url: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Answer, HarnessError> {
        self.open(method, url, headers, body).await?.finish().await
    }

    /// Sends a request and returns as soon as the response headers are there.
    /// Dropping what it returns closes the connection.
    ///
    /// # Errors
    /// There were no response headers.
    pub async fn open(
        &self,
        method: &Method,
        url: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<StreamingAnswer, HarnessError> {
        let doing = format!("{method} {url}");
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request =
            request.body(Full::new(body.into())).map_err(|error| HarnessError::http(&doing, &error))?;
        let response = timeout(STEP_TIMEOUT, self.pool.request(request))
            .await
            .map_err(|_| HarnessError::Deadline(format!("{doing}: no response headers")))?
            .map_err(|error| HarnessError::http(&doing, &error))?;
        Ok(StreamingAnswer { response, doing })
    }
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// The body as text, with what is not UTF-8 replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; null if it is something else.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The first value of a header, if it is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The data of each server-sent event in the body, in order.
    #[must_use]
    pub fn events(&self) -> Vec<String> {
        let text = self.text();
        let data = text.lines().filter_map(|line| line.strip_prefix("data:"));
        data.map(|data| data.trim_start().to_owned()).collect()
    }
}

/// An answer whose body is read as it comes.
#[derive(Debug)]
pub struct StreamingAnswer {
    response: Response<Incoming>,
    doing: String,
}

impl StreamingAnswer {
    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// The headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// The next piece of the body; `None` at its proper end.
    ///
    /// # Errors
    /// The body was cut, or nothing came in time.
    pub async fn next_chunk(&mut self) -> Result<Option<Bytes>, HarnessError> {
        loop {
            let frame = timeout(STEP_TIMEOUT, self.response.body_mut().frame())
                .await
                .map_err(|_| HarnessError::Deadline(format!("{}: body stalled", self.doing)))?;
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|error| HarnessError::http(&self.doing, &error))?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
    }

    /// Reads to the end.
    ///
    /// # Errors
    /// The body was cut, or nothing came in time.
    pub async fn finish(mut self) -> Result<Answer, HarnessError> {
        let mut body = Vec::new();
        while let Some(chunk) = self.next_chunk().await? {
            body.extend_from_slice(&chunk);
        }
        let (head, _) = self.response.into_parts();
        Ok(Answer { status: head.status, headers: head.headers, body: Bytes::from(body) })
    }
}
