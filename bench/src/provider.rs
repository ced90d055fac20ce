//! The emulated provider, in a process of its own: its CPU is not counted, and it can be killed as a
//! machine can.

use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use tidegate_e2e::harness::{Client, ManagedProcess, Port, Spec, eventually, sibling_binary};

use crate::error::BenchError;

const READY_DEADLINE: Duration = Duration::from_secs(60);

/// A running one; dropping it kills it.
pub(crate) struct Provider {
    _process: ManagedProcess,
    port: Port,
    dir: TempDir,
}

impl Provider {
    pub(crate) async fn start() -> Result<Self, BenchError> {
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
        let provider = Self { _process: process, port, dir };
        wait_for_200(&provider.url("/__stats")).await?;
        Ok(provider)
    }

    /// Where files of a run may lie.
    pub(crate) fn folder(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.number()
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port())
    }

    /// What providers of type `openai` have as their `base_url`.
    pub(crate) fn base_url(&self) -> String {
        self.url("/openai/v1")
    }

    /// Has every answer from now on as this fault says.
    pub(crate) async fn arm(&self, fault: &str) -> Result<(), BenchError> {
        let url = self.url("/__faults");
        let armed = Client::new().post_json(&url, fault.to_owned()).await?;
        if armed.status == 201 { Ok(()) } else { Err(BenchError::new(format!("{url}: {}", armed.text()))) }
    }
}

pub(crate) async fn wait_for_200(url: &str) -> Result<(), BenchError> {
    let client = Client::new();
    let up = || async { client.get(url).await.ok().filter(|a| a.status == 200).map(|_| ()) };
    Ok(eventually(&format!("{url} answers 200"), READY_DEADLINE, up).await?)
}
