//! The requests of one scenario: sent at their time, whether or not earlier ones are answered. Which
//! of them are doomed is decided here and told to the emulator in the prompt, so that the truth is
//! known of refused requests too. The emulator fails them while the fault lasts: whoever comes to it
//! later than that is answered.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_e2e::emulator::Fault;
use tidegate_e2e::harness::{Answer, Client, Gateway};
use tokio::sync::Mutex;
use tokio::time::{MissedTickBehavior, interval};

use super::file::{Scenario, Slice};
use super::outlier::OutlierDetection;
use super::script::{Drawn, Script, request};
use crate::error::BenchError;

/// One request and what became of it.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    /// Its values.
    pub(crate) values: Slice,
    /// Seconds from the start of the scenario.
    pub(crate) at_s: f64,
    /// The fault that would hit it, if one would.
    pub(crate) doomed: bool,
    /// Its failure shows in its status, or in that there is none.
    pub(crate) looks_failed: bool,
    /// The gateway refused it.
    pub(crate) refused: bool,
    /// It failed otherwise.
    pub(crate) failed: bool,
    /// A plain Envoy with outlier detection refused the same request; absent without one.
    pub(crate) refused_by_envoy: Option<bool>,
}

/// Has the emulator fail requests that carry the marker of a fault that is active now, and no others.
fn arm(gateway: &Gateway, scenario: &Scenario, active: &[bool]) -> Result<(), BenchError> {
    gateway.emulator.disarm_all();
    for (plan, fault) in
        scenario.faults.iter().enumerate().filter(|(plan, _)| active.get(*plan) == Some(&true))
    {
        for (variant, effect) in fault.effects.iter().enumerate() {
            let text = effect.to_string();
            let mut effect = Fault::from_json(text.as_bytes()).map_err(BenchError::doing(text))?;
            effect.matches.contains = Some(marker(plan, variant));
            gateway.emulator.arm(effect).map_err(BenchError::doing("arming a fault"))?;
        }
    }
    Ok(())
}

fn marker(plan: usize, variant: usize) -> String {
    format!("doom-{plan}-{variant}.")
}

/// Sends everything, and gives it in the order of sending.
pub(crate) async fn run(
    gateway: &Gateway,
    envoy: Option<&OutlierDetection>,
    clients: &[(String, Client)],
    scenario: &Scenario,
) -> Result<Vec<Sent>, BenchError> {
    let mut script = Script::new(scenario);
    let mut armed = Vec::new();
    let sent = Arc::new(Mutex::new(Vec::new()));
    let mut ticks = interval(Duration::from_secs_f64(1.0 / f64::from(scenario.rate)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let started = Instant::now();
    let mut under_way = tokio::task::JoinSet::new();
    for number in 0..script.count() {
        ticks.tick().await;
        let at_s = started.elapsed().as_secs_f64();
        let active: Vec<bool> = scenario.faults.iter().map(|fault| fault.is_active(scenario, at_s)).collect();
        if active != armed {
            arm(gateway, scenario, &active)?;
            armed = active;
        }
        let Drawn { values, doom } = script.next(at_s);
        let looks_failed = scenario.looks_failed(doom);
        let doom = doom.map(|(plan, variant)| marker(plan, variant));
        let client = client_of(clients, &values)?;
        let (path, body) = request(&values, number, doom.as_deref().unwrap_or_default());
        let (url, beside, sent) = (gateway.url(path), envoy.map(|envoy| envoy.url(path)), sent.clone());
        under_way.spawn(async move {
            let by_envoy = async {
                let answer = client.post_json(beside.as_deref()?, body.clone()).await;
                Some(OutlierDetection::refused(answer.as_ref().ok()))
            };
            let (answer, refused_by_envoy) = tokio::join!(client.post_json(&url, body.clone()), by_envoy);
            let (refused, failed) = outcome(answer.as_ref().ok());
            let doomed = doom.is_some();
            sent.lock().await.push(Sent {
                values,
                at_s,
                doomed,
                looks_failed,
                refused,
                failed,
                refused_by_envoy,
            });
        });
        while under_way.try_join_next().is_some() {}
    }
    while under_way.join_next().await.is_some() {}
    let mut sent = std::mem::take(&mut *sent.lock().await);
    sent.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
    Ok(sent)
}

fn client_of(clients: &[(String, Client)], values: &Slice) -> Result<Client, BenchError> {
    let tenant = values.get("tenant").map_or("acme", String::as_str);
    let client = clients.iter().find(|(name, _)| name == tenant).map(|(_, client)| client.clone());
    let client = client.ok_or_else(|| BenchError::new(format!("tenant {tenant} has no key")))?;
    Ok(match values.get("region") {
        Some(region) => client.with_header("x-region", region),
        None => client,
    })
}

/// Whether the gateway refused for an incident, and whether it failed otherwise.
fn outcome(answer: Option<&Answer>) -> (bool, bool) {
    let Some(answer) = answer else { return (false, true) };
    let refused =
        answer.header("x-gateway-policy").is_some() || answer.json()["error"]["code"] == "circuit_open";
    (refused, !refused && !answer.status.is_success())
}
