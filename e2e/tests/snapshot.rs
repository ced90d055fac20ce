//! Policies that are not valid: the last good one stays in force, and both halves count it.

mod corruptor;

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use serde_json::json;
use tidegate_e2e::harness::{Client, Gateway, HarnessError, chat, eventually};

use corruptor::Corruptor;

const DEADLINE: Duration = Duration::from_secs(20);
const CONFIG: &str = "\
providers:
  - {{openai}}
    models: [gpt-4o]
auth:
  anonymous:
    enabled: true
limiter:
  burst: 500
";

/// Waits until the gateway shows the limit.
async fn limit_becomes(gateway: &Gateway, limit: &str) {
    let client = Client::new();
    eventually(&format!("the limit is {limit}"), DEADLINE, || async {
        let answer = client.get(&gateway.url("/v1/models")).await.ok()?;
        (answer.header("x-ratelimit-limit-requests") == Some(limit)).then_some(())
    })
    .await
    .unwrap();
}

async fn limit_is(gateway: &Gateway, limit: &str) {
    // Over several connections, and so in several workers.
    for _ in 0..8 {
        let answer = Client::new().get(&gateway.url("/v1/models")).await.unwrap();
        assert_eq!(answer.header("x-ratelimit-limit-requests"), Some(limit));
    }
}

/// The value of the first line of a page that begins with `name`.
fn value(page: &str, name: &str) -> u64 {
    let line = page.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.trim_start_matches([':', ' ']).parse().ok()).unwrap_or(0)
}

async fn counter_rises(client: &Client, url: String, name: &str, above: u64) {
    eventually(&format!("{name} rises above {above}"), DEADLINE, || async {
        let page = client.get(&url).await.ok()?.text();
        (value(&page, name) > above).then_some(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_corrupt_policy_is_refused_and_the_last_good_one_stays() {
    let corruptor = Arc::new(Corruptor::start().await.unwrap());
    let between = corruptor.clone();
    let gateway = Gateway::builder()
        .config_yaml(CONFIG)
        // What the proxy between them speaks.
        .add_config("server: {sidecar_protocol: http1}")
        .patch_envoy(move |yaml| between.put_between(&yaml))
        .start()
        .await
        .unwrap();
    limit_becomes(&gateway, "500").await;

    let good: serde_json::Value = serde_json::from_str(&corruptor.last_snapshot()).unwrap();
    let format = format!("\"format\":{}", good["format"]);
    assert!(corruptor.last_snapshot().contains(&format), "or the replacement below changes nothing");
    let nonsense = [
        format!("{{{format},\"revision\":\"bad\",\"limits\":"),
        "<html>not a policy</html>".to_owned(),
        String::new(),
        corruptor.last_snapshot().replace("\"rate\":", "\"rate\":-"),
        corruptor.last_snapshot().replacen(&format, "\"format\":1", 1),
        corruptor.last_snapshot().replacen('{', "{\"surprise\":1,", 1),
    ];
    let stat = "wasmcustom.tidegate.snapshot.refused";
    for (n, bad) in nonsense.into_iter().enumerate() {
        let stats = gateway.envoy_admin_url(&format!("/stats?filter={stat}"));
        let before = value(&Client::new().get(&stats).await.unwrap().text(), stat);
        corruptor.corrupt_with(Some(bad));
        let burst = json!({"burst": 600 + n}).to_string();
        let url = gateway.sidecar_url("/admin/limits");
        let changed = gateway.admin().send(&Method::PUT, &url, &[], burst).await.unwrap();
        assert_eq!(changed.status, 200, "{}", changed.text());
        counter_rises(&Client::new(), stats, stat, before).await;
        limit_is(&gateway, "500").await;
        let prompt = format!("still alive after {n}");
        let answer = gateway.ask(&Client::new(), chat(&prompt)).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let metrics = gateway.url("/metrics");
    counter_rises(&gateway.admin(), metrics, "gateway_snapshot_total{result=\"refused\"}", 0).await;

    corruptor.corrupt_with(None);
    limit_becomes(&gateway, "605").await;
}

#[tokio::test]
async fn a_reloaded_file_takes_effect_only_if_it_is_valid() {
    let gateway = Gateway::builder().config_yaml(CONFIG).start().await.unwrap();
    limit_becomes(&gateway, "500").await;
    let (admin, metrics) = (gateway.admin(), gateway.url("/metrics"));
    let refused = "gateway_config_reloads_total{result=\"refused\"}";

    let bad = CONFIG.replace("burst: 500", "burst: 0\n  default_rate: fast");
    gateway.reload_sidecar(&bad).unwrap();
    counter_rises(&admin, metrics.clone(), refused, 0).await;
    let log = gateway.sidecar().log();
    assert!(log.contains("limiter.burst") || log.contains("limiter.default_rate"), "{log}");
    limit_is(&gateway, "500").await;

    gateway.reload_sidecar("{ not yaml").unwrap();
    counter_rises(&admin, metrics.clone(), refused, 1).await;
    limit_is(&gateway, "500").await;

    gateway.reload_sidecar(&CONFIG.replace("burst: 500", "burst: 501")).unwrap();
    limit_becomes(&gateway, "501").await;
    counter_rises(&admin, metrics, "gateway_config_reloads_total{result=\"ok\"}", 0).await;
}

impl Corruptor {
    /// Sends Envoy's traffic for the sidecar through here.
    fn put_between(&self, yaml: &str) -> Result<String, HarnessError> {
        let problem =
            || HarnessError::Program("the Envoy config has no sidecar cluster with a port".to_owned());
        let cluster = yaml.find("cluster_name: tidegate_sidecar").ok_or_else(problem)?;
        let key = "port_value: ";
        let at = yaml[cluster..].find(key).map(|at| cluster + at + key.len()).ok_or_else(problem)?;
        let digits = yaml[at..].find(|c: char| !c.is_ascii_digit()).map_or(yaml.len(), |end| at + end);
        let port = yaml[at..digits].parse().map_err(|_| problem())?;
        self.forward_to(port);
        Ok(format!("{}{}{}", &yaml[..at], self.port(), &yaml[digits..]))
    }
}
