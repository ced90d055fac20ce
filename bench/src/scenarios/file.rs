//! A scenario as its file describes it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use tidegate_core::incident::proposal::PRECISION_MIN;

use crate::error::BenchError;

/// The values of one request: tenant, model, region, route.
pub(crate) type Slice = BTreeMap<String, String>;

/// One scenario.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    /// Its title in the table.
    pub(crate) title: String,
    /// Requests per second, all together.
    pub(crate) rate: u32,
    /// Seconds of calm traffic before the faults.
    pub(crate) calm_s: u64,
    /// Seconds with the faults.
    pub(crate) fault_s: u64,
    /// Seconds of calm traffic after them.
    pub(crate) after_s: u64,
    /// The values that requests take, every combination alike.
    pub(crate) traffic: BTreeMap<String, Vec<String>>,
    /// What fails.
    pub(crate) faults: Vec<FaultPlan>,
    /// Further configuration of the gateway, as YAML.
    #[serde(default)]
    pub(crate) config: String,
    /// What must come out.
    pub(crate) expect: Expect,
}

/// One fault.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FaultPlan {
    /// Which requests it hits; all when empty.
    #[serde(default)]
    pub(crate) slice: Slice,
    /// The share of them that fails, at the start and at the end of the faults.
    #[serde(default = "all")]
    pub(crate) share: [f64; 2],
    /// Seconds of failing and of working in turn, if it flaps.
    #[serde(default)]
    pub(crate) flaps_s: Option<u64>,
    /// Whether it also hits the calm times before and after.
    #[serde(default)]
    pub(crate) always: bool,
    /// What the provider does, as for the emulator's `POST /__faults`; of several, one after the
    /// other.
    pub(crate) effects: Vec<Value>,
}

const fn all() -> [f64; 2] {
    [1.0, 1.0]
}

/// Expected ranges.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expect {
    /// Most bystanders refused, in percent of all requests that would have succeeded.
    pub(crate) bystanders_percent_max: f64,
    /// Least doomed requests refused once something is done, in percent; absent where nothing is
    /// to be done.
    #[serde(default)]
    pub(crate) doomed_percent_min: Option<f64>,
    /// Most seconds from the first failure to the first refusal.
    #[serde(default)]
    pub(crate) onset_s_max: Option<f64>,
    /// Most seconds from the end of the faults to the last refusal.
    #[serde(default)]
    pub(crate) recovery_s_max: Option<f64>,
}

/// Reads the scenarios of a folder, by the order of their file names.
pub(crate) fn read(folder: &Path, only: &[String]) -> Result<Vec<(String, Scenario)>, BenchError> {
    let reading = format!("reading {}", folder.display());
    let entries = std::fs::read_dir(folder).map_err(BenchError::doing(&reading))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(BenchError::doing(&reading))?.path();
        if path.extension().is_some_and(|e| e == "json") {
            paths.push(path);
        }
    }
    paths.sort();
    let mut scenarios = Vec::new();
    for path in paths {
        let name = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        if !only.is_empty() && !only.iter().any(|wanted| name.contains(wanted.as_str())) {
            continue;
        }
        let shown = path.display().to_string();
        let text = std::fs::read(&path).map_err(BenchError::doing(format!("reading {shown}")))?;
        scenarios.push((name, serde_json::from_slice(&text).map_err(BenchError::doing(shown))?));
    }
    if scenarios.is_empty() {
        return Err(BenchError::new(format!("no scenario in {} fits", folder.display())));
    }
    Ok(scenarios)
}

impl Scenario {
    /// How long it takes, in seconds.
    pub(crate) const fn length_s(&self) -> u64 {
        self.calm_s + self.fault_s + self.after_s
    }

    /// Whether a request looks failed to who knows the status alone.
    pub(crate) fn looks_failed(&self, doom: Option<(usize, usize)>) -> bool {
        doom.is_some_and(|(plan, effect)| self.faults[plan].looks_failed(effect))
    }

    /// When the first fault is worth refusing for, in seconds after the start: before, more of its slice
    /// succeed than a policy may hit. A fault that never grows so far counts from its beginning.
    pub(crate) fn worth_from_s(&self) -> f64 {
        let from = |fault: &FaultPlan| {
            let [first, last] = fault.share;
            let grows = first < PRECISION_MIN && last >= PRECISION_MIN;
            let into = if grows { (PRECISION_MIN - first) / (last - first) } else { 0.0 };
            self.calm_s as f64 + into * self.fault_s as f64
        };
        self.faults.iter().filter(|fault| !fault.always).map(from).fold(f64::INFINITY, f64::min)
    }
}

impl FaultPlan {
    /// Whether one of its effects looks like a failure to who knows the status alone: a server error, or
    /// no answer.
    pub(crate) fn looks_failed(&self, effect: usize) -> bool {
        self.effects[effect]["status"].as_u64().is_none_or(|status| status >= 500)
    }

    /// Whether the provider fails at that time.
    pub(crate) fn is_active(&self, scenario: &Scenario, at_s: f64) -> bool {
        let into = at_s - scenario.calm_s as f64;
        let is_on = self.flaps_s.is_none_or(|turn| ((into / turn as f64) as u64).is_multiple_of(2));
        self.always || ((0.0..scenario.fault_s as f64).contains(&into) && is_on)
    }

    /// The share of the slice's requests that fail `at_s` seconds after the scenario's start.
    pub(crate) fn share_at(&self, scenario: &Scenario, at_s: f64) -> f64 {
        let (from, length) = (scenario.calm_s as f64, scenario.fault_s as f64);
        let into = at_s - from;
        if self.always {
            return self.share[0];
        }
        if !self.is_active(scenario, at_s) {
            return 0.0;
        }
        self.share[0] + (self.share[1] - self.share[0]) * into / length
    }

    /// Whether it hits requests with these values.
    pub(crate) fn hits(&self, values: &Slice) -> bool {
        self.slice.iter().all(|(name, value)| values.get(name) == Some(value))
    }
}
