//! Tenants that share one limit, through real Envoys. Bounds are loose, because the machine is busy
//! with other tests; `tidegate-bench --fairness` has the figures.

use std::time::{Duration, Instant};

use serde_json::json;
use tidegate_e2e::harness::{Caller, Client, Fleet, Gateway, RedisServer, crowd, eventually, expect_error};

const DEADLINE: Duration = Duration::from_secs(10);
const RATE: u32 = 60;
const GREEDY: &str = "greedy-key-0123456789";
const ONE: &str = "one-key-0123456789";
const TWO: &str = "two-key-0123456789";
/// Until the burst is used up and everybody has come.
const WARM_UP: Duration = Duration::from_secs(3);
const PHASE: Duration = Duration::from_secs(6);

const CONFIG: &str = "\
providers:
  - {{openai}}
    models: [gpt-4o]
auth:
  anonymous: {enabled: true}
  api_keys:
    - {name: greedy, key: greedy-key-0123456789, tenant: greedy}
    - {name: one, key: one-key-0123456789, tenant: one}
    - {name: two, key: two-key-0123456789, tenant: two}
limiter:
  weights: {two: 2}
  rules:
";

fn config(rule: &str) -> String {
    format!("{CONFIG}    - {{route: models, {rule}}}\n")
}

fn callers(per_second: [f64; 3]) -> [Caller<'static>; 3] {
    let [greedy, one, two] = per_second;
    [(GREEDY, greedy), (ONE, one), (TWO, two)].map(|(key, per_second)| Caller { key, per_second })
}

/// A greedy tenant with twenty times its share beside two that stay below theirs; then all of
/// them want more than there is.
async fn assert_fair(urls: &[String], gateways: f64) {
    let modest = callers([300.0, 9.0, 24.0]);
    crowd(urls, &modest, WARM_UP).await;
    let tallies = crowd(urls, &modest, PHASE).await;
    println!("modest: {tallies:?}");
    let [greedy, one, two] = tallies.as_slice() else { panic!("three callers") };
    assert!(tallies.iter().all(|tally| tally.failed == 0), "{tallies:?}");
    for tally in [one, two] {
        assert!(tally.admitted * 100 >= (tally.admitted + tally.refused) * 85, "{tallies:?}");
    }
    let all: u64 = tallies.iter().map(|tally| tally.admitted).sum();
    let most = f64::from(RATE) * (PHASE.as_secs_f64() + 1.0 + gateways / 10.0) * 1.1;
    assert!(all as f64 <= most, "{all} of {most}");
    assert!(greedy.admitted as f64 >= 27.0 * PHASE.as_secs_f64() * 0.7, "what the others leave: {tallies:?}");

    let greedy = callers([300.0, 60.0, 120.0]);
    crowd(urls, &greedy, WARM_UP).await;
    let tallies = crowd(urls, &greedy, PHASE).await;
    println!("greedy: {tallies:?}");
    let [greedy, one, two] = tallies.as_slice() else { panic!("three callers") };
    let share = |admitted: u64, parts: f64| admitted as f64 / parts;
    let shares = [share(greedy.admitted, 1.0), share(one.admitted, 1.0), share(two.admitted, 2.0)];
    let (least, most) =
        shares.iter().fold((f64::MAX, 0.0_f64), |(least, most), s| (least.min(*s), most.max(*s)));
    assert!(most <= least * 1.35, "{shares:?} of one weight each: {tallies:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_get_their_weighted_share_of_one_gateway() {
    let rule = format!("rate: {RATE}");
    let gateway = Gateway::builder().config_yaml(&config(&rule)).workers(2).start().await.unwrap();
    assert_fair(&[gateway.url("/v1/models")], 1.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_get_their_weighted_share_of_a_fleet() {
    let redis = RedisServer::start().await.unwrap();
    let rule = format!("rate: {RATE}, scope: fleet");
    let config = format!("redis: {{url: '{}'}}\n{}", redis.url(), config(&rule));
    let fleet = Fleet::start_with(&config, 2, RATE).await.unwrap();
    let urls: Vec<String> = fleet.gateways.iter().map(|gateway| gateway.url("/v1/models")).collect();
    assert_fair(&urls, 2.0).await;
}

#[tokio::test]
async fn a_tenant_that_used_its_share_is_told_so_and_waiting_as_told_gets_in() {
    let gateway = Gateway::builder().config_yaml(&config("rate: 4, burst: 8")).workers(2).start();
    let gateway = gateway.await.unwrap();
    let ask = |key: &'static str| {
        let url = gateway.url("/v1/models");
        async move { Client::new().with_key(key).get(&url).await.unwrap() }
    };
    assert_eq!(ask(ONE).await.status, 200);
    // The share of one is kept while it counts, so the greedy one never finds it.
    let refused = eventually("the greedy tenant's share is used up", DEADLINE, || async {
        let _ = ask(ONE).await;
        let answer = ask(GREEDY).await;
        answer.text().contains("the share of tenant greedy in the limit").then_some(answer)
    });
    let refused = refused.await.unwrap();
    expect_error(&refused, 429, "rate_limit_exceeded");
    assert_eq!(refused.header("x-ratelimit-remaining-requests"), Some("0"));
    let told: u64 = refused.header("retry-after-ms").unwrap().parse().unwrap();
    let due = Instant::now() + Duration::from_millis(told);
    eventually("the advised wait is over", DEADLINE, || async { (Instant::now() >= due).then_some(()) })
        .await
        .unwrap();
    assert_eq!(ask(GREEDY).await.status, 200);
}

#[tokio::test]
async fn weights_are_changed_at_run_time_and_checked() {
    let gateway = Gateway::builder().config_yaml(&config("rate: 50")).start().await.unwrap();
    let put = async |body: serde_json::Value| {
        let json = [("content-type", "application/json")];
        let url = gateway.url("/admin/limits");
        gateway.admin().send(&http::Method::PUT, &url, &json, body.to_string()).await.unwrap()
    };
    let changed = put(json!({"weights": {"one": 5}})).await;
    assert_eq!((changed.status.as_u16(), &changed.json()["weights"]), (200, &json!({"one": 5})));
    let wrong = put(json!({"weights": {"one": 0}})).await;
    expect_error(&wrong, 400, "invalid_config");
    assert!(wrong.text().contains("weights.one"), "{}", wrong.text());
}
