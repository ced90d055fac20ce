//! Requests at a time: what this VM holds of limits that all workers share.
//!
//! Of a large limit a VM keeps a few permits that are not in use, so that most requests touch no
//! shared cell; of a small one none, so that it is exact. Permits that are held are renewed on the
//! tick, because a part that is not renewed is that of a dead VM.

use std::collections::BTreeMap;

use tidegate_core::limit::{Permits, Permitted};

use crate::cells::{self, Table, Updated};
use crate::ports::{Clock, SharedCells};

/// Part of a limit that one VM may hold unused.
const IDLE_OF_LIMIT: u32 = 256;
/// Time between renewals, in milliseconds; a fifth of what a part lives.
const RENEW_MS: u64 = 1_000;

#[derive(Debug, Default)]
struct Held {
    used: u32,
    taken: u32,
    written_ms: u64,
}

/// One VM's permits; an entry for each limit with a request in flight, or just after.
#[derive(Debug, Default)]
pub struct HeldPermits {
    sharer: u64,
    held: BTreeMap<u64, Held>,
}

impl HeldPermits {
    /// Takes a permit of the limit `tag`, of which there are `most`.
    pub fn take(&mut self, host: &(impl SharedCells + Clock), tag: u64, most: u32, now_ms: u64) -> Permitted {
        if self.sharer == 0 {
            self.sharer = cells::unique(host);
        }
        let held = self.held.entry(tag).or_default();
        if held.used < held.taken {
            held.used += 1;
            return Permitted::Taken(held.used);
        }
        let mut outcome = Permitted::Refused;
        for count in [1 + most / IDLE_OF_LIMIT, 1] {
            outcome = take_shared(host, tag, self.sharer, count, most, now_ms);
            if matches!(outcome, Permitted::Taken(_)) {
                held.taken += count;
                held.used += 1;
                held.written_ms = now_ms;
                break;
            }
        }
        if held.taken == 0 {
            self.held.remove(&tag);
        }
        outcome
    }

    /// Gives a permit back that [`Self::take`] gave.
    pub fn give_back(&mut self, cells: &impl SharedCells, tag: u64, most: u32, now_ms: u64) {
        let Some(held) = self.held.get_mut(&tag) else { return };
        held.used = held.used.saturating_sub(1);
        let keep = held.used + most / IDLE_OF_LIMIT;
        if held.taken > keep {
            held.taken = keep;
            held.written_ms = now_ms;
            write(cells, tag, self.sharer, keep, now_ms);
        }
        if held.taken == 0 {
            self.held.remove(&tag);
        }
    }

    /// Renews what is in use, and gives back what is not.
    pub fn on_tick(&mut self, cells: &impl SharedCells, now_ms: u64) {
        let sharer = self.sharer;
        self.held.retain(|tag, held| {
            if held.taken != held.used || now_ms.abs_diff(held.written_ms) >= RENEW_MS {
                held.taken = held.used;
                held.written_ms = now_ms;
                write(cells, *tag, sharer, held.used, now_ms);
            }
            held.used > 0
        });
    }
}

/// How many permits of the limit `tag` are in use, as all VMs have said.
#[must_use]
pub fn in_use(cells: &impl SharedCells, tag: u64, now_ms: u64) -> u32 {
    Permits::decode(&cells.read(&name(tag)).bytes).in_use(tag, now_ms)
}

fn name(tag: u64) -> cells::Name {
    cells::name(Table::Permits, (tag % u64::from(cells::PERMIT_CELLS)) as u32)
}

fn take_shared(
    cells: &impl SharedCells,
    tag: u64,
    sharer: u64,
    count: u32,
    most: u32,
    now_ms: u64,
) -> Permitted {
    let outcome = cells::update(cells, &name(tag), |bytes| {
        let mut permits = Permits::decode(bytes);
        let outcome = permits.take(tag, sharer, count, most, now_ms);
        (matches!(outcome, Permitted::Taken(_)).then(|| permits.encode()), outcome)
    });
    match outcome {
        Updated::Written(outcome) | Updated::Kept(outcome) => outcome,
        Updated::Contended => Permitted::Full,
    }
}

/// Contended past the bound: the next tick writes it again, or the part runs out.
fn write(cells: &impl SharedCells, tag: u64, sharer: u64, count: u32, now_ms: u64) {
    let _: Updated<()> = cells::update(cells, &name(tag), |bytes| {
        let mut permits = Permits::decode(bytes);
        permits.hold(tag, sharer, count, now_ms);
        (Some(permits.encode()), ())
    });
}
