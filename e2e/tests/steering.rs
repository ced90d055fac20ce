//! Incidents of providers that callers never see, because somebody else answers: they are found all
//! the same, and the provider or the key at fault is passed by until it is well.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate_e2e::emulator::{Emulator, Fault, FaultMatch};
use tidegate_e2e::harness::{Answer, Client, Gateway, chat_with};

const DEADLINE: Duration = Duration::from_secs(60);
/// Requests in a row that tell a policy from chance.
const IN_A_ROW: usize = 20;

/// Two providers of one model, in turn; what the router knows of failures by itself is kept out of it.
const CONFIG: &str = "\
providers:
  - {name: a, type: openai, base_url: \"{{emulator}}\", api_keys: [sk-a-one-0123456789, sk-a-two-0123456789], models: [gpt-4o, gpt-4o-mini]}
  - {name: b, type: openai, base_url: \"{{b}}\", api_key: sk-b-0123456789, models: [gpt-4o]}
auth:
  api_keys:
    - {name: acme, key: sk-key-of-acme-0123456789, tenant: acme}
    - {name: beta, key: sk-key-of-beta-0123456789, tenant: beta}
breaker: {recovery_timeout: 2s, recovery_increment: 0.5}
cache:
  l1: {enabled: false}
routing:
  strategy: round_robin
  slow_start: 0s
  retries: {base: 1ms, max: 50ms}
  outlier: {failures: 100000}
";

struct World {
    gateway: Gateway,
    _b: Emulator,
    clients: [Client; 2],
    asked: usize,
}

impl World {
    async fn start(extra: &str) -> Self {
        let b = Emulator::start(0).await.unwrap();
        let config = CONFIG.replace("{{b}}", &b.base_url()) + extra;
        let gateway = Gateway::builder().config_yaml(&config).workers(2).start().await.unwrap();
        let client = |tenant: &str| Client::new().with_key(&format!("sk-key-of-{tenant}-0123456789"));
        Self { gateway, _b: b, clients: ["acme", "beta"].map(client), asked: 0 }
    }

    /// The next question, by one tenant after the other. It is always answered.
    async fn ask(&mut self, model: &str) -> Answer {
        self.asked += 1;
        let body = chat_with(model, &format!("question {}", self.asked));
        let answer = self.gateway.ask(&self.clients[self.asked % 2], body).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("x-tidegate-provider-key"), None, "that is between sidecar and filter");
        answer
    }

    fn arm(&self, matches: FaultMatch) {
        let body = json!({"error": {
            "message": "The engine is currently overloaded, please try again later",
            "type": "server_error", "param": null, "code": "overloaded",
        }});
        self.gateway
            .emulator
            .arm(Fault { status: Some(503), body: Some(body), matches, ..Fault::default() })
            .unwrap();
    }

    async fn policies(&self) -> Value {
        self.gateway.admin().get(&self.gateway.url("/admin/policies")).await.unwrap().json()
    }

    /// Asks until so many answers in a row are what is wanted.
    async fn until(&mut self, what: &str, wanted: impl Fn(&Answer) -> bool) {
        let (mut in_a_row, end) = (0, Instant::now() + DEADLINE);
        while in_a_row < IN_A_ROW {
            assert!(Instant::now() < end, "never {what}: {}", self.policies().await);
            let answer = self.ask("gpt-4o").await;
            in_a_row = if wanted(&answer) { in_a_row + 1 } else { 0 };
        }
    }

    async fn until_well(&mut self) {
        let end = Instant::now() + DEADLINE;
        while self.policies().await["data"] != json!([]) {
            assert!(Instant::now() < end, "the policy never ends: {}", self.policies().await);
            self.ask("gpt-4o").await;
        }
    }
}

fn provider(answer: &Answer) -> &str {
    answer.header("x-gateway-provider").unwrap_or_default()
}

fn is_at_once(answer: &Answer) -> bool {
    answer.header("x-gateway-attempts") == Some("1")
}

#[tokio::test]
async fn a_rule_that_routes_away_has_the_router_pass_a_provider_by() {
    let rules = "policy: {rules: [{name: away, kinds: [overloaded], action: route_away}]}\n";
    let mut world = World::start(rules).await;
    world.arm(FaultMatch { model: Some("gpt-4o".to_owned()), ..FaultMatch::default() });
    world.until("passed by", |answer| provider(answer) == "b" && is_at_once(answer)).await;
    let policies = world.policies().await;
    let policy = &policies["data"][0];
    assert_eq!(
        (&policy["action"], &policy["scope"]["provider"]),
        (&json!("route_away"), &json!("a")),
        "{policies}"
    );
    let other = world.ask("gpt-4o-mini").await;
    assert_eq!(provider(&other), "a", "nobody else has it, and nothing is refused");

    world.gateway.emulator.disarm_all();
    world.until_well().await;
    let providers =
        [provider(&world.ask("gpt-4o").await).to_owned(), provider(&world.ask("gpt-4o").await).to_owned()];
    assert!(providers.contains(&"a".to_owned()), "{providers:?}");
}

#[tokio::test]
async fn a_key_that_fails_is_found_by_failures_nobody_sees_and_passed_by() {
    let mut world = World::start("").await;
    world.arm(FaultMatch { key: Some("a-two-0123456789".to_owned()), ..FaultMatch::default() });
    world.until("passed by", is_at_once).await;
    let policies = world.policies().await;
    let policy = &policies["data"][0];
    assert_eq!(policy["scope"]["provider_key"], "a#2", "{policies}");
    assert!(
        policy["sentence"].as_str().is_some_and(|text| text.contains("nothing is refused")),
        "{policies}"
    );
    let providers =
        [provider(&world.ask("gpt-4o").await).to_owned(), provider(&world.ask("gpt-4o").await).to_owned()];
    assert!(providers.contains(&"a".to_owned()), "its other key goes on: {providers:?}");

    world.gateway.emulator.disarm_all();
    world.until_well().await;
}
