//! The command line before anything runs: every mistake named at once, and nothing started on them.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;
use tidegate_e2e::harness::{envoy_binary, filter, sidecar_binary, workspace_root};

const GOOD: &str = "\
server: {port: 18080, sidecar_port: 18081, admin_port: 18082}
providers:
  - name: openai
    type: openai
    base_url: https://api.openai.com/v1
    api_key: ${OPENAI_API_KEY}
auth:
  api_keys:
    - {name: ci, key: ci-key-0123456789, tenant: acme}
";

struct Cli {
    dir: TempDir,
    environment: Vec<(&'static str, String)>,
}

impl Cli {
    fn new(config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("gateway.yaml"), config).unwrap();
        let store = dir.path().join("state/tidegate.redb");
        let environment = vec![
            ("GATEWAY__STORE__PATH", store.display().to_string()),
            ("OPENAI_API_KEY", "sk-very-secret-0123456789".to_owned()),
        ];
        Self { dir, environment }
    }

    fn env(mut self, name: &'static str, value: &str) -> Self {
        self.environment.push((name, value.to_owned()));
        self
    }

    fn run(&self, command: &str) -> Output {
        let config = self.dir.path().join("gateway.yaml");
        self.run_on(command, &config)
    }

    fn run_on(&self, command: &str, config: &Path) -> Output {
        Command::new(sidecar_binary().unwrap())
            .args([command, "--config"])
            .arg(config)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .output()
            .unwrap()
    }

    fn check(&self) -> (Option<i32>, String) {
        let output = self.run("check");
        (output.status.code(), said(&output))
    }
}

fn said(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{out}{err}")
}

/// Files that configurations name, and that are none themselves.
const PARTS: [&str; 2] = ["exemplars.yaml", "policy-rules.yaml"];

#[test]
fn a_good_configuration_passes_and_keeps_its_secrets() {
    let (code, text) = Cli::new(GOOD).check();
    assert_eq!(code, Some(0), "{text}");
    assert!(!text.contains("sk-very-secret") && !text.contains("ci-key"), "{text}");
}

#[test]
fn the_configurations_that_come_with_it_are_good() {
    let configs = fs::read_dir(workspace_root().join("configs")).unwrap();
    let mut checked = 0;
    for entry in configs {
        let path = entry.unwrap().path();
        let is_part = PARTS.iter().any(|part| path.ends_with(part));
        if is_part || path.extension().is_none_or(|e| e != "yaml") {
            continue;
        }
        let cli = Cli::new("").env("TIDEGATE_MODELS", "/nowhere").env("CI_KEY", "ci-key-0123456789");
        let cli = cli.env("DEEPSEEK_API_KEY", "sk-deepseek-0123456789");
        let output = cli.run_on("check", &path);
        assert_eq!(output.status.code(), Some(0), "{}: {}", path.display(), said(&output));
        checked += 1;
    }
    assert!(checked >= 1);
}

#[test]
fn every_mistake_is_named_at_once_with_its_path() {
    let config = "\
server:
  port: 70000
limiter:
  default_rate: -5
  rules:
    - {tenant: acme, rate: 10}
    - {tenant: a b, rate: 10}
breaker:
  recovery_timeout: soon
cache:
  l1: {max_bytes: 1}
kafka:
  brokers: [localhost]
providers:
  - type: openai
  - {name: local, type: local}
auth:
  api_keys:
    - {name: ci, key: short, tenant: acme}
";
    let cli = Cli::new(config);
    for command in ["check", "run", "envoy"] {
        let output = cli.run(command);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(2), "{command}: {text}");
        for path in [
            "server.port",
            "limiter.default_rate",
            "limiter.rules[1].tenant",
            "breaker.recovery_timeout",
            "cache.l1.max_bytes",
            "kafka.brokers",
            "providers[0].name",
            "providers[1].model_path",
            "auth.api_keys[0].key",
        ] {
            assert!(text.contains(path), "{command} does not name {path}:\n{text}");
        }
        assert!(!text.contains("panicked"), "{text}");
    }
    assert!(!cli.dir.path().join("state").exists(), "nothing is made for a bad configuration");
}

#[test]
fn strangers_and_typing_errors_are_refused() {
    let cases = [
        ("servr: {port: 1}\n", "servr"),
        ("server: {prot: 1}\n", "prot"),
        ("limiter: {default_rate: .nan}\n", "limiter.default_rate"),
        ("limiter: {default_rate: 1, default_rate: 2}\n", "default_rate"),
        ("server: [\n", ""),
        ("just text\n", ""),
        ("providers: {}\n", "providers"),
        ("store: {type: cloud}\n", "store.type"),
    ];
    for (config, path) in cases {
        let (code, text) = Cli::new(config).check();
        assert_eq!(code, Some(2), "{config}: {text}");
        assert!(text.contains(path), "{config} does not name {path}: {text}");
    }
    let missing = Cli::new("").run_on("check", Path::new("/nowhere/gateway.yaml"));
    assert_eq!(missing.status.code(), Some(2), "{}", said(&missing));
    assert!(said(&missing).contains("/nowhere/gateway.yaml"));
    let unset = Cli::new(&GOOD.replace("OPENAI_API_KEY", "NO_SUCH_VARIABLE_HERE")).check();
    assert_eq!(unset.0, Some(2), "{}", unset.1);
    assert!(
        unset.1.contains("providers[0].api_key") && unset.1.contains("NO_SUCH_VARIABLE_HERE"),
        "{}",
        unset.1
    );
}

#[test]
fn anonymous_callers_need_a_loopback_address_or_a_confirmation() {
    let open = "server: {host: 0.0.0.0}\nauth: {anonymous: {enabled: true}}\n";
    let (code, text) = Cli::new(open).check();
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("auth.anonymous") && text.contains("i_know"), "{text}");
    let (code, text) = Cli::new(&open.replace("enabled: true", "enabled: true, i_know: true")).check();
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = Cli::new(&open.replace("0.0.0.0", "127.0.0.1")).check();
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn the_environment_overrides_the_file_and_is_checked_as_strictly() {
    let cli = Cli::new(GOOD).env("GATEWAY__LIMITER__DEFAULT_RATE", "-1");
    let (code, text) = cli.check();
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("limiter.default_rate"), "{text}");
    let cli = Cli::new("server: {port: 0}\n").env("GATEWAY__SERVER__PORT", "18083");
    assert_eq!(cli.check().0, Some(0), "{}", cli.check().1);
    let printed = said(&cli.run("envoy"));
    assert!(printed.contains("port_value: 18083"), "{printed}");
    let (code, text) = Cli::new(GOOD).env("GATEWAY__SERVER__PROT", "1").check();
    assert_eq!(code, Some(2), "{text}");
    let renamed = Cli::new(GOOD).env("GATEWAY__PROVIDERS__0__BASE_URL", "ftp://x").check();
    assert!(renamed.0 == Some(2) && renamed.1.contains("providers[0].base_url"), "{}", renamed.1);
}

#[test]
fn a_keys_digest_is_printed_and_accepted() {
    let output =
        Command::new(sidecar_binary().unwrap()).args(["hash-key", "ci-key-0123456789"]).output().unwrap();
    let digest = String::from_utf8(output.stdout).unwrap();
    let digest = digest.trim();
    assert!(output.status.success() && digest.starts_with("sha256:"), "{digest}");
    assert_eq!(digest.len(), "sha256:".len() + 64);
    let config = GOOD.replace("key: ci-key-0123456789", &format!("hash: \"{digest}\""));
    let (code, text) = Cli::new(&config).check();
    assert_eq!(code, Some(0), "{text}");
    let help = Command::new(sidecar_binary().unwrap()).arg("--help").output().unwrap();
    let help = said(&help);
    for command in ["run", "check", "envoy", "hash-key"] {
        assert!(help.contains(command), "{help}");
    }
    let unknown = Command::new(sidecar_binary().unwrap()).arg("fly").output().unwrap();
    assert_eq!(unknown.status.code(), Some(2));
}

#[test]
fn the_printed_envoy_configuration_is_accepted_by_envoy() {
    let upstreams = "\
server:
  port: 18084
  sidecar_port: 18085
  admin_port: 18086
  demo: true
  max_request_body: 1MiB
  sidecar_protocol: h2c
  upstreams:
    - {name: shop, prefix: /shop, address: \"127.0.0.1:3000\"}
    - {name: rest, prefix: /, address: \"localhost:3001\"}
auth: {protect_other_routes: false}
";
    for config in [GOOD, upstreams] {
        let filter = filter().unwrap();
        let cli = Cli::new(config).env("GATEWAY__SERVER__FILTER_PATH", &filter.display().to_string());
        let printed = cli.run("envoy");
        assert!(printed.status.success(), "{}", said(&printed));
        let path = cli.dir.path().join("envoy.yaml");
        fs::write(&path, &printed.stdout).unwrap();
        let validated = Command::new(envoy_binary().unwrap())
            .args(["--mode", "validate", "--log-level", "warning", "--config-path"])
            .arg(&path)
            .output()
            .unwrap();
        assert!(validated.status.success(), "{}", said(&validated));
        // Printing twice gives the same file: the token is made once and kept.
        assert_eq!(cli.run("envoy").stdout, printed.stdout);
    }
}
