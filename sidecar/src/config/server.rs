//! `server`: listeners, Envoy, and the process itself.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use tidegate_core::address::Network;
use tidegate_core::policy::{BODY_BYTES_MAX, TRUSTED_PROXIES_MAX};
use tidegate_core::route::{RouteClass, classify};

use super::value::{ByteSize, Span};
use super::{Check, Problems};
use crate::secret::Secret;

/// Most worker threads.
const THREADS_MAX: usize = 256;
/// Most upstreams of the operator's own.
const UPSTREAMS_MAX: usize = 256;
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
    upstreams: Option<Vec<Option<UpstreamDocument>>>,
    trusted_proxies: Option<Vec<Option<String>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct UpstreamDocument {
    name: Option<String>,
    prefix: Option<String>,
    address: Option<String>,
    rewrite: Option<String>,
    api: Option<Api>,
    api_key: Option<Secret>,
}

/// The API that an upstream has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Api {
    /// OpenAI's, and perhaps Anthropic's messages: vLLM, Ollama, another gateway.
    Openai,
}

/// What Envoy speaks to the sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SidecarProtocol {
    /// HTTP/1.1 with keep-alive.
    Http1,
    /// HTTP/2 without TLS, by prior knowledge.
    H2c,
}

/// One of the operator's own upstreams, protected by the same limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Name of its Envoy cluster.
    pub name: String,
    /// Paths at and below this go there; without a final slash, empty for all.
    pub prefix: String,
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// What stands in the prefix's place when a request is passed on; without a final slash.
    pub rewrite: Option<String>,
    /// The API that the gateway knows below the prefix.
    pub api: Option<Api>,
    /// What it is sent as its key, in the place of whatever the caller sent.
    pub api_key: Option<Secret>,
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
        sidecar_protocol: sidecar_protocol.unwrap_or(SidecarProtocol::Http1),
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
        upstreams: validate_upstreams(upstreams, check),
        trusted_proxies: proxies(trusted_proxies, check),
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

fn validate_upstreams(list: Option<Vec<Option<UpstreamDocument>>>, check: &mut Check<'_>) -> Vec<Upstream> {
    let mut upstreams: Vec<Upstream> = Vec::new();
    for (path, document) in check.items("server.upstreams", list, UPSTREAMS_MAX) {
        let UpstreamDocument { name, prefix, address, rewrite, api, api_key } = document;
        let name = check.problems.required(&format!("{path}.name"), name, "`name: shop`");
        let prefix = check.problems.required(&format!("{path}.prefix"), prefix, "`prefix: /shop`");
        let address =
            check.problems.required(&format!("{path}.address"), address, "`address: 127.0.0.1:3000`");
        let (Some(name), Some(prefix), Some(address)) = (name, prefix, address) else { continue };
        let name = check.name(&format!("{path}.name"), name);
        if upstreams.iter().any(|other| other.name == name) {
            check.problems.add(format!("{path}.name"), format!("`{name}` is used twice; names must differ"));
        }
        let prefix = upstream_prefix(&path, &prefix, &mut check.problems);
        if upstreams.iter().any(|other| other.prefix == prefix) {
            check.problems.add(format!("{path}.prefix"), "is another upstream's too; prefixes must differ");
        }
        let (host, port) = host_and_port(&path, &address, &mut check.problems);
        let rewrite = rewrite.map(|to| plain_path(&format!("{path}.rewrite"), &to, &mut check.problems));
        let api_key = api_key.map(|key| check.key(format!("{path}.api_key"), &key));
        upstreams.push(Upstream { name, prefix, host, port, rewrite, api, api_key });
    }
    upstreams
}

fn upstream_prefix(path: &str, prefix: &str, problems: &mut Problems) -> String {
    let field = format!("{path}.prefix");
    let trimmed = plain_path(&field, prefix, problems);
    if trimmed.starts_with('/') && classify(&trimmed) != RouteClass::Other {
        problems.add(field, format!("`{prefix}` belongs to the gateway; choose another, such as /shop"));
    }
    trimmed
}

/// A path without its final slash.
fn plain_path(field: &str, text: &str, problems: &mut Problems) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'-' | b'.' | b'_' | b'~');
    if !text.starts_with('/') || !text.bytes().all(plain) {
        let what = format!("is `{text}`; must start with / and hold only A-Z a-z 0-9 / - . _ ~");
        problems.add(field, what);
    }
    text.trim_end_matches('/').to_owned()
}

fn host_and_port(path: &str, address: &str, problems: &mut Problems) -> (String, u16) {
    let parsed = address.rsplit_once(':').and_then(|(host, port)| {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':');
        let good = !host.is_empty() && host.len() <= 253 && host.bytes().all(plain);
        let port = port.parse::<u16>().ok().filter(|port| *port > 0)?;
        good.then(|| (host.to_owned(), port))
    });
    parsed.unwrap_or_else(|| {
        problems.add(
            format!("{path}.address"),
            format!("is `{address}`; must be host:port, as in 127.0.0.1:3000"),
        );
        (String::new(), 1)
    })
}
