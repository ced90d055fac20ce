//! Envoy configurations that the product does not print: the plain proxy that everything is compared
//! with, and the product's own with the provider in the sidecar's place.

use std::path::Path;

use tidegate_e2e::harness::{HarnessError, prepend_item};

use crate::cases::KEY;

/// A plain proxy from `/v1` on `port` to the emulated OpenAI on `upstream`, with a wasm filter in
/// between if one is given.
pub(crate) fn plain(port: u16, admin: u16, upstream: u16, filter: Option<&Path>) -> String {
    let filter = filter.map(wasm_filter).unwrap_or_default();
    let cluster = indented(&provider_cluster(upstream), 4);
    format!(
        r#"admin:
  address: {{ socket_address: {{ address: 127.0.0.1, port_value: {admin} }} }}
static_resources:
  listeners:
    - name: plain
      address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: plain
                http_filters:{filter}
                  - name: envoy.filters.http.router
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
                route_config:
                  name: plain
                  virtual_hosts:
                    - name: plain
                      domains: ["*"]
                      routes:
                        - match: {{ prefix: "/v1/" }}
                          route: {{ cluster: provider, prefix_rewrite: "/openai/v1/", timeout: 0s }}
  clusters:
{cluster}
"#
    )
}

/// A plain proxy from `/v1` to the emulated OpenAI, whose outlier detection ejects it after
/// `failures` in a row for `ejection_s`. It is the only host, so it may be ejected as a whole, and an
/// empty cluster is no reason to send to it all the same.
pub(crate) fn outlier_detection(
    port: u16,
    admin: u16,
    upstream: u16,
    failures: u32,
    ejection_s: u64,
) -> String {
    let detection = format!(
        "      outlier_detection:
        consecutive_5xx: {failures}
        interval: 1s
        base_ejection_time: {ejection_s}s
        max_ejection_percent: 100
      common_lb_config: {{ healthy_panic_threshold: {{ value: 0 }} }}
"
    );
    plain(port, admin, upstream, None).replace("timeout: 0s }", "timeout: 2s }") + &detection
}

fn indented(text: &str, spaces: usize) -> String {
    let lines: Vec<String> = text.lines().map(|line| format!("{:spaces$}{line}", "")).collect();
    lines.join("\n")
}

fn wasm_filter(path: &Path) -> String {
    format!(
        r#"
                  - name: noop
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm
                      config:
                        name: noop
                        root_id: noop
                        vm_config:
                          vm_id: noop
                          runtime: envoy.wasm.runtime.v8
                          code: {{ local: {{ filename: "{}" }} }}"#,
        path.display()
    )
}

/// The product's configuration with chat completions going straight to the provider. The filter
/// keeps the sidecar for its snapshot and for keys it has not seen.
pub(crate) fn straight_to_provider(yaml: &str, upstream: u16) -> Result<String, HarnessError> {
    let route = format!(
        r#"- match: {{ path: "/v1/chat/completions" }}
  route: {{ cluster: provider, prefix_rewrite: "/openai/v1/chat/completions", timeout: 0s }}
  request_headers_to_add:
    - header: {{ key: authorization, value: "Bearer {KEY}" }}
      append_action: OVERWRITE_IF_EXISTS_OR_ADD"#
    );
    let yaml = prepend_item(yaml, "routes", &route)?;
    prepend_item(&yaml, "clusters", &provider_cluster(upstream))
}

/// The product's configuration without its filter: what its settings cost by themselves.
pub(crate) fn without_filter(yaml: &str) -> Result<String, HarnessError> {
    let router = yaml.find("- name: envoy.filters.http.router");
    let filter = yaml.find("- name: tidegate\n");
    match (filter, router) {
        (Some(filter), Some(router)) if filter < router => {
            Ok(format!("{}{}", &yaml[..filter], &yaml[router..]))
        }
        _ => Err(HarnessError::Program(
            "the Envoy config has no filter `tidegate` before the router".to_owned(),
        )),
    }
}

fn provider_cluster(upstream: u16) -> String {
    format!(
        r#"- name: provider
  type: STATIC
  connect_timeout: 1s
  load_assignment:
    cluster_name: provider
    endpoints:
      - lb_endpoints:
          - endpoint:
              address: {{ socket_address: {{ address: 127.0.0.1, port_value: {upstream} }} }}"#
    )
}
