//! Memory over many requests: it must not grow with their number.

use std::fmt::Write;

use crate::beds::{Pair, RunningBed};
use crate::cases::Case;
use crate::error::BenchError;
use crate::load::{Load, Target, Until};
use crate::provider::Provider;
use crate::table::mib;

const CONNECTIONS: usize = 32;
/// Looks at the memory during a run, besides the one before it.
const LOOKS: u64 = 10;

/// Sends `requests` to each case in turn and returns the table.
pub(crate) async fn run(cases: &[Case], requests: u64) -> Result<String, BenchError> {
    let provider = Provider::start().await?;
    let mut text = String::from("\n| case | requests | Envoy | sidecar |\n|---|---|---|---|\n");
    for case in cases {
        eprintln!("memory: {}", case.title);
        let bed = RunningBed::start(case.bed, &provider).await?;
        row(&mut text, case, 0, bed.rss_at_rest);
        let target =
            Target { address: bed.address, template: case.template(bed.headers()), expected_line: None };
        let mut load = Load::open(&target, CONNECTIONS).await?;
        let mut sent = 0;
        for look in 1..=LOOKS {
            let next = requests * look / LOOKS - sent;
            load.run(Until::Requests(next)).await.map_err(BenchError::doing(case.title))?;
            sent += next;
            row(&mut text, case, sent, bed.rss_mib()?);
        }
    }
    Ok(text)
}

fn row(text: &mut String, case: &Case, sent: u64, rss: Pair) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "| {} | {sent} | {} | {} |", case.title, mib(rss.envoy), mib(rss.sidecar));
}
