//! Incidents played through the real gateway: who is refused that would have succeeded, and who is
//! not that was doomed; beside breakers that know the status alone, on the same requests.

mod classic;
mod file;
mod outlier;
mod score;
mod script;
mod traffic;
#[cfg(test)]
mod virtual_time;
mod watch;

use std::path::PathBuf;

use tidegate_core::policy::BreakerPolicy;
use tidegate_e2e::harness::{Client, Gateway, workspace_root};

use self::file::Scenario;
use self::outlier::OutlierDetection;
use self::score::{Outcome, Score};
use crate::error::BenchError;

const TENANTS: [&str; 6] = ["acme", "beta", "core", "demo", "echo", "fjord"];
/// The defaults that every scenario runs with.
const BREAKER: BreakerPolicy = BreakerPolicy {
    failure_threshold: 10,
    window_ms: 10_000,
    recovery_timeout_ms: 30_000,
    recovery_increment: 0.2,
};

/// How scenarios are played.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Play {
    /// Those whose names have one of these words in them; all without any.
    pub(crate) only: Vec<String>,
    /// Without the plain Envoy beside the gateway.
    pub(crate) ours: bool,
    /// Whether to tell what becomes of the policies.
    pub(crate) verbose: bool,
}

/// Plays the scenarios in `bench/scenarios`, and gives the table.
pub(crate) async fn run(play: &Play) -> Result<String, BenchError> {
    let folder: PathBuf = workspace_root().join("bench/scenarios");
    let mut table = String::from(
        "\n### Incidents\n\nBystanders killed, in percent of the requests that would have succeeded, and doomed \
         requests refused, in percent of those after the first refusal. Onset counts from when a fault is worth \
         refusing for: 85 % of its slice. Beside it, on the same requests: a textbook breaker with the same \
         thresholds for each route and model, and one for the provider, both simulated; and a real Envoy with \
         outlier detection.\n\n\
         | scenario | killed | doomed refused | onset | recovery | breaker by route: killed / refused | by \
         provider | Envoy's outlier detection | verdict |\n|---|---|---|---|---|---|---|---|---|\n",
    );
    let mut onsets = Vec::new();
    for (name, scenario) in file::read(&folder, &play.only)? {
        eprintln!("scenario {name}");
        let row = one(&scenario, play).await?;
        onsets.extend(row.gateway.onset_s);
        table.push_str(&row.line(&scenario));
    }
    onsets.sort_by(f64::total_cmp);
    if let (Some(median), Some(worst)) = (onsets.get(onsets.len() / 2), onsets.last()) {
        table.push_str(&format!("\nOnset to enforcement: median {median:.1} s, worst {worst:.1} s.\n"));
    }
    Ok(table)
}

struct Row {
    gateway: Score,
    failed_otherwise: u64,
    by_route: Score,
    by_provider: Score,
    outlier: Option<Score>,
}

async fn one(scenario: &Scenario, play: &Play) -> Result<Row, BenchError> {
    let gateway = start(scenario).await?;
    let clients: Vec<(String, Client)> = TENANTS
        .iter()
        .map(|tenant| ((*tenant).to_owned(), Client::new().with_key(&key_of(tenant))))
        .collect();
    let envoy = if play.ours { None } else { Some(OutlierDetection::start(&gateway).await?) };
    let running = traffic::run(&gateway, envoy.as_ref(), &clients, scenario);
    let sent = if play.verbose {
        tokio::select! {
            sent = running => sent?,
            () = watch::policies(&gateway) => Vec::new(),
        }
    } else {
        running.await?
    };
    Ok(Row {
        gateway: score::gateway(scenario, &sent),
        failed_otherwise: sent.iter().filter(|request| request.failed && !request.doomed).count() as u64,
        by_route: score::classic(scenario, &sent, &BREAKER, &["route", "model"]),
        by_provider: score::classic(scenario, &sent, &BREAKER, &[]),
        outlier: score::outlier_detection(scenario, &sent),
    })
}

fn key_of(tenant: &str) -> String {
    format!("sk-key-of-{tenant}-0123456789")
}

async fn start(scenario: &Scenario) -> Result<Gateway, BenchError> {
    let keys: String = TENANTS
        .iter()
        .map(|tenant| format!("    - {{name: {tenant}, key: {}, tenant: {tenant}}}\n", key_of(tenant)))
        .collect();
    let config = format!(
        "providers:\n  - {{{{openai}}}}\n    timeout: 2s\n    \
         models: [gpt-4o, gpt-4o-mini, text-embedding-3-small]\nauth:\n  api_keys:\n{keys}{}",
        scenario.config
    );
    Ok(Gateway::builder().config_yaml(&config).workers(1).start().await?)
}

impl Row {
    fn line(&self, scenario: &Scenario) -> String {
        let Self { gateway, by_route, by_provider, outlier, .. } = self;
        let seconds = |s: Option<f64>| s.map_or_else(|| "–".to_owned(), |s| format!("{s:.1} s"));
        let pair = |s: &Score| format!("{:.1} / {:.1}", s.killed_percent(), s.refused_percent());
        let doomed = match gateway.doomed {
            0 => "–".to_owned(),
            _ => format!("{:.1}", gateway.refused_percent()),
        };
        format!(
            "| {} | {:.2} | {doomed} | {} | {} | {} | {} | {} | {} |\n",
            scenario.title,
            gateway.killed_percent(),
            seconds(gateway.onset_s),
            seconds(gateway.recovery_s),
            pair(by_route),
            pair(by_provider),
            outlier.as_ref().map_or_else(|| "–".to_owned(), pair),
            self.verdict(scenario)
        )
    }

    fn verdict(&self, scenario: &Scenario) -> String {
        let mut missed = Outcome::from(&self.gateway).missed(&scenario.expect);
        if self.failed_otherwise > 0 {
            missed.push(format!("{} failed that were not doomed", self.failed_otherwise));
        }
        if missed.is_empty() { "as expected".to_owned() } else { format!("**{}**", missed.join(", ")) }
    }
}
