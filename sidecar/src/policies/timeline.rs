//! What became of each incident, told in its order: when it grew, where it was found to lie, what was
//! done about it, and how it ended. Kept in memory, by cluster, and bounded.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;
use tidegate_core::incident::attribution::Explanation;
use tidegate_core::incident::enforcement::describe;

use super::record::Record;
use crate::config::policy::Mode;

/// Clusters whose incidents are told; the one that nothing happened to for longest gives way.
const CLUSTERS_MAX: usize = 256;
/// Moments kept of each; the oldest gives way.
const MOMENTS_MAX: usize = 64;

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Its first error was seen.
    FirstSeen,
    /// It reached a higher level of severity.
    Grew,
    /// The slice that explains it was found.
    Attributed,
    /// A policy was made.
    PolicyMade,
    /// A policy opened, probes, watches or limits.
    PolicyState,
    /// An operator has changed or removed a policy.
    PolicyChanged,
    /// A policy has ended.
    PolicyEnded,
    /// Something that an operator should look at.
    Alarm,
    /// Its last error was seen.
    LastSeen,
}

/// One moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Moment {
    /// In milliseconds since 1970.
    pub at_ms: u64,
    /// What happened.
    pub event: What,
    /// In words.
    pub text: String,
    /// The policy that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_id: Option<String>,
}

/// The moments of all incidents.
#[derive(Debug, Default)]
pub struct Timelines {
    of: BTreeMap<String, VecDeque<Moment>>,
}

impl Timelines {
    /// Adds a moment, unless the last one of its policy says the same.
    pub fn tell(&mut self, cluster: &str, at_ms: u64, event: What, text: String, policy_id: Option<&str>) {
        if !self.of.contains_key(cluster) && self.of.len() >= CLUSTERS_MAX {
            let last = |moments: &VecDeque<Moment>| moments.back().map_or(0, |moment| moment.at_ms);
            let oldest =
                self.of.iter().min_by_key(|(_, moments)| last(moments)).map(|(name, _)| name.clone());
            oldest.and_then(|name| self.of.remove(&name));
        }
        let moments = self.of.entry(cluster.to_owned()).or_default();
        let of_it = |moment: &&Moment| moment.policy_id.as_deref() == policy_id;
        if moments.iter().rev().find(of_it).is_some_and(|m| m.event == event && m.text == text) {
            return;
        }
        if moments.len() >= MOMENTS_MAX {
            moments.pop_front();
        }
        moments.push_back(Moment { at_ms, event, text, policy_id: policy_id.map(str::to_owned) });
    }

    /// The moments of one incident, in their order.
    #[must_use]
    pub fn of(&self, cluster: &str) -> Vec<Moment> {
        self.of.get(cluster).into_iter().flatten().cloned().collect()
    }
}

/// Where an incident lies, and how sure that is.
#[must_use]
pub(super) fn attributed(explanation: &Explanation) -> String {
    format!(
        "{}: {} of {} requests fail, which are {:.0} % of these failures",
        describe(&explanation.scope),
        explanation.failures,
        explanation.requests,
        explanation.recall * 100.0
    )
}

/// What a policy does.
#[must_use]
pub(super) fn made(record: &Record) -> String {
    let (action, slice) = (record.action.name(), describe(&record.scope));
    let rule = record.rule.as_ref().map_or_else(String::new, |rule| format!(" by the rule {rule}"));
    let shadow = if record.mode == Mode::Shadow { ", in shadow" } else { "" };
    format!("{action} {slice}{rule}{shadow}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_told_once_and_bounded() {
        let mut timelines = Timelines::default();
        for at_ms in 0..3 {
            timelines.tell("c", at_ms, What::PolicyState, "open".into(), Some("p"));
        }
        timelines.tell("c", 3, What::PolicyState, "open".into(), Some("other"));
        timelines.tell("c", 4, What::PolicyState, "half_open".into(), Some("p"));
        let at: Vec<u64> = timelines.of("c").iter().map(|moment| moment.at_ms).collect();
        assert_eq!(at, [0, 3, 4]);
        for at_ms in 10..10 + 2 * MOMENTS_MAX as u64 {
            timelines.tell("c", at_ms, What::Grew, at_ms.to_string(), None);
        }
        assert_eq!(timelines.of("c").len(), MOMENTS_MAX);
        for n in 0..CLUSTERS_MAX as u64 {
            timelines.tell(&format!("c{n}"), 1_000 + n, What::Grew, "high".into(), None);
        }
        assert!(timelines.of("c").is_empty() && timelines.of.len() == CLUSTERS_MAX);
    }
}
