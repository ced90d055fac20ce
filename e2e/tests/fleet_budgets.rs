//! Money over several gateways: a budget holds for all of them, through a real Redis.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tidegate_e2e::harness::{Client, Gateway, RedisServer, eventually};

const DEADLINE: Duration = Duration::from_secs(30);
const KEY: &str = "one-key-0123456789";
/// A question of about 800 tokens, which the emulated provider says again, costs 0.03 dollars.
const CONFIG: &str = "\
providers:
  - {{openai}}
    models: [gpt-4o]
    price: {input: 10, output: 30}
cache:
  l1: {enabled: false}
auth:
  anonymous: {enabled: true}
  api_keys:
    - {name: one, key: one-key-0123456789, tenant: acme}
redis: {url: '@REDIS@', timeout: 1s, connect_timeout: 1s}
limiter:
  budgets:
    - {tenant: acme, usd_per_month: 0.1}
";

async fn gateway(redis: &RedisServer) -> Gateway {
    let config = CONFIG.replace("@REDIS@", &redis.url());
    Gateway::builder().config_yaml(&config).workers(1).start().await.unwrap()
}

/// Asks until the budget refuses; how many were answered.
async fn spend_all(gateway: &Gateway) -> u64 {
    let client = Client::new().with_key(KEY);
    for answered in 0..20 {
        let words = "river ".repeat(800);
        let question = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": words}]});
        let answer = gateway.ask(&client, question.to_string()).await.unwrap();
        if answer.status == 429 {
            assert_eq!(answer.json()["error"]["code"], "budget_exceeded", "{}", answer.text());
            return answered;
        }
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    panic!("twenty questions did not spend the budget");
}

async fn usage(gateway: &Gateway) -> Value {
    gateway.admin().get(&gateway.url("/admin/usage")).await.unwrap().json()
}

async fn simulated(gateway: &Gateway) -> Value {
    let json = [("content-type", "application/json")];
    let url = gateway.url("/admin/limits/simulate");
    let request = r#"{"tenant": "acme", "model": "gpt-4o"}"#;
    gateway.admin().send(&Method::POST, &url, &json, request).await.unwrap().json()
}

async fn until_fleet(gateway: &Gateway, state: &str, requests: u64) -> Value {
    eventually(&format!("the fleet is {state} with {requests} requests"), DEADLINE, || async {
        let shown = usage(gateway).await;
        let fleet = &shown["fleet"];
        (fleet["state"] == state && fleet["total"]["requests"] == requests).then_some(shown)
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn what_one_gateway_spends_counts_at_the_other_with_redis_and_without() {
    let mut redis = RedisServer::start().await.unwrap();
    let (one, other) = (gateway(&redis).await, gateway(&redis).await);
    let answered = spend_all(&one).await;
    assert!((2..=6).contains(&answered), "{answered}");

    let shown = until_fleet(&other, "heard", answered).await;
    assert_eq!((&shown["total"]["requests"], &shown["fleet"]["gateways"]), (&json!(0), &json!(1)));
    assert_eq!(shown["fleet"]["tenants"][0]["tenant"], "acme");
    assert_eq!(spend_all(&other).await, 0, "nothing is left for the other");
    let budget = simulated(&other).await["budget"].take();
    assert_eq!((&budget["exceeded"], &budget["spent_here_usd"]), (&json!(true), &json!(0.0)), "{budget}");
    assert_eq!(budget["spent_usd"], shown["fleet"]["total"]["cost_usd"]);

    // Redis is lost, with all that it knew: what was known holds, and comes back.
    redis.kill().unwrap();
    until_fleet(&other, "alone", answered).await;
    assert_eq!(spend_all(&other).await, 0);
    redis.restart().await.unwrap();
    until_fleet(&other, "heard", answered).await;
    let newcomer = gateway(&redis).await;
    until_fleet(&newcomer, "heard", answered).await;
    assert_eq!(spend_all(&newcomer).await, 0);
}
