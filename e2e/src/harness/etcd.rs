//! A real etcd cluster.

use std::time::Duration;

use tempfile::TempDir;
use tokio::process::Command;

use super::certificates::Certificates;
use super::error::HarnessError;
use super::paths;
use super::ports::Port;
use super::process::{ManagedProcess, Spec};
use super::wait::eventually;

/// How long a member may take until it answers, on a busy machine.
const READY_DEADLINE: Duration = Duration::from_secs(60);

/// Members on free ports of 127.0.0.1.
#[derive(Debug)]
pub struct EtcdCluster {
    members: Vec<Member>,
    certificates: Option<Certificates>,
    _dir: TempDir,
}

#[derive(Debug)]
struct Member {
    process: ManagedProcess,
    client: Port,
    _peer: Port,
}

impl EtcdCluster {
    /// Starts `count` members and waits until they have a leader.
    ///
    /// # Errors
    /// etcd is not installed, or the cluster is not ready in time.
    pub async fn start(count: usize) -> Result<Self, HarnessError> {
        let dir = tempfile::tempdir().map_err(HarnessError::io("making a directory"))?;
        Self::start_in(dir, count, None).await
    }

    /// The same, by TLS, and clients have to show a certificate.
    ///
    /// # Errors
    /// See [`Self::start`]; or openssl is not installed.
    pub async fn start_secured(count: usize) -> Result<Self, HarnessError> {
        let dir = tempfile::tempdir().map_err(HarnessError::io("making a directory"))?;
        let certificates = Certificates::make(dir.path()).await?;
        Self::start_in(dir, count, Some(certificates)).await
    }

    async fn start_in(
        dir: TempDir,
        count: usize,
        certificates: Option<Certificates>,
    ) -> Result<Self, HarnessError> {
        let secured: Vec<String> = certificates.iter().flat_map(server_options).collect();
        let mut ports = Vec::with_capacity(count);
        for _ in 0..count {
            ports.push((Port::lease()?, Port::lease()?));
        }
        let peer_url = |peer: &Port| format!("http://127.0.0.1:{}", peer.number());
        let peers: Vec<String> =
            ports.iter().enumerate().map(|(i, (_, peer))| format!("m{i}={}", peer_url(peer))).collect();
        let peers = peers.join(",");
        let mut members = Vec::with_capacity(count);
        for (i, (client, peer)) in ports.into_iter().enumerate() {
            let (name, data) = (format!("m{i}"), dir.path().join(format!("m{i}")));
            let scheme = if certificates.is_some() { "https" } else { "http" };
            let client_url = format!("{scheme}://127.0.0.1:{}", client.number());
            let peer_url = peer_url(&peer);
            let options = [
                ("--name", name.as_str()),
                ("--data-dir", &data.display().to_string()),
                ("--listen-client-urls", &client_url),
                ("--advertise-client-urls", &client_url),
                ("--listen-peer-urls", &peer_url),
                ("--initial-advertise-peer-urls", &peer_url),
                ("--initial-cluster", &peers),
            ];
            let options = options.iter().flat_map(|(name, value)| [*name, *value]);
            let spec = Spec {
                name: "etcd",
                program: paths::on_path("etcd", "etcd")?,
                arguments: options.chain(secured.iter().map(String::as_str)).map(Into::into).collect(),
                environment: Vec::new(),
                log: dir.path().join(format!("m{i}.log")),
            };
            members.push(Member { process: ManagedProcess::start(spec)?, client, _peer: peer });
        }
        let cluster = Self { members, certificates, _dir: dir };
        for index in 0..count {
            cluster.wait_until_healthy(index).await?;
        }
        Ok(cluster)
    }

    /// The members' addresses, as the configuration takes them.
    #[must_use]
    pub fn endpoints(&self) -> String {
        let scheme = if self.certificates.is_some() { "https://" } else { "" };
        let all: Vec<String> = self.members.iter().map(|m| format!("\"{scheme}{}\"", m.address())).collect();
        format!("[{}]", all.join(", "))
    }

    /// What its clients have to show and to trust, where it asks for that.
    #[must_use]
    pub const fn certificates(&self) -> Option<&Certificates> {
        self.certificates.as_ref()
    }

    /// Runs `etcdctl` against the member `index`.
    ///
    /// # Errors
    /// It failed.
    pub async fn command(&self, index: usize, arguments: &[&str]) -> Result<String, HarnessError> {
        let member = self.member(index)?;
        let secured = self.certificates.iter().flat_map(client_options);
        let output = Command::new(paths::on_path("etcdctl", "etcd's client")?)
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &member.address()])
            .args(secured)
            .args(arguments)
            .output()
            .await
            .map_err(HarnessError::io("running etcdctl"))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned());
        }
        Err(HarnessError::Program(format!("etcdctl: {}", String::from_utf8_lossy(&output.stderr))))
    }

    /// The member that leads, by its index.
    ///
    /// # Errors
    /// No member says that it does.
    pub async fn leader(&self) -> Result<usize, HarnessError> {
        for index in 0..self.members.len() {
            let status = self.command(index, &["endpoint", "status", "-w", "json"]).await?;
            let status: serde_json::Value =
                serde_json::from_str(&status).map_err(|e| HarnessError::Program(e.to_string()))?;
            let status = &status[0]["Status"];
            if status["header"]["member_id"] == status["leader"] {
                return Ok(index);
            }
        }
        Err(HarnessError::Program("no member of etcd leads".to_owned()))
    }

    /// Kills a member as a crash would.
    ///
    /// # Errors
    /// It was not running.
    pub fn kill(&mut self, index: usize) -> Result<(), HarnessError> {
        self.member_mut(index)?.process.kill()
    }

    /// Starts a member again, with what it had on disk; it may need others to be of use.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn restart(&mut self, index: usize) -> Result<(), HarnessError> {
        let member = self.member_mut(index)?;
        member.process = ManagedProcess::start(member.process.spec().clone())?;
        Ok(())
    }

    /// Waits until a member takes writes.
    ///
    /// # Errors
    /// It does not in time.
    pub async fn wait_until_healthy(&self, index: usize) -> Result<(), HarnessError> {
        eventually("etcd is healthy", READY_DEADLINE, || async {
            self.command(index, &["endpoint", "health"]).await.ok()
        })
        .await
        .map(|_| ())
    }

    fn member(&self, index: usize) -> Result<&Member, HarnessError> {
        self.members.get(index).ok_or_else(|| HarnessError::Program(format!("etcd has no member {index}")))
    }

    fn member_mut(&mut self, index: usize) -> Result<&mut Member, HarnessError> {
        self.members
            .get_mut(index)
            .ok_or_else(|| HarnessError::Program(format!("etcd has no member {index}")))
    }
}

fn server_options(certificates: &Certificates) -> Vec<String> {
    let Certificates { ca, cert, key } = certificates;
    vec![
        format!("--cert-file={}", cert.display()),
        format!("--key-file={}", key.display()),
        format!("--trusted-ca-file={}", ca.display()),
        "--client-cert-auth".to_owned(),
    ]
}

fn client_options(certificates: &Certificates) -> Vec<String> {
    let Certificates { ca, cert, key } = certificates;
    [("--cacert", ca), ("--cert", cert), ("--key", key)]
        .map(|(name, path)| format!("{name}={}", path.display()))
        .to_vec()
}

impl Member {
    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.client.number())
    }
}
