//! What Prometheus is told to alert on and Grafana to show is what a running gateway exports, by name and label.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tidegate_e2e::emulator::{Fault, FaultMatch};
use tidegate_e2e::harness::{Client, Gateway, KafkaBroker, RedisServer, chat, eventually, stream};

const DEADLINE: Duration = Duration::from_secs(60);
const CONFIG: &str = "\
providers:
  - {{openai}}
    models: [gpt-4o]
    price: {input: 1, output: 2}
auth: {anonymous: {enabled: true, tenant: demo}}
limiter: {budgets: [{tenant: demo, usd_per_month: 5}]}
cache: {l2: {enabled: true}}
breaker: {failure_threshold: 2}
policy: {mode: shadow}
redis: {url: \"REDIS\"}
bus: {type: kafka}
kafka: {brokers: [\"KAFKA\"]}
";
/// Enough to open the breaker.
const FAILURES: usize = 8;
/// Labels that Prometheus gives by itself.
const OF_THE_SCRAPE: [&str; 2] = ["instance", "job"];
/// A metric that Prometheus makes by itself.
const OF_PROMETHEUS: &str = "up";
/// Words after which labels stand in parentheses.
const GROUPING: [&str; 5] = ["by", "without", "on", "ignoring", "group_left"];
const OPERATORS: [&str; 5] = ["and", "or", "unless", "bool", "offset"];

/// Labels of each series name.
type Exported = BTreeMap<String, BTreeSet<String>>;

/// One expression, taken apart as far as names go.
#[derive(Debug, Default, PartialEq)]
struct Names {
    /// Metrics, each with the labels it is selected by.
    metrics: Vec<(String, Vec<String>)>,
    /// Labels that results are grouped by.
    grouping: Vec<String>,
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

/// Text without what stands between quotes or in brackets, which may look like names.
fn bare(expression: &str) -> String {
    let (mut text, mut until) = (String::new(), None);
    for c in expression.chars() {
        match (until, c) {
            (Some(end), c) if c == end => until = None,
            (Some(_), _) => {}
            (None, '"') => until = Some('"'),
            (None, '[') => until = Some(']'),
            (None, c) => text.push(c),
        }
    }
    assert_eq!(until, None, "{expression}");
    text
}

/// The names in a list such as `(a, b)` or `{a=, b=~}`.
fn list(text: &str, ends: (char, char)) -> (Vec<String>, &str) {
    let inside = text.trim_start().strip_prefix(ends.0).expect("a list");
    let (inside, rest) = inside.split_once(ends.1).expect("the end of a list");
    let name = |item: &str| item.trim_matches(|c| !is_name(c)).to_owned();
    (inside.split(',').map(name).filter(|name| !name.is_empty()).collect(), rest)
}

fn names(expression: &str) -> Names {
    let text = bare(expression);
    let (mut names, mut rest) = (Names::default(), text.as_str());
    while let Some(begin) = rest.find(is_name) {
        let word = &rest[begin..];
        let length = word.find(|c| !is_name(c)).unwrap_or(word.len());
        let (word, after) = word.split_at(length);
        rest = after;
        let after_blank = after.trim_start();
        let next = after_blank.chars().next();
        let next_word = after_blank.split(|c| !is_name(c)).next().unwrap_or_default();
        if GROUPING.contains(&word) {
            let labels;
            (labels, rest) = list(after, ('(', ')'));
            names.grouping.extend(labels);
        } else if word.starts_with(|c: char| c.is_ascii_digit())
            || OPERATORS.contains(&word)
            || next == Some('(')
            || GROUPING.contains(&next_word)
        {
            continue;
        } else if next == Some('{') {
            let labels;
            (labels, rest) = list(after, ('{', '}'));
            names.metrics.push((word.to_owned(), labels));
        } else {
            names.metrics.push((word.to_owned(), Vec::new()));
        }
    }
    names
}

/// Series and their labels on a metrics page. A family without a series is there by its name.
fn exported(page: &str, into: &mut Exported) {
    for line in page.lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            let (name, kind) = family.split_once(' ').expect("a name and a type");
            let suffixes: &[&str] = match kind {
                "counter" => &["", "_total"],
                "histogram" => &["_bucket", "_sum", "_count"],
                "info" => &["_info"],
                _ => &[""],
            };
            for suffix in suffixes {
                into.entry(format!("{name}{suffix}")).or_default();
            }
            continue;
        }
        if line.starts_with('#') {
            continue;
        }
        let line = bare(line);
        let length = line.find(|c| !is_name(c)).unwrap_or(line.len());
        let (name, rest) = line.split_at(length);
        let labels = into.entry(name.to_owned()).or_default();
        if rest.starts_with('{') {
            labels.extend(list(rest, ('{', '}')).0);
        }
    }
}

/// Where the expression is, the expression, and the labels that its words use.
fn expressions() -> Vec<(String, String, Vec<String>)> {
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
    let read = |file: &str| std::fs::read_to_string(configs.join(file)).expect("is there");
    let rules: Value = serde_norway::from_str(&read("prometheus-rules.yml")).expect("YAML");
    let dashboard: Value = serde_json::from_str(&read("grafana/dashboards/tidegate.json")).expect("JSON");
    let rules = rules["groups"]
        .as_array()
        .expect("groups")
        .iter()
        .flat_map(|g| g["rules"].as_array().expect("rules"));
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let mut all: Vec<_> = rules
        .map(|rule| {
            let words = rule["annotations"].to_string();
            let labels = words
                .split("$labels.")
                .skip(1)
                .map(|word| word.chars().take_while(|c| is_name(*c)).collect());
            (text(&rule["alert"]), text(&rule["expr"]), labels.collect())
        })
        .collect();
    for panel in dashboard["panels"].as_array().expect("panels") {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let legend = text(&target["legendFormat"]);
            let labels = legend.split("{{").skip(1).filter_map(|word| word.split_once("}}"));
            let labels = labels.map(|(label, _)| label.to_owned()).collect();
            all.push((text(&panel["title"]), text(&target["expr"]), labels));
        }
    }
    all
}

/// A gateway on real servers that has seen successes, streams, hits and failures.
async fn busy(redis: &RedisServer, kafka: &KafkaBroker) -> Gateway {
    let config = CONFIG.replace("REDIS", &redis.url()).replace("KAFKA", &kafka.address());
    let gateway = Gateway::builder().config_yaml(&config).start().await.unwrap();
    let client = Client::new();
    for _ in 0..2 {
        assert_eq!(gateway.ask(&client, chat("twice")).await.unwrap().status, 200);
    }
    assert_eq!(gateway.ask(&client, stream("a stream")).await.unwrap().status, 200);
    let matches = FaultMatch::default();
    gateway.emulator.arm(Fault { status: Some(500), matches, ..Fault::default() }).unwrap();
    for failure in 0..FAILURES {
        let answer = gateway.ask(&client, chat(&format!("failure {failure}"))).await.unwrap();
        assert!(answer.status.is_server_error(), "{}", answer.text());
    }
    gateway
}

#[tokio::test]
async fn alerts_and_panels_name_what_a_gateway_exports() {
    let (redis, kafka) = (RedisServer::start().await.unwrap(), KafkaBroker::start().await.unwrap());
    let gateway = busy(&redis, &kafka).await;
    let admin = gateway.admin();
    let page = eventually("the failures have a cluster and a breaker on /metrics", DEADLINE, || async {
        let page = admin.get(&gateway.url("/metrics")).await.ok()?.text();
        let has = |name| page.contains(name);
        (has("gateway_cluster_size{") && has("gateway_circuit_breaker_state{")).then_some(page)
    });
    let mut known = Exported::new();
    exported(&page.await.unwrap(), &mut known);
    let stats = admin.get(&gateway.envoy_admin_url("/stats/prometheus")).await.unwrap();
    exported(&stats.text(), &mut known);
    let all = expressions();
    assert!(all.len() > 50, "{}", all.len());
    for (place, expression, words) in all {
        let used = names(&expression);
        assert!(!used.metrics.is_empty(), "{place}: {expression}");
        let mut labels: BTreeSet<&str> = OF_THE_SCRAPE.into();
        for (metric, selected) in used.metrics.iter().filter(|(metric, _)| metric != OF_PROMETHEUS) {
            let of_metric = known.get(metric).unwrap_or_else(|| panic!("{place}: nothing exports {metric}"));
            for label in selected.iter().filter(|label| !OF_THE_SCRAPE.contains(&label.as_str())) {
                assert!(of_metric.contains(label), "{place}: {metric} has no label {label}: {of_metric:?}");
            }
            labels.extend(of_metric.iter().map(String::as_str));
        }
        for label in &used.grouping {
            assert!(
                labels.contains(label.as_str()),
                "{place}: no metric has the label {label}: {expression}"
            );
        }
        let left: BTreeSet<&str> = match used.grouping.is_empty() {
            true => labels,
            false => used.grouping.iter().map(String::as_str).collect(),
        };
        for word in words {
            assert!(
                left.contains(word.as_str()),
                "{place}: its words use {word}, which {expression} does not keep"
            );
        }
    }
}

#[test]
fn expressions_are_taken_apart() {
    let used =
        names("sum by (a, b) (rate(x_total{c=\"y\",d=~\"e|f\"}[5m])) / on (a) sum(z) > 2e9 and up == 0");
    let metric =
        |name: &str, labels: &[&str]| (name.to_owned(), labels.iter().map(|l| (*l).to_owned()).collect());
    assert_eq!(used.metrics, [metric("x_total", &["c", "d"]), metric("z", &[]), metric("up", &[])]);
    assert_eq!(used.grouping, ["a", "b", "a"]);
}
