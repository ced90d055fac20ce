//! The official clients, unchanged, through a real Envoy: on OpenAI alone what a caller meets
//! first, and on every emulated provider whatever all of them can do.

use tidegate_e2e::emulator::Emulator;
use tidegate_e2e::harness::{EMULATED, Gateway, run_official_client};

const KEY: &str = "python-key-0123456789";
const LIMITED_KEY: &str = "limited-key-0123456789";
const OPENAI: &str = "\
providers:
  - {{openai}}
    models: [gpt-4o, gpt-3.5-turbo-instruct]
limiter:
  rules:
    - {tenant: limited, rate: 1, burst: 1}
auth:
  api_keys:
    - {name: python, key: python-key-0123456789, tenant: acme}
    - {name: limited, key: limited-key-0123456789, tenant: limited}
";
/// No second attempt of the gateway's: it is the clients' turn to try again.
const REST: &str = "\
routing:
  enabled: false
auth:
  api_keys:
    - {name: caller, key: python-key-0123456789, tenant: acme}
";

#[tokio::test]
async fn pythons_openai_meets_cache_limits_and_errors() {
    let gateway = Gateway::builder().config_yaml(OPENAI).start().await.unwrap();
    run_official_client("openai_smoke.py", &[&gateway.url("/v1"), KEY, LIMITED_KEY]).await.unwrap();
}

/// Runs a script with what it needs and the models of all emulated providers.
async fn on_every_provider(script: &str, path: &str, told: bool) {
    with_gateway(script, &[], path, told).await;
}

async fn with_gateway(script: &str, first: &[&str], path: &str, told: bool) {
    let emulator = Emulator::start(0).await.unwrap();
    let providers: String = EMULATED.iter().map(|provider| provider.yaml(&emulator, "")).collect();
    let config = format!("providers:\n{providers}{REST}");
    let gateway = Gateway::builder().emulator(emulator).config_yaml(&config).start().await.unwrap();
    let (url, emulator) = (gateway.url(path), format!("http://{}", gateway.emulator.address()));
    let targets: Vec<String> = EMULATED.iter().map(|provider| provider.target()).collect();
    let mut arguments = first.to_vec();
    arguments.extend([url.as_str(), KEY]);
    arguments.extend(told.then_some(emulator.as_str()));
    arguments.extend(targets.iter().map(String::as_str));
    run_official_client(script, &arguments).await.unwrap();
}

#[tokio::test]
async fn pythons_openai_works_on_every_provider() {
    on_every_provider("openai_providers.py", "/v1", true).await;
}

#[tokio::test]
async fn pythons_anthropic_works_on_every_provider() {
    on_every_provider("anthropic_smoke.py", "", false).await;
}

#[tokio::test]
async fn nodes_openai_works_on_every_provider() {
    on_every_provider("openai_providers.cjs", "/v1", true).await;
}

#[tokio::test]
async fn nodes_anthropic_works_on_every_provider() {
    on_every_provider("anthropic_providers.cjs", "", true).await;
}

/// Golden files and live answers of all fronts of OpenAI's, in the types that the official package has
/// from the API's description.
#[tokio::test]
async fn what_openais_callers_get_fits_openais_types() {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../core/tests/golden");
    with_gateway("openai_schema.py", &[golden], "/v1", false).await;
}
