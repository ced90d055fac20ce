//! Which provider answers, through a real Envoy: strategies, chains, keys, and providers that fail.

use serde_json::json;
use tidegate_e2e::emulator::{Emulator, Fault, FaultMatch};
use tidegate_e2e::harness::{
    Answer, Client, Gateway, chat, chat_with, expect_error, stream, streamed_content,
};

/// Three providers of one model, each an emulator of its own.
const CONFIG: &str = "\
providers:
  - {name: a, type: openai, base_url: \"{{emulator}}\", api_keys: [sk-a-one-0123456789, sk-a-two-0123456789], models: [gpt-4o, gpt-4o-mini]}
  - {name: b, type: openai, base_url: \"{{b}}\", api_key: sk-b-0123456789, models: [gpt-4o]}
  - {name: c, type: openai, base_url: \"{{c}}\", api_key: sk-c-0123456789, models: [gpt-4o]}
auth:
  anonymous:
    enabled: true
breaker:
  failure_threshold: 100000
cache:
  l1: {enabled: false}
routing:
  slow_start: 0s
  retries: {base: 1ms, max: 50ms}
";

struct Setup {
    gateway: Gateway,
    others: [Emulator; 2],
    client: Client,
}

impl Setup {
    async fn new(routing: &str) -> Self {
        Self::of(&format!("{CONFIG}{routing}")).await
    }

    async fn of(config: &str) -> Self {
        let others = [Emulator::start(0).await.unwrap(), Emulator::start(0).await.unwrap()];
        let config = config.replace("{{b}}", &others[0].base_url()).replace("{{c}}", &others[1].base_url());
        let gateway = Gateway::builder().config_yaml(&config).start().await.unwrap();
        Self { gateway, others, client: Client::new() }
    }

    async fn ask(&self, body: String) -> Answer {
        self.gateway.ask(&self.client, body).await.unwrap()
    }

    /// Who answers so many requests.
    async fn answered_by(&self, requests: usize) -> [usize; 3] {
        let mut counts = [0; 3];
        for i in 0..requests {
            let answer = self.ask(chat(&format!("who {i}"))).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            let place = ["a", "b", "c"].iter().position(|name| provider(&answer) == *name);
            counts[place.unwrap()] += 1;
        }
        counts
    }
}

fn provider(answer: &Answer) -> &str {
    answer.header("x-gateway-provider").unwrap_or_default()
}

fn refusing(status: u16) -> Fault {
    Fault { status: Some(status), ..Fault::default() }
}

#[tokio::test]
async fn strategies_share_as_they_say() {
    let setup = Setup::new("  strategy: round_robin\n").await;
    assert_eq!(setup.answered_by(30).await, [10, 10, 10]);

    let admin = setup.gateway.admin();
    let url = setup.gateway.url("/v1/routing/config");
    let put = async |body: serde_json::Value| {
        admin.send(&http::Method::PUT, &url, &[], body.to_string()).await.unwrap()
    };
    let changed = put(json!({"strategy": "consistent_hash", "enabled": true})).await;
    assert_eq!((changed.status.as_u16(), &changed.json()["strategy"]), (200, &json!("consistent_hash")));
    for session in ["alice", "bob", "carol"] {
        let client = Client::new().with_header("x-session-id", session);
        let mut homes = std::collections::BTreeSet::new();
        for i in 0..5 {
            let answer = setup.gateway.ask(&client, chat(&format!("{session} {i}"))).await.unwrap();
            homes.insert(provider(&answer).to_owned());
        }
        assert_eq!(homes.len(), 1, "{session} moved: {homes:?}");
    }
    expect_error(&put(json!({"strategy": "fastest"})).await, 400, "invalid_config");
    expect_error(&put(json!({"allow_link_local": true})).await, 400, "invalid_config");
    let off = put(json!({"enabled": false})).await;
    assert_eq!(off.json()["strategy"], "consistent_hash", "what is left out stays");
    assert_eq!(setup.answered_by(6).await, [6, 0, 0]);
}

#[tokio::test]
async fn one_of_three_providers_goes_down_and_nobody_notices() {
    let setup = Setup::new("  strategy: round_robin\n").await;
    setup.others[0].arm(Fault { reset: true, ..Fault::default() }).unwrap();
    setup.others[1].arm(Fault { error_in_stream_after_chunks: Some(0), ..Fault::default() }).unwrap();
    for i in 0..30 {
        let prompt = format!("still there {i}?");
        let answer = setup.ask(stream(&prompt)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(streamed_content(&answer), format!("You said: {prompt}"));
        assert_eq!(provider(&answer), "a");
    }
    let stats = setup.gateway.admin().get(&setup.gateway.url("/v1/routing/stats")).await.unwrap().json();
    assert_eq!(stats["providers"]["b"]["status"], "unhealthy", "{stats}");
    assert!(
        stats["providers"]["b"]["failures"].as_u64() < Some(10),
        "it was soon not asked any more: {stats}"
    );
}

/// A model that is ill is left alone; its sister at the same provider is asked as before, whether the
/// provider says that the trouble is the model's or only fails.
#[tokio::test]
async fn a_model_that_is_ill_does_not_take_its_sister_along() {
    let sisters = CONFIG.replace("models: [gpt-4o]}", "models: [gpt-4o, gpt-4o-mini]}");
    for (status, message) in [(503, "The model is overloaded."), (500, "The server had an error.")] {
        let setup = Setup::of(&format!("{sisters}  strategy: round_robin\n")).await;
        let matches = FaultMatch { model: Some("gpt-4o".to_owned()), ..FaultMatch::default() };
        let error = json!({"error": {"message": message, "type": "server_error", "code": null}});
        setup.gateway.emulator.arm(Fault { body: Some(error), matches, ..refusing(status) }).unwrap();
        let [a, b, c] = setup.answered_by(30).await;
        assert_eq!((a, b + c), (0, 30));
        let url = setup.gateway.url("/v1/routing/stats");
        let shown = setup.gateway.admin().get(&url).await.unwrap().json();
        let failures = shown["providers"]["a"]["failures"].as_u64();
        assert!(failures < Some(10), "the model was soon not asked any more: {shown}");
        assert_eq!(
            (&shown["providers"]["a"]["status"], &shown["providers"]["a"]["unhealthy_models"]),
            (&json!("healthy"), &json!(["gpt-4o"]))
        );
        let mut by_a = 0;
        for i in 0..30 {
            let answer = setup.ask(chat_with("gpt-4o-mini", &format!("sister {i}"))).await;
            assert_eq!(answer.header("x-gateway-attempts"), Some("1"), "{}", answer.text());
            by_a += u32::from(provider(&answer) == "a");
        }
        assert_eq!(by_a, 10, "its turn comes as often as the others'");
    }
}

#[tokio::test]
async fn a_chain_goes_from_provider_to_provider_and_from_model_to_model() {
    let setup = Setup::new("  aliases: {smart: [b/gpt-4o, a:gpt-4o-mini]}\n").await;
    let answer = setup.ask(chat_with("smart", "one")).await;
    assert_eq!((provider(&answer), answer.header("x-gateway-model")), ("b", Some("gpt-4o")));
    setup.others[0].arm(refusing(503)).unwrap();
    let answer = setup.ask(chat_with("smart", "two")).await;
    assert_eq!((provider(&answer), answer.header("x-gateway-model")), ("a", Some("gpt-4o-mini")));
    assert_eq!(answer.header("x-gateway-attempts"), Some("2"));
    assert_eq!(answer.json()["model"], "gpt-4o-mini");
}

#[tokio::test]
async fn keys_rest_as_long_as_the_provider_says() {
    let setup = Setup::new("").await;
    let headers = [("retry-after".to_owned(), "120".to_owned())].into();
    let matches = FaultMatch { model: Some("gpt-4o-mini".to_owned()), ..FaultMatch::default() };
    setup.gateway.emulator.arm(Fault { times: Some(1), headers, matches, ..refusing(429) }).unwrap();
    for (prompt, attempts) in [("one", "2"), ("two", "1"), ("three", "1")] {
        let answer = setup.ask(chat_with("gpt-4o-mini", prompt)).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("x-gateway-attempts")),
            (200, Some(attempts)),
            "{}",
            answer.text()
        );
    }
    let shown = setup.gateway.admin().get(&setup.gateway.url("/v1/providers/a")).await.unwrap().json();
    assert_eq!(
        (&shown["rate_limit"]["keys"], &shown["rate_limit"]["keys_resting"]),
        (&json!(2), &json!(1)),
        "{shown}"
    );
}
