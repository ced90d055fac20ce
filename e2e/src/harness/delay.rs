//! A TCP link that takes its time, or is cut: a server that is slow, or away and back with what it had.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::error::HarnessError;

const BUFFER_BYTES: usize = 64 << 10;

/// Passes on to a port of 127.0.0.1 what comes in, and holds back what comes from there.
#[derive(Debug)]
pub struct DelayedLink {
    port: u16,
    delay_ms: Arc<AtomicU64>,
    is_cut: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl DelayedLink {
    /// Listens on a free port, without a delay at first.
    ///
    /// # Errors
    /// There is none.
    pub async fn to(port: u16) -> Result<Self, HarnessError> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.map_err(HarnessError::io("listening"))?;
        let own = listener.local_addr().map_err(HarnessError::io("listening"))?.port();
        let delay_ms = Arc::new(AtomicU64::new(0));
        let delay = delay_ms.clone();
        let (is_cut, cut) = watch::channel(false);
        let accepting = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (delay, mut cut) = (delay.clone(), cut.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = link(near, port, delay) => {}
                        _ = cut.wait_for(|is_cut| *is_cut) => {}
                    }
                });
            }
        });
        Ok(Self { port: own, delay_ms, is_cut, accepting })
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Holds back every answer for so long, from now on.
    pub fn set(&self, delay: Duration) {
        self.delay_ms.store(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Breaks all connections and lets none through, until [`Self::mend`].
    pub fn cut(&self) {
        self.is_cut.send_replace(true);
    }

    /// Lets connections through again.
    pub fn mend(&self) {
        self.is_cut.send_replace(false);
    }
}

impl Drop for DelayedLink {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn link(near: TcpStream, port: u16, delay: Arc<AtomicU64>) {
    if let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
        let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
        let never = Arc::new(AtomicU64::new(0));
        tokio::join!(pass(near_in, far_out, never), pass(far_in, near_out, delay));
    }
}

/// Passes bytes on until either side is gone; there is nobody to tell.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay_ms: Arc<AtomicU64>) {
    let mut buffer = vec![0; BUFFER_BYTES];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        sleep(Duration::from_millis(delay_ms.load(Ordering::Relaxed))).await;
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
