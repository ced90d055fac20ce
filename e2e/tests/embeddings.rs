//! The embedding model inside the sidecar, through a real Envoy.

use serde_json::{Value, json};
use tidegate_e2e::harness::{
    Client, Gateway, GatewayBuilder, embedding_files, expect_error, run_official_client,
};

const MODEL: &str = "all-MiniLM-L6-v2";
const KEY: &str = "python-key-0123456789";
/// Continues the section `auth` of the default configuration.
const KEYS: &str = "  api_keys:\n    - {name: python, key: python-key-0123456789, tenant: acme}\n";

/// A gateway with the embedding model of this checkout.
fn with_model() -> GatewayBuilder {
    let files = embedding_files().unwrap();
    Gateway::builder().env("TIDEGATE_MODELS", files.models).env("ORT_DYLIB_PATH", files.library)
}

async fn state(gateway: &Gateway) -> Value {
    let health = Client::new().get(&gateway.url("/health/detailed")).await.unwrap();
    health.json()["components"]["embedding"]["state"].clone()
}

#[tokio::test]
async fn embeddings_are_served_to_the_official_client_and_by_both_paths() {
    let gateway = with_model().add_config(KEYS).start().await.unwrap();
    assert_eq!(state(&gateway).await, "ready");
    run_official_client("openai_embeddings.py", &[&gateway.url("/v1"), KEY, MODEL]).await.unwrap();

    let body = json!({"model": MODEL, "input": ["one", "two"]}).to_string();
    let client = Client::new();
    let local = client.post_json(&gateway.url("/local/embeddings"), body.clone()).await.unwrap();
    assert_eq!(local.status, 200, "{}", local.text());
    assert_eq!(local.header("x-gateway-provider"), Some("local"));
    assert_eq!(local.header("x-gateway-model"), Some(MODEL));
    assert_eq!(local.json()["data"][1]["embedding"].as_array().unwrap().len(), 384);
    let again = client.post_json(&gateway.url("/local/embeddings"), body).await.unwrap();
    assert_eq!(again.header("x-gateway-cache"), Some("hit"), "the exact cache keeps embeddings too");
    assert_eq!(again.body, local.body);

    // A provider's models are still the provider's.
    let body = json!({"model": "gpt-4o", "input": "x"}).to_string();
    let elsewhere = client.post_json(&gateway.url("/local/embeddings"), body).await.unwrap();
    expect_error(&elsewhere, 404, "model_not_found");
    let long = json!({"model": MODEL, "input": ["x", "word ".repeat(600)]}).to_string();
    let refused = client.post_json(&gateway.url("/v1/embeddings"), long).await.unwrap();
    expect_error(&refused, 400, "context_length_exceeded");
    assert!(refused.text().contains("Input 1"), "{}", refused.text());
}

#[tokio::test]
async fn a_gateway_without_its_model_starts_and_says_so() {
    let gateway = with_model().env("TIDEGATE_MODELS", "/nowhere").start().await.unwrap();
    assert_eq!(state(&gateway).await, "unavailable");
    let body = json!({"model": MODEL, "input": "x"}).to_string();
    let refused = Client::new().post_json(&gateway.url("/v1/embeddings"), body).await.unwrap();
    expect_error(&refused, 503, "no_provider_available");
    assert!(!refused.text().contains("/nowhere"), "paths are the operator's business");
    let models = Client::new().get(&gateway.url("/v1/models")).await.unwrap();
    assert!(!models.text().contains(MODEL), "{}", models.text());
}
