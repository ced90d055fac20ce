//! What Envoy does beside routing, where it is configured: headers, the access log, compression.

use std::fmt::Write as _;

use super::parts::{indented, socket_address};
use super::secrets::Secrets;
use super::{COLLECTOR, READ_BYTES, header_value, quoted};
use crate::config::Config;
use crate::config::logging::Access;
use crate::config::security::Security;
use crate::config::server::Server;
use crate::config::tracing::Tracing;

/// Shortest answer that is compressed, in bytes: less fits into one packet anyway.
const COMPRESSED_BYTES_MIN: u32 = 1024;

/// Who decides which traces are sampled.
const SAMPLERS: &str = "type.googleapis.com/envoy.extensions.tracers.opentelemetry.samplers.v3";

/// How far the listener's HTTP settings are indented.
const MANAGER: usize = 16;

/// The access log on Envoy's standard output, one JSON object a line.
pub fn access_log(access: Access) -> String {
    let filter = match access {
        Access::Off => return String::new(),
        Access::All => "",
        Access::Errors => ERRORS_ONLY,
    };
    let mut out = indented(MANAGER, ACCESS_LOG);
    out.push_str(&indented(MANAGER + 4, filter));
    out.push_str(&indented(MANAGER + 4, ACCESS_FORMAT));
    out
}

const ACCESS_LOG: &str = "\
# One line for each request, after its answer (logging.access). No query, for some clients put their
# key there.
access_log:
  - name: envoy.access_loggers.stdout
";

/// A stream that was cut has a good status, and a flag that says why it ended.
const ERRORS_ONLY: &str = "\
filter:
  or_filter:
    filters:
      - status_code_filter:
          comparison: {op: GE, value: {default_value: 400, runtime_key: tidegate.access_log.status_min}}
      - response_flag_filter: {}
";

const ACCESS_FORMAT: &str = "\
typed_config:
  \"@type\": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog
  log_format:
    omit_empty_values: true
    json_format:
      time: '%START_TIME%'
      request_id: '%REQ(X-REQUEST-ID)%'
      client: '%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%'
      protocol: '%PROTOCOL%'
      method: '%REQ(:METHOD)%'
      path: '%PATH(NQ)%'
      status: '%RESPONSE_CODE%'
      # Milliseconds: until the answer's first byte came from behind, and until all of it was sent.
      first_byte_ms: '%RESPONSE_DURATION%'
      duration_ms: '%DURATION%'
      bytes_received: '%BYTES_RECEIVED%'
      bytes_sent: '%BYTES_SENT%'
      cache: '%RESP(X-GATEWAY-CACHE)%'
      cache_layer: '%RESP(X-GATEWAY-CACHE-LAYER)%'
      provider: '%RESP(X-GATEWAY-PROVIDER)%'
      model: '%RESP(X-GATEWAY-MODEL)%'
      attempts: '%RESP(X-GATEWAY-ATTEMPTS)%'
      policy: '%RESP(X-GATEWAY-POLICY)%'
      # Why Envoy answered so, and what was wrong with the connection, if anything.
      details: '%RESPONSE_CODE_DETAILS%'
      flags: '%RESPONSE_FLAGS%'
";

/// Envoy's spans, of which the sidecar's are children.
pub fn tracing(tracing: Option<&Tracing>) -> String {
    let Some(Tracing { settings, sampling, .. }) = tracing else { return String::new() };
    let text = format!(
        "\
# One span for each request in a sampled trace (tracing). A caller's traceparent decides; without one
# the share does. Not the request's id, which a caller may choose. Paths are without their query, for
# some clients put their key there.
tracing:
  operation: '%REQ(:METHOD)% %PATH(NQ)%'
  max_path_tag_length: 0
  custom_tags:
    - {{tag: url.path, value: '%PATH(NQ)%'}}
    - {{tag: tidegate.cache, value: '%RESP(X-GATEWAY-CACHE)%'}}
  provider:
    name: envoy.tracers.opentelemetry
    typed_config:
      \"@type\": type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig
      http_service:
        http_uri: {{uri: {}, cluster: {COLLECTOR}, timeout: 5s}}
      service_name: {}
      sampler:
        name: envoy.tracers.opentelemetry.samplers.parent_based
        typed_config:
          \"@type\": {SAMPLERS}.ParentBasedSamplerConfig
          wrapped_sampler:
            name: envoy.tracers.opentelemetry.samplers.trace_id_ratio_based
            typed_config:
              \"@type\": {SAMPLERS}.TraceIdRatioBasedSamplerConfig
              sampling_percentage: {{numerator: {:.0}, denominator: MILLION}}
request_id_extension:
  typed_config:
    \"@type\": type.googleapis.com/envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig
    pack_trace_reason: false
    use_request_id_for_trace_sampling: false
",
        quoted(&settings.endpoint.to_string()),
        quoted(&settings.service_name),
        sampling * 1e6
    );
    indented(MANAGER, &text)
}

/// The headers for answers that Envoy or the filter make themselves; [`added_headers`] are those for
/// all others.
pub fn local_replies(security: &Security) -> String {
    if security.headers.is_empty() {
        return String::new();
    }
    let mut out = indented(MANAGER, LOCAL_REPLIES);
    for (name, value) in &security.headers {
        let value = header_value(value);
        let item =
            format!("- header: {{key: {}, value: {value}}}\n  append_action: ADD_IF_ABSENT\n", quoted(name));
        out.push_str(&indented(MANAGER + 8, &item));
    }
    out
}

const LOCAL_REPLIES: &str = "\
# The headers of security.headers, on answers that are made here: refusals, cached answers.
local_reply_config:
  mappers:
    - filter: {not_health_check_filter: {}}
      headers_to_add: &security_headers
";

/// The headers for answers that come from behind.
pub fn added_headers(security: &Security) -> String {
    if security.headers.is_empty() {
        return String::new();
    }
    indented(MANAGER + 2, "response_headers_to_add: *security_headers\n")
}

/// The compressor. It stands before the filter, and so comes after it on the way back: what the
/// filter reads and stores is plain.
pub fn compression(server: &Server) -> String {
    if !server.compression {
        return String::new();
    }
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write!(
        out,
        "\
# For clients that accept gzip (server.compression). Envoy's own list of types counts, in which
# streams of events are not: every event is to arrive at once. Servers behind are not asked for
# compressed answers, which the filter could not read.
- name: envoy.filters.http.compressor
  typed_config:
    \"@type\": type.googleapis.com/envoy.extensions.filters.http.compressor.v3.Compressor
    response_direction_config:
      common_config:
        min_content_length: {COMPRESSED_BYTES_MIN}
      remove_accept_encoding_header: true
    compressor_library:
      name: gzip
      typed_config:
        \"@type\": type.googleapis.com/envoy.extensions.compression.gzip.compressor.v3.Gzip
        compression_level: BEST_SPEED
"
    );
    indented(MANAGER + 2, &out)
}

/// The name that Envoy must have to be given certificates.
pub fn node(config: &Config) -> String {
    let text = "# Envoy asks for certificates (security.tls) under this name.\n\
        node: {id: tidegate, cluster: tidegate}\n\n";
    config.security.tls.as_ref().map(|_| text.to_owned()).unwrap_or_default()
}

/// TLS on the listener, and the one that sends others there: what stands behind the filters.
pub fn tls(config: &Config) -> String {
    let Some(tls) = &config.security.tls else { return String::new() };
    let secrets = Secrets::beside(config.store.folder());
    let mut context = format!(
        "\
transport_socket:
  name: envoy.transport_sockets.tls
  typed_config:
    \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
    require_client_certificate: {}
    common_tls_context:
      tls_params: {{tls_minimum_protocol_version: TLSv1_2}}
      alpn_protocols: [h2, http/1.1]
      # Read again when the sidecar finds the files changed (security.tls).
      tls_certificate_sds_secret_configs:
        - {{{}}}
",
        tls.client_ca_path.is_some(),
        secrets.server()
    );
    if tls.client_ca_path.is_some() {
        // Writing to a string cannot fail.
        let _ = writeln!(context, "      validation_context_sds_secret_config: {{{}}}", secrets.clients());
    }
    let mut out = indented(10, &context);
    if let Some(port) = tls.redirect_http_port {
        out.push_str(&indented(4, &redirect(&config.server, port)));
    }
    out
}

/// A listener without TLS that sends everybody to the one with it; 308 keeps method and body.
fn redirect(server: &Server, port: u16) -> String {
    // Where both ports are the usual ones, a URL needs none.
    let to = if (port, server.port) == (80, 443) {
        String::new()
    } else {
        format!(", port_redirect: {}", server.port)
    };
    format!(
        "\
# Nothing is served without TLS: whoever comes here is sent to the listener above.
- name: redirect
  address:
    {}
  per_connection_buffer_limit_bytes: {READ_BYTES}
  filter_chains:
    - filters:
        - name: envoy.filters.network.http_connection_manager
          typed_config:
            \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
            stat_prefix: redirect
            server_header_transformation: PASS_THROUGH
            request_headers_timeout: 10s
            common_http_protocol_options: {{idle_timeout: 10s}}
            http_filters:
              - name: envoy.filters.http.router
                typed_config:
                  \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
            route_config:
              virtual_hosts:
                - name: all
                  domains: [\"*\"]
                  routes:
                    - match: {{prefix: /}}
                      redirect: {{https_redirect: true, response_code: PERMANENT_REDIRECT{to}}}
",
        socket_address(&server.host.to_string(), port)
    )
}
