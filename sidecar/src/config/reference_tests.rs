//! `configs/gateway.yaml` is the reference: every key stands in it, and what is commented out works when it is not.

use super::*;

/// Where a mapping of known keys begins, as YAML around a key that nobody knows.
const MAPPINGS: [&str; 42] = [
    "{KEY: 1}",
    "server: {KEY: 1}",
    "server: {upstreams: [{KEY: 1}]}",
    "server: {upstreams: [{tls: {KEY: 1}}]}",
    "limiter: {KEY: 1}",
    "limiter: {rules: [{KEY: 1}]}",
    "limiter: {budgets: [{KEY: 1}]}",
    "limiter: {fleet: {KEY: 1}}",
    "breaker: {KEY: 1}",
    "cache: {KEY: 1}",
    "cache: {l1: {KEY: 1}}",
    "cache: {l2: {KEY: 1}}",
    "cache: {l2: {rules: [{KEY: 1}]}}",
    "clustering: {KEY: 1}",
    "embedding: {KEY: 1}",
    "store: {KEY: 1}",
    "redis: {KEY: 1}",
    "providers: [{KEY: 1}]",
    "providers: [{price: {KEY: 1}}]",
    "routing: {KEY: 1}",
    "routing: {retries: {KEY: 1}}",
    "routing: {hedging: {KEY: 1}}",
    "routing: {health_check: {KEY: 1}}",
    "routing: {outlier: {KEY: 1}}",
    "auth: {KEY: 1}",
    "auth: {anonymous: {KEY: 1}}",
    "auth: {api_keys: [{KEY: 1}]}",
    "auth: {users: [{KEY: 1}]}",
    "auth: {jwt: {KEY: 1}}",
    "auth: {jwt: {issuers: [{KEY: 1}]}}",
    "auth: {ram: {access_keys: [{KEY: 1}]}}",
    "metrics: {KEY: 1}",
    "sampler: {KEY: 1}",
    "policy: {KEY: 1}",
    "policy: {rules: [{KEY: 1}]}",
    "bus: {KEY: 1}",
    "kafka: {KEY: 1}",
    "etcd: {KEY: 1}",
    "logging: {KEY: 1}",
    "security: {KEY: 1}",
    "security: {tls: {KEY: 1}}",
    "tracing: {KEY: 1}",
];
/// A key that nobody knows.
const UNKNOWN: &str = "no_such_key";

fn shipped(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs").join(file);
    std::fs::read_to_string(path).expect("is there")
}

/// The keys that may stand where an unknown one is refused.
fn keys_beside(mapping: &str) -> Vec<String> {
    let problems = parse(&mapping.replace("KEY", UNKNOWN), &Env::new()).expect_err("an unknown key");
    let problems: Vec<String> = problems.list().iter().map(ToString::to_string).collect();
    let said = problems.iter().find_map(|problem| problem.split_once(&format!("unknown field `{UNKNOWN}`")));
    let (_, known) = said.unwrap_or_else(|| panic!("{mapping}: {problems:?}"));
    known.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn names(text: &str, key: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices(&format!("{key}:")).any(|(at, _)| !text[..at].ends_with(is_part))
}

#[test]
fn every_key_stands_in_the_reference() {
    let text = shipped("gateway.yaml") + &shipped("policy-rules.yaml");
    for mapping in MAPPINGS {
        for key in keys_beside(mapping) {
            let is_later = structure::LATER.contains(&key.as_str());
            assert!(is_later || names(&text, &key), "{mapping}: `{key}` is not in configs/gateway.yaml");
        }
    }
}

/// Takes the # of each line that has one without a blank behind it, or with the blanks of an indentation.
fn uncommented(text: &str) -> String {
    let line = |line: &str| {
        let blanks = line.len() - line.trim_start().len();
        let (indent, rest) = line.split_at(blanks);
        let is_prose = |text: &str| text.is_empty() || (text.starts_with(' ') && !text.starts_with("  "));
        match rest.strip_prefix('#') {
            Some(key) if !is_prose(key) => format!("{indent}{key}\n"),
            _ => format!("{line}\n"),
        }
    };
    text.lines().map(line).collect()
}

#[test]
fn what_is_commented_out_is_valid_when_it_is_not() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let yaml =
        uncommented(&shipped("gateway.yaml")).replace("configs/", &format!("{}/configs/", root.display()));
    let mut env = Env::new();
    for name in [
        "ANTHROPIC_API_KEY",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AZURE_API_KEY",
        "CI_KEY",
        "ERNIE_API_KEY",
        "ERNIE_SECRET_KEY",
        "ETCD_PASSWORD",
        "JWT_SECRET",
        "OPENAI_API_KEY",
        "RAM_SECRET",
        "REDIS_PASSWORD",
        "VLLM_API_KEY",
    ] {
        env.insert(name.to_owned(), "0123456789abcdef0123456789abcdef".to_owned());
    }
    // Any file will do: certificates are for Envoy to read.
    env.insert("SSL_CERT_FILE".to_owned(), root.join("Cargo.toml").display().to_string());
    let config = parse(&yaml, &env).unwrap_or_else(|problems| panic!("{problems}\n{yaml}"));
    assert!(
        config.redis.is_some()
            && config.providers.len() > 4
            && config.server.upstreams.len() == 3
            && config.tracing.is_some()
    );
    assert_eq!(config.without_effect, ["kafka", "etcd"]);
}
