//! Tenants that share one limit, through one gateway and through three: what each gets, beside the
//! weighted max-min share by its definition.

use std::fmt::Write;
use std::time::Duration;

use tidegate_e2e::harness::{Caller, Fleet, RedisServer, Tally, crowd};

use crate::error::BenchError;

/// Requests a second that are shared, and as many at once.
const RATE: u32 = 200;
/// Before figures are taken: the burst is used up, and everybody has come.
const WARM_UP: Duration = Duration::from_secs(5);

/// Name, key, weight.
const TENANTS: [(&str, &str, f64); 3] = [
    ("greedy", "greedy-key-0123456789", 1.0),
    ("one", "one-key-0123456789", 1.0),
    ("two", "two-key-0123456789", 2.0),
];
/// What each asks for, in requests a second: one has twenty times its part, beside two that have
/// less than theirs, and beside two that want more.
const LOADS: [[f64; 3]; 2] = [[1000.0, 30.0, 80.0], [1000.0, 200.0, 400.0]];

const CONFIG: &str = "\
providers:
  - {{openai}}
    models: [gpt-4o]
redis: {url: '@REDIS@'}
auth:
  anonymous: {enabled: true}
  api_keys:
    - {name: greedy, key: greedy-key-0123456789, tenant: greedy}
    - {name: one, key: one-key-0123456789, tenant: one}
    - {name: two, key: two-key-0123456789, tenant: two}
limiter:
  weights: {two: 2}
  rules:
    - {route: models, rate: @RATE@, scope: fleet}
";

/// Runs both loads on one gateway and on three, and returns the table.
pub(crate) async fn run(length: Duration) -> Result<String, BenchError> {
    let mut text = String::from(
        "\n| gateways | tenant | weight | asked a second | got a second | weighted max-min | off | failed |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for gateways in [1, 3] {
        let redis = RedisServer::start().await?;
        let config = CONFIG.replace("@REDIS@", &redis.url()).replace("@RATE@", &RATE.to_string());
        let fleet = Fleet::start_with(&config, gateways, RATE).await?;
        let urls: Vec<String> = fleet.gateways.iter().map(|gateway| gateway.url("/v1/models")).collect();
        for load in LOADS {
            eprintln!("fairness: {gateways} gateway(s), {load:?} requests a second");
            let callers: Vec<Caller<'_>> = TENANTS
                .iter()
                .zip(load)
                .map(|((_, key, _), per_second)| Caller { key, per_second })
                .collect();
            crowd(&urls, &callers, WARM_UP).await;
            let tallies = crowd(&urls, &callers, length).await;
            rows(&mut text, gateways, load, &tallies, length);
        }
    }
    Ok(text)
}

fn rows(text: &mut String, gateways: usize, load: [f64; 3], tallies: &[Tally], length: Duration) {
    let fair = max_min(load, f64::from(RATE));
    for (index, ((name, _, weight), tally)) in TENANTS.iter().zip(tallies).enumerate() {
        let got = tally.admitted as f64 / length.as_secs_f64();
        let asked = (tally.admitted + tally.refused) as f64 / length.as_secs_f64();
        let off = (got / fair[index] - 1.0) * 100.0;
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {gateways} | {name} | {weight} | {asked:.0} | {got:.1} | {:.1} | {off:+.1} % | {} |",
            fair[index], tally.failed,
        );
    }
}

/// The weighted max-min share of each: the level up to which all are filled, by halving.
fn max_min(load: [f64; 3], rate: f64) -> [f64; 3] {
    let weights = TENANTS.map(|(_, _, weight)| weight);
    let at = |level: f64| std::array::from_fn::<f64, 3, _>(|i| load[i].min(level * weights[i]));
    let (mut low, mut high) = (0.0, rate);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if at(middle).iter().sum::<f64>() > rate { high = middle } else { low = middle }
    }
    at(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_those_of_the_definition() {
        let round = |load| max_min(load, 200.0).map(|share| share.round());
        assert_eq!(round(LOADS[0]), [90.0, 30.0, 80.0]);
        assert_eq!(round(LOADS[1]), [50.0, 50.0, 100.0]);
    }
}
