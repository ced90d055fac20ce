//! Renders a complete envoy.yaml for a configuration.
//!
//! The text is a template, because the comments in it are what an operator reads; the parts that
//! repeat (routes, the operator's clusters) are in [`parts`].

mod edge;
mod parts;
mod secrets;

use std::fmt::Write as _;

use serde::Serialize;
use tidegate_core::reply::{Code, Reply};
use tidegate_core::route::Protocol;

pub use self::secrets::Secrets;

use crate::config::Config;
use crate::secret::Secret;

const TEMPLATE: &str = include_str!("template.yaml");
/// Cluster of the sidecar, which the filter's call-outs name too.
const CLUSTER: &str = "tidegate_sidecar";
/// Cluster of the collector of spans.
const COLLECTOR: &str = "tidegate_traces";
/// `:authority` of the filter's call-outs.
const AUTHORITY: &str = "tidegate";
/// Milliseconds between two ticks of the filter: how often it looks for a new policy document.
const TICK_MS: u32 = 100;
/// Most that Envoy reads from a client's connection at a time, in bytes.
const READ_BYTES: u64 = 1 << 20;
/// Room between server.max_request_body and Envoy's own limit, in bytes: the read that passes the
/// former must not pass the latter too, or Envoy's 413 would come before the filter's.
const BUFFER_MARGIN_BYTES: u64 = 2 * READ_BYTES;
/// Envoy's heap besides the L1 cache, in bytes.
const HEAP_BYTES: u64 = 1 << 30;
/// Shortest time after which a silent stream is dead, in seconds.
const STREAM_IDLE_S_MIN: u64 = 300;
/// Room between a provider's timeout and Envoy's, in seconds.
const STREAM_IDLE_MARGIN_S: u64 = 30;

/// The filter's plugin configuration.
#[derive(Serialize)]
struct Plugin<'a> {
    cluster: &'a str,
    authority: &'a str,
    token: &'a str,
    tick_ms: u32,
    request_id_echoed: bool,
    routed_by_path: bool,
}

/// The whole file; `token` is in it, so it is private.
#[must_use]
pub fn render(config: &Config, token: &Secret) -> String {
    let server = &config.server;
    let plugin = Plugin {
        cluster: CLUSTER,
        authority: AUTHORITY,
        token: token.expose(),
        tick_ms: TICK_MS,
        request_id_echoed: true,
        routed_by_path: true,
    };
    let values = [
        ("admin_port", server.admin_port.to_string()),
        ("host", quoted(&server.host.to_string())),
        ("port", server.port.to_string()),
        ("read_bytes", READ_BYTES.to_string()),
        ("buffer_bytes", (server.body_bytes_max + BUFFER_MARGIN_BYTES).to_string()),
        ("heap_bytes", (HEAP_BYTES + config.l1.bytes_max).to_string()),
        ("stream_idle_s", stream_idle_s(config).to_string()),
        ("filter_path", quoted(&server.filter_path.to_string_lossy())),
        ("access_log", edge::access_log(config.logging.access)),
        ("tracing", edge::tracing(config.tracing.as_ref())),
        ("local_replies", edge::local_replies(&config.security)),
        ("compression", edge::compression(server)),
        ("added_headers", edge::added_headers(&config.security)),
        ("node", edge::node(config)),
        ("tls", edge::tls(config)),
        ("plugin", quoted(&serde_json::to_string(&plugin).unwrap_or_default())),
        ("not_found", not_found()),
        ("routes", parts::routes(server, token)),
        ("sidecar_protocol", parts::sidecar_protocol(server)),
        ("keepalive", parts::keepalive(server).to_owned()),
        ("sidecar_address", parts::sidecar_address(server)),
        ("clusters", parts::clusters(server) + &parts::collector(config.tracing.as_ref())),
    ];
    fill(TEMPLATE, &values)
}

/// Replaces every `{{name}}`; a value is never looked into.
fn fill(template: &str, values: &[(&str, String)]) -> String {
    let mut out = String::with_capacity(template.len() * 2);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, remaining) = after.split_once("}}").unwrap_or((after, ""));
        out.push_str(before);
        if let Some((_, value)) = values.iter().find(|(known, _)| *known == name) {
            out.push_str(value);
        }
        rest = remaining;
    }
    out.push_str(rest);
    out
}

/// The value of a header that Envoy adds, as a YAML scalar: a percent sign begins one of Envoy's own
/// variables.
fn header_value(text: &str) -> String {
    quoted(&text.replace('%', "%%"))
}

/// Text as a YAML scalar: JSON's strings are YAML's double-quoted ones.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The body of Envoy's own 404s, in the dialect of the gateway's own paths.
fn not_found() -> String {
    let body = Reply::new(Code::NotFound, "nothing answers at this path").body(Protocol::OpenAi, "");
    quoted(&String::from_utf8_lossy(&body))
}

fn stream_idle_s(config: &Config) -> u64 {
    let longest = config.providers.iter().map(|p| p.timeout.as_secs() + p.connect_timeout.as_secs()).max();
    longest.map_or(STREAM_IDLE_S_MIN, |s| STREAM_IDLE_S_MIN.max(s + STREAM_IDLE_MARGIN_S))
}

#[cfg(test)]
mod tests;
