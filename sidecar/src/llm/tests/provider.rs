//! A provider whose every byte the test decides: it speaks HTTP/1.1 by hand.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A server for one test; it ends with it.
pub struct TestProvider {
    pub addr: SocketAddr,
    requests: Arc<Mutex<Vec<RawRequest>>>,
    task: JoinHandle<()>,
}

/// A request as it came over the wire.
#[derive(Debug, Clone)]
pub struct RawRequest {
    /// Request line and headers, names in lower case.
    pub head: String,
    pub body: Vec<u8>,
}

impl RawRequest {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// A connection on which a request has come and no answer has gone yet.
pub struct Connection {
    pub socket: TcpStream,
}

impl Connection {
    /// Sends these very bytes.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket.write_all(bytes.as_ref()).await.expect("the gateway reads");
    }

    /// Sends a whole response.
    pub async fn respond(&mut self, status: u16, headers: &str, body: &str) {
        let length = body.len();
        let head = format!("HTTP/1.1 {status} X\r\n{headers}content-length: {length}\r\n\r\n");
        self.send(head + body).await;
    }

    /// Opens a chunked event stream.
    pub async fn open_stream(&mut self) {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        self.send(head).await;
    }

    /// Sends one chunk of a stream.
    pub async fn chunk(&mut self, bytes: &[u8]) {
        self.send(format!("{:x}\r\n", bytes.len())).await;
        self.send(bytes).await;
        self.send("\r\n").await;
    }

    /// Ends a chunked stream as HTTP wants it.
    pub async fn close_stream(&mut self) {
        self.send("0\r\n\r\n").await;
    }

    /// Breaks the connection with a TCP reset.
    pub fn reset(self) {
        self.socket.set_zero_linger().expect("linger can be set");
    }

    /// Waits until the gateway has closed the connection.
    pub async fn closed(mut self) {
        let mut byte = [0];
        while self.socket.read(&mut byte).await.is_ok_and(|n| n > 0) {}
    }
}

impl TestProvider {
    /// Answers every request with `behave`, which gets the number of the request.
    pub async fn start<B, F>(behave: B) -> Self
    where
        B: Fn(usize, Connection) -> F + Send + Sync + 'static,
        F: Future<Output = Option<Connection>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("an address");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (log, behave) = (Arc::clone(&requests), Arc::new(behave));
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (log, behave) = (Arc::clone(&log), Arc::clone(&behave));
                tokio::spawn(async move {
                    let mut connection = Connection { socket };
                    while let Some(request) = read_request(&mut connection.socket).await {
                        let number = {
                            let mut log = log.lock().expect("lock");
                            log.push(request);
                            log.len() - 1
                        };
                        match behave(number, connection).await {
                            Some(kept) => connection = kept,
                            None => return,
                        }
                    }
                });
            }
        });
        Self { addr, requests, task }
    }

    /// Answers every request with the same response.
    pub async fn answering(status: u16, headers: &'static str, body: &'static str) -> Self {
        Self::start(move |_, mut connection| async move {
            connection.respond(status, headers, body).await;
            Some(connection)
        })
        .await
    }

    /// What has come so far.
    pub fn requests(&self) -> Vec<RawRequest> {
        self.requests.lock().expect("lock").clone()
    }
}

impl Drop for TestProvider {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn read_request(socket: &mut TcpStream) -> Option<RawRequest> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break at;
        }
        let mut buffer = [0; 4096];
        let n = socket.read(&mut buffer).await.ok().filter(|n| *n > 0)?;
        bytes.extend_from_slice(&buffer[..n]);
    };
    let mut body = bytes.split_off(head_end + 4);
    let head = String::from_utf8(bytes).expect("ASCII head");
    let mut request = RawRequest { head, body: Vec::new() };
    let length = request.header("content-length").map_or(0, |v| v.parse().expect("a length"));
    while body.len() < length {
        let mut buffer = [0; 4096];
        let n = socket.read(&mut buffer).await.ok().filter(|n| *n > 0)?;
        body.extend_from_slice(&buffer[..n]);
    }
    request.body = body;
    Some(request)
}
