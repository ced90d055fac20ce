//! `server`: listeners, Envoy, and the process itself.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use tidegate_core::address::Network;
use tidegate_core::policy::{BODY_BYTES_MAX, TRUSTED_PROXIES_MAX};

use super::upstream::{self, Upstream};
use super::value::{ByteSize, Span};
use super::{Check, Problems};

/// Most worker threads.
const THREADS_MAX: usize = 256;
/// Longest drain that can be configured, in seconds.
const DRAIN_S_MAX: u64 = 600;
/// Longest path of a Unix socket, in bytes; the system's limit less its terminator.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// The section as it may be written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Document {
    host: Option<String>,
    port: Option<u16>,
    max_request_body: Option<ByteSize>,
    sidecar_host: Option<String>,
    sidecar_port: Option<u16>,
    sidecar_socket: Option<String>,
    sidecar_protocol: Option<SidecarProtocol>,
    admin_port: Option<u16>,
    filter_path: Option<String>,
    drain_timeout: Option<Span>,
    threads: Option<usize>,
    demo: Option<bool>,
    upstreams: Option<Vec<Option<upstream::Document>>>,
    trusted_proxies: Option<Vec<Option<String>>>,
    compression: Option<bool>,
}

/// What Envoy speaks to the sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SidecarProtocol {
    /// HTTP/1.1 with keep-alive: a connection for each request in flight.
    Http1,
    /// HTTP/2 without TLS, by prior knowledge: requests in flight share a connection, and its writes.
    H2c,
}

/// The validated section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Address of Envoy's listener.
    pub host: IpAddr,
    /// Port of Envoy's listener.
    pub port: u16,
    /// Largest accepted request body, in bytes.
    pub body_bytes_max: u64,
    /// Address of the sidecar's listener.
    pub sidecar_host: IpAddr,
    /// Port of the sidecar's listener.
    pub sidecar_port: u16,
    /// Unix socket on which the sidecar listens too, and which Envoy then uses.
    pub sidecar_socket: Option<PathBuf>,
    /// What Envoy speaks to the sidecar.
    pub sidecar_protocol: SidecarProtocol,
    /// Port of Envoy's admin interface, always on loopback.
    pub admin_port: u16,
    /// The filter, as Envoy finds it.
    pub filter_path: PathBuf,
    /// How long requests in flight may go on after SIGTERM.
    pub drain_timeout: Duration,
    /// Worker threads of the sidecar.
    pub threads: usize,
    /// Whether the sidecar answers `/api/test`.
    pub demo: bool,
    /// The operator's own upstreams.
    pub upstreams: Vec<Upstream>,
    /// Proxies before Envoy whose `x-forwarded-for` is believed.
    pub trusted_proxies: Vec<Network>,
    /// Whether Envoy compresses answers.
    pub compression: bool,
}

/// Checks the section.
pub fn validate(document: Document, check: &mut Check<'_>) -> Server {
    let Document {
        host,
        port,
        max_request_body,
        sidecar_host,
        sidecar_port,
        sidecar_socket,
        sidecar_protocol,
        admin_port,
        filter_path,
        drain_timeout,
        threads,
        demo,
        upstreams,
        trusted_proxies,
        compression,
    } = document;
    let filter_path = filter_path.unwrap_or_else(|| "dist/tidegate_filter.wasm".to_owned());
    let body = max_request_body.map_or(10 << 20, |size| size.0);
    let drain = drain_timeout.map_or(30, |span| span.0.as_secs());
    // Half of the cores: Envoy works beside us, and fewer threads wake each other less (a fifth less
    // CPU per request with one thread than with two on two cores).
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let server = Server {
        host: ip("server.host", host, &mut check.problems),
        port: port_of("server.port", port, 8080, &mut check.problems),
        body_bytes_max: check.problems.within("server.max_request_body", body, 1..=BODY_BYTES_MAX, " bytes"),
        sidecar_host: ip("server.sidecar_host", sidecar_host, &mut check.problems),
        sidecar_port: port_of("server.sidecar_port", sidecar_port, 8081, &mut check.problems),
        sidecar_socket: sidecar_socket.map(|path| socket(&path, check)),
        sidecar_protocol: sidecar_protocol.unwrap_or(SidecarProtocol::H2c),
        admin_port: port_of("server.admin_port", admin_port, 9901, &mut check.problems),
        filter_path: check.expanded("server.filter_path", &filter_path).into(),
        drain_timeout: Duration::from_secs(check.problems.within(
            "server.drain_timeout",
            drain,
            1..=DRAIN_S_MAX,
            " seconds",
        )),
        threads: check.problems.within(
            "server.threads",
            threads.unwrap_or(cores.div_ceil(2).min(THREADS_MAX)),
            1..=THREADS_MAX,
            "",
        ),
        demo: demo.unwrap_or(false),
        upstreams: upstream::validate(upstreams, check),
        trusted_proxies: proxies(trusted_proxies, check),
        compression: compression.unwrap_or(false),
    };
    distinct_ports(&server, &mut check.problems);
    server
}

fn ip(path: &str, host: Option<String>, problems: &mut Problems) -> IpAddr {
    let loopback = IpAddr::from([127, 0, 0, 1]);
    match host.as_deref() {
        None | Some("localhost") => loopback,
        Some(text) => text.parse().unwrap_or_else(|_| {
            problems.add(path, format!("is `{text}`; must be an IP address, such as 127.0.0.1 or 0.0.0.0"));
            loopback
        }),
    }
}

fn port_of(path: &str, port: Option<u16>, default: u16, problems: &mut Problems) -> u16 {
    problems.within(path, port.unwrap_or(default), 1..=u16::MAX, "")
}

fn socket(text: &str, check: &mut Check<'_>) -> PathBuf {
    let path = check.expanded("server.sidecar_socket", text);
    if path.is_empty() || path.len() > SOCKET_PATH_BYTES_MAX {
        check.problems.add(
            "server.sidecar_socket",
            format!("must be a path of 1 to {SOCKET_PATH_BYTES_MAX} bytes; shorten it"),
        );
    }
    path.into()
}

fn proxies(list: Option<Vec<Option<String>>>, check: &mut Check<'_>) -> Vec<Network> {
    let items = check.items("server.trusted_proxies", list, TRUSTED_PROXIES_MAX);
    let mut networks = Vec::with_capacity(items.len());
    for (path, text) in items {
        match text.parse() {
            Ok(network) => networks.push(network),
            Err(()) => {
                let what = format!("is `{text}`; must be an address or a network, such as 10.0.0.0/8");
                check.problems.add(path, what);
            }
        }
    }
    networks
}

fn distinct_ports(server: &Server, problems: &mut Problems) {
    if server.sidecar_port == server.port {
        problems.add("server.sidecar_port", "is server.port too; give Envoy and the sidecar different ports");
    }
    if server.admin_port == server.port || server.admin_port == server.sidecar_port {
        problems.add("server.admin_port", "is server.port or server.sidecar_port too; choose another port");
    }
}
