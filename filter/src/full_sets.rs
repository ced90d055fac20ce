//! Copies of the indices of sets that are full of young answers, so that a stream of new questions
//! does not read shared data for each. Only sets to which nothing new is admitted anyway are
//! remembered, and not for long: what another worker stores there is found when the copy is old.

/// How long a copy is used, in milliseconds.
const FRESH_MS: u64 = 200;
/// Sets one VM remembers at a time; with indices of 645 bytes that is 330 KB at most.
const SLOTS: usize = 512;

#[derive(Debug, Clone, Default)]
struct Slot {
    set: u32,
    fresh_until_ms: u64,
    index: Vec<u8>,
}

/// One VM's copies.
#[derive(Debug)]
pub struct FullSets {
    slots: Vec<Slot>,
}

impl Default for FullSets {
    fn default() -> Self {
        Self { slots: vec![Slot::default(); SLOTS] }
    }
}

impl FullSets {
    /// The index of `set`, if it was full a moment ago.
    #[must_use]
    pub fn recall(&self, set: u32, now_ms: u64) -> Option<&[u8]> {
        let slot = self.slots.get(set as usize % SLOTS)?;
        (slot.set == set && now_ms < slot.fresh_until_ms).then_some(slot.index.as_slice())
    }

    /// Remembers that `set` is full.
    pub fn remember(&mut self, set: u32, index: &[u8], now_ms: u64) {
        if let Some(slot) = self.slots.get_mut(set as usize % SLOTS) {
            (slot.set, slot.fresh_until_ms) = (set, now_ms.saturating_add(FRESH_MS));
            slot.index.clear();
            slot.index.extend_from_slice(index);
        }
    }

    /// Forgets `set`, to which this VM has stored something.
    pub fn forget(&mut self, set: u32) {
        if let Some(slot) = self.slots.get_mut(set as usize % SLOTS).filter(|slot| slot.set == set) {
            slot.fresh_until_ms = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_lasts_a_moment_or_until_its_set_changes() {
        let mut sets = FullSets::default();
        assert_eq!(sets.recall(0, 0), None, "nothing is known at first");
        sets.remember(3, b"three", 1000);
        assert_eq!(sets.recall(3, 1000 + FRESH_MS - 1), Some(&b"three"[..]));
        assert_eq!(sets.recall(3, 1000 + FRESH_MS), None);
        assert_eq!(sets.recall(3 + SLOTS as u32, 1000), None, "another set in the same slot");
        sets.forget(3);
        assert_eq!(sets.recall(3, 1000), None);
    }
}
