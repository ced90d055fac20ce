//! The parts of envoy.yaml that depend on what is configured.

use std::fmt::Write as _;
use std::net::IpAddr;

use tidegate_core::route::SIDECAR_PREFIXES;
use tidegate_core::wire::{CREDENTIAL_HEADERS, header};

use super::{CLUSTER, COLLECTOR, header_value, not_found, quoted};
use crate::config::server::{Server, SidecarProtocol};
use crate::config::tracing::Tracing;
use crate::config::upstream::{Upstream, UpstreamTls};
use crate::demo;
use crate::secret::Secret;
use crate::server::{CONNECTION_WINDOW, STREAM_WINDOW, STREAMS_MAX};

/// First what is the sidecar's, then the operator's upstreams, the longest prefix first.
pub fn routes(server: &Server, token: &Secret) -> String {
    let mut out = String::new();
    out.push_str(&indented(24, SIDECAR_NOTE));
    let mut first = true;
    let demo = server.demo.then(|| format!("path: {}", demo::PATH));
    let sidecar = SIDECAR_PREFIXES.iter().map(|prefix| format!("path_separated_prefix: {prefix}"));
    for matched in demo.into_iter().chain(sidecar) {
        let route = if std::mem::take(&mut first) { sidecar_route(&matched, token) } else { alike(&matched) };
        out.push_str(&indented(24, &route));
    }
    let mut upstreams: Vec<&Upstream> = server.upstreams.iter().collect();
    upstreams.sort_by_key(|upstream| std::cmp::Reverse(upstream.prefix.len()));
    if !upstreams.is_empty() {
        out.push_str(&indented(24, UPSTREAM_NOTE));
    }
    for upstream in &upstreams {
        out.push_str(&indented(24, &upstream_route(upstream)));
    }
    if !upstreams.iter().any(|upstream| upstream.prefix.is_empty()) {
        out.push_str(&indented(24, &nothing_here()));
    }
    out.trim_end().to_owned()
}

const SIDECAR_NOTE: &str = "\
# The LLM API and the gateway's own paths. The secret makes the sidecar believe what the filter
# says about the caller; clients cannot set it, because the filter strips it at entry.
";

const UPSTREAM_NOTE: &str = "\
# The operator's own upstreams (server.upstreams), behind the same limits and breakers. They learn
# neither the secret nor who the filter found the caller to be.
";

/// The first sidecar route defines what the others refer to.
fn sidecar_route(matched: &str, token: &Secret) -> String {
    format!(
        "\
- match: {{{matched}}}
  route: &to_sidecar
    cluster: {CLUSTER}
    # Answers may stream for long; stream_idle_timeout and the sidecar end dead ones.
    timeout: 0s
    # Only what surely has not reached the sidecar is tried again, as while it restarts.
    retry_policy:
      retry_on: connect-failure,reset-before-request
      num_retries: 2
      retry_back_off: {{base_interval: 0.025s, max_interval: 0.1s}}
  request_headers_to_add: &proxied
    - header: {{key: {}, value: {}}}
      append_action: OVERWRITE_IF_EXISTS_OR_ADD
",
        header::PROXIED,
        quoted(token.expose())
    )
}

fn alike(matched: &str) -> String {
    format!("- {{match: {{{matched}}}, route: *to_sidecar, request_headers_to_add: *proxied}}\n")
}

fn upstream_route(upstream: &Upstream) -> String {
    let matched = match upstream.prefix.as_str() {
        "" => "prefix: /".to_owned(),
        prefix => format!("path_separated_prefix: {}", quoted(prefix)),
    };
    // Answers of models may stream for long; stream_idle_timeout ends dead ones.
    let timeout = if upstream.api.is_some() { "0s" } else { "60s" };
    let rewrite = upstream.rewrite.as_ref().map(|to| rewritten(&upstream.prefix, to)).unwrap_or_default();
    let host = upstream.tls.as_ref().and_then(UpstreamTls::sni).map(hosted).unwrap_or_default();
    format!(
        "\
- match: {{{matched}}}
  route:
    cluster: {}
    timeout: {timeout}
{rewrite}{host}    retry_policy: {{retry_on: 'connect-failure,reset-before-request', num_retries: 1}}
{}",
        quoted(&cluster_name(upstream)),
        credentials(upstream.api_key.as_ref())
    )
}

/// What an upstream must not see of the caller's credentials: nothing of ours, and where it has a key
/// of its own, no other one.
fn credentials(api_key: Option<&Secret>) -> String {
    let mut removed = vec![header::IDENTITY, header::PROXIED];
    let Some(key) = api_key else {
        return format!("  request_headers_to_remove: [{}]\n", removed.join(", "));
    };
    removed.extend(CREDENTIAL_HEADERS.iter().filter(|name| **name != "authorization"));
    let value = header_value(&format!("Bearer {}", key.expose()));
    format!(
        "  request_headers_to_remove: [{}]
  request_headers_to_add:
    - header: {{key: authorization, value: {value}}}
      append_action: OVERWRITE_IF_EXISTS_OR_ADD
",
        removed.join(", ")
    )
}

/// The prefix replaced by `to`. Not by `prefix_rewrite`, which makes `//v1` of `/vllm/v1` where `/`
/// takes the prefix's place.
fn rewritten(prefix: &str, to: &str) -> String {
    let pattern = quoted(&format!("^{}/?(.*)$", prefix.replace('.', "[.]")));
    let to = quoted(&format!("{to}/\\1"));
    format!("    regex_rewrite: {{pattern: {{regex: {pattern}}}, substitution: {to}}}\n")
}

/// Servers that are known by name are asked by it: they may be one of many on their address.
fn hosted(name: &str) -> String {
    format!("    host_rewrite_literal: {}\n", quoted(name))
}

fn nothing_here() -> String {
    format!(
        "\
# Nothing else is here.
- match: {{prefix: /}}
  direct_response:
    status: 404
    body: {{inline_string: {}}}
  response_headers_to_add: *json
",
        not_found()
    )
}

/// What Envoy speaks to the sidecar. A connection's window holds the windows of all its streams, so that
/// callers who do not read never hold up others on the same connection.
pub fn sidecar_protocol(server: &Server) -> String {
    match server.sidecar_protocol {
        SidecarProtocol::Http1 => "http_protocol_options: {}".to_owned(),
        SidecarProtocol::H2c => format!(
            "http2_protocol_options: {{max_concurrent_streams: {STREAMS_MAX}, initial_stream_window_size: \
             {STREAM_WINDOW}, initial_connection_window_size: {CONNECTION_WINDOW}}}"
        ),
    }
}

/// TCP connections are probed; a Unix socket needs none of that.
pub const fn keepalive(server: &Server) -> &'static str {
    if server.sidecar_socket.is_some() {
        return "";
    }
    "      upstream_connection_options:
        tcp_keepalive: {keepalive_time: 60, keepalive_interval: 10, keepalive_probes: 3}
"
}

/// Where the sidecar listens, as Envoy reaches it.
pub fn sidecar_address(server: &Server) -> String {
    if let Some(path) = &server.sidecar_socket {
        return format!("pipe: {{path: {}}}", quoted(&path.to_string_lossy()));
    }
    let host = match server.sidecar_host {
        IpAddr::V4(host) if host.is_unspecified() => "127.0.0.1".to_owned(),
        IpAddr::V6(host) if host.is_unspecified() => "::1".to_owned(),
        host => host.to_string(),
    };
    socket_address(&host, server.sidecar_port)
}

pub(super) fn socket_address(host: &str, port: u16) -> String {
    format!("socket_address: {{address: {}, port_value: {port}}}", quoted(host))
}

/// A prefix of its own keeps the operator's names apart from the gateway's.
fn cluster_name(upstream: &Upstream) -> String {
    format!("upstream_{}", upstream.name)
}

/// The operator's clusters.
pub fn clusters(server: &Server) -> String {
    server.upstreams.iter().fold(String::new(), |mut out, upstream| {
        let Upstream { host, port, tls, .. } = upstream;
        out.push_str(&cluster(&cluster_name(upstream), host, *port, tls.as_ref()));
        out
    })
}

/// Where spans go, if they are recorded.
pub fn collector(tracing: Option<&Tracing>) -> String {
    tracing.map(|to| cluster(COLLECTOR, &to.host, to.port, to.tls.as_ref())).unwrap_or_default()
}

fn cluster(name: &str, host: &str, port: u16, tls: Option<&UpstreamTls>) -> String {
    // A name may have addresses of both kinds, as localhost has, and be served at one alone: all are
    // tried (RFC 8305).
    let kind = match host.parse::<IpAddr>() {
        Ok(_) => "STATIC",
        Err(_) => "STRICT_DNS\n      dns_lookup_family: ALL",
    };
    let (name, address) = (quoted(name), socket_address(host, port));
    let tls = tls.map(transport).unwrap_or_default();
    format!(
        "    - name: {name}
      type: {kind}
      connect_timeout: 1s
      load_assignment:
        cluster_name: {name}
        endpoints:
          - lb_endpoints:
              - endpoint:
                  address:
                    {address}
{tls}"
    )
}

/// TLS towards an upstream: its certificate is for its name, and of an authority that is trusted.
fn transport(tls: &UpstreamTls) -> String {
    let mut out = "\
transport_socket:
  name: envoy.transport_sockets.tls
  typed_config:
    \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
"
    .to_owned();
    if let Some(name) = tls.sni() {
        out.push_str(&indented(4, &format!("sni: {}\n", quoted(name))));
    }
    let minimum = "common_tls_context:\n  tls_params: {tls_minimum_protocol_version: TLSv1_2}\n";
    out.push_str(&indented(4, minimum));
    if let Some(ca_path) = &tls.ca_path {
        let kind = if tls.sni().is_some() { "DNS" } else { "IP_ADDRESS" };
        let context = format!(
            "\
validation_context:
  trusted_ca: {{filename: {}}}
  match_typed_subject_alt_names:
    - {{san_type: {kind}, matcher: {{exact: {}}}}}
",
            quoted(&ca_path.to_string_lossy()),
            quoted(&tls.name)
        );
        out.push_str(&indented(6, &context));
    }
    indented(6, &out)
}

pub(super) fn indented(by: usize, text: &str) -> String {
    text.lines().fold(String::new(), |mut out, line| {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{:by$}{line}", "");
        out
    })
}
