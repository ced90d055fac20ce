//! What one VM knows of the breakers without asking: which are closed, and how many successes
//! passed them. A closed breaker costs a request no look at shared data.
//!
//! A VM that opens a breaker raises a shared epoch; the others compare it on their tick and forget
//! what they knew, so an open breaker is seen by every worker within one tick.

use crate::cells::{self, Updated};
use crate::ports::SharedCells;

/// Breakers one VM knows of at a time; another with the same slot is merely asked for again.
const SLOTS: usize = 256;

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    breaker: u64,
    is_closed: bool,
    successes: u32,
}

/// One VM's knowledge of the breakers.
#[derive(Debug)]
pub struct BreakerWatch {
    slots: Box<[Slot; SLOTS]>,
    epoch: Vec<u8>,
}

impl Default for BreakerWatch {
    fn default() -> Self {
        Self { slots: Box::new([Slot::default(); SLOTS]), epoch: Vec::new() }
    }
}

impl BreakerWatch {
    /// Forgets what is known if any VM has opened a breaker since the last call.
    pub fn follow(&mut self, cells: &impl SharedCells) {
        let epoch = cells.read(cells::BREAKER_EPOCH).bytes;
        if epoch != self.epoch {
            self.epoch = epoch;
            self.slots.iter_mut().for_each(|slot| slot.is_closed = false);
        }
    }

    /// Tells the other VMs that a breaker opened.
    pub fn announce_opened(&mut self, cells: &impl SharedCells, breaker: u64) {
        self.slot(breaker).is_closed = false;
        // Contended past the bound: whoever won announced an opening at the same moment.
        let _: Updated<()> = cells::update(cells, cells::BREAKER_EPOCH, |bytes| {
            let epoch = bytes.try_into().map_or(0, u64::from_le_bytes).wrapping_add(1);
            (Some(epoch.to_le_bytes().to_vec()), ())
        });
    }

    /// Whether the breaker is known to be closed.
    pub fn is_closed(&mut self, breaker: u64) -> bool {
        self.slot(breaker).is_closed
    }

    /// Notes that the breaker was found closed.
    pub fn found_closed(&mut self, breaker: u64) {
        self.slot(breaker).is_closed = true;
    }

    /// Counts a success; kept here until a failure makes it matter.
    pub fn count_success(&mut self, breaker: u64) {
        let slot = self.slot(breaker);
        slot.successes = slot.successes.saturating_add(1);
    }

    /// Takes the successes counted since the last failure.
    pub fn take_successes(&mut self, breaker: u64) -> u32 {
        std::mem::take(&mut self.slot(breaker).successes)
    }

    fn slot(&mut self, breaker: u64) -> &mut Slot {
        let [first, rest @ ..] = self.slots.as_mut();
        let slot = match (breaker % SLOTS as u64) as usize {
            0 => first,
            index => rest.get_mut(index - 1).unwrap_or(first),
        };
        if slot.breaker != breaker {
            *slot = Slot { breaker, ..Slot::default() };
        }
        slot
    }
}
