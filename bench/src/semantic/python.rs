//! The same model on the same texts in Python's onnxruntime, in the same run.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::json;
use tidegate_e2e::harness::workspace_root;

use super::encoder::Encoder;
use crate::error::BenchError;
use crate::stats::median;

/// Texts that both embed, and in how many turns: slow moments of the machine touch both.
const TEXTS: usize = 5_000;
const TURNS: usize = 5;
/// Which Python is used, if not `python3`.
const VARIABLE: &str = "BENCH_PYTHON";

/// Both rates, or why there is one only.
pub(crate) async fn report(texts: &[String], encoder: &Encoder) -> Result<String, BenchError> {
    eprintln!("semantic: Python's onnxruntime");
    let texts: Vec<&str> = texts.iter().take(TEXTS).map(String::as_str).collect();
    let title = format!(
        "\n### Embedding\n\n{} texts in {TURNS} turns, {}, one thread, batches of 32. Medians.\n",
        texts.len(),
        encoder.name()
    );
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for part in texts.chunks(texts.len().div_ceil(TURNS).max(1)) {
        let (_, own) = encoder.embed(part).await?;
        let other = match rate(part, encoder) {
            Ok(other) => other,
            Err(why) => {
                let alone =
                    format!("The sidecar's service: {own:.0} texts/s. Nothing to compare with: {why}");
                return Ok(format!("{title}\n{alone}\n"));
            }
        };
        ours.push(own);
        theirs.push(other);
        ratios.push(own / other);
    }
    Ok(format!(
        "{title}\n| runtime | texts/s | |\n|---|---|---|\n| Python onnxruntime | {:.0} | 1.00x |\n\
         | sidecar | {:.0} | {:.2}x |\n",
        median(theirs),
        median(ours),
        median(ratios)
    ))
}

fn rate(texts: &[&str], encoder: &Encoder) -> Result<f64, BenchError> {
    let python = std::env::var_os(VARIABLE).unwrap_or_else(|| "python3".into());
    let settings = encoder.settings();
    let task = json!({
        "model": settings.model_path, "tokenizer": settings.tokenizer_path, "prefix": settings.prefix,
        "pad_id": settings.pad_id, "tokens_max": settings.tokens_max, "texts": texts,
    });
    let doing = || format!("running {} (set {VARIABLE})", python.display());
    let mut child = Command::new(&python)
        .arg(workspace_root().join("bench/embed.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(BenchError::doing(doing()))?;
    if let Some(mut input) = child.stdin.take() {
        // A script that has ended already says why on its own.
        let _ = input.write_all(task.to_string().as_bytes());
    }
    let output = child.wait_with_output().map_err(BenchError::doing(doing()))?;
    let (answer, problem) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let last = problem.lines().last().unwrap_or("no number");
    answer.trim().parse().map_err(|_| {
        BenchError::new(format!(
            "{}: {last}; `pip install onnxruntime tokenizers numpy`, or set {VARIABLE}",
            python.display()
        ))
    })
}
