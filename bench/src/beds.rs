//! The processes that stand between the client and the provider in each case. All beds of a run
//! live at the same time, so that rounds can be interleaved; an idle bed costs next to nothing.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use tidegate_e2e::harness::{Envoy, Gateway, Port, workspace_root};

use crate::cases::{Bed, KEY, Link};
use crate::envoy_config;
use crate::error::BenchError;
use crate::machine;
use crate::peers::RunningPeer;
use crate::provider::{Provider, wait_for_200};

/// One worker, so that figures are those of one core's Envoy.
const WORKERS: u32 = 1;

/// CPU seconds used so far, or MiB resident, of the two programs that count.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pair {
    pub(crate) envoy: f64,
    /// 0 where there is no sidecar.
    pub(crate) sidecar: f64,
}

impl Pair {
    /// A figure of both programs of a gateway.
    pub(crate) fn of(
        gateway: &Gateway,
        figure: impl Fn(u32) -> Result<f64, BenchError>,
    ) -> Result<Self, BenchError> {
        let envoy = figure(gateway.envoy.process.id())?;
        Ok(Self { envoy, sidecar: figure(gateway.sidecar().id())? })
    }

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
            Parts::Gateway(gateway) => Pair::of(gateway, figure),
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
    let config = envoy_config::plain(port, admin, provider.port(), filter);
    let mut envoy = Envoy::start(provider.folder(), name, &config, WORKERS)?;
    let ready = wait_for_200(&format!("http://127.0.0.1:{admin}/ready")).await;
    envoy.process.check_running()?;
    ready?;
    Ok((loopback(port), Parts::Plain { envoy, _ports: ports }))
}

async fn gateway(bed: Bed, provider: &Provider) -> Result<(SocketAddr, Parts), BenchError> {
    let settings = match bed {
        Bed::Full(Link::Socket) => {
            let socket = provider.folder().join("sidecar.sock");
            format!("server: {{sidecar_socket: \"{}\"}}\n", socket.display())
        }
        Bed::Full(Link::Http1) => "server: {sidecar_protocol: http1}\n".to_owned(),
        Bed::StoreAll => "cache: {l1: {admission: always}}\n".to_owned(),
        _ => String::new(),
    };
    let rules = if bed == Bed::Limits { SIX_LEVELS } else { "" };
    let mut builder = Gateway::builder()
        .workers(WORKERS)
        .config_yaml(&format!("{settings}{}", gateway_config(rules)))
        .provider_url(&provider.base_url());
    let upstream = provider.port();
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
  - {{{{openai}}}}
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

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
