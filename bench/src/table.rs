//! The results in Markdown.

use std::fmt::Write;

use crate::cases::CONNECTIONS;
use crate::speed::{Memory, Sample, Series};

/// The tables of a speed run.
pub(crate) fn speed(all: &[Series], memory: &[Memory]) -> String {
    let mut text = String::new();
    for connections in CONNECTIONS {
        let rows: Vec<&Series> = all.iter().filter(|s| s.connections == connections).collect();
        let Some(base) = rows.first().copied() else {
            continue;
        };
        let plural = if connections == 1 { "" } else { "s" };
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "\n### {connections} connection{plural}\n\n\
             | case | requests/s | p50 | p99 | added p50 | CPU ms/1000: Envoy | sidecar | both |\n\
             |---|---|---|---|---|---|---|---|\n"
        );
        for row in &rows {
            text.push_str(&speed_row(row, base));
        }
    }
    text.push_str(
        "\n### Memory\n\n| case | Envoy at rest | after | sidecar at rest | after |\n|---|---|---|---|---|\n",
    );
    for row in memory {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} |",
            row.case.title,
            mib(row.at_rest.envoy),
            mib(row.after.envoy),
            mib(row.at_rest.sidecar),
            mib(row.after.sidecar)
        );
    }
    text
}

fn speed_row(row: &Series, base: &Series) -> String {
    let with_ratio = |decimals: usize, figure: &dyn Fn(&Sample) -> f64| {
        format!("{:.decimals$} ({:.2}x)", row.median(figure), row.ratio(base, figure))
    };
    let added_us = row.median(|s| s.p50_us) - base.median(|s| s.p50_us);
    format!(
        "| {} | {} | {} us | {} us | {added_us:+.0} us | {:.1} | {:.1} | {} |\n",
        row.case.title,
        with_ratio(0, &|s| s.requests_per_second),
        with_ratio(0, &|s| s.p50_us),
        with_ratio(0, &|s| s.p99_us),
        row.median(|s| s.cpu_ms.envoy),
        row.median(|s| s.cpu_ms.sidecar),
        with_ratio(1, &|s| s.cpu_ms.sum()),
    )
}

/// Mebibytes, or a dash for a process that is not there.
pub(crate) fn mib(value: f64) -> String {
    if value > 0.0 { format!("{value:.1} MiB") } else { "-".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::beds::Pair;
    use crate::cases::CASES;

    #[test]
    fn ratios_are_medians_of_the_rounds() {
        let sample = |rate: f64, cpu: f64| Sample {
            requests_per_second: rate,
            p50_us: 1e6 / rate,
            p99_us: 2e6 / rate,
            cpu_ms: Pair { envoy: cpu, sidecar: 0.0 },
        };
        let series = |index: usize, samples| Series { case: CASES[index], connections: 1, samples };
        let base = series(0, vec![sample(100.0, 10.0), sample(50.0, 20.0), sample(100.0, 10.0)]);
        let half = series(1, vec![sample(50.0, 15.0), sample(25.0, 30.0), sample(50.0, 15.0)]);
        let text = speed(&[base, half], &[]);
        assert!(text.contains("| no-op filter | 50 (0.50x) |"), "{text}");
        assert!(text.contains("15.0 (1.50x) |"), "{text}");
    }
}
