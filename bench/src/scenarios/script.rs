//! What is asked in a scenario, and what of it is doomed: the same however it is played.

use super::file::{Scenario, Slice};

/// A request of a scenario.
#[derive(Debug, Clone)]
pub(crate) struct Drawn {
    /// Its values.
    pub(crate) values: Slice,
    /// The fault that hits it, and which of its effects.
    pub(crate) doom: Option<(usize, usize)>,
}

/// Draws a scenario's requests, one after the other.
#[derive(Debug)]
pub(crate) struct Script<'s> {
    scenario: &'s Scenario,
    combinations: Vec<Slice>,
    /// By fault: the part of a failure that is due, and the failures there were.
    due: Vec<(f64, usize)>,
    number: usize,
}

impl<'s> Script<'s> {
    /// From its first request on.
    pub(crate) fn new(scenario: &'s Scenario) -> Self {
        let due = vec![(0.0, 0); scenario.faults.len()];
        Self { scenario, combinations: combinations(scenario), due, number: 0 }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.scenario.length_s() * u64::from(self.scenario.rate)
    }

    /// The next request, sent `at_s` seconds after the start. The share of a fault is kept exactly,
    /// not by chance.
    pub(crate) fn next(&mut self, at_s: f64) -> Drawn {
        // A step that is prime to the number of combinations, so that no order repeats in time.
        let values = self.combinations[(self.number * 7919) % self.combinations.len()].clone();
        self.number += 1;
        let doom = self.scenario.faults.iter().enumerate().find_map(|(plan, fault)| {
            let (due, hits) = &mut self.due[plan];
            if !fault.hits(&values) {
                return None;
            }
            *due += fault.share_at(self.scenario, at_s);
            if *due < 1.0 {
                return None;
            }
            *due -= 1.0;
            *hits += 1;
            Some((plan, *hits % fault.effects.len()))
        });
        Drawn { values, doom }
    }
}

/// All combinations of the traffic's values.
fn combinations(scenario: &Scenario) -> Vec<Slice> {
    let mut all = vec![Slice::new()];
    for (name, values) in &scenario.traffic {
        let with = |slice: &Slice, value: &String| {
            let mut slice = slice.clone();
            slice.insert(name.clone(), value.clone());
            slice
        };
        all = all.iter().flat_map(|slice| values.iter().map(move |value| with(slice, value))).collect();
    }
    all
}

/// The path and the body of a request.
pub(crate) fn request<'v>(values: &'v Slice, number: u64, words: &str) -> (&'v str, String) {
    let path = values.get("route").map_or("/v1/chat/completions", String::as_str);
    let usual = if path.ends_with("/embeddings") { "text-embedding-3-small" } else { "gpt-4o" };
    let model = values.get("model").map_or(usual, String::as_str);
    let prompt = format!("question {number} {words}");
    let body = if path.ends_with("/embeddings") {
        serde_json::json!({ "model": model, "input": prompt })
    } else {
        serde_json::json!({ "model": model, "messages": [{ "role": "user", "content": prompt }] })
    };
    (path, body.to_string())
}
