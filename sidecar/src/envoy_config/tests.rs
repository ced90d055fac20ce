use std::path::Path;

use serde_norway::Value;

use super::*;
use crate::config::{Env, load, parse};

const PLACEHOLDER: &str = "REPLACE_WITH_INTERNAL_TOKEN";

fn rendered(yaml: &str) -> (String, Value) {
    let config = parse(yaml, &Env::new()).unwrap_or_else(|problems| panic!("{problems}"));
    let text = render(&config, &Secret::new(PLACEHOLDER));
    let tree = serde_norway::from_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    (text, tree)
}

fn routes(tree: &Value) -> Vec<Value> {
    let manager = &tree["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"];
    let hosts = &manager["route_config"]["virtual_hosts"];
    hosts[0]["routes"].as_sequence().expect("routes").clone()
}

#[test]
fn the_file_in_the_repository_is_the_output_for_the_default_configuration() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let config = load(&root.join("configs/gateway.yaml"), &Env::new()).unwrap_or_else(|p| panic!("{p}"));
    let rendered = render(&config, &Secret::new(PLACEHOLDER));
    let path = root.join("envoy/envoy.yaml");
    if std::env::var_os("TIDEGATE_UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &rendered).expect("writes");
    }
    let shipped = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        shipped == rendered,
        "envoy/envoy.yaml is out of date; run TIDEGATE_UPDATE_GOLDEN=1 cargo test -p tidegate envoy_config"
    );
}

#[test]
fn nothing_is_left_of_the_template_and_the_filter_can_read_its_part() {
    let (text, tree) = rendered("");
    assert!(!text.contains("{{") && !text.contains("}}\n"), "{text}");
    let manager = &tree["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"];
    let plugin = manager["http_filters"][0]["typed_config"]["config"]["configuration"]["value"].as_str();
    let plugin: serde_json::Value = serde_json::from_str(plugin.expect("text")).expect("JSON");
    assert_eq!(plugin["cluster"], CLUSTER);
    assert_eq!(plugin["token"], PLACEHOLDER);
    assert_eq!(tree["admin"]["address"]["socket_address"]["address"], "127.0.0.1");
}

#[test]
fn only_routes_to_the_sidecar_carry_the_secret() {
    let yaml = "server: {demo: true, upstreams: [
        {name: all, prefix: /, address: 'localhost:1'},
        {name: shop, prefix: /shop/, address: '127.0.0.1:3000'}]}";
    let (_, tree) = rendered(yaml);
    for route in routes(&tree) {
        let to_sidecar = route["route"]["cluster"] == CLUSTER;
        let has_secret = serde_norway::to_string(&route).expect("text").contains(PLACEHOLDER);
        assert_eq!(to_sidecar, has_secret, "{route:?}");
    }
    let list = routes(&tree);
    assert_eq!(list[0]["match"]["path_separated_prefix"], "/internal");
    assert_eq!(list[1]["match"]["path"], "/api/test");
    let own: Vec<_> =
        list.iter().filter_map(|r| r["route"]["cluster"].as_str()).filter(|c| *c != CLUSTER).collect();
    assert_eq!(own, ["upstream_shop", "upstream_all"], "the longest prefix comes first");
    assert_eq!(tree["static_resources"]["clusters"][1]["type"], "STRICT_DNS");
    assert_eq!(tree["static_resources"]["clusters"][2]["type"], "STATIC");
}

#[test]
fn a_server_of_models_streams_for_long_and_may_have_other_paths() {
    let yaml = "server: {upstreams: [
        {name: vllm, prefix: /v.1, rewrite: /, address: 'h:1', api: openai},
        {name: shop, prefix: /shop, rewrite: /a/, address: 'h:2'}]}";
    let (_, tree) = rendered(yaml);
    let route = |cluster: &str| {
        let list = routes(&tree);
        let found = list.iter().find(|route| route["route"]["cluster"] == cluster);
        found.expect("a route")["route"].clone()
    };
    let (vllm, shop) = (route("upstream_vllm"), route("upstream_shop"));
    assert_eq!((&vllm["timeout"], &shop["timeout"]), (&"0s".into(), &"60s".into()));
    assert_eq!(vllm["regex_rewrite"]["pattern"]["regex"], "^/v[.]1/?(.*)$");
    assert_eq!(vllm["regex_rewrite"]["substitution"], "/\\1");
    assert_eq!(shop["regex_rewrite"]["substitution"], "/a/\\1");
}

#[test]
fn an_upstream_with_a_key_sees_no_other() {
    let yaml = "server: {upstreams: [
        {name: vllm, prefix: /vllm, address: 'h:1', api: openai, api_key: 'k%\"1'},
        {name: shop, prefix: /shop, address: 'h:2'}]}";
    let (_, tree) = rendered(yaml);
    let list = routes(&tree);
    let route =
        |cluster: &str| list.iter().find(|route| route["route"]["cluster"] == cluster).expect("a route");
    let vllm = route("upstream_vllm");
    let added = &vllm["request_headers_to_add"][0];
    assert_eq!(
        (&added["header"]["key"], &added["header"]["value"]),
        (&"authorization".into(), &"Bearer k%%\"1".into())
    );
    assert_eq!(added["append_action"], "OVERWRITE_IF_EXISTS_OR_ADD");
    let removed = serde_norway::to_string(&vllm["request_headers_to_remove"]).expect("text");
    assert!(
        ["x-api-key", "api-key", "x-goog-api-key"].iter().all(|name| removed.contains(name)),
        "{removed}"
    );
    assert!(route("upstream_shop").get("request_headers_to_add").is_none());
}

#[test]
fn without_upstreams_the_rest_is_404_and_a_socket_replaces_the_port() {
    let (_, tree) = rendered("server: {sidecar_socket: '/run/t \"x\".sock', sidecar_protocol: h2c}");
    let last = routes(&tree).pop().expect("routes");
    assert_eq!(last["direct_response"]["status"], 404);
    let cluster = &tree["static_resources"]["clusters"][0];
    let endpoint = &cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"];
    assert_eq!(endpoint["address"]["pipe"]["path"], "/run/t \"x\".sock");
    assert!(cluster.get("upstream_connection_options").is_none());
}

#[test]
fn limits_follow_the_configuration() {
    let yaml = "server: {max_request_body: 2MiB}\n\
        providers: [{name: a, type: openai, base_url: 'http://h/v1', timeout: 20m}]\n\
        cache: {l1: {max_bytes: 1GiB}}";
    let (text, tree) = rendered(yaml);
    let listener = &tree["static_resources"]["listeners"][0];
    assert_eq!(listener["per_connection_buffer_limit_bytes"], 1 << 20);
    let manager = &listener["filter_chains"][0]["filters"][0]["typed_config"];
    let host = &manager["route_config"]["virtual_hosts"][0];
    assert_eq!(host["request_body_buffer_limit"], 4 << 20);
    assert!(text.contains("stream_idle_timeout: 1235s"), "{text}");
    assert!(text.contains(&format!("max_heap_size_bytes: {}", 2_u64 << 30)));
}

fn manager(tree: &Value) -> &Value {
    &tree["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
}

#[test]
fn what_is_off_is_not_there() {
    let (_, tree) = rendered("");
    for key in ["access_log", "local_reply_config"] {
        assert!(manager(&tree).get(key).is_none(), "{key}");
    }
    assert!(manager(&tree)["route_config"].get("response_headers_to_add").is_none());
    assert_eq!(manager(&tree)["http_filters"].as_sequence().map(Vec::len), Some(2));
}

#[test]
fn added_headers_are_on_what_comes_from_behind_and_on_what_is_made_here() {
    let (_, tree) = rendered("security: {headers: {x-share: '50%'}}");
    let added = &manager(&tree)["route_config"]["response_headers_to_add"];
    let local = &manager(&tree)["local_reply_config"]["mappers"][0]["headers_to_add"];
    assert_eq!(added, local);
    assert_eq!(added.as_sequence().map(Vec::len), Some(4));
    assert_eq!(added[3]["header"]["value"], "50%%", "no variable of Envoy's");
    assert_eq!(added[3]["append_action"], "ADD_IF_ABSENT");
}

#[test]
fn the_compressor_stands_outside_of_the_filter() {
    let (_, tree) = rendered("server: {compression: true}\nlogging: {access: errors}");
    let filters = &manager(&tree)["http_filters"];
    assert_eq!(filters[0]["name"], "envoy.filters.http.compressor");
    assert_eq!(filters[1]["name"], "tidegate");
    let log = &manager(&tree)["access_log"][0];
    assert!(log["filter"]["or_filter"].is_mapping(), "{log:?}");
    let (_, all) = rendered("logging: {access: true}");
    assert!(manager(&all)["access_log"][0].get("filter").is_none());
}

#[test]
fn upstreams_by_tls_are_asked_by_name_and_shown_to_be_themselves() {
    let trusted = Env::from([("SSL_CERT_FILE".to_owned(), "/proc/self/status".to_owned())]);
    let yaml = "server: {upstreams: [
        {name: a, prefix: /a, address: 'api.example.com:443', tls: true},
        {name: b, prefix: /b, address: '10.0.0.1:443', tls: true},
        {name: c, prefix: /c, address: '10.0.0.2:443', tls: {verify: false, sni: c.example}}]}";
    let config = parse(yaml, &trusted).unwrap_or_else(|problems| panic!("{problems}"));
    let text = render(&config, &Secret::new(PLACEHOLDER));
    let tree: Value = serde_norway::from_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let context = |index: usize| {
        tree["static_resources"]["clusters"][index]["transport_socket"]["typed_config"].clone()
    };
    let validation = |index| context(index)["common_tls_context"]["validation_context"].clone();
    assert_eq!(context(1)["sni"], "api.example.com");
    assert_eq!(validation(1)["trusted_ca"]["filename"], "/proc/self/status");
    assert_eq!(validation(1)["match_typed_subject_alt_names"][0]["san_type"], "DNS");
    assert_eq!(validation(1)["match_typed_subject_alt_names"][0]["matcher"]["exact"], "api.example.com");
    assert_eq!(context(2).get("sni"), None, "addresses are no names");
    assert_eq!(validation(2)["match_typed_subject_alt_names"][0]["san_type"], "IP_ADDRESS");
    assert_eq!(context(3)["sni"], "c.example");
    assert!(validation(3).is_null(), "not verified");
    let host = |prefix: &str| {
        let found = routes(&tree).into_iter().find(|route| route["match"]["path_separated_prefix"] == prefix);
        found.expect("a route")["route"]["host_rewrite_literal"].clone()
    };
    assert_eq!((host("/a"), host("/b")), ("api.example.com".into(), Value::Null));
}

#[test]
fn spans_go_to_the_collector_and_callers_decide_before_the_share_does() {
    let yaml = "tracing: {otlp_endpoint: 'http://otel:4318', sampling: 0.0125, service_name: gw}";
    let (text, tree) = rendered(yaml);
    let tracer = &manager(&tree)["tracing"]["provider"]["typed_config"];
    assert_eq!(tracer["http_service"]["http_uri"]["uri"], "http://otel:4318/v1/traces");
    assert_eq!(tracer["service_name"], "gw");
    let wrapped = &tracer["sampler"]["typed_config"]["wrapped_sampler"]["typed_config"];
    assert_eq!(wrapped["sampling_percentage"]["numerator"], 12_500, "of a million: {text}");
    let clusters = tree["static_resources"]["clusters"].as_sequence().expect("clusters");
    assert_eq!(clusters.last().map(|last| last["name"].clone()), Some(COLLECTOR.into()));
    assert!(manager(&rendered("").1).get("tracing").is_none());
}

#[tokio::test]
async fn a_listener_by_tls_names_its_files_and_its_redirect() {
    let folder = tempfile::tempdir().expect("folder");
    let made = tidegate_e2e::harness::Certificates::make(folder.path()).await.expect("openssl");
    let (cert, key, state) = (made.cert.display(), made.key.display(), folder.path().display());
    let yaml = format!(
        "store: {{path: {state}/t.redb}}\n\
         server: {{port: 8443}}\n\
         security: {{tls: {{cert_path: {cert}, key_path: {key}, redirect_http_port: 8080}}}}"
    );
    let (_, tree) = rendered(&yaml);
    let listeners = &tree["static_resources"]["listeners"];
    let context = &listeners[0]["filter_chains"][0]["transport_socket"]["typed_config"];
    assert_eq!(context["require_client_certificate"], false);
    let common = &context["common_tls_context"];
    assert_eq!(common["tls_params"]["tls_minimum_protocol_version"], "TLSv1_2");
    let path = &common["tls_certificate_sds_secret_configs"][0]["sds_config"]["path_config_source"]["path"];
    let config = parse(&yaml, &Env::new()).unwrap_or_else(|problems| panic!("{problems}"));
    Secrets::beside(config.store.folder()).publish(&config.security.tls.expect("TLS")).expect("writes");
    let secret = std::fs::read_to_string(path.as_str().expect("text")).expect("the file that Envoy reads");
    assert!(secret.contains(&format!("certificate_chain: {{filename: \"{cert}\"}}")), "{secret}");
    let redirect = &listeners[1]["filter_chains"][0]["filters"][0]["typed_config"]["route_config"];
    assert_eq!(redirect["virtual_hosts"][0]["routes"][0]["redirect"]["port_redirect"], 8443);
    assert_eq!(tree["node"]["id"], "tidegate", "Envoy asks for certificates under a name");
}
