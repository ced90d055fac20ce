//! A real broker that speaks Kafka's protocol.

use std::time::Duration;

use tempfile::TempDir;

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
    _dir: TempDir,
}

impl KafkaBroker {
    /// Starts one and waits until it accepts connections.
    ///
    /// # Errors
    /// It is not installed, or does not accept in time.
    pub async fn start() -> Result<Self, HarnessError> {
        let dir = tempfile::tempdir().map_err(HarnessError::io("making a directory"))?;
        let port = Port::lease()?;
        let url = format!("tcp://127.0.0.1:{}", port.number());
        let arguments = [
            "broker",
            "--listener-url",
            &url,
            "--advertised-listener-url",
            &url,
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
        let broker = Self { process: ManagedProcess::start(spec)?, port, _dir: dir };
        broker.wait_until_it_accepts().await?;
        Ok(broker)
    }

    /// Its address, as the configuration takes it.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port.number())
    }

    /// Kills it as a crash would; everything it held is gone.
    ///
    /// # Errors
    /// It was not running.
    pub fn kill(&mut self) -> Result<(), HarnessError> {
        self.process.kill()
    }

    async fn wait_until_it_accepts(&self) -> Result<(), HarnessError> {
        eventually("the broker accepts connections", READY_DEADLINE, || async {
            tokio::net::TcpStream::connect(self.address()).await.ok()
        })
        .await
        .map(|_| ())
    }
}
