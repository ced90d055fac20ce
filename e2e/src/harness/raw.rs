//! Bytes on a socket, for requests that no proper client would send.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::error::HarnessError;

/// How long any step may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);
/// The most that is read of one answer.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
const READ_BYTES: usize = 16 * 1024;

/// A plain TCP connection. Dropping it closes it.
#[derive(Debug)]
pub struct RawConnection {
    stream: TcpStream,
}

impl RawConnection {
    /// Connects.
    ///
    /// # Errors
    /// Nothing listens there.
    pub async fn open(address: SocketAddr) -> Result<Self, HarnessError> {
        let stream = TcpStream::connect(address)
            .await
            .map_err(HarnessError::io(format!("connecting to {address}")))?;
        stream.set_nodelay(true).map_err(HarnessError::io("setting TCP_NODELAY"))?;
        Ok(Self { stream })
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), HarnessError> {
        timeout(STEP_TIMEOUT, self.stream.write_all(bytes))
            .await
            .map_err(|_| HarnessError::Deadline("sending raw bytes".to_owned()))?
            .map_err(HarnessError::io("sending raw bytes"))
    }

    /// Sends a chat completion with this body, and waits for nothing.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn send_chat(&mut self, body: &str) -> Result<(), HarnessError> {
        let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
        let length = body.len();
        self.send(format!("{head}content-length: {length}\r\n\r\n{body}").as_bytes()).await
    }

    /// Says that nothing more will be sent; the other direction stays open.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn finish_sending(&mut self) -> Result<(), HarnessError> {
        self.stream.shutdown().await.map_err(HarnessError::io("closing the sending side"))
    }

    /// Reads until the peer closes, which a request with `connection: close` makes it do. A reset
    /// after some bytes counts as a close.
    ///
    /// # Errors
    /// The peer neither closes nor sends within the limit, sends more than 16 MiB, or resets at once.
    pub async fn read_to_close(&mut self) -> Result<Vec<u8>, HarnessError> {
        self.read_until(|_| false).await
    }

    /// Reads until `enough` holds of all bytes read so far, or the peer closes.
    ///
    /// # Errors
    /// As [`Self::read_to_close`].
    pub async fn read_until(&mut self, enough: impl Fn(&[u8]) -> bool) -> Result<Vec<u8>, HarnessError> {
        read_until(&mut self.stream, enough).await
    }

    /// Sends bytes and reads one whole answer, both at once: a server may answer, and stop reading,
    /// long before everything is sent. What it does not take is not sent.
    ///
    /// # Errors
    /// As [`Self::read_to_close`].
    pub async fn exchange(&mut self, bytes: &[u8]) -> Result<Vec<u8>, HarnessError> {
        let (mut reading, mut writing) = self.stream.split();
        let sending = async {
            // A peer that has had enough is not an error here: its answer is what counts.
            let _ = writing.write_all(bytes).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            answer = read_until(&mut reading, is_whole_answer) => answer,
            () = sending => Ok(Vec::new()),
        }
    }
}

/// Whether bytes are a whole HTTP/1.1 answer, by its own account; one that does not say how long
/// it is ends with its connection.
fn is_whole_answer(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let head = head.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    match length.and_then(|length| length.trim().parse::<usize>().ok()) {
        Some(length) => body.len() >= length,
        None => head.contains("transfer-encoding: chunked") && body.ends_with("0\r\n\r\n"),
    }
}

async fn read_until(
    stream: &mut (impl AsyncRead + Unpin),
    enough: impl Fn(&[u8]) -> bool,
) -> Result<Vec<u8>, HarnessError> {
    let mut all = Vec::new();
    let mut buffer = vec![0; READ_BYTES];
    while !enough(&all) {
        let read = timeout(STEP_TIMEOUT, stream.read(&mut buffer))
            .await
            .map_err(|_| HarnessError::Deadline("reading raw bytes".to_owned()))?;
        match read {
            Ok(0) => break,
            Ok(count) => all.extend_from_slice(&buffer[..count]),
            Err(_) if !all.is_empty() => break,
            Err(error) => return Err(HarnessError::io("reading raw bytes")(error)),
        }
        if all.len() > ANSWER_BYTES_MAX {
            return Err(HarnessError::Http("the raw answer is over 16 MiB".to_owned()));
        }
    }
    Ok(all)
}
