//! The listener, and the handle that tests hold.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};

use super::book::FaultBook;
use super::fault::{Fault, FaultError};
use super::log::{RequestLog, RequestRecord};
use super::openai;
use super::service::handle;
use super::socket::{Connection, Socket};
use super::stats::{Stats, StatsSnapshot, TokensSnapshot};
use super::{anthropic, azure, bedrock, ernie, gemini};

/// How long a connection may take over its request headers.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(600);

/// How to start an [`Emulator`].
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The port on 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// Whether requests are logged. The benchmark turns it off, to measure the gateway alone.
    pub keep_requests: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { port: 0, keep_requests: true }
    }
}

/// What all connections of one emulator share.
#[derive(Debug)]
pub(super) struct State {
    pub(super) faults: FaultBook,
    pub(super) log: Arc<RequestLog>,
    pub(super) stats: Arc<Stats>,
    /// Wakes the answers that a fault has stalled.
    pub(super) release: Arc<Notify>,
}

/// A running emulator. Dropping it closes the port and every connection.
#[derive(Debug)]
pub struct Emulator {
    address: SocketAddr,
    state: Arc<State>,
    accepting: JoinHandle<()>,
}

impl Emulator {
    /// Starts an emulator on 127.0.0.1; port 0 takes a free one.
    ///
    /// # Errors
    /// The port cannot be bound.
    pub async fn start(port: u16) -> io::Result<Self> {
        Self::start_with(Options { port, ..Options::default() }).await
    }

    /// Starts an emulator as `options` say.
    ///
    /// # Errors
    /// The port cannot be bound.
    pub async fn start_with(options: Options) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port)).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            faults: FaultBook::default(),
            log: Arc::new(RequestLog::new(options.keep_requests)),
            stats: Arc::new(Stats::default()),
            release: Arc::new(Notify::new()),
        });
        let accepting = tokio::spawn(accept(listener, state.clone()));
        Ok(Self { address, state, accepting })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The base URL of the emulated OpenAI, as a client of that API would be given it.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}{}", self.address, openai::BASE_PATH)
    }

    /// The base URL of the emulated Anthropic, as the gateway's configuration wants it.
    #[must_use]
    pub fn anthropic_url(&self) -> String {
        format!("http://{}{}", self.address, anthropic::BASE_PATH)
    }

    /// The base URLs of all emulated providers, by the `type` that the gateway's configuration has
    /// for them; `ernie` is version 2 of Baidu's API.
    #[must_use]
    pub fn base_urls(&self) -> [(&'static str, String); 8] {
        let at = |path: &str| format!("http://{}{path}", self.address);
        [
            ("openai", self.base_url()),
            ("anthropic", self.anthropic_url()),
            ("azure", at(azure::BASE_PATH)),
            ("gemini", at(gemini::BASE_PATH)),
            ("vertex", at(gemini::VERTEX_PATH)),
            ("bedrock", at(bedrock::BASE_PATH)),
            ("ernie_classic", at(ernie::BASE_PATH)),
            ("ernie", at(ernie::V2_PATH)),
        ]
    }

    /// Arms a fault behind those armed before it.
    ///
    /// # Errors
    /// The fault is impossible, or too many are armed.
    pub fn arm(&self, fault: Fault) -> Result<(), FaultError> {
        self.state.faults.arm(fault).map(|_| ())
    }

    /// The faults that are armed and not spent.
    #[must_use]
    pub fn armed(&self) -> Vec<Fault> {
        self.state.faults.list()
    }

    /// Disarms every fault.
    pub fn disarm_all(&self) {
        self.state.faults.clear();
    }

    /// Lets every answer go on that `stall_after_chunks` has stalled, or will stall having hit it.
    pub fn release_stalled(&self) {
        self.state.release.notify_waiters();
    }

    /// The requests seen so far, oldest first, as far back as the log reaches.
    #[must_use]
    pub fn requests(&self) -> Vec<RequestRecord> {
        self.state.log.all()
    }

    /// Forgets the requests seen so far.
    pub fn forget_requests(&self) {
        self.state.log.clear();
    }

    /// The counters now.
    #[must_use]
    pub fn stats(&self) -> StatsSnapshot {
        self.state.stats.snapshot()
    }

    /// The provider's own count of tokens.
    #[must_use]
    pub fn tokens(&self) -> TokensSnapshot {
        self.state.stats.tokens()
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // A refused accept means that the process is out of descriptors: the peer retries.
                let Ok((stream, _)) = accepted else {
                    tokio::task::yield_now().await;
                    continue;
                };
                state.stats.connections_total.add_one();
                connections.spawn(serve_connection(stream, state.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve_connection(stream: TcpStream, state: Arc<State>) {
    // Without Nagle's delay; a socket that refuses the option still works, only slower.
    let _ = stream.set_nodelay(true);
    let connection = Arc::new(Connection::default());
    let io = TokioIo::new(Socket { stream, connection: connection.clone() });
    let service = service_fn(move |request| {
        let (state, connection) = (state.clone(), connection.clone());
        async move { handle(request, &state, &connection).await }
    });
    // An error here is a client that left or a fault that cut: the log has both.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_TIMEOUT)
        .serve_connection(io, service)
        .await;
}
