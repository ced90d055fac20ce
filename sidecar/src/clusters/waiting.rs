//! Failures that were counted before their words came: a filter that has told the words to one
//! sidecar tells another only their number, until it samples them again.

use std::collections::HashMap;

use tidegate_core::incident::Signature;

use crate::bus::Lane;

/// Most signatures that wait.
const SIGNATURES_MAX: usize = 4096;

/// Failures by signature, and by the lane they came by.
#[derive(Debug, Default)]
pub(super) struct Waiting(HashMap<Signature, Vec<(Option<Lane>, u64)>>);

impl Waiting {
    /// Keeps failures; returns those for which there is no room.
    pub(super) fn put(&mut self, signature: Signature, lane: Option<&Lane>, failures: u64) -> u64 {
        if self.0.len() >= SIGNATURES_MAX && !self.0.contains_key(&signature) {
            return failures;
        }
        let lanes = self.0.entry(signature).or_default();
        match lanes.iter_mut().find(|(known, _)| known.as_ref() == lane) {
            Some((_, waiting)) => *waiting = waiting.saturating_add(failures),
            None => lanes.push((lane.cloned(), failures)),
        }
        0
    }

    /// The failures of a signature, by lane.
    pub(super) fn take(&mut self, signature: Signature) -> Vec<(Option<Lane>, u64)> {
        self.0.remove(&signature).unwrap_or_default()
    }

    /// Those that came by `lane`.
    pub(super) fn of(&self, lane: &Lane) -> Vec<(Signature, u64)> {
        let mine = |(signature, lanes): (&Signature, &Vec<(Option<Lane>, u64)>)| {
            lanes
                .iter()
                .find(|(by, _)| by.as_ref() == Some(lane))
                .map(|(_, failures)| (*signature, *failures))
        };
        self.0.iter().filter_map(mine).collect()
    }

    /// Forgets those that came by `lane`.
    pub(super) fn forget(&mut self, lane: &Lane) {
        self.0.retain(|_, lanes| {
            lanes.retain(|(by, _)| by.as_ref() != Some(lane));
            !lanes.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_wait_by_lane_and_the_room_is_bounded() {
        let (mut waiting, lane) = (Waiting::default(), Lane::from("g/t/0"));
        for failures in [2, 3] {
            assert_eq!(waiting.put(Signature(1), Some(&lane), failures), 0);
        }
        waiting.put(Signature(1), None, 7);
        assert_eq!(waiting.of(&lane), [(Signature(1), 5)]);
        waiting.forget(&lane);
        assert_eq!(waiting.take(Signature(1)), [(None, 7)]);
        assert_eq!(waiting.take(Signature(1)), []);
        for signature in 0..SIGNATURES_MAX as u64 {
            assert_eq!(waiting.put(Signature(signature), None, 1), 0);
        }
        assert_eq!(waiting.put(Signature(u64::MAX), None, 9), 9);
    }
}
