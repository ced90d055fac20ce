//! A running gateway: emulated provider, sidecar and Envoy.

use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use tempfile::TempDir;

use super::builder::GatewayBuilder;
use super::client::{Answer, Client, StreamingAnswer};
use super::envoy::Envoy;
use super::error::HarnessError;
use super::paths;
use super::ports::Port;
use super::process::{ManagedProcess, Spec};
use super::tls::TlsClient;
use super::wait::eventually;
use crate::emulator::Emulator;

/// How long the gateway may take until it is ready, on a busy machine.
const READY_DEADLINE: Duration = Duration::from_secs(60);
/// Fresh connections in a row that must find the gateway ready: missing one of four workers has a
/// chance of 4 * 0.75^32, one in 2,500.
const READY_CONNECTIONS: usize = 32;
/// How long the sidecar may take to drain.
const STOP_DEADLINE: Duration = Duration::from_secs(60);

const READY_PATH: &str = "/ready";
const CHAT_PATH: &str = "/v1/chat/completions";
/// What `{{openai}}` stands for: the beginning of an item of `providers:`.
const OPENAI: &str = "name: openai
    type: openai
    base_url: \"{{emulator}}\"
    api_key: sk-emulated-0123456789";
/// Name of the sidecar's configuration file.
const CONFIG_FILE: &str = "gateway.yaml";
/// The admin's key in every gateway under test, unless the test sets another.
pub const ADMIN_KEY: &str = "tg-admin-key-of-the-e2e-tests-0123456789abcd";

/// A gateway under test. Its processes end and its files go when it is dropped.
#[derive(Debug)]
pub struct Gateway {
    /// The emulated provider.
    pub emulator: Emulator,
    /// The Envoy in front.
    pub envoy: Envoy,
    sidecar: ManagedProcess,
    gateway_port: Port,
    sidecar_port: Port,
    admin_port: Port,
    dir: TempDir,
    provider_url: String,
    tls_client: Option<TlsClient>,
}

impl Gateway {
    /// What a gateway is made of, with everything at its default.
    #[must_use]
    pub fn builder() -> GatewayBuilder {
        GatewayBuilder::new()
    }

    pub(super) async fn start(builder: GatewayBuilder) -> Result<Self, HarnessError> {
        let dir = tempfile::tempdir().map_err(HarnessError::io("making a directory"))?;
        let emulator = match builder.emulator {
            Some(emulator) => emulator,
            None => Emulator::start(0).await.map_err(HarnessError::io("starting the emulator"))?,
        };
        let (gateway_port, sidecar_port, admin_port) = (Port::lease()?, Port::lease()?, Port::lease()?);
        let filter = match builder.filter {
            Some(path) => paths::existing("the filter", path, "build it with scripts/build-wasm")?,
            None => paths::filter()?,
        };
        let provider_url = builder.provider_url.unwrap_or_else(|| emulator.base_url());
        let config = expanded(&builder.config, &provider_url, &emulator);
        let mut environment = builder.environment;
        let admin_key = builder.admin_key;
        environment.extend(admin_key.map(|key| ("GATEWAY_ADMIN_KEY".to_owned(), key.into())));
        let spec = SidecarFiles { dir: dir.path(), filter: &filter }.spec(
            &config,
            [&gateway_port, &sidecar_port, &admin_port],
            environment,
        )?;
        let mut envoy_config = printed_envoy_config(&spec)?;
        if let Some(patch) = builder.envoy_patch {
            envoy_config = patch(envoy_config)?;
        }
        let sidecar = ManagedProcess::start(spec)?;
        let envoy = Envoy::start(dir.path(), "envoy", &envoy_config, builder.workers)?;
        let mut gateway = Self {
            emulator,
            envoy,
            sidecar,
            gateway_port,
            sidecar_port,
            admin_port,
            dir,
            provider_url,
            tls_client: builder.tls_client,
        };
        gateway.wait_until_ready().await?;
        Ok(gateway)
    }

    /// A URL of the gateway; `path` begins with a slash.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        url(&self.gateway_port, path)
    }

    /// A URL of the sidecar itself, past Envoy.
    #[must_use]
    pub fn sidecar_url(&self, path: &str) -> String {
        url(&self.sidecar_port, path)
    }

    /// A URL of Envoy's admin interface.
    #[must_use]
    pub fn envoy_admin_url(&self, path: &str) -> String {
        url(&self.admin_port, path)
    }

    /// Where the gateway listens, for raw connections.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.gateway_port.number()))
    }

    /// A client with the admin's key.
    #[must_use]
    pub fn admin(&self) -> Client {
        Client::new().with_key(ADMIN_KEY)
    }

    /// `POST /v1/chat/completions` as `client`.
    ///
    /// # Errors
    /// There was no whole answer.
    pub async fn ask(&self, client: &Client, body: impl Into<Bytes>) -> Result<Answer, HarnessError> {
        client.post_json(&self.url(CHAT_PATH), body).await
    }

    /// As [`Self::ask`], but returns with the response headers.
    ///
    /// # Errors
    /// There were no response headers.
    pub async fn open_chat(
        &self,
        client: &Client,
        body: impl Into<Bytes>,
    ) -> Result<StreamingAnswer, HarnessError> {
        let json = [("content-type", "application/json")];
        client.open(&Method::POST, &self.url(CHAT_PATH), &json, body).await
    }

    /// The sidecar's process.
    #[must_use]
    pub fn sidecar(&self) -> &ManagedProcess {
        &self.sidecar
    }

    /// The directory with the configurations, the logs and the state.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Waits until the gateway says that it is ready, in each of its workers: a worker answers for
    /// itself, and which one a connection meets is the kernel's choice.
    ///
    /// # Errors
    /// It does not in time, or a process ended; the error carries the ends of the logs.
    pub async fn wait_until_ready(&mut self) -> Result<(), HarnessError> {
        let ready = self.url(READY_PATH);
        let (tls, port) = (self.tls_client.as_ref(), self.gateway_port.number());
        let (sidecar, envoy) = (&mut self.sidecar, &mut self.envoy.process);
        let outcome = eventually("the gateway is ready", READY_DEADLINE, || {
            let ended = sidecar.check_running().and_then(|()| envoy.check_running());
            let ready = ready.clone();
            async move {
                if let Err(error) = ended {
                    return Some(Err(error));
                }
                for _ in 0..READY_CONNECTIONS {
                    let status = match tls {
                        Some(client) => client.send(port, READY_PATH, "").await.ok()?.answer.status,
                        None => Client::new().get(&ready).await.ok()?.status,
                    };
                    if status != 200 {
                        return None;
                    }
                }
                Some(Ok(()))
            }
        });
        match outcome.await {
            Ok(result) => result,
            Err(late) => Err(HarnessError::Deadline(format!(
                "{late}\n--- sidecar ---\n{}\n--- envoy ---\n{}",
                self.sidecar.log_tail(),
                self.envoy.process.log_tail()
            ))),
        }
    }

    /// Kills the sidecar as a crash would (SIGKILL).
    ///
    /// # Errors
    /// It was not running.
    pub fn kill_sidecar(&mut self) -> Result<(), HarnessError> {
        self.sidecar.kill()
    }

    /// Starts the sidecar again, after it was killed or stopped. It is not ready yet on return.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn restart_sidecar(&mut self) -> Result<(), HarnessError> {
        self.sidecar = ManagedProcess::start(self.sidecar.spec().clone())?;
        Ok(())
    }

    /// Sends the sidecar SIGTERM without waiting for its end.
    ///
    /// # Errors
    /// The signal could not be sent.
    pub fn begin_stopping_sidecar(&self) -> Result<(), HarnessError> {
        self.sidecar.terminate()
    }

    /// Replaces the sidecar's configuration file and tells it to read the file again (SIGHUP).
    ///
    /// # Errors
    /// The file could not be written, or the signal not be sent.
    pub fn reload_sidecar(&self, config: &str) -> Result<(), HarnessError> {
        let config = expanded(config, &self.provider_url, &self.emulator);
        fs::write(self.dir.path().join(CONFIG_FILE), config)
            .map_err(HarnessError::io("writing the config"))?;
        self.sidecar.signal("HUP")
    }

    /// Waits for the end of a sidecar that was told to stop.
    ///
    /// # Errors
    /// It is still running after its drain should be over.
    pub async fn sidecar_stopped(&mut self) -> Result<ExitStatus, HarnessError> {
        self.sidecar.wait(STOP_DEADLINE).await
    }

    /// Sends the sidecar SIGTERM and waits for its end.
    ///
    /// # Errors
    /// It could not be told, or does not end.
    pub async fn stop_sidecar_gracefully(&mut self) -> Result<ExitStatus, HarnessError> {
        self.begin_stopping_sidecar()?;
        self.sidecar_stopped().await
    }
}

/// The configuration with its placeholders filled in, as [`GatewayBuilder::config_yaml`] says.
fn expanded(config: &str, provider_url: &str, emulator: &Emulator) -> String {
    config
        .replace("{{openai}}", OPENAI)
        .replace("{{emulator}}", provider_url)
        .replace("{{anthropic}}", &emulator.anthropic_url())
}

/// The files that the sidecar is started with.
struct SidecarFiles<'a> {
    dir: &'a Path,
    filter: &'a Path,
}

impl SidecarFiles<'_> {
    /// How to run the sidecar: `tidegate run --config FILE`, with ports and paths as overrides.
    fn spec(
        &self,
        config: &str,
        [gateway, sidecar, admin]: [&Port; 3],
        extra: Vec<(String, OsString)>,
    ) -> Result<Spec, HarnessError> {
        let config_path = self.dir.join(CONFIG_FILE);
        fs::write(&config_path, config).map_err(HarnessError::io("writing the config"))?;
        let port = |port: &Port| OsString::from(port.number().to_string());
        let mut environment: Vec<(String, OsString)> = vec![
            ("GATEWAY__SERVER__PORT".to_owned(), port(gateway)),
            ("GATEWAY__SERVER__SIDECAR_PORT".to_owned(), port(sidecar)),
            ("GATEWAY__SERVER__ADMIN_PORT".to_owned(), port(admin)),
            ("GATEWAY__SERVER__FILTER_PATH".to_owned(), self.filter.into()),
            ("GATEWAY__STORE__PATH".to_owned(), self.dir.join("tidegate.redb").into()),
        ];
        environment.extend(extra);
        Ok(Spec {
            name: "sidecar",
            program: paths::sidecar_binary()?,
            arguments: vec!["run".into(), "--config".into(), config_path.into()],
            environment,
            log: self.dir.join("sidecar.log"),
        })
    }
}

/// The output of `tidegate envoy` for the configuration and the environment of `tidegate run`.
fn printed_envoy_config(run: &Spec) -> Result<String, HarnessError> {
    let config: PathBuf = run.arguments.last().map(PathBuf::from).unwrap_or_default();
    let output = Command::new(&run.program)
        .args(["envoy", "--config"])
        .arg(config)
        .envs(run.environment.iter().map(|(name, value)| (name, value)))
        .output()
        .map_err(HarnessError::io("running `tidegate envoy`"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(HarnessError::Program(format!(
        "`tidegate envoy` failed ({}):\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    )))
}

fn url(port: &Port, path: &str) -> String {
    format!("http://127.0.0.1:{}{path}", port.number())
}
