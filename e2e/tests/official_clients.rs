//! The official clients, unchanged, through a real Envoy: on OpenAI alone what a caller meets
//! first, and on every emulated provider whatever all of them can do.

use std::time::Duration;

use tidegate_e2e::emulator::{Emulator, Fault, FaultMatch, Outcome};
use tidegate_e2e::harness::{EMULATED, Gateway, eventually, run_official_client};

/// Longest that a provider waits to see its callers leave.
const DEADLINE: Duration = Duration::from_secs(20);
/// How long the provider takes where clients are to lose patience.
const MINUTE_MS: u64 = 60_000;

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
/// No second attempt of the gateway's: it is the clients' turn to try again. What fails here fails on
/// purpose, and is no incident.
const REST: &str = "\
routing:
  enabled: false
policy: {mode: shadow}
breaker: {failure_threshold: 100000}
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

async fn before_all_providers() -> Gateway {
    let emulator = Emulator::start(0).await.unwrap();
    let providers: String = EMULATED.iter().map(|provider| provider.yaml(&emulator, "")).collect();
    let config = format!("providers:\n{providers}{REST}");
    Gateway::builder().emulator(emulator).config_yaml(&config).start().await.unwrap()
}

async fn with_gateway(script: &str, first: &[&str], path: &str, told: bool) {
    let gateway = before_all_providers().await;
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

/// Golden files and live answers of all fronts of OpenAI's, against OpenAI's description of its API and
/// the types that the official package has from it.
#[tokio::test]
async fn what_openais_callers_get_is_as_openai_describes_it() {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../core/tests/golden");
    with_gateway("openai_schema.py", &[golden], "/v1", false).await;
}

/// A client that waits no longer, and one that had told the gateway how long it would.
#[tokio::test]
async fn answers_that_are_late_are_timeouts_to_every_client_and_end_the_providers_call() {
    let gateway = before_all_providers().await;
    let matches = FaultMatch { contains: Some("take your time".to_owned()), ..FaultMatch::default() };
    let late = Fault { first_chunk_delay_ms: Some(MINUTE_MS), matches, ..Fault::default() };
    gateway.emulator.arm(late).unwrap();
    let url = gateway.url("");
    let models = ["openai", "anthropic", "bedrock"];
    let of = |name| EMULATED.iter().find(|provider| provider.name == name).unwrap().target();
    let targets = models.map(of);
    let mut arguments = vec![url.as_str(), KEY];
    arguments.extend(targets.iter().map(String::as_str));
    for script in ["timeouts.py", "timeouts.cjs"] {
        run_official_client(script, &arguments).await.unwrap();
    }
    eventually("all calls end", DEADLINE, || async {
        let asked = gateway.emulator.requests();
        let late = asked.iter().filter(|request| request.body.contains("take your time"));
        let outcomes: Vec<_> = late.map(|request| request.outcome).collect();
        // Two scripts, two clients, whole and streamed, two kinds of patience.
        let all = outcomes.len() == 16 * models.len();
        (all && outcomes.iter().all(|outcome| *outcome == Outcome::ClientLeft)).then_some(())
    })
    .await
    .unwrap();
}
