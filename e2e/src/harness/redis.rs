//! Real Redis servers: one, or a cluster of masters.

use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::Command;

use super::error::HarnessError;
use super::paths;
use super::ports::Port;
use super::process::{ManagedProcess, Spec};
use super::wait::eventually;

/// How long a server may take until it answers, on a busy machine.
const READY_DEADLINE: Duration = Duration::from_secs(30);
/// After how long a node of a cluster counts as failed, in milliseconds.
const NODE_TIMEOUT_MS: &str = "1000";
/// Least masters of a cluster.
const MASTERS: usize = 3;

/// A Redis server on a free port, without persistence: what is killed has forgotten everything.
#[derive(Debug)]
pub struct RedisServer {
    process: ManagedProcess,
    port: Port,
    _bus: Option<Port>,
    _dir: TempDir,
}

impl RedisServer {
    /// Starts one and waits until it answers.
    ///
    /// # Errors
    /// It is not installed, or does not answer in time.
    pub async fn start() -> Result<Self, HarnessError> {
        Self::start_with(&[]).await
    }

    /// As [`Self::start`], with arguments of `redis-server` such as `--requirepass x`.
    ///
    /// # Errors
    /// It is not installed, or does not answer in time.
    pub async fn start_with(arguments: &[&str]) -> Result<Self, HarnessError> {
        Self::started(paths::on_path("redis-server", "Redis")?, arguments).await
    }

    /// A Redis 8, which has vector sets.
    ///
    /// # Errors
    /// It is not installed, or does not answer in time.
    pub async fn start_8() -> Result<Self, HarnessError> {
        Self::started(paths::redis_8()?, &[]).await
    }

    async fn started(program: PathBuf, arguments: &[&str]) -> Result<Self, HarnessError> {
        let server = Self::spawn(program, arguments, None)?;
        server.wait_until_it_answers().await?;
        Ok(server)
    }

    fn spawn(program: PathBuf, arguments: &[&str], bus: Option<Port>) -> Result<Self, HarnessError> {
        let dir = tempfile::tempdir().map_err(HarnessError::io("making a directory"))?;
        let port = Port::lease()?;
        let (number, folder) = (port.number().to_string(), dir.path().display().to_string());
        let common =
            ["--port", &number, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", &folder];
        let spec = Spec {
            name: "redis-server",
            program,
            arguments: common.iter().chain(arguments).map(Into::into).collect(),
            environment: Vec::new(),
            log: dir.path().join("redis.log"),
        };
        Ok(Self { process: ManagedProcess::start(spec)?, port, _bus: bus, _dir: dir })
    }

    /// Waits until it answers, also if it only says that it wants a password.
    ///
    /// # Errors
    /// It does not in time.
    pub async fn wait_until_it_answers(&self) -> Result<(), HarnessError> {
        eventually("redis answers", READY_DEADLINE, || async {
            let answer = self.command(&["PING"]).await.ok()?;
            (answer.contains("PONG") || answer.contains("NOAUTH")).then_some(())
        })
        .await
    }

    /// Where it listens, as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port.number())
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Sends it a command and returns the answer as `redis-cli` prints it.
    ///
    /// # Errors
    /// It cannot be reached.
    pub async fn command(&self, arguments: &[&str]) -> Result<String, HarnessError> {
        let output = Command::new(paths::on_path("redis-cli", "Redis's client")?)
            .args(["-p", &self.port.number().to_string()])
            .args(arguments)
            .output()
            .await
            .map_err(HarnessError::io("running redis-cli"))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        if output.status.success() {
            return Ok(text(&output.stdout));
        }
        Err(HarnessError::Program(format!("redis-cli: {} {}", text(&output.stdout), text(&output.stderr))))
    }

    /// A number of `INFO`, such as `total_commands_processed`.
    ///
    /// # Errors
    /// It cannot be reached, or has no such number.
    pub async fn info(&self, field: &str) -> Result<u64, HarnessError> {
        let page = self.command(&["INFO"]).await?;
        let found = page.lines().find_map(|line| line.trim().strip_prefix(field)?.strip_prefix(':'));
        let number = found.and_then(|text| text.parse().ok());
        number.ok_or_else(|| HarnessError::Program(format!("INFO has no number {field}")))
    }

    /// Kills it as a crash would; everything it held is gone.
    ///
    /// # Errors
    /// It was not running.
    pub fn kill(&mut self) -> Result<(), HarnessError> {
        self.process.kill()
    }

    /// Starts it again on the same port, empty, and waits until it answers.
    ///
    /// # Errors
    /// It cannot be started.
    pub async fn restart(&mut self) -> Result<(), HarnessError> {
        self.process = ManagedProcess::start(self.process.spec().clone())?;
        self.wait_until_it_answers().await
    }

    /// Stops it from doing anything, with its connections open (SIGSTOP).
    ///
    /// # Errors
    /// The signal could not be sent.
    pub fn pause(&self) -> Result<(), HarnessError> {
        self.process.signal("STOP")
    }

    /// Lets it go on after [`Self::pause`].
    ///
    /// # Errors
    /// The signal could not be sent.
    pub fn resume(&self) -> Result<(), HarnessError> {
        self.process.signal("CONT")
    }
}

/// A Redis Cluster of three masters without replicas.
#[derive(Debug)]
pub struct RedisCluster {
    /// The masters; each holds a third of the slots.
    pub masters: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts one and waits until each node knows all slots.
    ///
    /// # Errors
    /// Redis is not installed, or the cluster is not ready in time.
    pub async fn start() -> Result<Self, HarnessError> {
        let mut masters = Vec::with_capacity(MASTERS);
        for _ in 0..MASTERS {
            let bus = Port::lease()?;
            let number = bus.number().to_string();
            let cluster = ["--cluster-enabled", "yes", "--cluster-require-full-coverage", "no"];
            let ports = ["--cluster-port", &number, "--cluster-node-timeout", NODE_TIMEOUT_MS];
            masters.push(RedisServer::spawn(
                paths::on_path("redis-server", "Redis")?,
                &[cluster, ports].concat(),
                Some(bus),
            )?);
        }
        for master in &masters {
            master.wait_until_it_answers().await?;
        }
        let addresses: Vec<String> = masters.iter().map(|m| format!("127.0.0.1:{}", m.port())).collect();
        let create = ["--cluster", "create"].into_iter().chain(addresses.iter().map(String::as_str));
        let create: Vec<&str> = create.chain(["--cluster-replicas", "0", "--cluster-yes"]).collect();
        let [first, ..] = masters.as_slice() else {
            return Err(HarnessError::Program("a cluster without masters".to_owned()));
        };
        first.command(&create).await?;
        for master in &masters {
            eventually("the cluster is ready", READY_DEADLINE, || async {
                let info = master.command(&["CLUSTER", "INFO"]).await.ok()?;
                let knows_all = info.contains(&format!("cluster_known_nodes:{MASTERS}"));
                (knows_all && info.contains("cluster_state:ok")).then_some(())
            })
            .await?;
        }
        Ok(Self { masters })
    }

    /// The URLs of its nodes in one, as the configuration takes it.
    #[must_use]
    pub fn url(&self) -> String {
        let hosts: Vec<String> = self.masters.iter().map(|m| format!("127.0.0.1:{}", m.port())).collect();
        format!("redis+cluster://{}", hosts.join(","))
    }
}
