//! A real broker that speaks Kafka's protocol.

use std::net::Ipv4Addr;
use std::time::Duration;

use tempfile::TempDir;

use super::delay::DelayedLink;
use super::error::HarnessError;
use super::paths;
use super::ports::Port;
use super::process::{ManagedProcess, Spec};
use super::wait::eventually;

/// How long the broker may take until it accepts connections, on a busy machine.
const READY_DEADLINE: Duration = Duration::from_secs(30);

/// A broker on a free port, which keeps everything in memory.
#[derive(Debug)]
pub struct KafkaBroker {
    process: ManagedProcess,
    port: Port,
    /// What clients go through, where the broker is to be slow or cut off.
    link: Option<DelayedLink>,
    _dir: TempDir,
}

impl KafkaBroker {
    /// Starts one and waits until it accepts connections.
    ///
    /// # Errors
    /// It is not installed, or does not accept in time.
    pub async fn start() -> Result<Self, HarnessError> {
        Self::start_behind(Port::lease()?, None).await
    }

    /// Starts one that can be made slow, and be cut off.
    ///
    /// # Errors
    /// See [`Self::start`].
    pub async fn start_slow() -> Result<Self, HarnessError> {
        let port = Port::lease()?;
        let link = DelayedLink::to(port.number()).await?;
        Self::start_behind(port, Some(link)).await
    }

    async fn start_behind(port: Port, link: Option<DelayedLink>) -> Result<Self, HarnessError> {
        let dir = tempfile::tempdir().map_err(HarnessError::io("making a directory"))?;
        let url = |port: u16| format!("tcp://127.0.0.1:{port}");
        let advertised = link.as_ref().map_or(port.number(), DelayedLink::port);
        let arguments = [
            "broker",
            "--listener-url",
            &url(port.number()),
            "--advertised-listener-url",
            &url(advertised),
            "--storage-engine",
            "memory://tansu/",
        ];
        let spec = Spec {
            name: "tansu",
            program: paths::tool("tansu", "the Kafka broker")?,
            arguments: arguments.map(Into::into).to_vec(),
            environment: Vec::new(),
            log: dir.path().join("tansu.log"),
        };
        let broker = Self { process: ManagedProcess::start(spec)?, port, link, _dir: dir };
        broker.wait_until_it_accepts().await?;
        Ok(broker)
    }

    /// Its address, as the configuration takes it.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.link.as_ref().map_or(self.port.number(), DelayedLink::port))
    }

    /// Holds back every answer for so long, of a broker that was started to be slow.
    pub fn delay(&self, delay: Duration) {
        if let Some(link) = &self.link {
            link.set(delay);
        }
    }

    /// Breaks all connections to a broker that was started to be slow, as its stop would.
    pub fn cut(&self) {
        self.link.iter().for_each(DelayedLink::cut);
    }

    /// Lets clients come back to it after [`Self::cut`]; it has what it had.
    pub fn mend(&self) {
        self.link.iter().for_each(DelayedLink::mend);
    }

    /// Kills it as a crash would; everything it held is gone.
    ///
    /// # Errors
    /// It was not running.
    pub fn kill(&mut self) -> Result<(), HarnessError> {
        self.process.kill()
    }

    /// Starts it again after [`Self::kill`], with nothing of what it held.
    ///
    /// # Errors
    /// It cannot be started, or does not accept in time.
    pub async fn restart(&mut self) -> Result<(), HarnessError> {
        self.process = ManagedProcess::start(self.process.spec().clone())?;
        self.wait_until_it_accepts().await
    }

    async fn wait_until_it_accepts(&self) -> Result<(), HarnessError> {
        eventually("the broker accepts connections", READY_DEADLINE, || async {
            tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, self.port.number())).await.ok()
        })
        .await
        .map(|_| ())
    }
}
