//! Every scenario of `bench/scenarios` comes out as it expects, at whatever moment it begins.

use tidegate_e2e::harness::workspace_root;

use super::super::file::{self, Scenario};
use super::super::score::{self, Outcome};
use super::world;

/// Moments after a full second at which scenarios begin, in milliseconds: even over a second, and at
/// all phases of the ticks.
const MOMENTS_MS: [u64; 4] = [3, 262, 508, 754];

async fn plays(names: &[&str], missed: impl Fn(&Scenario, &Outcome) -> Vec<String>) {
    let verbose = std::env::var("VERBOSE").is_ok();
    let only: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let scenarios = file::read(&workspace_root().join("bench/scenarios"), &only).expect("scenarios");
    assert_eq!(scenarios.len(), names.len());
    for (name, scenario) in scenarios {
        for moment_ms in MOMENTS_MS {
            eprintln!("{name}, {moment_ms} ms after the second");
            let sent = world::play(&scenario, moment_ms, verbose).await.expect("plays");
            if verbose {
                for request in sent.iter().filter(|request| request.refused && !request.doomed) {
                    eprintln!("  bystander refused at {:.2} s: {:?}", request.at_s, request.values);
                }
            }
            let score = score::gateway(&scenario, &sent);
            eprintln!("{score:?}");
            let missed = missed(&scenario, &Outcome::from(&score));
            assert!(missed.is_empty(), "{name}, {moment_ms} ms after the second: {missed:?}");
        }
    }
}

fn as_expected(scenario: &Scenario, outcome: &Outcome) -> Vec<String> {
    outcome.missed(&scenario.expect)
}

#[tokio::test]
async fn an_account_is_broken_alone() {
    plays(&["01-", "03-"], as_expected).await;
}

#[tokio::test]
async fn a_model_a_path_and_a_region_are_broken_alone() {
    plays(&["02-", "04-", "05-", "14-"], as_expected).await;
}

#[tokio::test]
async fn what_callers_do_wrong_and_noise_break_nothing() {
    plays(&["06-", "07-", "13-"], as_expected).await;
}

#[tokio::test]
async fn incidents_at_the_same_time_are_told_apart() {
    plays(&["09-", "15-"], as_expected).await;
}

#[tokio::test]
async fn an_outage_and_a_storm_are_stopped() {
    plays(&["10-", "12-"], as_expected).await;
}

#[tokio::test]
async fn a_flapping_model_is_closed_and_opened_in_time() {
    plays(&["11-"], as_expected).await;
}

#[tokio::test]
async fn what_grows_is_closed_when_hardly_anything_succeeds() {
    plays(&["08-", "18-"], as_expected).await;
}

#[tokio::test]
async fn a_limit_that_does_not_help_is_lifted() {
    plays(&["17-"], as_expected).await;
}
