//! Tokens and restricted keys through a real Envoy.

use http::Method;
use serde_json::{Value, json};
use tidegate_e2e::harness::{Client, Gateway, chat, expect_error};

const PASSWORD: &str = "correct horse";
/// Argon2id of [`PASSWORD`].
const HASH: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$ezyyWf7nn6UC1No4WLeUtA$+ZmLlC/5cz7gyYZ/q8Z5SYPQJY4dKF1kY+aRCQbey38";
const CONFIG: &str = "\
providers:
  - {{openai}}
    models: [gpt-4o, gpt-4o-mini]
auth:
  jwt: {secret: 0123456789abcdef0123456789abcdef}
  users:
    - {name: alice, tenant: acme, role: operator, password_hash: '@HASH@'}
";

async fn login(gateway: &Gateway, password: &str) -> tidegate_e2e::harness::Answer {
    let body = json!({"username": "alice", "password": password}).to_string();
    Client::new().post_json(&gateway.url("/auth/login"), body).await.unwrap()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn tokens_open_what_they_should_and_guessing_is_slowed_down() {
    let config = CONFIG.replace("@HASH@", HASH);
    let gateway = Gateway::builder().config_yaml(&config).start().await.unwrap();
    let granted = login(&gateway, PASSWORD).await;
    assert_eq!(granted.status, 200, "{}", granted.text());
    let granted = granted.json();
    let alice = Client::new().with_key(&text(&granted["access_token"]));
    for _ in 0..2 {
        assert_eq!(gateway.ask(&alice, chat("hello")).await.unwrap().status, 200);
    }
    let status = alice.get(&gateway.url("/v1/admin/status")).await.unwrap();
    assert_eq!(status.status, 200, "{}", status.text());
    let forged = Client::new().with_key("eyJhbGciOiJub25lIn0.eyJpc3MiOiJ0aWRlZ2F0ZSJ9.");
    expect_error(&forged.get(&gateway.url("/v1/models")).await.unwrap(), 401, "invalid_api_key");

    let refused = loop_until_limited(&gateway).await;
    expect_error(&refused, 429, "too_many_attempts");
    assert!(refused.header("retry-after").is_some());
    assert_eq!(gateway.ask(&alice, chat("hello again")).await.unwrap().status, 200, "known callers go on");
}

async fn loop_until_limited(gateway: &Gateway) -> tidegate_e2e::harness::Answer {
    for _ in 0..20 {
        let answer = login(gateway, "wrong horse").await;
        if answer.status != 401 {
            return answer;
        }
    }
    panic!("twenty bad logins were let through");
}

#[tokio::test]
async fn a_restricted_key_is_not_served_from_the_cache_what_it_may_not_ask_for() {
    let config = CONFIG.replace("@HASH@", HASH);
    let gateway = Gateway::builder().config_yaml(&config).start().await.unwrap();
    let key = async |wanted: Value| {
        let made = gateway.admin().post_json(&gateway.url("/admin/keys"), wanted.to_string()).await.unwrap();
        assert_eq!(made.status, 201, "{}", made.text());
        (text(&made.json()["id"]), Client::new().with_key(&text(&made.json()["key"])))
    };
    let (_, free) = key(json!({"name": "free", "tenant": "acme"})).await;
    let (id, held) = key(json!({"name": "held", "tenant": "acme", "allowed_models": ["gpt-4o-mini"]})).await;
    for expected in ["miss", "hit"] {
        let answer = gateway.ask(&free, chat("the same question")).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.header("x-gateway-cache")), (200, Some(expected)));
    }
    for _ in 0..2 {
        let answer = gateway.ask(&held, chat("the same question")).await.unwrap();
        expect_error(&answer, 403, "model_not_allowed");
    }
    let url = gateway.url(&format!("/admin/keys/{id}/rotate"));
    let rotated = gateway.admin().send(&Method::POST, &url, &[], r#"{"grace_s": 60}"#).await.unwrap();
    let next = Client::new().with_key(&text(&rotated.json()["key"]));
    for client in [&held, &next] {
        assert_eq!(client.get(&gateway.url("/v1/models")).await.unwrap().status, 200, "both in the grace");
    }
    let log = gateway.admin().get(&gateway.url("/admin/audit")).await.unwrap().json();
    let entry = &log["data"][0];
    assert_eq!(entry["action"], "key_rotated");
    // For a client on its own machine, Envoy names the machine's address.
    let from = text(&entry["actor"]["from"]);
    assert!(from.parse::<std::net::IpAddr>().is_ok(), "{from}");
}
