//! Incidents through a real Envoy: what fails is understood, the slice that explains it is refused,
//! nobody else notices, and it comes back by itself.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate_e2e::emulator::{Fault, FaultMatch};
use tidegate_e2e::harness::{Answer, Client, Gateway, KafkaBroker, chat_with, eventually, expect_error};

const DEADLINE: Duration = Duration::from_secs(30);
/// How long a consumer may take to find its topic and its group, on a busy machine.
const BUS_DEADLINE: Duration = Duration::from_secs(60);
/// Rounds after which something must have happened.
const ROUNDS_MAX: usize = 400;
/// Failures that a cluster has had when it would have been acted on.
const FAILURES_ENOUGH: u64 = 60;
const TENANTS: [&str; 3] = ["acme", "beta", "core"];
const MODELS: [&str; 2] = ["gpt-4o", "gpt-4o-mini"];

const CONFIG: &str = "\
providers:
  - {{openai}}
    models: [gpt-4o, gpt-4o-mini]
breaker:
  recovery_timeout: 2s
  recovery_increment: 0.5
auth:
  api_keys:
    - {name: acme, key: sk-key-of-acme-0123456789, tenant: acme}
    - {name: beta, key: sk-key-of-beta-0123456789, tenant: beta}
    - {name: core, key: sk-key-of-core-0123456789, tenant: core}
";

struct World {
    gateway: Gateway,
    clients: BTreeMap<&'static str, Client>,
    asked: usize,
}

impl World {
    async fn start(extra: &str) -> Self {
        let config = format!("{CONFIG}{extra}");
        let gateway = Gateway::builder().config_yaml(&config).workers(2).start().await.unwrap();
        let client = |tenant| (tenant, Client::new().with_key(&format!("sk-key-of-{tenant}-0123456789")));
        Self { gateway, clients: TENANTS.map(client).into(), asked: 0 }
    }

    /// A question that was never asked before, and tells the emulator whose it is.
    async fn ask(&mut self, tenant: &str, model: &str) -> Answer {
        self.asked += 1;
        let body = chat_with(model, &format!("tenant={tenant} question {}", self.asked));
        self.gateway.ask(&self.clients[tenant], body).await.unwrap()
    }

    /// Everyone asks every model once.
    async fn round(&mut self) -> Vec<(&'static str, &'static str, Answer)> {
        let mut answers = Vec::new();
        for tenant in TENANTS {
            for model in MODELS {
                answers.push((tenant, model, self.ask(tenant, model).await));
            }
        }
        answers
    }

    /// Rounds until `slice` is refused by a policy; all that is outside of it must succeed all the
    /// while.
    async fn until_refused(&mut self, slice: impl Fn(&str, &str) -> bool) -> Answer {
        let (mut rounds, end) = (0, Instant::now() + DEADLINE);
        while rounds < ROUNDS_MAX || Instant::now() < end {
            rounds += 1;
            for (tenant, model, answer) in self.round().await {
                if !slice(tenant, model) {
                    assert_eq!(answer.status, 200, "a bystander, {tenant} {model}: {}", answer.text());
                } else if answer.header("x-gateway-policy").is_some() {
                    return answer;
                }
            }
        }
        panic!("never refused; {}", self.policies().await);
    }

    fn arm(&self, status: u16, error: Value, matches: FaultMatch) {
        let body = Some(json!({ "error": error }));
        self.gateway.emulator.arm(Fault { status: Some(status), body, matches, ..Fault::default() }).unwrap();
    }

    async fn policies(&self) -> Value {
        self.gateway.admin().get(&self.gateway.url("/admin/policies")).await.unwrap().json()
    }

    /// The events of a cluster's timeline, in their order.
    async fn told(&self, cluster: &str) -> Vec<String> {
        let url = self.gateway.url(&format!("/admin/clusters/{cluster}/timeline"));
        let page = self.gateway.admin().get(&url).await.unwrap().json();
        let moments = page["data"].as_array().into_iter().flatten();
        moments.filter_map(|moment| moment["event"].as_str().map(str::to_owned)).collect()
    }

    /// Rounds until all is well and no policy is left.
    async fn until_recovered(&mut self) {
        let (mut rounds, end) = (0, Instant::now() + DEADLINE);
        while rounds < ROUNDS_MAX || Instant::now() < end {
            rounds += 1;
            let answers = self.round().await;
            if answers.iter().all(|(_, _, answer)| answer.status == 200)
                && self.policies().await["data"].as_array().is_some_and(Vec::is_empty)
            {
                return;
            }
        }
        panic!("it never recovered: {}", self.policies().await);
    }

    async fn bus_is(&self, state: &str) {
        eventually(&format!("the bus is {state}"), DEADLINE, || async {
            let answer = self.gateway.admin().get(&self.gateway.url("/health/detailed")).await.ok()?;
            (answer.json()["components"]["bus"]["state"] == state).then_some(())
        })
        .await
        .unwrap();
    }

    /// Batches that the sidecar has taken from Kafka.
    async fn taken(&self) -> u64 {
        let page = self.gateway.admin().get(&self.gateway.url("/metrics")).await.unwrap().text();
        let line = page.lines().find(|line| line.starts_with("gateway_bus_messages_total{result=\"taken\"}"));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
    }

    /// Requests until the sidecar hears of them over Kafka.
    async fn until_more_is_taken_from_the_bus(&mut self) {
        let (before, end) = (self.taken().await, Instant::now() + BUS_DEADLINE);
        while self.taken().await <= before {
            assert!(Instant::now() < end, "nothing comes over the bus");
            for (tenant, model, answer) in self.round().await {
                assert_eq!(answer.status, 200, "{tenant} {model}: {}", answer.text());
            }
        }
    }

    /// Errors that the clusters have had, all together.
    async fn failures_understood(&self) -> u64 {
        let clusters = self.gateway.admin().get(&self.gateway.url("/admin/clusters")).await.unwrap().json();
        let members = clusters["data"].as_array().into_iter().flatten().filter_map(|c| c["members"].as_u64());
        members.sum()
    }

    async fn until_no_policy(&self) {
        eventually("the policy has ended", DEADLINE, || async {
            self.policies().await["data"].as_array().is_some_and(Vec::is_empty).then_some(())
        })
        .await
        .unwrap();
    }
}

fn quota() -> Value {
    json!({
        "message": "You exceeded your current quota, please check your plan and billing details.",
        "type": "insufficient_quota", "param": null, "code": "insufficient_quota",
    })
}

fn of_tenant(tenant: &str) -> FaultMatch {
    FaultMatch { contains: Some(format!("tenant={tenant}")), ..FaultMatch::default() }
}

#[tokio::test]
async fn a_tenant_out_of_quota_is_refused_alone_and_comes_back() {
    let mut world = World::start("").await;
    for _ in 0..5 {
        assert!(world.round().await.iter().all(|(_, _, answer)| answer.status == 200));
    }
    let known = chat_with("gpt-4o", "tenant=acme known");
    assert_eq!(world.gateway.ask(&world.clients["acme"], known.clone()).await.unwrap().status, 200);

    world.arm(429, quota(), of_tenant("acme"));
    let refused = world.until_refused(|tenant, _| tenant == "acme").await;
    assert_eq!((refused.status.as_u16(), &refused.json()["error"]["code"]), (503, &json!("circuit_open")));
    assert!(refused.header("retry-after-ms").is_some());
    assert_eq!(refused.header("x-should-retry"), Some("false"), "nothing comes of it until somebody pays");
    let text = refused.text();
    assert!(text.contains("tenant=acme") && text.contains("quota"), "{text}");

    let policies = world.policies().await;
    let policy = &policies["data"][0];
    // Its one key is the same slice, and may be named beside it where the window saw nobody else yet.
    let scope = policy["scope"].as_object().unwrap();
    assert!(scope.contains_key("tenant") && scope.values().all(|value| value == "acme"), "{policies}");
    assert_eq!(policy["id"].as_str(), refused.header("x-gateway-policy"));
    assert_eq!(policy["cluster_id"].as_str(), refused.header("x-gateway-cluster"));
    assert_eq!((&policy["kind"], &policy["action"]), (&json!("quota"), &json!("break")));
    assert!(policy["precision"].as_f64() > Some(0.85) && policy["recall"].as_f64() > Some(0.9), "{policy}");
    let hit = world.gateway.ask(&world.clients["acme"], known).await.unwrap();
    assert_eq!((hit.status.as_u16(), hit.header("x-gateway-cache")), (200, Some("hit")), "still served");

    world.gateway.emulator.disarm_all();
    world.until_recovered().await;
    let told = world.told(refused.header("x-gateway-cluster").unwrap()).await;
    for event in ["first_seen", "attributed", "policy_made", "policy_state", "policy_ended"] {
        assert!(told.iter().any(|known| known == event), "{event} is not told: {told:?}");
    }
}

#[tokio::test]
async fn an_overloaded_model_is_refused_for_everyone_and_other_models_for_nobody() {
    // The breaker of routes and models is kept out of it.
    let mut world = World::start("").await;
    let overloaded = json!({
        "message": "The engine is currently overloaded, please try again later",
        "type": "server_error", "param": null, "code": "overloaded",
    });
    let matches = FaultMatch { model: Some("gpt-4o".to_owned()), ..FaultMatch::default() };
    world.arm(429, overloaded, matches);
    let refused = world.until_refused(|_, model| model == "gpt-4o").await;
    assert!(refused.text().contains("model=gpt-4o"), "{}", refused.text());
    let other = world.ask("beta", "gpt-4o-mini").await;
    assert_eq!(other.status, 200, "{}", other.text());
}

#[tokio::test]
async fn what_a_caller_did_wrong_breaks_nothing() {
    let mut world = World::start("").await;
    let too_long = json!({
        "message": "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens.",
        "type": "invalid_request_error", "param": "messages", "code": "context_length_exceeded",
    });
    world.arm(400, too_long, of_tenant("acme"));
    let due = Instant::now() + DEADLINE;
    while world.failures_understood().await < FAILURES_ENOUGH {
        assert!(Instant::now() < due, "its failures are never understood");
        for (tenant, _, answer) in world.round().await {
            assert_eq!(answer.status, if tenant == "acme" { 400 } else { 200 }, "{}", answer.text());
        }
    }
    assert_eq!(world.policies().await["data"], json!([]));
}

#[tokio::test]
async fn in_shadow_mode_everything_is_shown_and_nothing_refused() {
    let mut world = World::start("policy: {mode: shadow}\n").await;
    world.arm(429, quota(), of_tenant("acme"));
    let due = Instant::now() + DEADLINE;
    while Instant::now() < due {
        for (tenant, _, answer) in world.round().await {
            assert_eq!(answer.status, if tenant == "acme" { 429 } else { 200 }, "{}", answer.text());
        }
        let policies = world.policies().await;
        if policies["data"][0]["refused"].as_u64() > Some(0) {
            assert_eq!(policies["data"][0]["mode"], "shadow");
            return;
        }
    }
    panic!("nothing was shown");
}

#[tokio::test]
async fn operators_close_a_slice_and_open_it_again() {
    let mut world = World::start("").await;
    let admin = world.gateway.admin();
    let url = world.gateway.url("/admin/policies/maintenance");
    let edit = r#"{"scope": {"tenant": "acme", "model": "gpt-4o"}, "action": "break", "sentence": "Closed until noon."}"#;
    let put = http::Method::PUT;
    let made = admin.send(&put, &url, &[], edit).await.unwrap();
    assert_eq!(made.status, 200, "{}", made.text());
    let refused = world.until_refused(|tenant, model| (tenant, model) == ("acme", "gpt-4o")).await;
    assert!(refused.text().contains("Closed until noon."), "{}", refused.text());
    let broad = admin.send(&put, &url, &[], r#"{"scope": {}}"#).await.unwrap();
    expect_error(&broad, 400, "invalid_config");
    let gone = admin.send(&http::Method::DELETE, &url, &[], "").await.unwrap();
    assert_eq!(gone.status, 204);
    world.until_no_policy().await;
    let due = Instant::now() + DEADLINE;
    while world.ask("acme", "gpt-4o").await.status != 200 {
        assert!(Instant::now() < due, "it stays closed");
    }
}

#[tokio::test]
async fn incidents_are_learnt_over_kafka_and_its_loss_is_nobodys_problem() {
    let mut broker = KafkaBroker::start().await.unwrap();
    let bus = format!("bus: {{type: kafka}}\nkafka: {{brokers: [\"{}\"]}}\n", broker.address());
    let mut world = World::start(&bus).await;
    world.until_more_is_taken_from_the_bus().await;
    world.arm(429, quota(), of_tenant("acme"));
    world.until_refused(|tenant, _| tenant == "acme").await;
    world.gateway.emulator.disarm_all();
    world.until_recovered().await;

    // Without Kafka nothing new is learnt, and nobody notices.
    broker.kill().unwrap();
    world.bus_is("down").await;
    assert!(world.round().await.iter().all(|(_, _, answer)| answer.status == 200));
}
