//! Callers who cheat: invented addresses, credentials that are too large, and rates that are no
//! rates.

use http::Method;
use tidegate_e2e::harness::{Answer, Client, Gateway, expect_error};

const CONFIG: &str = "\
server:
  trusted_proxies: [@TRUSTED@]
providers:
  - {{openai}}
    models: [gpt-4o]
auth:
  anonymous: {enabled: true}
limiter:
  rules:
    - {ip: '*', rate: 0.001, burst: 3}
";

async fn gateway(trusted: &str) -> Gateway {
    let config = CONFIG.replace("@TRUSTED@", trusted);
    Gateway::builder().config_yaml(&config).workers(4).start().await.unwrap()
}

/// From a connection of its own.
async fn from(gateway: &Gateway, hops: &str) -> Answer {
    Client::new().with_header("x-forwarded-for", hops).get(&gateway.url("/v1/models")).await.unwrap()
}

async fn admitted(gateway: &Gateway, hops: &[&str]) -> usize {
    let mut admitted = 0;
    for hops in hops {
        admitted += usize::from(from(gateway, hops).await.status == 200);
    }
    admitted
}

#[tokio::test]
async fn whoever_is_not_trusted_cannot_choose_an_address() {
    // A proxy that is trusted, elsewhere: this caller does not come from there.
    for trusted in ["", "203.0.113.0/24"] {
        let gateway = gateway(trusted).await;
        let spoofed =
            ["198.51.100.1", "198.51.100.2", "2001:db8::1", "203.0.113.9", "198.51.100.3, 203.0.113.9"];
        assert_eq!(admitted(&gateway, &spoofed).await, 3, "one bucket for all of them");
        let refused = from(&gateway, "198.51.100.4").await;
        expect_error(&refused, 429, "rate_limit_exceeded");
        for invented in ["198.51.100.", "2001:db8::", "203.0.113."] {
            assert!(!refused.text().contains(invented), "{}", refused.text());
        }
    }
}

#[tokio::test]
async fn a_trusted_proxy_names_the_client_and_an_ipv6_network_is_one_client() {
    let gateway = gateway("127.0.0.0/8, 10.0.0.0/8").await;
    let one = ["198.51.100.1", "203.0.113.7, 198.51.100.1", "198.51.100.1, 10.0.0.5", "198.51.100.1"];
    assert_eq!(admitted(&gateway, &one).await, 3);
    assert_eq!(admitted(&gateway, &["198.51.100.2"]).await, 1);
    let network = ["2001:db8:1:2::1", "2001:db8:1:2::2", "2001:db8:1:2:ffff::", "2001:db8:1:2::4"];
    assert_eq!(admitted(&gateway, &network).await, 3);
    let refused = from(&gateway, "2001:db8:1:2::5").await;
    assert!(refused.text().contains("ip:2001:db8:1:2::/64"), "{}", refused.text());
    assert_eq!(admitted(&gateway, &["2001:db8:1:3::1"]).await, 1, "the next network");
}

#[tokio::test]
async fn credentials_that_are_too_large_are_refused_without_asking_anybody() {
    let mut gateway = gateway("").await;
    gateway.kill_sidecar().unwrap();
    let url = gateway.url("/v1/models");
    let unknown = Client::new().with_key("nobody-knows-this-key").get(&url).await.unwrap();
    assert_eq!(unknown.status, 503, "who must be asked is gone: {}", unknown.text());
    let large = "k".repeat(20 << 10);
    let token = format!("eyJhbGciOiJIUzI1NiJ9.{}.c2ln", "e30".repeat(7 << 10));
    for value in [&large, &token] {
        let answer = Client::new().with_key(value).get(&url).await.unwrap();
        expect_error(&answer, 401, "invalid_api_key");
        for name in ["x-api-key", "api-key", "x-goog-api-key"] {
            let answer = Client::new().with_header(name, value).get(&url).await.unwrap();
            expect_error(&answer, 401, "invalid_api_key");
        }
    }
    let beyond = Client::new().with_key(&"k".repeat(100 << 10)).get(&url).await.unwrap();
    assert_eq!(beyond.status, 431, "{}", beyond.text());
}

#[tokio::test]
async fn rates_that_are_none_are_refused_at_run_time_with_their_path() {
    let gateway = gateway("").await;
    let url = gateway.url("/admin/limits");
    let before = gateway.admin().get(&url).await.unwrap().json()["rules"].take();
    let json = [("content-type", "application/json")];
    for (wanted, path) in [
        (r#"{"rules": [{"tenant": "a", "rate": 0}]}"#, "rules[0].rate"),
        (r#"{"rules": [{"tenant": "a", "requests_per_second": -1}]}"#, "rules[0].requests_per_second"),
        (r#"{"rules": [{"tenant": "a", "rate": 1e300}]}"#, "rules[0].rate"),
        (r#"{"rules": [{"tenant": "a", "rate": 5, "burst": 0}]}"#, "rules[0].burst"),
        (r#"{"rules": [{"tenant": "a", "rate": 5, "burst": 1e300}]}"#, "rules[0].burst"),
        (r#"{"rules": [{"tenant": "a", "tokens_per_minute": -5}]}"#, "rules[0].tokens_per_minute"),
        (
            r#"{"rules": [{"tenant": "a", "tokens_per_day": 99999999999999999999}]}"#,
            "rules[0].tokens_per_day",
        ),
        (r#"{"rules": [{"tenant": "a", "concurrency": -1}]}"#, "rules[0].concurrency"),
        (r#"{"rules": [{"tenant": "a", "concurrency": 1e12}]}"#, "rules[0].concurrency"),
        (r#"{"budgets": [{"tenant": "a", "usd_per_month": -3}]}"#, "budgets[0].usd_per_month"),
        (r#"{"budgets": [{"tenant": "a", "usd_per_month": 1e300}]}"#, "budgets[0].usd_per_month"),
        (r#"{"weights": {"a": 0}}"#, "weights.a"),
        (r#"{"default_rate": 0}"#, "default_rate"),
        (r#"{"max_rate": 1e18}"#, "max_rate"),
    ] {
        let answer = gateway.admin().send(&Method::PUT, &url, &json, wanted).await.unwrap();
        assert_eq!(answer.status, 400, "{wanted}: {}", answer.text());
        assert!(answer.text().contains(path), "{wanted}: {}", answer.text());
    }
    assert_eq!(gateway.admin().get(&url).await.unwrap().json()["rules"], before, "nothing has changed");
}
