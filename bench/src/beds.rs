//! The processes that stand between the client and the provider in each case. All beds of a run
//! live at the same time, so that rounds can be interleaved; an idle bed costs next to nothing.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use tidegate_e2e::harness::{
    Client, Envoy, Gateway, ManagedProcess, Port, Spec, eventually, sibling_binary, workspace_root,
};

use crate::cases::{Bed, KEY, Link};
use crate::envoy_config;
use crate::error::BenchError;
use crate::machine;
use crate::peers::RunningPeer;

/// One worker, so that figures are those of one core's Envoy.
const WORKERS: u32 = 1;
const READY_DEADLINE: Duration = Duration::from_secs(60);

/// The emulated provider, in a process of its own so that its CPU is not counted.
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
        wait_for_200(&format!("http://127.0.0.1:{}/__stats", port.number())).await?;
        Ok(Self { _process: process, port, dir })
    }

    pub(crate) fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// Lets every answer take so long, from now on.
    pub(crate) async fn delay_all(&self, ms: u64) -> Result<(), BenchError> {
        let url = format!("http://127.0.0.1:{}/__faults", self.port.number());
        let answer = Client::new().post_json(&url, format!(r#"{{"delay_ms":{ms}}}"#)).await?;
        if answer.status.is_success() {
            Ok(())
        } else {
            Err(BenchError::new(format!("{url}: {}", answer.text())))
        }
    }

    pub(crate) fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}/openai/v1", self.port.number())
    }
}

/// CPU seconds used so far, or MiB resident, of the two programs that count.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pair {
    pub(crate) envoy: f64,
    /// 0 where there is no sidecar.
    pub(crate) sidecar: f64,
}

impl Pair {
    pub(crate) fn sum(self) -> f64 {
        self.envoy + self.sidecar
    }
}

/// One running bed.
pub(crate) struct RunningBed {
    pub(crate) address: SocketAddr,
    /// Resident memory before the first request.
    pub(crate) rss_at_rest: Pair,
    parts: Parts,
}

enum Parts {
    Plain { envoy: Envoy, _ports: [Port; 2] },
    Gateway(Box<Gateway>),
    Peer(Box<RunningPeer>),
}

impl RunningBed {
    pub(crate) async fn start(bed: Bed, provider: &Provider) -> Result<Self, BenchError> {
        let (address, parts) = match bed {
            Bed::Bare => plain("bare", None, provider).await?,
            Bed::Noop => {
                let filter = noop_filter()?;
                plain("noop", Some(&filter), provider).await?
            }
            Bed::Settings | Bed::FilterOnly | Bed::StoreAll | Bed::Limits | Bed::Full(_) => {
                gateway(bed, provider).await?
            }
            Bed::Peer(peer) => {
                let running = RunningPeer::start(peer, provider).await?;
                (running.address, Parts::Peer(Box::new(running)))
            }
        };
        let mut running = Self { address, rss_at_rest: Pair::default(), parts };
        running.rss_at_rest = running.rss_mib()?;
        Ok(running)
    }

    /// Headers that its callers send.
    pub(crate) fn headers(&self) -> &[(&'static str, String)] {
        if let Parts::Peer(peer) = &self.parts { &peer.headers } else { &[] }
    }

    /// CPU seconds used so far.
    pub(crate) fn cpu_seconds(&self) -> Result<Pair, BenchError> {
        self.each(machine::cpu_seconds)
    }

    /// Resident memory now, in MiB.
    pub(crate) fn rss_mib(&self) -> Result<Pair, BenchError> {
        self.each(machine::rss_mib)
    }

    fn each(&self, figure: impl Fn(u32) -> Result<f64, BenchError>) -> Result<Pair, BenchError> {
        match &self.parts {
            Parts::Plain { envoy, .. } => Ok(Pair { envoy: figure(envoy.process.id())?, sidecar: 0.0 }),
            // Where there is no Envoy, there is one process all the same.
            Parts::Peer(peer) => Ok(Pair { envoy: 0.0, sidecar: figure(peer.process.id())? }),
            Parts::Gateway(gateway) => Ok(Pair {
                envoy: figure(gateway.envoy.process.id())?,
                sidecar: figure(gateway.sidecar().id())?,
            }),
        }
    }
}

async fn plain(
    name: &'static str,
    filter: Option<&Path>,
    provider: &Provider,
) -> Result<(SocketAddr, Parts), BenchError> {
    let ports = [Port::lease()?, Port::lease()?];
    let [port, admin] = [ports[0].number(), ports[1].number()];
    let config = envoy_config::plain(port, admin, provider.port.number(), filter);
    let mut envoy = Envoy::start(provider.dir.path(), name, &config, WORKERS)?;
    let ready = wait_for_200(&format!("http://127.0.0.1:{admin}/ready")).await;
    envoy.process.check_running()?;
    ready?;
    Ok((loopback(port), Parts::Plain { envoy, _ports: ports }))
}

async fn gateway(bed: Bed, provider: &Provider) -> Result<(SocketAddr, Parts), BenchError> {
    let settings = match bed {
        Bed::Full(Link::Socket) => {
            let socket = provider.dir.path().join("sidecar.sock");
            format!("server: {{sidecar_socket: \"{}\"}}\n", socket.display())
        }
        Bed::Full(Link::H2c) => "server: {sidecar_protocol: h2c}\n".to_owned(),
        Bed::StoreAll => "cache: {l1: {admission: always}}\n".to_owned(),
        _ => String::new(),
    };
    let rules = if bed == Bed::Limits { SIX_LEVELS } else { "" };
    let mut builder = Gateway::builder()
        .workers(WORKERS)
        .config_yaml(&format!("{settings}{}", gateway_config(rules)))
        .provider_url(&provider.base_url());
    let upstream = provider.port.number();
    if matches!(bed, Bed::FilterOnly | Bed::StoreAll | Bed::Limits | Bed::Settings) {
        builder = builder.patch_envoy(move |yaml| {
            let yaml = envoy_config::straight_to_provider(&yaml, upstream)?;
            if bed == Bed::Settings { envoy_config::without_filter(&yaml) } else { Ok(yaml) }
        });
    }
    let gateway = builder.start().await?;
    Ok((gateway.address(), Parts::Gateway(Box::new(gateway))))
}

/// Everybody and each tenant have a rate already.
const SIX_LEVELS: &str = "  rules:
    - {key: '*', rate: 1000000.0}
    - {ip: '*', rate: 1000000.0}
    - {route: chat_completions, rate: 1000000.0}
    - {model: '*', rate: 1000000.0}
";

/// Limits on, but far above what the machine can do: refusals are cheap and would flatter.
fn gateway_config(rules: &str) -> String {
    format!(
        "\
limiter:
  default_rate: 1000000.0
  max_rate: 1000000.0
{rules}logging:
  format: json
providers:
  - name: openai
    type: openai
    base_url: \"{{{{emulator}}}}\"
    api_key: sk-emulated-0123456789
    models: [gpt-4o-mini]
auth:
  api_keys:
    - name: bench
      key: {KEY}
      tenant: bench
      role: user
"
    )
}

fn noop_filter() -> Result<std::path::PathBuf, BenchError> {
    let path = workspace_root().join("dist/tidegate_noop_filter.wasm");
    if path.is_file() {
        return Ok(path);
    }
    Err(BenchError::new(format!("{} is not there: run `make wasm`", path.display())))
}

async fn wait_for_200(url: &str) -> Result<(), BenchError> {
    let client = Client::new();
    let up = || async { client.get(url).await.ok().filter(|a| a.status == 200).map(|_| ()) };
    Ok(eventually(&format!("{url} answers 200"), READY_DEADLINE, up).await?)
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
