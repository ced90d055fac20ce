//! LLM-Bridge's form of a request.

use super::gateway::Gateway;
use super::provider::TestProvider;

#[tokio::test]
async fn its_provider_is_pinned_and_its_parameters_are_lifted() {
    let provider = TestProvider::answering(200, "", "{}").await;
    let gateway = Gateway::before(&provider).await;
    let body = r#"{"provider":"p","model":"m","messages":[{"role":"user","content":"hi"}],
        "parameters":{"temperature":0.7,"max_tokens":100}}"#;
    let got = gateway.chat(body).await;
    assert_eq!((got.status.as_u16(), got.headers["x-gateway-provider"].as_bytes()), (200, &b"p"[..]));
    let sent = String::from_utf8(provider.requests()[0].body.clone()).expect("utf-8");
    assert_eq!(
        sent,
        r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"temperature":0.7,"max_tokens":100}"#
    );
}
