//! The providers' official clients, unchanged, run as programs of their own.

use std::path::PathBuf;
use std::process::Stdio;

use tokio::process::Command;

use super::error::HarnessError;
use super::paths;

/// What the machine is set up for, and is nobody's business in a test.
const FOREIGN: [&str; 7] = [
    "OPENAI_BASE_URL",
    "ANTHROPIC_BASE_URL",
    "ANTHROPIC_AUTH_TOKEN",
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
];

/// Runs a script of `e2e/clients` with the interpreter that its ending asks for: `.py` or `.cjs`.
///
/// # Errors
/// The interpreter is not installed, or the script does not end with `ok`; the error carries
/// what it said.
pub async fn run_official_client(script: &str, arguments: &[&str]) -> Result<(), HarnessError> {
    let path = paths::workspace_root().join("e2e/clients").join(script);
    let mut command = if script.ends_with(".cjs") { node()? } else { Command::new(paths::client_python()?) };
    for name in FOREIGN {
        command.env_remove(name);
    }
    let output = command
        .arg(path)
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(HarnessError::io(format!("running {script}")))?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() && out.trim_end() == "ok" {
        return Ok(());
    }
    Err(HarnessError::Program(format!("{script} ended with {}:\n{out}{err}", output.status)))
}

fn node() -> Result<Command, HarnessError> {
    let node: PathBuf = paths::client_node()?;
    let modules = node.ancestors().nth(2).map(|dir| dir.join("node_modules"));
    let mut command = Command::new(node);
    command.env("NODE_PATH", modules.unwrap_or_default());
    Ok(command)
}
