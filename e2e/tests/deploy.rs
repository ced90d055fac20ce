//! The manifests in `deploy/`: what of them is Envoy's configuration runs in a real Envoy with the filter and the
//! sidecar, what is the gateway's configuration is valid, and the rest names what is there.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde::Deserialize as _;
use serde_json::{Value, json};
use tidegate_core::route::SIDECAR_PREFIXES;
use tidegate_e2e::harness::{
    ADMIN_KEY, Client, Gateway, HarnessError, chat, expect_error, sidecar_binary, workspace_root,
};

const PLACEHOLDER: &str = "REPLACE_WITH_INTERNAL_TOKEN";

fn text(file: &str) -> String {
    std::fs::read_to_string(workspace_root().join("deploy").join(file))
        .unwrap_or_else(|e| panic!("{file}: {e}"))
}

fn documents(file: &str) -> Vec<Value> {
    let text = text(file);
    let all = serde_norway::Deserializer::from_str(&text);
    all.map(|document| Value::deserialize(document).unwrap_or_else(|e| panic!("{file}: {e}"))).collect()
}

/// The document of `kind` in `file`.
fn of_kind(file: &str, kind: &str) -> Value {
    let found = documents(file).into_iter().find(|document| document["kind"] == kind);
    found.unwrap_or_else(|| panic!("{file} has no {kind}"))
}

/// What the printed configuration has and every other one needs: Envoy's admin interface, the listener's address, the
/// sidecar's, the filter's file, and the token.
struct Printed {
    tree: Value,
    token: String,
}

impl Printed {
    fn read(config: &str) -> Self {
        let tree: Value = serde_norway::from_str(config).expect("YAML");
        let plugin =
            manager(&tree)["http_filters"][0]["typed_config"]["config"]["configuration"]["value"].clone();
        let plugin: Value = serde_json::from_str(plugin.as_str().expect("text")).expect("JSON");
        Self { token: plugin["token"].as_str().expect("a token").to_owned(), tree }
    }

    /// An Envoy that was given `filter`, `routes` and `cluster` by somebody else's control plane.
    fn with(&self, mut filter: Value, routes: Vec<Value>, mut cluster: Value, merged: &Value) -> String {
        let mut tree = self.tree.clone();
        let own = &mut filter["typed_config"]["config"]["vm_config"]["code"]["local"]["filename"];
        *own = manager(&tree)["http_filters"][0]["typed_config"]["config"]["vm_config"]["code"]["local"]["filename"].clone();
        cluster["type"] = json!("STATIC");
        let ends = tree["static_resources"]["clusters"][0]["load_assignment"]["endpoints"].clone();
        cluster["load_assignment"]["endpoints"] = ends;
        tree["static_resources"]["clusters"] = json!([cluster]);
        let host = json!({"name": "theirs", "domains": ["*"], "routes": routes});
        let router = json!({"name": "envoy.filters.http.router", "typed_config":
            {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}});
        let manager =
            tree["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
                .as_object_mut()
                .expect("a manager");
        let kept = ["@type", "stat_prefix"].map(|key| (key.to_owned(), manager[key].clone()));
        *manager = kept.into_iter().collect();
        manager.extend(merged.as_object().cloned().unwrap_or_default());
        manager.insert("http_filters".into(), json!([filter, router]));
        manager.insert("route_config".into(), json!({"name": "theirs", "virtual_hosts": [host]}));
        tree.to_string().replace(PLACEHOLDER, &self.token)
    }
}

fn manager(tree: &Value) -> &Value {
    &tree["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
}

/// Istio's control plane, as far as these patches go.
fn istio(config: String) -> Result<String, HarnessError> {
    let patches = of_kind("istio/envoyfilter.yaml", "EnvoyFilter")["spec"]["configPatches"].clone();
    let patches = patches.as_array().expect("patches");
    let of = |target: &str| -> Vec<Value> {
        let applied = patches.iter().filter(|patch| patch["applyTo"] == target);
        applied.map(|patch| patch["patch"]["value"].clone()).collect()
    };
    let one = |target: &str| of(target).pop().expect("a patch");
    let merged = one("NETWORK_FILTER")["typed_config"].clone();
    // Each is inserted before those that are there.
    let routes = of("HTTP_ROUTE").into_iter().rev().collect();
    Ok(Printed::read(&config).with(one("HTTP_FILTER"), routes, one("CLUSTER"), &merged))
}

/// Envoy Gateway, as far as these resources go.
fn envoy_gateway(config: String) -> Result<String, HarnessError> {
    let patch =
        of_kind("envoy-gateway/envoypatchpolicy.yaml", "EnvoyPatchPolicy")["spec"]["jsonPatches"][0].clone();
    let route = of_kind("envoy-gateway/gateway.yaml", "HTTPRoute");
    let name = |key: &str| route["metadata"][key].as_str().expect("a name").to_owned();
    let cluster = format!("httproute/{}/{}/rule/0", name("namespace"), name("name"));
    let rule = &route["spec"]["rules"][0];
    let header = &rule["filters"][0]["requestHeaderModifier"]["set"][0];
    let header = json!({"header": {"key": header["name"], "value": header["value"]}});
    let routes = rule["matches"].as_array().expect("matches").iter();
    let routes = routes.map(|of| json!({"match": {"path_separated_prefix": of["path"]["value"]},
        "route": {"cluster": cluster, "timeout": rule["timeouts"]["request"]}, "request_headers_to_add": [header]}));
    let endpoints =
        json!({"name": cluster, "connect_timeout": "1s", "load_assignment": {"cluster_name": cluster}});
    let filter = patch["operation"]["value"].clone();
    Ok(Printed::read(&config).with(filter, routes.collect(), endpoints, &Value::Null))
}

/// A client gets answers, has no way to `/internal`, and is known by its key.
async fn works(patch: fn(String) -> Result<String, HarnessError>) {
    let gateway = Gateway::builder().workers(1).patch_envoy(patch).start().await.unwrap();
    let client = Client::new();
    let answer = gateway.ask(&client, chat("through somebody else's Envoy")).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let again = gateway.ask(&client, chat("through somebody else's Envoy")).await.unwrap();
    assert_eq!(again.header("x-gateway-cache"), Some("hit"));
    assert_eq!(client.get(&gateway.url("/internal/v1/snapshot")).await.unwrap().status, 404);
    expect_error(&client.get(&gateway.url("/admin/keys")).await.unwrap(), 401, "missing_api_key");
    assert_eq!(gateway.admin().get(&gateway.url("/admin/keys")).await.unwrap().status, 200);
    let forged = Client::new().with_header("x-tidegate-identity", "{}");
    expect_error(&forged.get(&gateway.url("/admin/keys")).await.unwrap(), 401, "missing_api_key");
    for path in ["/health", "/readyz", "/dashboard/", "/openapi.json"] {
        assert_eq!(client.get(&gateway.url(path)).await.unwrap().status, 200, "{path}");
    }
}

#[tokio::test]
async fn the_filter_works_as_istio_is_told_to_run_it() {
    works(istio).await;
}

#[tokio::test]
async fn the_filter_works_as_envoy_gateway_is_told_to_run_it() {
    works(envoy_gateway).await;
}

#[test]
fn every_path_of_ours_is_routed() {
    let route = of_kind("envoy-gateway/gateway.yaml", "HTTPRoute");
    let matches = route["spec"]["rules"][0]["matches"].as_array().expect("matches").iter();
    let routed: BTreeSet<&str> = matches.filter_map(|of| of["path"]["value"].as_str()).collect();
    assert_eq!(routed, BTreeSet::from(SIDECAR_PREFIXES));
    let filter = text("istio/envoyfilter.yaml");
    let shipped = std::fs::read_to_string(workspace_root().join("envoy/envoy.yaml")).expect("is there");
    for path in SIDECAR_PREFIXES {
        assert!(shipped.contains(&format!("path_separated_prefix: {path}}}")), "{path}");
        assert!(
            filter.contains(&path[1..].replace('.', "\\\\.")),
            "{path} is not in the EnvoyFilter's expression"
        );
    }
}

/// `tidegate check`, with what the manifests' secrets and variables give.
fn check(yaml: &str) {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("gateway.yaml");
    std::fs::write(&file, yaml).expect("writes");
    let checked = Command::new(sidecar_binary().expect("built"))
        .args(["check".as_ref(), "--config".as_ref(), file.as_os_str()])
        .env_clear()
        .envs([
            ("OPENAI_API_KEY", "sk-1"),
            ("GATEWAY_ADMIN_KEY", ADMIN_KEY),
            ("REDIS_URL", "redis://redis:6379"),
        ])
        .envs([("KAFKA_BROKERS", "kafka:9092"), ("ETCD_ENDPOINTS", "etcd:2379")])
        .output()
        .expect("runs");
    let words = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(checked.status.success(), "{words}\n{yaml}");
}

#[test]
fn configurations_in_manifests_are_valid() {
    for file in ["kubernetes/configmap.yaml", "sidecar-service/sidecar.yaml"] {
        check(of_kind(file, "ConfigMap")["data"]["gateway.yaml"].as_str().expect("text"));
    }
}

/// What a manifest selects, mounts and asks for is there.
#[test]
fn manifests_name_each_other() {
    let folder = workspace_root().join("deploy/kubernetes");
    let listed = of_kind("kubernetes/kustomization.yaml", "Kustomization")["resources"].clone();
    for resource in listed.as_array().expect("resources") {
        assert!(folder.join(resource.as_str().expect("a name")).exists(), "{resource}");
    }
    let labels = json!({"app.kubernetes.io/name": "tidegate"});
    let pod = of_kind("kubernetes/deployment.yaml", "Deployment")["spec"].clone();
    assert_eq!(pod["template"]["metadata"]["labels"], labels);
    assert_eq!(pod["selector"]["matchLabels"], labels);
    assert_eq!(of_kind("kubernetes/service.yaml", "Service")["spec"]["selector"], labels);
    for (file, kind, field) in [
        ("poddisruptionbudget.yaml", "PodDisruptionBudget", "selector"),
        ("networkpolicy.yaml", "NetworkPolicy", "podSelector"),
    ] {
        assert_eq!(
            of_kind(&format!("kubernetes/{file}"), kind)["spec"][field]["matchLabels"],
            labels,
            "{file}"
        );
    }
    let policy = of_kind("kubernetes/networkpolicy.yaml", "NetworkPolicy");
    assert_eq!(policy["spec"]["ingress"], json!([{"ports": [{"protocol": "TCP", "port": 8080}]}]));
    let spec = &pod["template"]["spec"];
    let volumes: BTreeSet<&str> =
        spec["volumes"].as_array().expect("volumes").iter().filter_map(|v| v["name"].as_str()).collect();
    for container in
        ["initContainers", "containers"].iter().flat_map(|list| spec[*list].as_array().expect("containers"))
    {
        for mount in container["volumeMounts"].as_array().expect("mounts") {
            assert!(volumes.contains(mount["name"].as_str().expect("a name")), "{mount}");
        }
    }
    assert_eq!(spec["containers"][0]["readinessProbe"]["httpGet"]["path"], "/ready");
}

/// Compose files: what services wait for, mount from here and publish.
#[test]
fn compose_files_name_what_is_there() {
    for file in ["../docker-compose.yml", "compose.alone.yml"] {
        let compose: Value = serde_norway::from_str(&text(file).replace("<<: *", "merged: *")).expect("YAML");
        let services = compose["services"].as_object().expect("services");
        let volumes = compose["volumes"].as_object().expect("volumes");
        for (name, service) in services {
            for needed in service["depends_on"].as_object().into_iter().flatten() {
                let has_check = !services[needed.0]["healthcheck"].is_null();
                assert!(
                    needed.1["condition"] != "service_healthy" || has_check,
                    "{name} waits for {}",
                    needed.0
                );
            }
            for mount in service["volumes"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                let (source, _) = mount.split_once(':').expect("a source and a target");
                let is_there = match source.strip_prefix("./") {
                    Some(path) => workspace_root().join(path).exists(),
                    None => volumes.contains_key(source),
                };
                assert!(is_there, "{file}: {name} mounts {source}");
            }
            for port in service["ports"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                assert!(port.starts_with("127.0.0.1:"), "{file}: {name} publishes {port}");
            }
        }
        let versions =
            std::fs::read_to_string(workspace_root().join("scripts/versions.env")).expect("is there");
        for image in
            text(file).split("${").skip(1).filter_map(|word| word.split_once(":?")).map(|(name, _)| name)
        {
            assert!(versions.contains(&format!("\n{image}=")), "{file}: {image} has no version");
        }
    }
    assert!(Path::new(&workspace_root().join(".env.example")).exists());
}
