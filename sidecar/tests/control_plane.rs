//! The sidecar as Envoy, the filter and an operator meet it: over real sockets.

mod common;
mod understanding;

use std::time::Duration;

use common::{ADMIN, Sidecar, USER, exchange};
use http::{Method, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tidegate_core::event::{Counter, DURATION_BUCKETS_MS};
use tidegate_core::policy::Snapshot;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

const DEADLINE: Duration = Duration::from_secs(20);

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("folder")
}

#[tokio::test]
async fn health_is_public_and_errors_have_the_shape_of_openai() {
    let folder = folder();
    let sidecar = Sidecar::start(folder.path(), "").await;
    for path in
        ["/health", "/health/live", "/livez", "/ready", "/readyz", "/health/ready", "/health/detailed"]
    {
        let answer = sidecar.send(Method::GET, path, &[], "").await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        assert_eq!(answer.headers["x-tidegate-answered"], "1");
        let wrong = sidecar.send(Method::POST, path, &[], "").await;
        assert_eq!(wrong.status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
        assert!(wrong.headers["allow"].to_str().expect("text").contains("GET"));
        assert_eq!(wrong.code(), "method_not_allowed");
    }
    assert_eq!(sidecar.send(Method::GET, "/nothing", &[], "").await.code(), "not_found");
    assert_eq!(sidecar.send(Method::GET, "/api/test", &[], "").await.code(), "not_found", "demo is off");
    let key = [("x-api-key", USER)];
    let anthropic = sidecar.send(Method::GET, "/v1/messages", &[key[0], ("x-request-id", "r1")], "").await;
    assert_eq!(anthropic.json()["request_id"], "r1");
    assert_eq!(anthropic.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(anthropic.json()["error"]["type"], "invalid_request_error");
    assert!(sidecar.end().await);
}

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

#[tokio::test]
async fn the_dashboard_is_a_public_shell_that_runs_nothing_but_its_own() {
    let folder = folder();
    let sidecar = Sidecar::start(folder.path(), "").await;
    let page = sidecar.send(Method::GET, "/dashboard/", &[], "").await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(
        page.headers["content-security-policy"].to_str().expect("text").starts_with("default-src 'none'")
    );
    for part in ["app.js", "style.css"] {
        assert!(page.text().contains(part), "the page asks for {part}");
        let answer = sidecar.send(Method::GET, &format!("/dashboard/{part}"), &[], "").await;
        assert_eq!(
            (answer.status, &answer.headers["x-content-type-options"]),
            (StatusCode::OK, &"nosniff".parse().expect("text"))
        );
    }
    assert!(!page.text().contains("<script>") && !page.text().contains("style="), "nothing inline");
    let script = sidecar.send(Method::GET, "/dashboard/app.js", &[], "").await.text();
    assert!(!script.contains("innerHTML"), "what errors say is text");
    for path in [
        "/v1/admin/status",
        "/admin/clusters",
        "/admin/policies",
        "/v1/providers",
        "/admin/limits",
        "/admin/usage",
        "/admin/cache",
    ] {
        assert!(script.contains(path), "the page shows {path}");
        assert_eq!(sidecar.admin(Method::GET, path, "").await.status, StatusCode::OK, "{path}");
    }
    let monitored = sidecar.admin(Method::GET, "/api/v1/monitoring/health", "").await;
    assert_eq!(monitored.json()["status"], "ready");
    assert!(sidecar.end().await);
}

#[tokio::test]
async fn admin_paths_ask_for_a_role() {
    let folder = folder();
    let sidecar = Sidecar::start(folder.path(), "").await;
    for path in ["/admin/keys", "/admin/limits", "/v1/admin/status", "/metrics", "/admin/nothing"] {
        let send = |headers: &'static [(&str, &str)]| sidecar.send(Method::GET, path, headers, "");
        assert_eq!(send(&[]).await.code(), "missing_api_key", "{path}");
        assert_eq!(
            send(&[("authorization", "Bearer wrong-wrong-wrong-wrong")]).await.code(),
            "invalid_api_key"
        );
        assert_eq!(
            send(&[("authorization", "Bearer user-key-of-the-tests")]).await.code(),
            "permission_denied"
        );
        let twice = send(&[("api-key", ADMIN), ("x-api-key", ADMIN)]).await;
        assert_eq!((twice.status, twice.code().as_str()), (StatusCode::BAD_REQUEST, "duplicate_credential"));
    }
    let status = sidecar.admin(Method::GET, "/v1/admin/status", "").await;
    assert_eq!(status.status, StatusCode::OK);
    assert_eq!(status.json()["revision"].as_str().map(str::len), Some(16));
}

#[tokio::test]
async fn what_headers_say_about_the_caller_counts_only_beside_the_secret() {
    let folder = folder();
    let sidecar = Sidecar::start(folder.path(), "").await;
    let identity = ("x-tidegate-identity", "ops;k1;operator");
    let path = "/v1/admin/status";
    let wrong = "0".repeat(64);
    for proxied in [None, Some(""), Some(wrong.as_str()), Some(&sidecar.token()[..63])] {
        let mut headers = vec![identity];
        headers.extend(proxied.map(|token| ("x-tidegate-proxied", token)));
        assert_eq!(sidecar.send(Method::GET, path, &headers, "").await.code(), "missing_api_key");
    }
    let proxied = ("x-tidegate-proxied", sidecar.token());
    let believed = sidecar.send(Method::GET, path, &[identity, proxied], "").await;
    assert_eq!(believed.status, StatusCode::OK);
    let user = ("x-tidegate-identity", "demo;;user");
    assert_eq!(sidecar.send(Method::GET, path, &[user, proxied], "").await.code(), "permission_denied");
    // The role operator does not reach keys.
    let keys = sidecar.send(Method::GET, "/admin/keys", &[identity, proxied], "").await;
    assert_eq!(keys.code(), "permission_denied");
}

#[tokio::test]
async fn anonymous_callers_are_admitted_to_the_llm_api_only_if_configured() {
    let folder = folder();
    let sidecar = Sidecar::start(folder.path(), "").await;
    assert_eq!(sidecar.send(Method::GET, "/v1/models", &[], "").await.code(), "missing_api_key");
    assert!(sidecar.end().await);
    let sidecar = Sidecar::start(folder.path(), "auth: {anonymous: {enabled: true}}").await;
    assert_eq!(sidecar.send(Method::GET, "/v1/models", &[], "").await.status, StatusCode::OK);
    let wrong = [("x-api-key", "wrong-wrong-wrong-wrong")];
    assert_eq!(sidecar.send(Method::GET, "/v1/models", &wrong, "").await.code(), "invalid_api_key");
    assert_eq!(sidecar.send(Method::GET, "/v1/admin/status", &[], "").await.code(), "missing_api_key");
}

#[tokio::test]
async fn internal_paths_open_with_the_internal_secret_alone() {
    let folder = folder();
    let sidecar = Sidecar::start(folder.path(), "").await;
    for headers in [
        vec![],
        vec![("x-api-key", ADMIN)],
        vec![("x-tidegate-proxied", sidecar.token())],
        vec![("x-tidegate-internal", "wrong")],
    ] {
        let answer = sidecar.send(Method::GET, "/internal/v1/snapshot", &headers, "").await;
        assert_eq!((answer.status, answer.code().as_str()), (StatusCode::FORBIDDEN, "permission_denied"));
    }
    let bad = sidecar.internal(Method::GET, "/internal/v1/snapshot?wait_ms=soon", "").await;
    assert_eq!(bad.code(), "invalid_request");
}

#[tokio::test]
async fn a_poll_is_answered_at_once_or_by_the_next_change() {
    let folder = folder();
    let sidecar = Sidecar::start(folder.path(), "").await;
    let first = sidecar.internal(Method::GET, "/internal/v1/snapshot", "").await;
    let first = Snapshot::parse(&first.body).expect("valid");
    let path = format!("/internal/v1/snapshot?have={}&wait_ms=0", first.revision);
    assert_eq!(sidecar.internal(Method::GET, &path, "").await.status, StatusCode::NOT_MODIFIED);

    let path = format!("/internal/v1/snapshot?have={}&wait_ms=20000", first.revision);
    let poll = sidecar.internal(Method::GET, &path, "");
    let change = sidecar.admin(Method::PUT, "/admin/limits", r#"{"default_rate": 7, "burst": 9}"#);
    let (polled, changed) =
        tokio::time::timeout(DEADLINE, async { tokio::join!(poll, change) }).await.expect("woken");
    let second = Snapshot::parse(&polled.body).expect("valid");
    let tenant = second.limits.rules[1].requests.expect("a rate");
    assert!((tenant.rate - 7.0).abs() < f64::EPSILON);
    assert_eq!(tenant.burst, 9);
    assert_eq!(changed.json()["revision"], second.revision.as_str());
}

#[tokio::test]
async fn limits_changed_at_run_time_survive_a_restart_until_reset() {
    let folder = folder();
    let sidecar = Sidecar::start(folder.path(), "limiter: {default_rate: 50}").await;
    let body = r#"{"rules": [{"tenant": "acme", "rate": 3, "burst": 4}]}"#;
    assert_eq!(sidecar.admin(Method::PUT, "/admin/limits", body).await.status, StatusCode::OK);
    for (body, code, param) in [
        ("", "invalid_json", Value::Null),
        ("{", "invalid_json", Value::Null),
        ("[]", "invalid_config", Value::Null),
        (r#"{"default_rate": -1}"#, "invalid_config", json!("default_rate")),
        (r#"{"default_rate": "x"}"#, "invalid_config", json!("default_rate")),
        (r#"{"max_rate": 1}"#, "invalid_config", json!("default_rate")),
        (r#"{"rules": [{"tenant": "a b", "rate": 1}]}"#, "invalid_config", json!("rules[0].tenant")),
        (r#"{"rate": 1}"#, "invalid_config", json!("rate")),
    ] {
        let refused = sidecar.admin(Method::PUT, "/admin/limits", body).await;
        assert_eq!((refused.code().as_str(), &refused.json()["error"]["param"]), (code, &param), "{body}");
    }
    let before = sidecar.admin(Method::GET, "/admin/limits", "").await.json();
    assert!(sidecar.end().await);

    let sidecar = Sidecar::start(folder.path(), "limiter: {default_rate: 50}").await;
    let after = sidecar.admin(Method::GET, "/admin/limits", "").await.json();
    assert_eq!(before, after);
    assert_eq!(after["tenants"]["acme"], json!({"rate": 3.0, "burst": 4}));
    let reset = sidecar.admin(Method::DELETE, "/admin/limits", "").await.json();
    assert_eq!((&reset["tenants"], &reset["changed"]), (&json!({}), &json!({})));
}

#[tokio::test]
async fn a_key_works_from_its_creation_to_its_revocation() {
    let folder = folder();
    let sidecar = Sidecar::start(folder.path(), "").await;
    let made = sidecar
        .admin(Method::POST, "/admin/keys", r#"{"name": "ci", "tenant": "acme", "role": "operator"}"#)
        .await;
    assert_eq!(made.status, StatusCode::CREATED);
    let (made, first) = (made.json(), generation(&sidecar).await);
    let (id, key) = (made["id"].as_str().expect("id"), made["key"].as_str().expect("key"));
    assert!(key.starts_with("tg-") && key.len() == 46);

    let question = json!({"credential": key}).to_string();
    let verdict = sidecar.internal(Method::POST, "/internal/v1/authenticate", &question).await.json();
    assert_eq!(verdict["verdict"], "granted");
    assert_eq!(verdict["identity"], json!({"tenant": "acme", "key": id, "role": "operator"}));
    assert_eq!(verdict["generation"], first);

    let list = sidecar.admin(Method::GET, "/admin/keys", "").await;
    assert!(list.text().contains(id) && !list.text().contains(key) && !list.text().contains("sha256"));
    let path = format!("/admin/keys/{id}");
    assert_eq!(sidecar.admin(Method::DELETE, &path, "").await.status, StatusCode::NO_CONTENT);
    assert_eq!(sidecar.admin(Method::DELETE, &path, "").await.code(), "not_found");
    let verdict = sidecar.internal(Method::POST, "/internal/v1/authenticate", &question).await.json();
    assert_eq!(verdict["verdict"], "denied");
    assert!(verdict["generation"].as_u64() > first.as_u64());
    assert_eq!(generation(&sidecar).await, verdict["generation"], "the filters are told at once");
}

async fn generation(sidecar: &Sidecar) -> Value {
    let snapshot = sidecar.internal(Method::GET, "/internal/v1/snapshot", "").await.json();
    snapshot["auth"]["generation"].clone()
}

#[tokio::test]
async fn bad_wishes_for_keys_are_refused_with_the_field() {
    let folder = folder();
    let sidecar = Sidecar::start(folder.path(), "").await;
    for (body, param) in [
        (r#"{"name": "a b", "tenant": "t"}"#, "name"),
        (r#"{"name": "a", "tenant": ""}"#, "tenant"),
        (r#"{"name": "a", "tenant": "t", "role": "root"}"#, "role"),
        (r#"{"name": "a", "tenant": "t", "expires": 1}"#, "expires"),
    ] {
        let refused = sidecar.admin(Method::POST, "/admin/keys", body).await;
        assert_eq!(
            (refused.code().as_str(), &refused.json()["error"]["param"]),
            ("invalid_request", &json!(param))
        );
    }
    let configured = sidecar.admin(Method::DELETE, "/admin/keys/user", "").await;
    assert_eq!(configured.status, StatusCode::BAD_REQUEST);
    assert!(configured.text().contains("configuration file"));
    let long = format!(r#"{{"name": "{}"}}"#, "x".repeat(3 << 20));
    assert_eq!(sidecar.admin(Method::POST, "/admin/keys", &long).await.code(), "request_too_large");
}

#[tokio::test]
async fn reports_of_filters_show_up_in_metrics_and_status() {
    let folder = folder();
    let sidecar = Sidecar::start(folder.path(), "").await;
    let mut buckets = vec![0; DURATION_BUCKETS_MS.len() + 1];
    buckets[2] = 4;
    let mut report = json!({
        "vm": "0123456789abcdef", "revision": "r1", "counters": {(Counter::LimitTenant.name()): 4},
        "duration_buckets": buckets, "duration_sum_ms": 12, "breakers": [],
    });
    let events = "/internal/v1/events";
    for _ in 0..2 {
        let told = sidecar.internal(Method::POST, events, &report.to_string()).await;
        assert_eq!(told.status, StatusCode::NO_CONTENT);
    }
    let page = sidecar.admin(Method::GET, "/metrics", "").await;
    assert!(page.headers["content-type"].to_str().expect("text").starts_with("application/openmetrics-text"));
    assert!(page.text().contains(r#"gateway_rate_limit_hits_total{level="tenant"} 4"#), "{}", page.text());
    assert!(page.text().contains("gateway_request_duration_seconds_count 4"));
    assert!(page.text().contains("gateway_build_info"));
    let status = sidecar.admin(Method::GET, "/v1/admin/status", "").await.json();
    assert_eq!(status["filters"][0]["vm"], "0123456789abcdef");

    report["vm"] = json!("not a name");
    assert_eq!(sidecar.internal(Method::POST, events, &report.to_string()).await.code(), "invalid_request");
    assert_eq!(sidecar.internal(Method::POST, events, "{}").await.code(), "invalid_request");
    let endless = "x".repeat(3 << 20);
    assert_eq!(sidecar.internal(Method::POST, events, &endless).await.code(), "request_too_large");
}

#[tokio::test]
async fn a_reload_takes_over_a_good_file_and_refuses_a_bad_one() {
    let folder = folder();
    let sidecar = Sidecar::start(folder.path(), "limiter: {default_rate: 50}").await;
    let yaml = std::fs::read_to_string(&sidecar.config_path).expect("reads");
    let control = sidecar.gateway.control.clone();
    let reload = |yaml: String| {
        std::fs::write(&sidecar.config_path, yaml).expect("writes");
        let control = control.clone();
        async move { tokio::task::spawn_blocking(move || control.reload()).await.expect("finished") }
    };
    reload(yaml.replace("50", "60").replace("acme", "other")).await.expect("good");
    let limits = sidecar.admin(Method::GET, "/admin/limits", "").await.json();
    assert_eq!(limits["tenant_default"]["rate"], json!(60.0));
    let question = json!({"credential": USER}).to_string();
    let verdict = sidecar.internal(Method::POST, "/internal/v1/authenticate", &question).await.json();
    assert_eq!(verdict["identity"]["tenant"], "other");

    let refused = reload(yaml.replace("50", "fast")).await.expect_err("bad").to_string();
    assert!(refused.contains("limiter.default_rate"), "{refused}");
    let limits = sidecar.admin(Method::GET, "/admin/limits", "").await.json();
    assert_eq!(limits["tenant_default"]["rate"], json!(60.0));
    let page = sidecar.admin(Method::GET, "/metrics", "").await.text();
    assert!(page.contains(r#"gateway_config_reloads_total{result="ok"} 1"#));
    assert!(page.contains(r#"gateway_config_reloads_total{result="refused"} 1"#));
}

#[tokio::test]
async fn a_drain_finishes_what_is_in_flight_and_waits_for_no_idle_poll() {
    let folder = folder();
    let mut sidecar = Sidecar::start(folder.path(), "").await;
    let revision = sidecar.gateway.control.publisher().latest().revision.clone();
    let token = sidecar.token().to_owned();
    let mut poll = TcpStream::connect(sidecar.address).await.expect("connects");
    let head = format!(
        "GET /internal/v1/snapshot?have={revision}&wait_ms=20000 HTTP/1.1\r\nhost: x\r\nx-tidegate-internal: {token}\r\n\r\n"
    );
    poll.write_all(head.as_bytes()).await.expect("writes");

    let body = json!({"credential": USER}).to_string();
    let (half, rest) = body.split_at(5);
    let mut slow = TcpStream::connect(sidecar.address).await.expect("connects");
    let head = format!(
        "POST /internal/v1/authenticate HTTP/1.1\r\nhost: x\r\nx-tidegate-internal: {token}\r\n\
         expect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    slow.write_all(head.as_bytes()).await.expect("writes");
    // The handler asks for the body: from here on the request is in flight.
    let mut interim = [0; 25];
    slow.read_exact(&mut interim).await.expect("reads");
    assert!(interim.starts_with(b"HTTP/1.1 100"));
    slow.write_all(half.as_bytes()).await.expect("writes");

    sidecar.tell_to_stop();
    let mut answer = String::new();
    tokio::time::timeout(DEADLINE, poll.read_to_string(&mut answer)).await.expect("at once").expect("reads");
    assert!(answer.starts_with("HTTP/1.1 304"), "{answer}");
    assert!(sidecar.gateway.is_draining());

    slow.write_all(rest.as_bytes()).await.expect("writes");
    let mut answer = String::new();
    tokio::time::timeout(DEADLINE, slow.read_to_string(&mut answer)).await.expect("in time").expect("reads");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("granted"), "{answer}");
    let address = sidecar.address;
    assert!(sidecar.end().await);
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn a_drain_ends_at_its_timeout() {
    let folder = folder();
    let sidecar = Sidecar::start(folder.path(), "server: {drain_timeout: 1s}").await;
    let mut stuck = TcpStream::connect(sidecar.address).await.expect("connects");
    let head = format!(
        "POST /internal/v1/events HTTP/1.1\r\nhost: x\r\nx-tidegate-internal: {}\r\nexpect: 100-continue\r\n\
         content-length: 9\r\n\r\n",
        sidecar.token()
    );
    stuck.write_all(head.as_bytes()).await.expect("writes");
    let mut interim = [0; 25];
    stuck.read_exact(&mut interim).await.expect("reads");
    assert!(
        !tokio::time::timeout(DEADLINE, sidecar.end()).await.expect("bounded"),
        "not everything finished"
    );
}

#[tokio::test]
async fn http2_without_tls_and_a_unix_socket_serve_the_same() {
    let folder = folder();
    let socket = folder.path().join("tidegate.sock");
    let yaml = format!("server: {{sidecar_socket: '{}'}}", socket.display());
    let sidecar = Sidecar::start(folder.path(), &yaml).await;
    let h2 = Client::builder(TokioExecutor::new()).http2_only(true).build(HttpConnector::new());
    let key = [("authorization", "Bearer admin-key-of-the-tests")];
    let answer = exchange(&h2, sidecar.address, Method::GET, "/v1/admin/status", &key, "").await;
    assert_eq!(answer.status, StatusCode::OK);

    let mut stream = UnixStream::connect(&socket).await.expect("connects");
    stream.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.expect("writes");
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("reads");
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    assert!(sidecar.end().await);
    assert!(!socket.exists());
}

#[tokio::test]
async fn the_demo_fails_on_request() {
    let folder = folder();
    let sidecar = Sidecar::start(folder.path(), "server: {demo: true}").await;
    let good = sidecar.send(Method::GET, "/api/test", &[], "").await;
    assert_eq!((good.status, &good.json()["status"]), (StatusCode::OK, &json!("ok")));
    let bad = sidecar.send(Method::POST, "/api/test?simulate_error=true", &[], "{}").await;
    assert_eq!((bad.status, &bad.json()["status"]), (StatusCode::INTERNAL_SERVER_ERROR, &json!("error")));
}
