//! Logging in, tokens, keys with limits of their own, and the audit log, over real sockets.

mod common;

use common::{ADMIN, Answer, Sidecar};
use http::{Method, StatusCode};
use serde_json::{Value, json};

const PASSWORD: &str = "correct horse";

fn users(role: &str) -> String {
    let hash = tidegate::login::hash(PASSWORD).expect("hashed");
    format!(
        "auth:\n  jwt: {{secret: 0123456789abcdef0123456789abcdef}}\n  users:\n    - {{name: alice, tenant: acme, \
         role: {role}, password_hash: '{hash}'}}\n"
    )
}

async fn login(sidecar: &Sidecar, name: &str, password: &str) -> Answer {
    let body = json!({"username": name, "password": password}).to_string();
    sidecar.send(Method::POST, "/auth/login", &[], &body).await
}

async fn refresh(sidecar: &Sidecar, token: &Value) -> Answer {
    let body = json!({"refresh_token": token}).to_string();
    sidecar.send(Method::POST, "/auth/refresh", &[], &body).await
}

async fn verdict(sidecar: &Sidecar, credential: &Value, source: &str) -> Value {
    let body = json!({"credential": credential, "source": source}).to_string();
    sidecar.internal(Method::POST, "/internal/v1/authenticate", &body).await.json()
}

async fn audit(sidecar: &Sidecar) -> Vec<Value> {
    let page = sidecar.admin(Method::GET, "/admin/audit", "").await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.text());
    page.json()["data"].as_array().expect("entries").clone()
}

#[tokio::test]
async fn a_user_logs_in_and_goes_on_by_refreshing_until_a_token_is_used_twice() {
    let folder = tempfile::tempdir().expect("folder");
    let sidecar = Sidecar::start(folder.path(), &users("operator")).await;
    let first = login(&sidecar, "alice", PASSWORD).await;
    assert_eq!(first.status, StatusCode::OK, "{}", first.text());
    assert_eq!(first.headers["cache-control"], "no-store");
    let first = first.json();
    assert_eq!((&first["token_type"], &first["expires_in"]), (&json!("Bearer"), &json!(900)));
    let access = first["access_token"].as_str().expect("a token");
    let bearer = format!("Bearer {access}");
    let header = [("authorization", bearer.as_str())];
    let status = sidecar.send(Method::GET, "/v1/admin/status", &header, "").await;
    assert_eq!(status.status, StatusCode::OK, "{}", status.text());
    assert_eq!(sidecar.send(Method::GET, "/admin/audit", &header, "").await.code(), "permission_denied");

    let granted = verdict(&sidecar, &json!(access), "192.0.2.1").await;
    assert_eq!(granted["identity"], json!({"tenant": "acme", "key": "user.alice", "role": "operator"}));
    assert_eq!(granted["ttl_ms"], 300_000);
    let second = refresh(&sidecar, &first["refresh_token"]).await.json();
    assert!(second["access_token"].is_string() && second["refresh_token"] != first["refresh_token"]);

    assert_eq!(refresh(&sidecar, &first["refresh_token"]).await.code(), "invalid_refresh_token");
    assert_eq!(refresh(&sidecar, &second["refresh_token"]).await.code(), "invalid_refresh_token");
    let denied = verdict(&sidecar, &json!(access), "192.0.2.1").await;
    assert_eq!((&denied["verdict"], &denied["ttl_ms"]), (&json!("denied"), &json!(1000)));
    assert!(denied["generation"].as_u64() > granted["generation"].as_u64(), "every worker forgets");
    assert_eq!(audit(&sidecar).await[0]["action"], "session_revoked");
}

#[tokio::test]
async fn bad_logins_are_refused_alike_and_run_out() {
    let folder = tempfile::tempdir().expect("folder");
    let sidecar = Sidecar::start(folder.path(), &users("user")).await;
    for (body, code) in [
        ("{", "invalid_json"),
        (r#"{"username": "alice"}"#, "invalid_request"),
        (r#"{"username": "alice", "password": 7}"#, "invalid_request"),
    ] {
        assert_eq!(sidecar.send(Method::POST, "/auth/login", &[], body).await.code(), code, "{body}");
    }
    let wrong = login(&sidecar, "alice", "wrong horse").await;
    let nobody = login(&sidecar, "mallory", PASSWORD).await;
    assert_eq!((wrong.status, wrong.code().as_str()), (StatusCode::UNAUTHORIZED, "invalid_credentials"));
    assert_eq!(wrong.body, nobody.body, "nothing tells who exists");
    assert_eq!(refresh(&sidecar, &json!("tgr-x.y")).await.code(), "invalid_refresh_token");
    let mut refused = login(&sidecar, "alice", "wrong horse").await;
    for _ in 0..20 {
        if refused.status != StatusCode::UNAUTHORIZED {
            break;
        }
        refused = login(&sidecar, "alice", "wrong horse").await;
    }
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (StatusCode::TOO_MANY_REQUESTS, "too_many_attempts")
    );
    assert!(refused.headers.contains_key("retry-after") && refused.headers.contains_key("retry-after-ms"));
    assert_eq!(
        login(&sidecar, "alice", PASSWORD).await.code(),
        "too_many_attempts",
        "even with the password"
    );
}

#[tokio::test]
async fn who_is_taken_out_of_the_file_is_out_at_the_reload() {
    let folder = tempfile::tempdir().expect("folder");
    let mut sidecar = Sidecar::start(folder.path(), &users("user")).await;
    let granted = login(&sidecar, "alice", PASSWORD).await.json();
    let token = granted["access_token"].clone();
    let before = verdict(&sidecar, &token, "192.0.2.1").await;
    assert_eq!(before["verdict"], "granted");
    let yaml = std::fs::read_to_string(&sidecar.config_path).expect("reads");
    std::fs::write(&sidecar.config_path, yaml.replace("name: alice", "name: bob")).expect("writes");
    let control = sidecar.gateway.control.clone();
    tokio::task::spawn_blocking(move || control.reload()).await.expect("finished").expect("reloaded");
    let after = verdict(&sidecar, &token, "192.0.2.1").await;
    assert_eq!(after["verdict"], "denied");
    assert!(after["generation"].as_u64() > before["generation"].as_u64());
    assert_eq!(refresh(&sidecar, &granted["refresh_token"]).await.code(), "invalid_refresh_token");
    sidecar.tell_to_stop();
    assert!(sidecar.end().await);
}

#[tokio::test]
async fn without_users_nobody_logs_in() {
    let folder = tempfile::tempdir().expect("folder");
    let sidecar = Sidecar::start(folder.path(), "").await;
    assert_eq!(login(&sidecar, "alice", PASSWORD).await.code(), "not_found");
    assert_eq!(refresh(&sidecar, &json!("x")).await.code(), "not_found");
}

#[tokio::test]
async fn a_guesser_is_slowed_down_and_its_neighbours_are_not() {
    let folder = tempfile::tempdir().expect("folder");
    let sidecar = Sidecar::start(folder.path(), "").await;
    let mut last = json!({});
    for guess in 0..200 {
        last = verdict(&sidecar, &json!(format!("guess-number-{guess:04}")), "192.0.2.66").await;
        if last["verdict"] == "limited" {
            break;
        }
    }
    assert!(last["retry_after_ms"].as_u64().is_some_and(|ms| (1..=200).contains(&ms)), "{last}");
    assert_eq!(verdict(&sidecar, &json!(common::USER), "192.0.2.67").await["verdict"], "granted");
    for _ in 0..300 {
        assert_eq!(verdict(&sidecar, &json!(common::USER), "192.0.2.68").await["verdict"], "granted");
    }
}

#[tokio::test]
async fn a_key_is_held_to_its_models_its_end_and_its_rotation() {
    let folder = tempfile::tempdir().expect("folder");
    let yaml = "providers: [{name: p, type: openai, base_url: 'http://127.0.0.1:9', models: [a, b]}]";
    let sidecar = Sidecar::start(folder.path(), yaml).await;
    let wanted = r#"{"name": "ci", "tenant": "acme", "allowed_models": ["a"], "expires_at": 4000000000}"#;
    let made = sidecar.admin(Method::POST, "/admin/keys", wanted).await.json();
    let (id, key) = (made["id"].as_str().expect("id"), made["key"].as_str().expect("key"));
    let header = [("x-api-key", key)];
    let ask =
        |model: &str| json!({"model": model, "messages": [{"role": "user", "content": "x"}]}).to_string();
    let path = "/v1/chat/completions";
    let refused = sidecar.send(Method::POST, path, &header, &ask("b")).await;
    assert_eq!((refused.status, refused.code().as_str()), (StatusCode::FORBIDDEN, "model_not_allowed"));
    let messages = r#"{"model": "b", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]}"#;
    for path in ["/v1/messages", "/v1/messages/count_tokens"] {
        let refused = sidecar.send(Method::POST, path, &header, messages).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{path}: {}", refused.text());
        assert_eq!(refused.json()["error"]["type"], "permission_error");
    }
    let passed = sidecar.send(Method::POST, path, &header, &ask("a")).await;
    assert_eq!(passed.code(), "upstream_unreachable");
    let models = sidecar.send(Method::GET, "/v1/models", &header, "").await.json();
    assert_eq!((models["data"].as_array().map(Vec::len), &models["data"][0]["id"]), (Some(1), &json!("a")));
    assert_eq!(sidecar.send(Method::GET, "/v1/models/b", &header, "").await.code(), "model_not_found");
    let scope = verdict(&sidecar, &json!(key), "::1").await["identity"]["scope"].clone();
    assert_eq!(scope.as_str().map(str::len), Some(32));

    let list = sidecar.admin(Method::GET, "/admin/keys", "").await.json();
    let keys = list["data"].as_array().expect("keys");
    let shown = keys.iter().find(|k| k["id"] == id).expect("listed");
    assert!(shown["last_used_ms"].is_u64() && shown["expires_at"] == 4_000_000_000_u64, "{shown}");
    for (field, wanted) in [
        ("expires_at", r#"{"name": "a", "tenant": "t", "expires_at": 1}"#),
        ("expires_at", r#"{"name": "a", "tenant": "t", "expires_at": "soon"}"#),
        ("allowed_models", r#"{"name": "a", "tenant": "t", "allowed_models": []}"#),
        ("allowed_models", r#"{"name": "a", "tenant": "t", "allowed_models": [""]}"#),
    ] {
        let refused = sidecar.admin(Method::POST, "/admin/keys", wanted).await;
        assert_eq!(refused.code(), "invalid_request");
        assert_eq!(refused.json()["error"]["param"], field);
    }
    rotation(&sidecar, id, key).await;
}

async fn rotation(sidecar: &Sidecar, id: &str, key: &str) {
    let path = format!("/admin/keys/{id}/rotate");
    let rotated = sidecar.admin(Method::POST, &path, r#"{"grace_s": 60}"#).await.json();
    assert!(rotated["previous_until_ms"].is_u64(), "{rotated}");
    let next = rotated["key"].clone();
    let old = verdict(sidecar, &json!(key), "::1").await;
    assert!(old["verdict"] == "granted" && old["ttl_ms"].as_u64().is_some_and(|ms| ms <= 60_000), "{old}");
    assert_eq!(verdict(sidecar, &next, "::1").await["verdict"], "granted");
    assert_eq!(sidecar.admin(Method::POST, &path, r#"{"grace_s": 0}"#).await.status, StatusCode::OK);
    assert_eq!(verdict(sidecar, &next, "::1").await["verdict"], "denied");
    let long = sidecar.admin(Method::POST, &path, r#"{"grace_s": 99999999}"#).await;
    assert_eq!(long.json()["error"]["param"], "grace_s");
    assert_eq!(sidecar.admin(Method::POST, "/admin/keys/nobody/rotate", "").await.code(), "not_found");
}

#[tokio::test]
async fn every_act_is_in_the_audit_log_with_who_and_from_where() {
    let folder = tempfile::tempdir().expect("folder");
    let sidecar = Sidecar::start(folder.path(), "").await;
    let token = sidecar.token().to_owned();
    let headers = [
        ("x-api-key", ADMIN),
        ("x-tidegate-proxied", token.as_str()),
        ("x-forwarded-for", "10.0.0.1, 192.0.2.7"),
    ];
    let wanted = r#"{"name": "ci", "tenant": "acme"}"#;
    let made = sidecar.send(Method::POST, "/admin/keys", &headers, wanted).await.json();
    let (id, key) = (made["id"].as_str().expect("id"), made["key"].as_str().expect("key"));
    sidecar.admin(Method::PUT, "/admin/limits", r#"{"default_rate": 7}"#).await;
    sidecar.admin(Method::PUT, "/admin/limits", r#"{"default_rate": -7}"#).await;
    sidecar.admin(Method::DELETE, "/admin/limits", "").await;
    sidecar.admin(Method::DELETE, &format!("/admin/keys/{id}"), "").await;
    let control = sidecar.gateway.control.clone();
    tokio::task::spawn_blocking(move || control.reload()).await.expect("finished").expect("reloaded");

    let entries = audit(&sidecar).await;
    let actions: Vec<_> = entries.iter().map(|e| e["action"].as_str().unwrap_or_default()).collect();
    assert_eq!(actions, ["config_reloaded", "key_revoked", "limits_reset", "limits_changed", "key_created"]);
    let (first, changed) = (&entries[4], &entries[3]);
    assert_eq!(first["actor"]["from"], "192.0.2.7");
    assert_eq!(
        (&first["actor"]["key"], &first["actor"]["role"]),
        (&json!("gateway_admin_key"), &json!("admin"))
    );
    assert_eq!((&first["before"], &first["after"]["tenant"]), (&Value::Null, &json!("acme")));
    assert_eq!((&changed["before"], &changed["after"]["default_rate"]), (&json!({}), &json!(7.0)));
    let text = serde_json::to_string(&entries).expect("JSON");
    assert!(!text.contains(key) && !text.contains("sha256"));

    let verdict = sidecar.admin(Method::GET, "/admin/audit/verify", "").await.json();
    assert_eq!(
        (&verdict["ok"], &verdict["entries"], &verdict["head"]),
        (&json!(true), &json!(5), &entries[0]["hash"])
    );
    let page = sidecar.admin(Method::GET, "/admin/audit?limit=1&before=3", "").await.json();
    assert_eq!(page["data"][0]["seq"], 2);
    for query in ["limit=0", "limit=1001", "limit=x", "after=1"] {
        let refused = sidecar.admin(Method::GET, &format!("/admin/audit?{query}"), "").await;
        assert_eq!(refused.code(), "invalid_request", "{query}");
    }
}
