//! The same lines grouped by drain3, where `scripts/setup-drain3` has installed it.

use std::path::PathBuf;
use std::process::Stdio;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::data::Line;
use crate::error::BenchError;

/// The program that groups.
const SCRIPT: &str = include_str!("../../drain3/group.py");

/// The group of each line; none where drain3 is not installed.
pub(super) async fn group(lines: &[Line]) -> Result<Option<Vec<String>>, BenchError> {
    let tools = std::env::var_os("TIDEGATE_TOOLS").map_or_else(|| PathBuf::from(".tools"), PathBuf::from);
    let python = tools.join("drain3/bin/python");
    if !python.exists() {
        return Ok(None);
    }
    let doing = || BenchError::doing("running drain3");
    let mut child = Command::new(python)
        .args(["-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(doing())?;
    let mut input = String::new();
    for line in lines {
        let message = serde_json::to_string(&line.message);
        input.push_str(&message.map_err(BenchError::doing("a log line"))?);
        input.push('\n');
    }
    let stdin = child.stdin.take().ok_or_else(|| BenchError::new("drain3 takes no input".to_owned()))?;
    let feed = async move {
        let mut stdin = stdin;
        stdin.write_all(input.as_bytes()).await
    };
    let (fed, output) = tokio::join!(feed, child.wait_with_output());
    fed.map_err(doing())?;
    let output = output.map_err(doing())?;
    let groups: Vec<String> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    match output.status.success() && groups.len() == lines.len() {
        true => Ok(Some(groups)),
        false => {
            Err(BenchError::new(format!("drain3 gave {} groups for {} lines", groups.len(), lines.len())))
        }
    }
}
