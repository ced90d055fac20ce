//! Providers that come and go while the gateway runs.

use http::Method;
use serde_json::{Value, json};
use tidegate_e2e::emulator::{Emulator, Fault};
use tidegate_e2e::harness::{Answer, Client, Gateway, chat_with, eventually, expect_error, stream_of};

const DEADLINE: std::time::Duration = std::time::Duration::from_secs(20);
const SECRET: &str = "sk-plugged-in-0123456789";

const CONFIG: &str = "\
providers:
  - {{openai}}
    models: [gpt-4o]
auth: {anonymous: {enabled: true, tenant: demo}}
";

struct Setup {
    gateway: Gateway,
    admin: Client,
    plugged: Emulator,
}

impl Setup {
    async fn new() -> Self {
        let gateway = Gateway::builder().config_yaml(CONFIG).start().await.unwrap();
        let admin = gateway.admin();
        Self { gateway, admin, plugged: Emulator::start(0).await.unwrap() }
    }

    async fn call(&self, method: Method, path: &str, body: Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.admin.send(&method, &self.gateway.url(path), &[], body).await.unwrap()
    }

    fn new_one(&self) -> Value {
        json!({
            "name": "openai-prod", "type": "openai", "base_url": self.plugged.base_url(),
            "api_key": SECRET, "weight": 10, "enabled": true, "models": ["gpt-4o-mini"]
        })
    }

    async fn ask(&self, prompt: &str) -> Answer {
        self.gateway.ask(&Client::new(), chat_with("gpt-4o-mini", prompt)).await.unwrap()
    }
}

#[tokio::test]
async fn a_provider_is_added_used_changed_and_removed() {
    let mut setup = Setup::new().await;
    expect_error(&setup.ask("nobody yet").await, 404, "model_not_found");

    let added = setup.call(Method::POST, "/v1/providers/?validate=true", setup.new_one()).await;
    assert_eq!(added.status, 201, "{}", added.text());
    assert_eq!((&added.json()["name"], &added.json()["api_key"]), (&json!("openai-prod"), &json!("***")));
    let answer = setup.ask("hello").await;
    assert_eq!((answer.status.as_u16(), answer.header("x-gateway-provider")), (200, Some("openai-prod")));
    expect_error(&setup.call(Method::POST, "/v1/providers/", setup.new_one()).await, 409, "conflict");

    it_is_shown_without_its_key(&setup).await;
    it_survives_a_restart(&mut setup).await;

    let changed = setup.call(Method::PUT, "/v1/providers/openai-prod", json!({"enabled": false})).await;
    assert_eq!((changed.status.as_u16(), &changed.json()["weight"]), (200, &json!(10)), "{}", changed.text());
    expect_error(&setup.ask("switched off").await, 503, "no_provider_available");
    let mut shown = setup.call(Method::GET, "/v1/providers/openai-prod", Value::Null).await.json();
    shown["enabled"] = true.into();
    let changed = setup.call(Method::PUT, "/v1/providers/openai-prod", shown).await;
    assert_eq!(changed.status, 200, "what was read can be sent back: {}", changed.text());
    assert_eq!(setup.ask("switched on").await.status, 200, "a hidden key sent back is no new key");

    a_stream_outlives_its_provider(&setup).await;
    expect_error(&setup.ask("removed").await, 404, "model_not_found");
    let gone = setup.call(Method::DELETE, "/v1/providers/openai-prod", Value::Null).await;
    expect_error(&gone, 404, "not_found");
    let audit = setup.call(Method::GET, "/admin/audit", Value::Null).await.text();
    assert!(
        audit.contains("provider_added") && audit.contains("provider_removed") && !audit.contains(SECRET)
    );
}

async fn it_is_shown_without_its_key(setup: &Setup) {
    for path in
        ["/v1/providers", "/v1/providers/", "/v1/providers/openai-prod", "/v1/routing/stats", "/metrics"]
    {
        let answer = setup.call(Method::GET, path, Value::Null).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        assert!(!answer.text().contains(SECRET), "{path} shows the key");
        assert!(answer.text().contains("openai-prod"), "{path}: {}", answer.text());
    }
    let health = setup.call(Method::GET, "/v1/providers/openai-prod/health", Value::Null).await.json();
    assert_eq!((&health["healthy"], &health["status"]), (&json!(true), &json!("healthy")), "{health}");
    let models = setup.call(Method::GET, "/v1/providers/openai-prod/models", Value::Null).await.json();
    assert_eq!(models["data"][0]["id"], "gpt-4o-mini");
    let body: Value = serde_json::from_str(&chat_with("gpt-4o-mini", "how much?")).unwrap();
    let cost = setup.call(Method::POST, "/v1/providers/openai-prod/estimate", body).await.json();
    assert!(cost["prompt_tokens"].as_u64() > Some(0) && cost["cost"].is_null(), "no price is known: {cost}");
}

async fn it_survives_a_restart(setup: &mut Setup) {
    setup.gateway.stop_sidecar_gracefully().await.unwrap();
    setup.gateway.restart_sidecar().unwrap();
    setup.gateway.wait_until_ready().await.unwrap();
    assert_eq!(setup.ask("after a restart").await.status, 200);
}

async fn a_stream_outlives_its_provider(setup: &Setup) {
    setup.plugged.arm(Fault { stall_after_chunks: Some(3), times: Some(1), ..Fault::default() }).unwrap();
    let mut answer =
        setup.gateway.open_chat(&Client::new(), stream_of("gpt-4o-mini", "to the end")).await.unwrap();
    assert!(answer.next_chunk().await.unwrap().is_some());
    let removed = setup.call(Method::DELETE, "/v1/providers/openai-prod", Value::Null).await;
    assert_eq!(removed.status, 204, "{}", removed.text());
    setup.plugged.release_stalled();
    let whole = answer.finish().await.unwrap();
    assert!(whole.text().contains("[DONE]"), "{}", whole.text());
}

#[tokio::test]
async fn what_is_wrong_is_refused_and_named() {
    let setup = Setup::new().await;
    let nobody =
        json!({"name": "x", "type": "openai", "base_url": "http://127.0.0.1:1/v1", "api_key": "sk-x"});
    for (body, param) in [
        (json!({"type": "openai"}), "name"),
        (json!({"name": "x", "type": "opnai", "base_url": "http://h/v1"}), "type"),
        (json!({"name": "x y", "type": "openai", "base_url": "http://h/v1"}), "name"),
        (json!({"name": "x", "type": "openai", "base_url": "ftp://h/v1"}), "base_url"),
        (json!({"name": "x", "type": "openai", "base_url": "http://169.254.169.254/latest"}), "base_url"),
        (
            json!({"name": "x", "type": "openai", "base_url": "http://h/v1", "api_key": "${GATEWAY_ADMIN_KEY}"}),
            "api_key",
        ),
        (json!({"name": "x", "type": "openai", "base_url": "http://h/v1", "color": "red"}), "color"),
        (json!({"name": "x", "type": "local", "model_path": "/etc/passwd"}), "type"),
    ] {
        let answer = setup.call(Method::POST, "/v1/providers/", body.clone()).await;
        expect_error(&answer, 400, "invalid_config");
        assert_eq!(answer.json()["error"]["param"], param, "{body}: {}", answer.text());
    }
    let failed = setup.call(Method::POST, "/v1/providers/?validate=true", nobody.clone()).await;
    expect_error(&failed, 400, "invalid_config");
    assert!(failed.text().contains("test call"), "{}", failed.text());
    assert_eq!(
        setup.call(Method::POST, "/v1/providers/", nobody).await.status,
        201,
        "without one it is taken"
    );
    let health = setup.call(Method::GET, "/v1/providers/x/health", Value::Null).await.json();
    assert_eq!((&health["healthy"], &health["status"]), (&json!(false), &json!("unhealthy")), "{health}");
    let stranger = Client::new().get(&setup.gateway.url("/v1/providers/")).await.unwrap();
    assert_eq!(stranger.status, 401, "operators only: {}", stranger.text());
}

#[tokio::test]
async fn a_reload_of_the_file_is_laid_under_what_was_set_at_run_time() {
    let setup = Setup::new().await;
    setup.call(Method::POST, "/v1/providers/", setup.new_one()).await;
    let changed = setup.call(Method::PUT, "/v1/providers/openai", json!({"weight": 7})).await;
    assert_eq!(
        (changed.status.as_u16(), &changed.json()["origin"]),
        (200, &json!("file_changed")),
        "{}",
        changed.text()
    );
    let file = "providers:
  - {{openai}}
    models: [gpt-4o, o4]
auth: {anonymous: {enabled: true, tenant: demo}}
";
    setup.gateway.reload_sidecar(file).unwrap();
    eventually("the new file is in force", DEADLINE, || async {
        let shown = setup.call(Method::GET, "/v1/providers/openai", Value::Null).await.json();
        (shown["models"] == json!(["gpt-4o", "o4"]) && shown["weight"] == 7).then_some(())
    })
    .await
    .unwrap();
    assert_eq!(setup.ask("still plugged in").await.status, 200);
}
