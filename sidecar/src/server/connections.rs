//! Accepts connections, serves HTTP/1.1 and h2c on them, and ends them without losing a request.

use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::listener::{Listener, Stream};
use super::opening::Opening;

/// Most connections at once on one listener; further ones wait in the system's queue.
const CONNECTIONS_MAX: usize = 8192;
/// Most requests at once on one HTTP/2 connection; Envoy opens another for more.
pub const STREAMS_MAX: u32 = 256;
/// Bytes of a body on the way on one HTTP/2 stream, in either direction.
pub const STREAM_WINDOW: u32 = 256 << 10;
/// The same on one connection: the windows of all its streams, so that none holds up another.
pub const CONNECTION_WINDOW: u32 = STREAMS_MAX * STREAM_WINDOW;
/// Longest a client may take to send its headers, the idle time before them included.
const HEADER_TIMEOUT: Duration = Duration::from_secs(75);
/// How often a peer is asked over HTTP/2 whether it is still there.
const PING_INTERVAL: Duration = Duration::from_secs(60);
/// How long it has to answer.
const PING_TIMEOUT: Duration = Duration::from_secs(15);
/// Largest request head, in bytes.
const HEADER_BYTES_MAX: usize = 128 << 10;
/// Pause after a failed accept, so that a lack of descriptors does not become a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves `listener` until `draining` turns true, then lets what is in flight finish, for
/// `drain_timeout` at most. Returns whether everything did.
pub async fn serve<F, A>(
    listener: Listener,
    answer: F,
    mut draining: watch::Receiver<bool>,
    drain_timeout: Duration,
) -> bool
where
    F: Fn(Request<Incoming>) -> A + Clone + Send + 'static,
    A: Future<Output = Result<Response, std::convert::Infallible>> + Send + 'static,
{
    let builder = Arc::new(builder());
    let graceful = GracefulShutdown::new();
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let next = async {
            // The semaphore is never closed.
            let permit = room.clone().acquire_owned().await.ok();
            (listener.accept().await, permit)
        };
        tokio::select! {
            (accepted, permit) = next => match accepted {
                Ok(stream) => start(stream, permit, &builder, &graceful, answer.clone()),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            () = told(&mut draining) => break,
        }
    }
    // Connections in the system's queue came before the end, so they are served too.
    for _ in 0..CONNECTIONS_MAX {
        let waiting = tokio::time::timeout(Duration::ZERO, listener.accept()).await;
        let Ok(Ok(stream)) = waiting else { break };
        start(stream, None, &builder, &graceful, answer.clone());
    }
    drop(listener);
    tokio::time::timeout(drain_timeout, graceful.shutdown()).await.is_ok()
}

/// Waits until `draining` turns true, or until nobody is left who could turn it.
async fn told(draining: &mut watch::Receiver<bool>) {
    drop(draining.wait_for(|draining| *draining).await);
}

/// A request may have 100 headers, as hyper has it: it takes a number of our own from the heap each time.
/// Envoy's configuration lets a client have ten fewer.
fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        // Callers who leave all at once are no attack, as requests on this connection are many callers'.
        .max_pending_accept_reset_streams(STREAMS_MAX as usize)
        .max_local_error_reset_streams(None)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_header_list_size(u32::try_from(HEADER_BYTES_MAX).unwrap_or(u32::MAX));
    builder
}

fn start<F, A>(
    stream: Box<dyn Stream>,
    permit: Option<OwnedSemaphorePermit>,
    builder: &Arc<Builder<TokioExecutor>>,
    graceful: &GracefulShutdown,
    answer: F,
) where
    F: Fn(Request<Incoming>) -> A + Send + 'static,
    A: Future<Output = Result<Response, std::convert::Infallible>> + Send + 'static,
{
    let stream = TokioIo::new(Opening::within(HEADER_TIMEOUT, stream));
    let connection = builder.serve_connection(stream, service_fn(answer)).into_owned();
    let connection = graceful.watch(connection);
    tokio::spawn(async move {
        let _permit = permit;
        // A client that goes away or speaks nonsense concerns nobody else.
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection ended");
        }
    });
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// What HTTP/2 begins with (RFC 9113, 3.4), and settings without any.
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    /// Longer than anybody may be silent.
    const PATIENCE: Duration = Duration::from_secs(100);

    async fn ends_after(sent: &[u8]) -> bool {
        let (mut peer, stream) = tokio::io::duplex(4096);
        let answer = async |_| Ok::<_, std::convert::Infallible>(Response::default());
        let (builder, graceful) = (Arc::new(builder()), GracefulShutdown::new());
        start(Box::new(stream), None, &builder, &graceful, answer);
        peer.write_all(sent).await.expect("sent");
        tokio::time::timeout(PATIENCE, peer.read_to_end(&mut Vec::new())).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_ends_whose_peer_has_vanished() {
        assert!(ends_after(PREFACE).await, "HTTP/2");
        assert!(ends_after(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await, "HTTP/1.1 between requests");
        assert!(ends_after(b"GET / HTTP/1.1\r\nhos").await, "HTTP/1.1 within a head");
        assert!(ends_after(b"PRI * HT").await, "within the preface");
        assert!(ends_after(b"").await, "before it said anything");
    }
}
