//! A proxy between Envoy and the sidecar that can replace the policy on its way.

use std::convert::Infallible;
use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::uri::{Authority, Scheme};
use http::{Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

type Forward = Client<HttpConnector, Incoming>;
type Answer = Response<BoxBody<Bytes, hyper::Error>>;

#[derive(Default)]
struct State {
    target: AtomicU16,
    bad: Mutex<Option<String>>,
    last: Mutex<String>,
}

/// The proxy; it ends with this handle.
pub struct Corruptor {
    port: u16,
    state: Arc<State>,
    accepting: JoinHandle<()>,
}

impl Corruptor {
    /// Listens; where it forwards to is not known yet.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let state = Arc::new(State::default());
        let accepting = tokio::spawn(accept(listener, state.clone()));
        Ok(Self { port, state, accepting })
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The sidecar's port.
    pub fn forward_to(&self, port: u16) {
        self.state.target.store(port, Ordering::Release);
    }

    /// From now on policies arrive as this text; `None` lets them pass.
    pub fn corrupt_with(&self, bad: Option<String>) {
        *lock(&self.state.bad) = bad;
    }

    /// The last policy that passed.
    pub fn last_snapshot(&self) -> String {
        lock(&self.state.last).clone()
    }
}

impl Drop for Corruptor {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    let forward: Forward = Client::builder(TokioExecutor::new()).build_http();
    while let Ok((stream, _)) = listener.accept().await {
        let (state, forward) = (state.clone(), forward.clone());
        let service = service_fn(move |request| {
            let (state, forward) = (state.clone(), forward.clone());
            async move { Ok::<_, Infallible>(pass(request, &state, &forward).await) }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn pass(mut request: Request<Incoming>, state: &State, forward: &Forward) -> Answer {
    let is_snapshot = request.uri().path() == "/internal/v1/snapshot";
    let authority = format!("127.0.0.1:{}", state.target.load(Ordering::Acquire));
    let mut parts = request.uri().clone().into_parts();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Authority::try_from(authority).ok();
    let Ok(uri) = http::Uri::from_parts(parts) else { return unreachable_target() };
    *request.uri_mut() = uri;
    let Ok(response) = forward.request(request).await else { return unreachable_target() };
    if !is_snapshot || response.status() != StatusCode::OK {
        return response.map(BodyExt::boxed);
    }
    corrupted(response, state).await
}

async fn corrupted(response: Response<Incoming>, state: &State) -> Answer {
    let (mut head, body) = response.into_parts();
    let Ok(body) = body.collect().await else { return unreachable_target() };
    let mut body = body.to_bytes();
    match lock(&state.bad).clone() {
        Some(bad) => body = bad.into(),
        None => *lock(&state.last) = String::from_utf8_lossy(&body).into_owned(),
    }
    head.headers.remove(CONTENT_LENGTH);
    Response::from_parts(head, whole(body))
}

fn unreachable_target() -> Answer {
    let mut response = Response::new(whole(Bytes::new()));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response
}

fn whole(body: Bytes) -> BoxBody<Bytes, hyper::Error> {
    Full::new(body).map_err(|never| match never {}).boxed()
}
