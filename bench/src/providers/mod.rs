//! Many providers behind one gateway: one that is killed at full load, a thousand streams at a
//! time, and what translation costs.

pub(crate) mod failover;
pub(crate) mod streams;
pub(crate) mod translation;

use tidegate_e2e::harness::{ManagedProcess, Port, Spec, eventually, sibling_binary};

use std::time::Duration;

use tempfile::TempDir;
use tidegate_e2e::harness::Client;

use crate::error::BenchError;

const READY_DEADLINE: Duration = Duration::from_secs(60);

/// An emulated provider in a process of its own, which can be killed as a machine can.
struct Provider {
    process: ManagedProcess,
    port: Port,
    _dir: TempDir,
}

impl Provider {
    async fn start() -> Result<Self, BenchError> {
        let dir = tempfile::tempdir().map_err(BenchError::doing("making a directory"))?;
        let port = Port::lease()?;
        let fix = "build it with `cargo build --release -p tidegate-e2e --bin emulator`";
        let process = ManagedProcess::start(Spec {
            name: "emulator",
            program: sibling_binary("emulator", "the emulated provider", fix)?,
            arguments: ["--no-request-log", "--port", &port.number().to_string()].map(Into::into).to_vec(),
            environment: Vec::new(),
            log: dir.path().join("emulator.log"),
        })?;
        let provider = Self { process, port, _dir: dir };
        let (client, url) = (Client::new(), provider.url("/__stats"));
        let up = || async { client.get(&url).await.ok().filter(|a| a.status == 200).map(|_| ()) };
        eventually("the emulated provider answers", READY_DEADLINE, up).await?;
        Ok(provider)
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port.number())
    }

    /// Has every answer paced as this fault says.
    async fn arm(&self, fault: &str) -> Result<(), BenchError> {
        let armed = Client::new().post_json(&self.url("/__faults"), fault.to_owned()).await?;
        if armed.status == 201 { Ok(()) } else { Err(BenchError::new(armed.text())) }
    }
}
