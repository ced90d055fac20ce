//! The binary as a person or a script meets it.

use std::io::{BufRead, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(30);

fn tidegate(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.env_clear().current_dir(folder).env("STATE_DIR", folder.join("state"));
    command
}

fn output(folder: &Path, arguments: &[&str]) -> Output {
    tidegate(folder).args(arguments).output().expect("runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn write(folder: &Path, yaml: &str) -> String {
    let path = folder.join("gateway.yaml");
    std::fs::write(&path, yaml).expect("writes");
    path.display().to_string()
}

#[test]
fn check_and_run_refuse_a_bad_file_with_every_path_and_exit_2() {
    let folder = tempfile::tempdir().expect("folder");
    let file = write(folder.path(), "server: {port: 0}\nlimiter: {default_rate: -1}\nkafka: {}\n");
    for command in ["check", "run", "envoy"] {
        let refused = output(folder.path(), &[command, "--config", &file]);
        assert_eq!(refused.status.code(), Some(2), "{command}");
        let words = text(&refused.stderr);
        for path in ["server.port: ", "limiter.default_rate: ", "kafka.brokers: "] {
            assert!(words.contains(path), "{command}: {words}");
        }
        assert!(refused.stdout.is_empty());
    }
    assert!(!folder.path().join("state").exists(), "nothing was started");
    let good = write(folder.path(), "");
    assert_eq!(output(folder.path(), &["check", "--config", &good]).status.code(), Some(0));
    assert_eq!(output(folder.path(), &["check", "--config", "missing.yaml"]).status.code(), Some(2));
}

#[test]
fn help_hash_key_and_mistakes() {
    let folder = tempfile::tempdir().expect("folder");
    let help = output(folder.path(), &["--help"]);
    assert!(help.status.success());
    for command in ["run", "check", "envoy", "hash-key"] {
        assert!(text(&help.stdout).contains(command));
    }
    let hashed = text(&output(folder.path(), &["hash-key", "0123456789abcdef"]).stdout);
    assert_eq!(hashed, "sha256:9f9f5111f7b27a781f1f1ddde5ebc2dd2b796bfc7365c9c28b548e564176929f\n");
    assert_eq!(output(folder.path(), &["hash-key", "short"]).status.code(), Some(1));
    assert_eq!(output(folder.path(), &["serve"]).status.code(), Some(2));
}

#[test]
fn envoy_prints_the_token_that_run_will_ask_for() {
    let folder = tempfile::tempdir().expect("folder");
    let file = write(folder.path(), "");
    let first = output(folder.path(), &["envoy", "--config", &file]);
    assert!(first.status.success());
    let token = std::fs::read_to_string(folder.path().join("state/internal_token")).expect("token");
    assert!(text(&first.stdout).contains(&token));
    assert_eq!(output(folder.path(), &["envoy", "--config", &file]).stdout, first.stdout);
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already unless the test failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run(folder: &Path, file: &str) -> Running {
    let mut command = tidegate(folder);
    command.args(["run", "--config", file]).stdout(Stdio::piped()).stderr(Stdio::piped());
    Running(command.spawn().expect("starts"))
}

/// Reads the log until a line holds `words`.
fn wait_for(log: &mut impl BufRead, words: &str) -> String {
    let started = Instant::now();
    let mut line = String::new();
    while started.elapsed() < DEADLINE && log.read_line(&mut line).expect("reads") > 0 {
        if line.contains(words) {
            return line;
        }
        line.clear();
    }
    panic!("`{words}` was not logged");
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status();
    assert!(sent.expect("kill runs").success());
}

#[test]
fn run_shows_its_key_once_reloads_on_sighup_and_exits_0_on_sigterm() {
    let folder = tempfile::tempdir().expect("folder");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let port = taken.local_addr().expect("address").port();
    let file = write(folder.path(), &format!("server: {{sidecar_port: {port}}}\n"));

    let mut blocked = run(folder.path(), &file);
    assert_eq!(blocked.0.wait().expect("ends").code(), Some(1), "the port is taken");
    drop(taken);

    // A start that fails makes no key, since it could not be shown.
    for first in [true, false] {
        let mut child = run(folder.path(), &file);
        let mut log = BufReader::new(child.0.stderr.take().expect("stderr"));
        let line = wait_for(&mut log, "\"message\":\"serving\"");
        assert!(line.starts_with('{') && line.contains(&port.to_string()), "{line}");
        signal(&child.0, "HUP");
        wait_for(&mut log, "configuration reloaded");
        signal(&child.0, "TERM");
        assert_eq!(child.0.wait().expect("ends").code(), Some(0));
        let mut shown = String::new();
        child.0.stdout.take().expect("stdout").read_to_string(&mut shown).expect("reads");
        assert_eq!(shown.contains("tg-"), first, "{shown}");
    }
}

#[test]
fn passwords_are_hashed_from_standard_input_and_the_audit_log_is_checked() {
    use std::io::Write as _;
    let folder = tempfile::tempdir().expect("folder");
    let hash = |password: &str| {
        let mut command = tidegate(folder.path());
        command.arg("hash-password").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("starts");
        child.stdin.take().expect("piped").write_all(password.as_bytes()).expect("writes");
        child.wait_with_output().expect("ends")
    };
    assert!(text(&hash("correct horse\n").stdout).starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
    assert_eq!(hash("short\n").status.code(), Some(1));
    let file = write(folder.path(), "");
    let checked = output(folder.path(), &["check-audit", "--config", &file]);
    assert!(checked.status.success() && text(&checked.stdout).starts_with("audit log: ok, 0 entries"));
}
