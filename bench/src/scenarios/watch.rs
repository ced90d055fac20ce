//! What the gateway did about a scenario, as it told it itself: for whoever asks why.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;
use tidegate_e2e::harness::Gateway;
use tokio::time::{MissedTickBehavior, interval};

/// How often it is asked.
const INTERVAL: Duration = Duration::from_millis(250);

/// What was told last.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    policies: BTreeMap<String, String>,
}

impl Watched {
    /// Writes to stderr which policies have changed.
    pub(crate) fn look(&mut self, at_s: f64, policies: Vec<Value>) {
        let seen: BTreeMap<String, String> =
            policies.iter().map(|policy| (policy["id"].to_string(), line(policy))).collect();
        for (id, line) in &seen {
            if self.policies.get(id) != Some(line) {
                eprintln!("  {at_s:5.1} s  {id} {line}");
            }
        }
        for id in self.policies.keys().filter(|id| !seen.contains_key(*id)) {
            eprintln!("  {at_s:5.1} s  {id} has ended");
        }
        self.policies = seen;
    }
}

/// Writes to stderr what becomes of the policies, until it is dropped.
pub(crate) async fn policies(gateway: &Gateway) {
    let (admin, url, started) = (gateway.admin(), gateway.url("/admin/policies"), Instant::now());
    let mut watched = Watched::default();
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Ok(answer) = admin.get(&url).await else { continue };
        let page = answer.json();
        let at_s = started.elapsed().as_secs_f64();
        watched.look(at_s, page["data"].as_array().cloned().unwrap_or_default());
    }
}

fn line(policy: &Value) -> String {
    let rate = policy["measure"]["rate"].as_f64().map_or(String::new(), |rate| format!(" {rate:.1}/s"));
    format!(
        "{} {} for {} of {}{rate}: {}",
        policy["action"], policy["scope"], policy["kind"], policy["cluster_id"], policy["state"]
    )
}
