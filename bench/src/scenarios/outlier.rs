//! Envoy's own outlier detection, with the same requests at the same time: a plain Envoy in front of
//! the same emulated provider.

use std::time::Duration;

use tempfile::TempDir;
use tidegate_e2e::harness::{Answer, Client, Envoy, Gateway, Port, eventually};

use crate::envoy_config;
use crate::error::BenchError;

/// The defaults of `consecutive_5xx` and `base_ejection_time`.
const FAILURES: u32 = 5;
const EJECTION_S: u64 = 30;
const READY_DEADLINE: Duration = Duration::from_secs(60);

/// A running Envoy.
pub(crate) struct OutlierDetection {
    _envoy: Envoy,
    _dir: TempDir,
    ports: [Port; 2],
}

impl OutlierDetection {
    pub(crate) async fn start(gateway: &Gateway) -> Result<Self, BenchError> {
        let dir = tempfile::tempdir().map_err(BenchError::doing("making a directory"))?;
        let ports = [Port::lease()?, Port::lease()?];
        let [port, admin] = [ports[0].number(), ports[1].number()];
        let provider = gateway.emulator.address().port();
        let config = envoy_config::outlier_detection(port, admin, provider, FAILURES, EJECTION_S);
        let envoy = Envoy::start(dir.path(), "outlier", &config, 1)?;
        let (client, url) = (Client::new(), format!("http://127.0.0.1:{admin}/ready"));
        let up = || async { client.get(&url).await.ok().filter(|a| a.status == 200).map(|_| ()) };
        eventually("the plain Envoy is ready", READY_DEADLINE, up).await?;
        Ok(Self { _envoy: envoy, _dir: dir, ports })
    }

    /// The address of a path behind it.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.ports[0].number())
    }

    /// Whether it refused: it has nobody to send to.
    pub(crate) fn refused(answer: Option<&Answer>) -> bool {
        answer.is_some_and(|answer| answer.status == 503 && answer.text().contains("no healthy upstream"))
    }
}
