//! `metrics`: the Prometheus page.

use std::net::SocketAddr;

use serde::Deserialize;
use tidegate_core::route::{RouteClass, classify};

use super::Check;
use super::server::Server;

/// The section as it may be written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Document {
    enabled: Option<bool>,
    port: Option<u16>,
    path: Option<String>,
}

/// The validated section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics {
    /// Whether there is a page at all.
    pub enabled: bool,
    /// A listener of its own, which asks for no key; without it the page is on the sidecar's
    /// and the gateway's port, for operators.
    pub listener: Option<SocketAddr>,
    /// Path of the page.
    pub path: String,
}

/// Checks the section.
pub fn validate(document: Document, server: &Server, check: &mut Check<'_>) -> Metrics {
    let Document { enabled, port, path } = document;
    let path = path.unwrap_or_else(|| "/metrics".to_owned());
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'-' | b'.' | b'_');
    if !path.starts_with('/') || path.len() < 2 || !path.bytes().all(plain) {
        check.problems.add("metrics.path", format!("is `{path}`; must start with / as in /metrics"));
    } else if port.is_none() && (!path.starts_with("/metrics") || classify(&path) != RouteClass::Admin) {
        check.problems.add(
            "metrics.path",
            format!(
                "is `{path}`; without metrics.port it must be /metrics or below it, where a key is asked for"
            ),
        );
    }
    if let Some(port) = port {
        check.problems.within("metrics.port", port, 1..=u16::MAX, "");
        if [server.port, server.sidecar_port, server.admin_port].contains(&port) {
            check.problems.add("metrics.port", "is a port of `server` too; choose another, or leave it out");
        }
    }
    Metrics {
        enabled: enabled.unwrap_or(true),
        listener: port.map(|port| SocketAddr::new(server.sidecar_host, port)),
        path,
    }
}
