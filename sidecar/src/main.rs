//! The command `tidegate`.

use std::io::{BufRead as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use tidegate::cli::{self, Command};
use tidegate::config::{self, Config, Env, Problems};
use tidegate::control::Origin;
use tidegate::give_way::give_way;
use tidegate::keys::Digest;
use tidegate::{audit, cpu, envoy_config, logging, login, run, store};

/// A request takes and gives back some seventy pieces of memory, several of them of 8 KiB: with the system's
/// allocator a seventh of its instructions, with this one a sixteenth.
#[global_allocator]
static MEMORY: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Bad command line, bad configuration, or unsuitable processor.
const EXIT_UNUSABLE: u8 = 2;
/// Longest line looked at for a password, in bytes.
const PASSWORD_LINE_MAX: u64 = 4096;

fn main() -> ExitCode {
    if !cpu::is_fit() {
        return unfit();
    }
    begin()
}

/// Kept apart, so that nothing of it runs on a processor that is not fit.
#[inline(never)]
fn unfit() -> ExitCode {
    let message: &[u8] =
        b"tidegate: this build needs a processor with AVX2, FMA and BMI2 (x86-64-v3); build it for \
        this one with CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS= make build\n";
    // There is nowhere else to report to.
    let _ = std::io::stderr().write_all(message);
    ExitCode::from(EXIT_UNUSABLE)
}

#[inline(never)]
fn begin() -> ExitCode {
    let command = match cli::parse(std::env::args_os().skip(1)) {
        Ok(command) => command,
        Err(error) => {
            eprintln!("tidegate: {error}");
            return ExitCode::from(EXIT_UNUSABLE);
        }
    };
    match obey(command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tidegate: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn obey(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Help => print(cli::HELP)?,
        Command::Version => print(concat!("tidegate ", env!("CARGO_PKG_VERSION"), "\n"))?,
        Command::HashKey(key) => {
            config::auth::usable(&key).map_err(|what| anyhow::anyhow!("the key {what}"))?;
            print(&format!("{}\n", Digest::of(&key)))?;
        }
        Command::HashPassword => {
            print(&format!("{}\n", login::hash(&password()?).map_err(anyhow::Error::msg)?))?
        }
        Command::CheckAudit(path) => match config::load(&path, &environment()) {
            Ok(config) => return check_audit(&config),
            Err(problems) => return Ok(refused(&path, &problems)),
        },
        Command::Check(path) => match config::load(&path, &environment()) {
            Ok(config) => {
                for section in &config.without_effect {
                    eprintln!("{}: {section}: {}", path.display(), without_effect(section));
                }
                print(&format!("{}: ok\n", path.display()))?;
            }
            Err(problems) => return Ok(refused(&path, &problems)),
        },
        Command::Envoy(path) => match config::load(&path, &environment()) {
            Ok(config) => {
                let token = store::internal_token(config.store.folder())?;
                if let Some(tls) = &config.security.tls {
                    let secrets = envoy_config::Secrets::beside(config.store.folder());
                    secrets.publish(tls).context("cannot write what tells Envoy of the certificates")?;
                }
                print(&envoy_config::render(&config, &token))?;
            }
            Err(problems) => return Ok(refused(&path, &problems)),
        },
        Command::Run(path) => match config::load(&path, &environment()) {
            Ok(config) => return serve(config, path),
            Err(problems) => return Ok(refused(&path, &problems)),
        },
    }
    Ok(ExitCode::SUCCESS)
}

/// Said of a section that nothing uses, and what would use it.
fn without_effect(section: &str) -> &'static str {
    match section {
        "kafka" => "is valid, but nothing uses it: set bus.type: kafka, or remove it",
        "etcd" => "is valid, but nothing uses it: set store.type: etcd, or remove it",
        _ => "is empty, and kept for a later version: remove it",
    }
}

/// One line, so that it need not stand in a shell's history.
fn password() -> anyhow::Result<String> {
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .take(PASSWORD_LINE_MAX)
        .read_line(&mut line)
        .context("cannot read the password")?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn check_audit(config: &Config) -> anyhow::Result<ExitCode> {
    let verdict = audit::verify(&store::Store::open(&config.store.path)?)?;
    match verdict.broken_at {
        None => {
            print(&format!("audit log: ok, {} entries, head {}\n", verdict.entries, verdict.head))?;
            Ok(ExitCode::SUCCESS)
        }
        Some(seq) => anyhow::bail!("the audit log was tampered with: entry {seq} does not fit"),
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("cannot write to standard output")
}

fn refused(path: &Path, problems: &Problems) -> ExitCode {
    for problem in problems.list() {
        eprintln!("{}: {problem}", path.display());
    }
    eprintln!("{}: {} problem(s); nothing was started", path.display(), problems.list().len());
    ExitCode::from(EXIT_UNUSABLE)
}

/// Variables that are not text are none of ours.
fn environment() -> Env {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

fn serve(config: Config, path: PathBuf) -> anyhow::Result<ExitCode> {
    // SAFETY: the runtime and its threads are started below; no other thread runs yet.
    unsafe { tidegate::llm::compute_on_one_thread() };
    logging::start(config.logging);
    for section in &config.without_effect {
        tracing::warn!(section, "the section {}", without_effect(section));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.server.threads)
        .on_thread_park(give_way)
        .enable_all()
        .build()
        .context("cannot start the worker threads")?;
    runtime.block_on(async {
        let (host, port) = (config.server.sidecar_host, config.server.sidecar_port);
        let ready = run::start(config, Origin { path, env: environment() }).await?;
        if let Some(key) = &ready.admin_key {
            print(&format!("admin key, shown this once and kept as a digest only: {key}\n"))?;
        }
        let stop = run::signals(ready.gateway())?;
        tracing::info!(%host, port, version = env!("CARGO_PKG_VERSION"), "serving");
        let finished = ready.serve(stop).await;
        if !finished {
            tracing::warn!("requests were still in flight when server.drain_timeout ended");
        }
        tracing::info!("stopped");
        Ok(ExitCode::SUCCESS)
    })
}
