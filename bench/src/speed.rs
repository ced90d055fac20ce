//! Throughput, latency and CPU: every case once a round, side by side, medians over the rounds.

use std::time::Duration;

use crate::beds::{Pair, RunningBed};
use crate::cases::{CONNECTIONS, Case};
use crate::error::BenchError;
use crate::load::{Load, Target, Until};
use crate::provider::Provider;
use crate::stats::median;

/// Before each measurement: fills pools and caches, and lets the verdict on the key be cached.
const WARM_UP: Duration = Duration::from_millis(400);
/// Before each measurement that the exact cache takes part in: questions enough to fill it twice (8192
/// answers in 64 MiB), over so many connections. Its answers give way after a minute, which a case waits
/// for its turn: then half of a measurement would be the storing of others.
const FILLING: (u64, usize) = (16_384, 32);

/// One measurement of one case.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) requests_per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// Milliseconds of CPU for a thousand requests.
    pub(crate) cpu_ms: Pair,
}

/// The samples of one case at one number of connections, one a round.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    pub(crate) case: Case,
    pub(crate) connections: usize,
    pub(crate) samples: Vec<Sample>,
}

impl Series {
    /// The median of one figure.
    pub(crate) fn median(&self, figure: impl Fn(&Sample) -> f64) -> f64 {
        median(self.samples.iter().map(figure).collect())
    }

    /// The median of the ratios to the same round of `base`: a slow moment of the machine touches
    /// both and cancels out.
    pub(crate) fn ratio(&self, base: &Self, figure: impl Fn(&Sample) -> f64) -> f64 {
        let pairs = self.samples.iter().zip(&base.samples);
        median(pairs.map(|(mine, theirs)| figure(mine) / figure(theirs)).collect())
    }
}

/// Resident memory of one case's processes, in MiB.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) case: Case,
    pub(crate) at_rest: Pair,
    pub(crate) after: Pair,
}

/// Runs everything.
pub(crate) async fn run(
    cases: &[Case],
    rounds: u32,
    length: Duration,
) -> Result<(Vec<Series>, Vec<Memory>), BenchError> {
    let provider = Provider::start().await?;
    let mut beds = Vec::new();
    for case in cases {
        eprintln!("starting: {}", case.title);
        beds.push(RunningBed::start(case.bed, &provider).await?);
    }
    let mut all = empty_series(cases);
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        for series in &mut all {
            let index = cases.iter().position(|case| case.id == series.case.id);
            let Some(bed) = index.and_then(|index| beds.get(index)) else {
                continue;
            };
            let sample = measure(&series.case, bed, series.connections, length)
                .await
                .map_err(BenchError::doing(series.case.title))?;
            series.samples.push(sample);
        }
    }
    let mut memory = Vec::new();
    for (case, bed) in cases.iter().zip(&beds) {
        memory.push(Memory { case: *case, at_rest: bed.rss_at_rest, after: bed.rss_mib()? });
    }
    Ok((all, memory))
}

fn empty_series(cases: &[Case]) -> Vec<Series> {
    let at =
        |connections| cases.iter().map(move |case| Series { case: *case, connections, samples: Vec::new() });
    CONNECTIONS.into_iter().flat_map(at).collect()
}

async fn measure(
    case: &Case,
    bed: &RunningBed,
    connections: usize,
    length: Duration,
) -> Result<Sample, BenchError> {
    let warm_up =
        Target { address: bed.address, template: case.template(bed.headers()), expected_line: None };
    let target = Target { expected_line: case.expected_line, ..warm_up.clone() };
    if case.fills_cache() {
        let (questions, connections) = FILLING;
        Load::open(&warm_up, connections).await?.run(Until::Requests(questions)).await?;
    }
    Load::open(&warm_up, connections).await?.run(Until::Elapsed(WARM_UP)).await?;
    let mut load = Load::open(&target, connections).await?;
    let before = bed.cpu_seconds()?;
    let measured = load.run(Until::Elapsed(length)).await?;
    let after = bed.cpu_seconds()?;
    let requests = measured.latency.total().max(1) as f64;
    let per_thousand = |seconds: f64| seconds * 1e6 / requests;
    Ok(Sample {
        requests_per_second: requests / measured.elapsed.as_secs_f64(),
        p50_us: measured.latency.quantile(0.50) as f64 / 1e3,
        p99_us: measured.latency.quantile(0.99) as f64 / 1e3,
        cpu_ms: Pair {
            envoy: per_thousand(after.envoy - before.envoy),
            sidecar: per_thousand(after.sidecar - before.sidecar),
        },
    })
}
