//! A closed-loop load generator: each connection sends its next request when the last is answered.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::error::BenchError;
use crate::histogram::Histogram;
use crate::http::{self, Progress, Template};

/// An answer that takes longer has hung.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
const BUFFER_BYTES: usize = 64 * 1024;
/// A response larger than this is refused.
const RESPONSE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What to send where, and what must come back.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) template: Template,
    /// A header line, in lower case, that every response must have.
    pub(crate) expected_line: Option<&'static str>,
}

/// When to stop.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Until {
    /// After this time.
    Elapsed(Duration),
    /// After this many requests, over all connections.
    Requests(u64),
}

/// What one run measured.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) latency: Histogram,
    pub(crate) elapsed: Duration,
}

/// Open keep-alive connections to one target.
pub(crate) struct Load {
    connections: Vec<Connection>,
}

impl Load {
    /// Opens `count` connections.
    pub(crate) async fn open(target: &Target, count: usize) -> Result<Self, BenchError> {
        let mut connections = Vec::with_capacity(count);
        for _ in 0..count {
            connections.push(Connection::open(target.clone()).await?);
        }
        Ok(Self { connections })
    }

    /// Sends until the end and returns with all connections idle. One wrong answer fails the run:
    /// a gateway that refuses quickly must not look fast.
    pub(crate) async fn run(&mut self, until: Until) -> Result<Measured, BenchError> {
        let start = Instant::now();
        let count = self.connections.len() as u64;
        let mut running = JoinSet::new();
        for (index, mut connection) in self.connections.drain(..).enumerate() {
            let until = match until {
                Until::Elapsed(time) => Until::Elapsed(time),
                Until::Requests(all) => {
                    let extra = u64::from((index as u64) < all % count);
                    Until::Requests(all / count + extra)
                }
            };
            running.spawn(async move {
                let latency = connection.run(start, until).await?;
                Ok::<_, BenchError>((connection, latency))
            });
        }
        let mut latency = Histogram::default();
        while let Some(joined) = running.join_next().await {
            let (connection, part) = joined.map_err(BenchError::doing("running a connection"))??;
            latency.merge(&part);
            self.connections.push(connection);
        }
        Ok(Measured { latency, elapsed: start.elapsed() })
    }
}

struct Connection {
    stream: TcpStream,
    target: Target,
    buffer: Vec<u8>,
    filled: usize,
}

impl Connection {
    async fn open(target: Target) -> Result<Self, BenchError> {
        let doing = || format!("connecting to {}", target.address);
        let stream = TcpStream::connect(target.address).await.map_err(BenchError::doing(doing()))?;
        stream.set_nodelay(true).map_err(BenchError::doing(doing()))?;
        Ok(Self { stream, target, buffer: vec![0; BUFFER_BYTES], filled: 0 })
    }

    async fn run(&mut self, start: Instant, until: Until) -> Result<Histogram, BenchError> {
        let mut latency = Histogram::default();
        loop {
            let over = match until {
                Until::Elapsed(time) => start.elapsed() >= time,
                Until::Requests(count) => latency.total() >= count,
            };
            if over {
                return Ok(latency);
            }
            let sent = Instant::now();
            timeout(ANSWER_TIMEOUT, self.exchange())
                .await
                .map_err(|_| BenchError::new(format!("{}: no answer", self.target.address)))??;
            latency.record(u64::try_from(sent.elapsed().as_nanos()).unwrap_or(u64::MAX));
        }
    }

    async fn exchange(&mut self) -> Result<(), BenchError> {
        self.stream
            .write_all(self.target.template.next())
            .await
            .map_err(BenchError::doing("sending a request"))?;
        loop {
            match http::measure(&self.buffer[..self.filled]) {
                Progress::Whole { len, head_len } => {
                    self.check(len, head_len)?;
                    self.buffer.copy_within(len..self.filled, 0);
                    self.filled -= len;
                    return Ok(());
                }
                Progress::Broken(why) => return Err(BenchError::new(format!("bad response: {why}"))),
                Progress::Partial => self.read_more().await?,
            }
        }
    }

    async fn read_more(&mut self) -> Result<(), BenchError> {
        if self.filled == self.buffer.len() {
            if self.filled >= RESPONSE_BYTES_MAX {
                return Err(BenchError::new("a response is over 8 MiB"));
            }
            self.buffer.resize(self.filled * 2, 0);
        }
        let read = self.stream.read(&mut self.buffer[self.filled..]).await;
        match read.map_err(BenchError::doing("reading a response"))? {
            0 => Err(BenchError::new("the connection was closed before the response")),
            count => {
                self.filled += count;
                Ok(())
            }
        }
    }

    fn check(&self, len: usize, head_len: usize) -> Result<(), BenchError> {
        let head = &self.buffer[..head_len];
        let line_there = self.target.expected_line.is_none_or(|line| http::has_line(head, line));
        if http::status(head) == Some(200) && line_there {
            return Ok(());
        }
        let shown = String::from_utf8_lossy(&self.buffer[..len.min(head_len + 512)]);
        let wanted = self.target.expected_line.unwrap_or("nothing more");
        Err(BenchError::new(format!("expected 200 and `{wanted}`, but got:\n{shown}")))
    }
}
