//! What the gateway says of itself: its OpenAPI document and its metrics.

use std::net::SocketAddr;

use http::{Method, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::json;

use super::common::{Sidecar, exchange};
use super::folder;

#[tokio::test]
async fn what_the_openapi_document_names_is_there() {
    let folder = folder();
    let sidecar = Sidecar::start(folder.path(), "").await;
    let document = sidecar.send(Method::GET, "/openapi.json", &[], "").await.json();
    let paths = document["paths"].as_object().expect("paths");
    assert!(paths.len() > 40);
    for (path, operations) in paths {
        // A method that no path has, so that nothing is done.
        let asked = path.replace(['{', '}'], "x");
        let answer = sidecar.admin(Method::PATCH, &asked, "").await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
        let allowed = answer.headers["allow"].to_str().expect("text").to_lowercase();
        for method in operations.as_object().expect("operations").keys() {
            assert!(allowed.split(',').any(|a| a.trim() == method), "{method} {path}: {allowed}");
        }
    }
    assert!(sidecar.end().await);
}

/// Words between backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

#[tokio::test]
async fn bodies_have_the_fields_that_the_openapi_document_names() {
    let folder = folder();
    let hash = tidegate::login::hash("a password of the tests").expect("hashes");
    let users = format!("[{{name: alice, tenant: acme, password_hash: '{hash}'}}]");
    let yaml = format!("auth: {{jwt: {{secret: 0123456789abcdef0123456789abcdef}}, users: {users}}}\n");
    let sidecar = Sidecar::start(folder.path(), &yaml).await;
    let document = sidecar.send(Method::GET, "/openapi.json", &[], "").await.json();
    let mut compared = 0;
    for (path, operations) in document["paths"].as_object().expect("paths") {
        for (method, operation) in operations.as_object().expect("operations") {
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            if schema["additionalProperties"] != json!(false) {
                continue;
            }
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).expect("a method");
            let asked = path.replace(['{', '}'], "");
            let message = sidecar.admin(method, &asked, r#"{"no_such_field": 1}"#).await.json();
            let message = message["error"]["message"].as_str().expect("a refusal").to_owned();
            let (_, known) = message
                .split_once("unknown field `no_such_field`")
                .unwrap_or_else(|| panic!("{path}: {message}"));
            let mut known = quoted(known);
            known.sort_unstable();
            let named: Vec<&String> = schema["properties"].as_object().expect("fields").keys().collect();
            assert_eq!(named, known, "{path}");
            compared += 1;
        }
    }
    assert!(compared >= 8, "{compared}");
    assert!(sidecar.end().await);
}

#[tokio::test]
async fn a_metrics_port_takes_nothing_from_those_with_a_key_and_without_metrics_there_is_no_page() {
    let folder = folder();
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let port = free.local_addr().expect("address").port();
    drop(free);
    let yaml = format!("metrics: {{port: {port}, path: /stats}}\n");
    let sidecar = Sidecar::start(folder.path(), &yaml).await;
    for path in ["/metrics", "/api/v1/monitoring/metrics"] {
        let page = sidecar.admin(Method::GET, path, "").await.text();
        for name in [
            "process_cpu_seconds_total ",
            "process_resident_memory_bytes ",
            "process_open_fds ",
            "process_max_fds ",
            "process_start_time_seconds ",
        ] {
            let value = page.lines().find_map(|line| line.strip_prefix(name)).expect(name);
            assert!(value.parse::<f64>().is_ok_and(|value| value >= 0.0), "{name}{value}");
        }
        assert_eq!(sidecar.send(Method::GET, path, &[], "").await.code(), "missing_api_key");
    }
    let own = SocketAddr::from(([127, 0, 0, 1], port));
    let client = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
    let page = exchange(&client, own, Method::GET, "/stats", &[], "").await;
    assert!(page.text().contains("process_resident_memory_bytes"), "without a key there");
    assert!(sidecar.end().await);

    let sidecar = Sidecar::start(folder.path(), "metrics: {enabled: false}\n").await;
    for path in ["/metrics", "/api/v1/monitoring/metrics"] {
        assert_eq!(sidecar.admin(Method::GET, path, "").await.code(), "not_found");
    }
}
