use tidegate_core::limit::Attribute;
use tidegate_core::usage::Price;

use super::*;

fn env(pairs: &[(&str, &str)]) -> Env {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn problems(yaml: &str) -> Vec<String> {
    parse(yaml, &Env::new())
        .map(|_| Vec::new())
        .unwrap_or_else(|problems| problems.list().iter().map(ToString::to_string).collect())
}

/// The paths of all problems.
fn paths(yaml: &str) -> Vec<String> {
    problems(yaml).iter().map(|p| p.split_once(": ").map_or(p.clone(), |(path, _)| path.to_owned())).collect()
}

#[test]
fn an_empty_file_has_the_documented_defaults() {
    let config = parse("", &Env::new()).expect("valid");
    assert_eq!(
        (config.server.port, config.server.sidecar_port, config.server.admin_port),
        (8080, 8081, 9901)
    );
    assert!(config.server.host.is_loopback() && config.server.body_bytes_max == 10 << 20);
    let limits = &config.limiter.limits;
    let global = limits.rules[0].requests.expect("a rate");
    assert_eq!((global.rate, global.burst), (10_000.0, 10_000));
    let tenant = limits.rules[1].requests.expect("a rate");
    assert_eq!((tenant.rate, tenant.burst), (1000.0, 1000));
    assert_eq!((config.breaker.failure_threshold, config.breaker.recovery_timeout_ms), (10, 30_000));
    assert!((config.breaker.recovery_increment - 0.2).abs() < f64::EPSILON);
    assert_eq!((config.l1.bytes_max, config.l1.ttl_ms), (64 << 20, 300_000));
    assert_eq!(config.auth.anonymous_tenant, None);
    assert_eq!(config.store.path, Path::new("./.state/tidegate.redb"));
}

#[test]
fn every_error_is_reported_at_once_with_its_path() {
    let yaml = r#"
server: {port: 70000, max_request_body: -1, hots: x, sidecar_port: 0}
limiter: {default_rate: fast, max_rate: .nan, burst: 0, cleanup_interval: 5}
breaker: {failure_threshold: -3, recovery_increment: 1.5, recovery_timeout: 0s, window: 99999999999999999h}
cache: {backend: redis, l1: {max_bytes: 1, ttl: "", enabled: maybe}, l2: {threshold: 1.5, mode: bold, error_bound: 0, never_store: ["("], rules: [{enabled: false}]}}
providers:
  - {name: a b, type: openai, base_url: "ftp://x", weight: 0}
  - {type: gemeni}
  -
  - {name: l, type: local, base_url: "http://x"}
auth:
  ram: {keys: []}
  api_keys: [{name: k, tenant: t}, {name: k2, tenant: t, key: short}, {name: k3, tenant: t, hash: "md5:1"}]
kafka: {brokers: []}
logging: {format: xml}
metrics: {path: /public}
store: {type: cloud}
"#;
    let mut found = paths(yaml);
    found.sort();
    let mut expected = [
        "server.port",
        "server.max_request_body",
        "server.hots",
        "server.sidecar_port",
        "limiter.default_rate",
        "limiter.max_rate",
        "limiter.burst",
        "limiter.cleanup_interval",
        "breaker.failure_threshold",
        "breaker.recovery_increment",
        "breaker.recovery_timeout",
        "breaker.window",
        "cache.backend",
        "cache.l1.max_bytes",
        "cache.l1.ttl",
        "cache.l1.enabled",
        "cache.l2.threshold",
        "cache.l2.mode",
        "cache.l2.error_bound",
        "cache.l2.never_store[0]",
        "cache.l2.rules[0]",
        "providers[0].name",
        "providers[0].base_url",
        "providers[0].weight",
        "providers[1].name",
        "providers[1].type",
        "providers[2]",
        "providers[3].base_url",
        "providers[3].model_path",
        "auth.ram.keys",
        "auth.api_keys[0].hash",
        "auth.api_keys[1].key",
        "auth.api_keys[2].hash",
        "kafka.brokers",
        "logging.format",
        "metrics.path",
        "store.type",
    ];
    expected.sort_unstable();
    assert_eq!(found, expected, "{:#?}", problems(yaml));
}

#[test]
fn sections_without_effect_are_checked_and_named() {
    let yaml = "sampler: {sampling_rate: 0.05, buffer_size: 1000}\n\
                kafka: {brokers: [\"localhost:9092\"], topic: error-events}\n\
                etcd: {endpoints: [\"localhost:2379\"], timeout: 5s}\n";
    let config = parse(yaml, &Env::default()).expect("valid");
    assert_eq!(config.without_effect, ["kafka", "etcd"]);
    let later = parse("discovery: {}", &Env::default()).expect("valid");
    assert_eq!(later.without_effect, ["discovery"]);
    let used = format!("{yaml}bus: {{type: kafka}}\nstore: {{type: etcd}}\n");
    assert_eq!(parse(&used, &Env::default()).expect("valid").without_effect, [""; 0]);
    assert!(paths("bus: {type: kafka}").contains(&"kafka".to_owned()));
}

#[test]
fn messages_say_what_to_write_in_words_of_yaml() {
    for (yaml, words) in [
        ("limiter: {default_rate: fast}", "expected a number"),
        ("server: []", "expected a mapping"),
        ("providers: {}", "expected a list"),
        ("server: {port: -1}", "whole number, 0 to 65535"),
        ("limiter: {default_rate: -5}", "is -5; must be 0.00001 to 10000000 requests per second"),
        ("limiter: {default_rate: 50, max_rate: 10}", "at most max_rate, which is 10"),
        ("breaker: {recovery_timeout: 30}", "such as \"500ms\""),
        ("discovery: {enabled: true}", "not supported by this version"),
        ("sampler: {sampling_rate: 1.5}", "must be 0 to 1"),
        ("kafka: {brokers: [localhost]}", "host:port"),
        ("limitr: {}", "use one of `server`, `limiter`"),
        ("server: {port: 1, port: 2}", "duplicate"),
        ("server: {host: example.com}", "IP address"),
        ("- a", "mapping of sections"),
        ("a: [", "not valid YAML"),
        ("server: {admin_port: 8080}", "choose another port"),
        ("server: {upstreams: [{name: u, prefix: /v1/x, address: 'h:1'}]}", "belongs to the gateway"),
        ("server: {upstreams: [{name: u, prefix: /internal, address: 'h:1'}]}", "belongs to the gateway"),
        ("server: {upstreams: [{name: u, prefix: /x, address: 'h'}]}", "host:port"),
        ("server: {upstreams: [{name: u, prefix: /x, rewrite: x, address: 'h:1'}]}", "must start with /"),
        ("server: {upstreams: [{name: u, prefix: /x, api: gemini, address: 'h:1'}]}", "openai"),
        (
            "providers: [{name: a, type: openai, base_url: 'https://h/v1', price: {input: -1}}]",
            "must be 0 to 1000000 US dollars per million tokens",
        ),
        ("limiter: {rules: [{tenant: a, rate: 1}, {tenant: a, rate: 1}]}", "chosen by another rule too"),
        ("limiter: {rules: [{tenant: a}]}", "limit tokens_per_minute"),
        ("limiter: {rules: [{tenant: a, burst: 5}]}", "limit tokens_per_minute"),
        ("limiter: {rules: [{ip: 10.0.0.0/8, rate: 1}]}", "an address such as"),
        ("limiter: {rules: [{ip: '*', rate: .nan}]}", "is NaN; must be"),
        ("limiter: {rules: [{ip: '*', rate: .inf}]}", "is inf; must be"),
        ("limiter: {rules: [{key: '*', tokens_per_minute: 0}]}", "is 0; must be 1 to 1000000000 tokens"),
        (
            "limiter: {rules: [{key: '*', tokens_per_day: 9999999999999999}]}",
            "must be 1 to 1000000000000 tokens",
        ),
        (
            "limiter: {rules: [{key: '*', requests_per_second: 0}]}",
            "rules[0].requests_per_second: is 0; must be",
        ),
        ("limiter: {rules: [{key: '*', rate: -1}]}", "rules[0].rate: is -1; must be"),
        ("limiter: {rules: [{key: '*', rate: 1, requests_per_second: 2}]}", "write one of them"),
        ("limiter: {rules: [{key: '*', concurrency: 0}]}", "must be 1 to 1000000 requests at a time"),
        ("limiter: {rules: [{route: /shop, rate: 1}]}", "the name of an upstream"),
        ("server: {trusted_proxies: [10.0.0.0/33]}", "must be an address or a network"),
    ] {
        let found = problems(yaml);
        assert!(found.len() == 1 && found[0].contains(words), "{yaml}: {found:?}");
    }
}

#[test]
fn the_environment_overrides_and_appends() {
    let env = env(&[
        ("GATEWAY__SERVER__PORT", "9000"),
        ("GATEWAY__LIMITER__DEFAULT_RATE", "5"),
        ("GATEWAY__PROVIDERS__0__API_KEY", "12345"),
        ("GATEWAY__PROVIDERS__0__MODELS", "[m1, m2]"),
        ("GATEWAY__PROVIDERS__1__NAME", "second"),
        ("GATEWAY__PROVIDERS__1__TYPE", "openai"),
        ("GATEWAY__PROVIDERS__1__BASE_URL", "http://127.0.0.1:1/v1/"),
        ("GATEWAY__AUTH__ANONYMOUS__ENABLED", "true"),
        ("GATEWAY_PORT", "1"),
    ]);
    let yaml = "providers: [{name: a, type: openai, base_url: 'https://h/v1'}]";
    let config = parse(yaml, &env).expect("valid");
    assert_eq!(config.server.port, 9000);
    assert!((config.limiter.limits.rules[1].requests.expect("a rate").rate - 5.0).abs() < f64::EPSILON);
    assert_eq!(config.auth.anonymous_tenant.as_deref(), Some("demo"));
    assert_eq!(config.providers[0].models, ["m1", "m2"]);
    assert_eq!(config.providers[1].name, "second");
    let crate::llm::ProviderKind::Remote(remote) = &config.providers[0].kind else { panic!("type openai") };
    assert_eq!(remote.api_keys[0].expose(), "12345");
}

#[test]
fn a_bad_override_names_the_variable() {
    for (name, value) in
        [("GATEWAY__PROVIDERS__7__NAME", "x"), ("GATEWAY__SERVER__", "x"), ("GATEWAY__SERVER__PORT__X", "1")]
    {
        let found = parse("server: {port: 1}", &env(&[(name, value)])).expect_err(name);
        assert!(found.list().iter().any(|p| p.path == name), "{found}");
    }
    let found = parse("", &env(&[("GATEWAY__SERVER__PROT", "1")])).expect_err("unknown");
    assert_eq!(found.list()[0].path, "server.prot");
}

#[test]
fn no_secret_gets_into_a_message_or_a_debug_line() {
    let secret = "sk-very-secret-0123456789";
    let yaml = format!(
        "providers: [{{name: a, type: openai, base_url: 'https://h/v1', api_key: \"{secret}\"}}]\n\
         auth: {{api_keys: [{{name: k, tenant: t, key: \"{secret}\"}}]}}"
    );
    let config = parse(&yaml, &Env::new()).expect("valid");
    assert!(!format!("{config:?}").contains("very-secret"));
    for bad in
        ["12345678901234567890", "1234567.25", "-123456789", "\"a b very-secret\"", "\"${NOPE}very-secret\""]
    {
        let yaml = yaml.replace(&format!("\"{secret}\""), bad);
        let shown = parse(&yaml, &Env::new()).expect_err(bad).to_string();
        assert!(!shown.contains("very-secret") && !shown.contains("1234567"), "{shown}");
    }
}

#[test]
fn anonymous_callers_stay_off_the_network_unless_confirmed() {
    let on = "auth: {anonymous: {enabled: true}}";
    for address in ["host: 0.0.0.0", "sidecar_host: '::'", "host: 10.0.0.1"] {
        assert_eq!(paths(&format!("server: {{{address}}}\n{on}")), ["auth.anonymous.enabled"]);
    }
    let confirmed = "server: {host: 0.0.0.0}\nauth: {anonymous: {enabled: true, i_know: true}}";
    assert_eq!(paths(confirmed), Vec::<String>::new());
    assert_eq!(paths("server: {host: localhost}\nauth: {anonymous: {enabled: true}}"), Vec::<String>::new());
}

#[test]
fn a_reload_knows_what_waits_for_a_restart() {
    let yaml = "providers: [{name: a, type: openai, base_url: 'https://h/v1', api_key: sk-1}]";
    let before = parse(yaml, &Env::new()).expect("valid");
    let after = |yaml: &str| before.restart_needed_for(&parse(yaml, &Env::new()).expect("valid"));
    assert_eq!(after(&format!("limiter: {{default_rate: 1}}\n{yaml}")), Vec::<&str>::new());
    assert_eq!(after(&yaml.replace("sk-1", "sk-2")), Vec::<&str>::new(), "providers change under way");
    assert_eq!(
        after(&format!("server: {{port: 9}}\nlogging: {{level: warn}}\n{yaml}")),
        ["server", "logging"]
    );
}

#[test]
fn the_files_we_ship_are_valid() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
    let env =
        env(&[("OPENAI_API_KEY", "sk-1"), ("CI_KEY", "0123456789abcdef"), ("DEEPSEEK_API_KEY", "sk-1")]);
    for file in ["gateway.yaml", "openai.yaml", "from-env.yaml"] {
        if let Err(problems) = load(&folder.join(file), &env) {
            panic!("{file}:\n{problems}");
        }
    }
}

#[test]
fn names_that_others_use_stand_for_keys_and_ours_win_over_them() {
    let others = [
        ("PORT", "9000"),
        ("REDIS_URL", "redis://r:6379"),
        ("KAFKA_BROKERS", "a:9092, b:9092"),
        ("ETCD_ENDPOINTS", "e:2379"),
        ("JWT_SECRET", "01234567890123456789012345678901"),
        ("EMBEDDING_URL", "https://open.bigmodel.cn/api/paas/v4/embeddings"),
        ("EMBEDDING_API_KEY", "sk-embedding"),
        ("EMBEDDING_MODEL", "embedding-3"),
    ];
    let yaml = "server: {port: 1}\nbus: {type: kafka}\nkafka: {brokers: [file:1]}\nstore: {type: etcd}\n";
    let config = parse(yaml, &env(&others)).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!((config.server.port, config.redis.is_some()), (9000, true));
    assert_eq!(config.bus.kafka.map(|kafka| kafka.brokers), Some(vec!["a:9092".into(), "b:9092".into()]));
    assert!(config.store.etcd.is_some() && config.auth.jwt.own.is_some());
    let embedding = config.embedding;
    assert_eq!((embedding.model.as_str(), embedding.dimension), ("embedding-3", 2048));
    assert_eq!(embedding.remote.map(|remote| remote.base_url.path().to_owned()), Some("/api/paas/v4".into()));
    let ours = [&others[..], &[("GATEWAY__SERVER__PORT", "9001"), ("GATEWAY__KAFKA__BROKERS__1", "c:9092")]];
    let config = parse(yaml, &env(&ours.concat())).expect("valid");
    assert_eq!(config.server.port, 9001);
    assert_eq!(config.bus.kafka.map(|kafka| kafka.brokers), Some(vec!["a:9092".into(), "c:9092".into()]));
    assert!(parse("", &env(&[("PORT", ""), ("JWT_SECRET", "")])).expect("valid").auth.jwt.own.is_none());
    let refused =
        parse("", &env(&[("PORT", "http"), ("JWT_SECRET", "short")])).expect_err("wrong").to_string();
    assert!(refused.contains("server.port") && refused.contains("auth.jwt.secret"), "{refused}");
    let own_key = "auth: {jwt: {private_key_path: /nowhere.pem, algorithm: EdDSA}}";
    let refused = parse(own_key, &env(&others)).expect_err("no file").to_string();
    assert!(refused.contains("private_key_path") && !refused.contains("jwt.secret"), "{refused}");
}

#[test]
fn a_provider_is_named_by_the_environment() {
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/from-env.yaml"));
    let yaml = text.expect("is there");
    let asked = |pairs: &[(&str, &str)]| match &parse(&yaml, &env(pairs)).expect("valid").providers[0].kind {
        crate::llm::ProviderKind::Remote(remote) => remote.base_url.to_string(),
        crate::llm::ProviderKind::Local { .. } => panic!("type openai"),
    };
    assert_eq!(asked(&[("DEEPSEEK_API_KEY", "k")]), "https://api.deepseek.com/");
    let pairs = [("TARGET_API_KEY", "k"), ("TARGET_API_URL", "https://two.example/v1")];
    assert_eq!(asked(&pairs), "https://two.example/v1");
    let both = [&pairs[..], &[("TARGET_URL", "https://one.example/v1")]].concat();
    assert_eq!(asked(&both), "https://one.example/v1");
    let refused = parse(&yaml, &Env::new()).expect_err("no key").to_string();
    assert!(refused.contains("DEEPSEEK_API_KEY"), "{refused}");
}

#[test]
fn a_missing_or_endless_file_is_one_clear_problem() {
    let found = load(Path::new("/nonexistent/gateway.yaml"), &Env::new()).expect_err("missing");
    assert!(
        found.to_string().contains("/nonexistent/gateway.yaml") && found.to_string().contains("--config")
    );
}

#[test]
fn an_anthropic_provider_has_a_url_and_no_model_file() {
    let yaml =
        "providers: [{name: a, type: anthropic, base_url: 'https://api.anthropic.com/v1/', api_key: k}]";
    let config = parse(yaml, &env(&[])).expect("valid");
    assert_eq!(config.providers[0].kind.label(), "anthropic");
    let crate::llm::ProviderKind::Remote(remote) = &config.providers[0].kind else {
        panic!("type anthropic")
    };
    let base_url = remote.base_url.to_string();
    assert_eq!((base_url.as_str(), remote.api_keys.len()), ("https://api.anthropic.com/v1", 1));
    let yaml = "providers: [{name: a, type: anthropic, model_path: x, api_version: '1'}]";
    let problems = parse(yaml, &env(&[])).expect_err("wrong").to_string();
    for field in ["providers[0].model_path", "providers[0].api_version"] {
        assert!(problems.contains(field), "{problems}");
    }
}

#[test]
fn each_type_knows_its_own_address_except_where_that_differs_between_accounts() {
    for vendor in tidegate_core::provider::Vendor::ALL {
        let yaml = format!("providers: [{{name: a, type: {}, api_key: k}}]", vendor.label());
        let parsed = parse(&yaml, &env(&[]));
        match (vendor.label(), vendor.base_url()) {
            ("ernie_classic", _) => {
                assert!(parsed.expect_err("half a key").to_string().contains("providers[0].secret_key"));
            }
            (label, Some(_)) => assert_eq!(parsed.expect("valid").providers[0].kind.label(), label),
            ("bedrock", None) => {
                assert!(parsed.expect_err("nowhere").to_string().contains("providers[0].region"));
            }
            ("vertex", None) => {
                assert!(parsed.expect_err("nowhere").to_string().contains("providers[0].project"));
            }
            (_, None) => {
                assert!(parsed.expect_err("no address").to_string().contains("providers[0].base_url"))
            }
        }
    }
    let problems = parse("providers: [{name: a, type: chatgpt}]", &env(&[])).expect_err("wrong").to_string();
    assert!(problems.contains("providers[0].type") && problems.contains("dashscope"), "{problems}");
}

#[test]
fn mistakes_about_tokens_and_users_are_named() {
    let hash = |text: &str| format!("auth: {{users: [{{name: a, tenant: t, password_hash: '{text}'}}]}}");
    for (yaml, path) in [
        ("auth: {jwt: {secret: short}}", "auth.jwt.secret"),
        ("auth: {jwt: {algorithm: RS256}}", "auth.jwt.algorithm"),
        ("auth: {jwt: {algorithm: none}}", "auth.jwt.algorithm"),
        ("auth: {jwt: {private_key_path: missing.pem}}", "auth.jwt.algorithm"),
        ("auth: {jwt: {private_key_path: missing.pem, algorithm: EdDSA}}", "auth.jwt.private_key_path"),
        ("auth: {jwt: {secret: 0123456789abcdef0123456789abcdef, algorithm: RS256}}", "auth.jwt.algorithm"),
        ("auth: {jwt: {access_ttl: 0s}}", "auth.jwt.access_ttl"),
        ("auth: {jwt: {refresh_ttl: 1m}}", "auth.jwt.refresh_ttl"),
        ("auth: {jwt: {leeway: 1h}}", "auth.jwt.leeway"),
        ("auth: {jwt: {issuers: [{issuer: a, audience: b}]}}", "auth.jwt.issuers[0].jwks_url"),
        (
            "auth: {jwt: {issuers: [{issuer: a, audience: b, jwks_url: 'http://idp.example/k'}]}}",
            "auth.jwt.issuers[0].jwks_url",
        ),
        (
            "auth: {jwt: {issuers: [{issuer: tidegate, audience: b, jwks_path: k}]}}",
            "auth.jwt.issuers[0].issuer",
        ),
        (&hash("hunter22"), "auth.users[0].password_hash"),
        (
            &hash("$argon2i$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAA"),
            "auth.users[0].password_hash",
        ),
        (
            &hash("$argon2id$v=19$m=64,t=2,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAA"),
            "auth.users[0].password_hash",
        ),
        (
            "auth: {api_keys: [{name: k, tenant: t, key: 0123456789abcdef, allowed_models: []}]}",
            "auth.api_keys[0].allowed_models",
        ),
    ] {
        assert!(paths(yaml).contains(&path.to_owned()), "{yaml}: {:?}", problems(yaml));
        assert!(problems(yaml).iter().all(|p| !p.contains("hunter22")), "secrets stay out");
    }
    let no_key = hash("$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAA");
    assert_eq!(paths(&no_key), ["auth.jwt.secret"]);
}

#[test]
fn cached_tokens_cost_what_others_do_unless_they_have_a_price() {
    let of = |price: &str| {
        let yaml =
            format!("providers: [{{name: a, type: openai, base_url: 'https://h/v1', price: {price}}}]");
        parse(&yaml, &env(&[])).expect("valid").providers[0].price
    };
    assert_eq!(of("{input: 2, output: 8}"), Price { input: 2.0, output: 8.0, cached_input: 2.0 });
    assert_eq!(of("{input: 2, cached_input: 0.5}"), Price { input: 2.0, output: 0.0, cached_input: 0.5 });
}

#[test]
fn rules_have_levels_and_those_of_the_defaults_are_laid_on_them() {
    let yaml = "limiter:
  default_rate: 7
  rules:
    - {tokens_per_minute: 1000, concurrency: 3}
    - {tenant: '*', tokens_per_day: 5000}
    - {tenant: acme, requests_per_second: 2, burst: 9}
    - {ip: '2001:db8:1:2:3::1', rate: 1}
    - {key: '*', route: /v1/chat/completions, model: 'a/b:c', tokens_per_minute: 10}
";
    let rules = parse(yaml, &env(&[])).expect("valid").limiter.limits.rules;
    let shown: Vec<_> = rules
        .iter()
        .map(|rule| {
            let value = |a: Attribute| rule.select.get(a).map(|v| format!("{}={v}", a.label()));
            let select: Vec<_> = Attribute::ALL.into_iter().filter_map(value).collect();
            let counts = (rule.tokens_per_minute, rule.tokens_per_day, rule.concurrency);
            (select.join(" "), rule.requests.map(|r| (r.rate, r.burst)), counts)
        })
        .collect();
    let row = |select: &str, requests, counts| (select.to_owned(), requests, counts);
    assert_eq!(
        shown,
        [
            row("", Some((10_000.0, 10_000)), (Some(1000), None, Some(3))),
            row("tenant=*", Some((7.0, 7)), (None, Some(5000), None)),
            row("ip=2001:db8:1:2::/64", Some((1.0, 1)), (None, None, None)),
            row("key=* route=chat_completions model=a/b:c", None, (Some(10), None, None)),
            row("tenant=acme", Some((2.0, 9)), (None, None, None)),
        ]
    );
}

#[test]
fn accounts_of_amazon_and_google_make_addresses() {
    let address = |yaml: &str| {
        let config = parse(&format!("providers: [{{name: a, {yaml}}}]"), &env(&[("KEY", "k")])).expect(yaml);
        let crate::llm::ProviderKind::Remote(remote) = &config.providers[0].kind else { panic!("a server") };
        remote.base_url.to_string()
    };
    let aws = "type: bedrock, region: eu-west-1, access_key_id: AKID, secret_access_key: '${KEY}'";
    assert_eq!(address(aws), "https://bedrock-runtime.eu-west-1.amazonaws.com/");
    assert_eq!(
        address("type: vertex, project: p, location: global, api_key: token"),
        "https://aiplatform.googleapis.com/v1/projects/p/locations/global/publishers/google"
    );
    let wrong = "providers: [{name: a, type: openai, region: x, secret_key: y}, \
                 {name: b, type: vertex, project: 'a/b', service_account: missing.json}]";
    let problems = parse(wrong, &env(&[])).expect_err("wrong").to_string();
    for field in ["[0].region", "[0].secret_key", "type: ernie_classic", "[1].project", "[1].service_account"]
    {
        assert!(problems.contains(field), "{field}: {problems}");
    }
}

#[test]
fn tenants_that_share_a_limit_may_have_weights() {
    let limits = |yaml: &str| parse(&format!("limiter: {yaml}"), &Env::new()).expect("valid").limiter.limits;
    let weighted = limits("{weights: {acme: 4, '*': 2}}");
    assert_eq!((weighted.weight("acme"), weighted.weight("other")), (4, 2));
    assert_eq!(limits("{}").weight("acme"), 1);
    let wrong = "limiter: {weights: {a: 0, b: 1001, 'c d': 1, e: }}";
    let expected = ["limiter.weights.a", "limiter.weights.b", "limiter.weights.c d", "limiter.weights.e"];
    assert_eq!(paths(wrong), expected);
    assert_eq!(paths("limiter: {weights: {a: 1.5}}"), ["limiter.weights.a"]);
}

#[test]
fn a_rule_may_be_of_the_whole_fleet() {
    use tidegate_core::limit::lease::OnLoss;
    use tidegate_core::policy::Scope;

    let limits = |yaml: &str| parse(&format!("limiter: {yaml}"), &Env::new()).expect("valid").limiter.limits;
    let shared = limits("{fleet: {on_redis_loss: closed}, rules: [{tenant: acme, rate: 5, scope: fleet}]}");
    assert_eq!(shared.on_redis_loss, OnLoss::Closed);
    let of = |scope| shared.rules.iter().filter(|rule| rule.scope == scope).count();
    assert_eq!((of(Scope::Fleet), of(Scope::Gateway)), (1, 2));
    assert_eq!(limits("{}").on_redis_loss, OnLoss::Share);
    let both =
        limits("{rules: [{tenant: '*', tokens_per_day: 9, scope: fleet}, {tenant: '*', concurrency: 2}]}");
    let of_tenants: Vec<_> = both.rules.iter().filter(|rule| rule.select.tenant.is_some()).collect();
    let kinds: Vec<Vec<_>> = of_tenants.iter().map(|rule| rule.kinds().collect()).collect();
    assert_eq!(kinds, [vec!["requests", "concurrency"], vec!["tokens_per_day"]]);
    let wrong = "limiter: {rules: [{tenant: a, rate: 5, concurrency: 2, scope: fleet}, {tenant: a, rate: 6, concurrency: 1}]}";
    assert_eq!(paths(wrong), ["limiter.rules[1].rate"]);
    let wrong =
        "limiter: {fleet: {on_redis_loss: wait, gateways: 3}, rules: [{tenant: a, rate: 5, scope: all}]}";
    let expected = ["limiter.fleet.on_redis_loss", "limiter.fleet.gateways", "limiter.rules[0].scope"];
    assert_eq!(paths(wrong), expected);
}
