//! The cells of the exact cache: an index for each set, and one cell for each way of it
//! ([`tidegate_core::cache::slots`]).

use tidegate_core::cache::Entry;
use tidegate_core::cache::slots::{Index, WAYS};
use tidegate_core::hash::hash;

use crate::cells::{self, Table, Updated};
use crate::ports::{Cell, SharedCells};

/// Where the answer to a question may lie, from a quick hash of the question's text. What is found
/// there is the answer only if its [`tidegate_core::cache::CacheKey`] is the question's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spot {
    /// The set, of those under the cache's bound.
    pub set: u32,
    /// Tells the questions of a set apart.
    pub tag: u64,
}

impl Spot {
    /// The spot of a question, among `sets` of them.
    #[must_use]
    pub fn of(text: &[u8], sets: u32) -> Self {
        let tag = hash(&[text]);
        // The upper half: the tables that a VM keeps go by the lower one.
        Self { set: (tag >> 32) as u32 % sets.max(1), tag }
    }
}

/// Reads the index of a spot's set, and in which way of it there may be an answer.
#[must_use]
pub fn look_up(cells: &impl SharedCells, spot: Spot, now_ms: u64) -> (Cell, Option<usize>) {
    let index = cells.read(&cells::name(Table::L1Index, spot.set));
    let way = Index::find(&index.bytes, spot.tag, now_ms);
    (index, way)
}

/// Reads a way; [`Entry::decode`] tells what is in it.
#[must_use]
pub fn read(cells: &impl SharedCells, set: u32, way: usize) -> Vec<u8> {
    cells.read(&data_name(set, way)).bytes
}

/// Stores an entry: claims a way in the index, then empties the evicted ways and writes the claimed
/// one. `None` when it does not fit, or the index stayed contended: the cache is then only slower.
pub fn write(cells: &impl SharedCells, index: Option<Cell>, spot: Spot, entry: &Entry<'_>) -> Option<()> {
    let bytes = entry.encode()?;
    let name = cells::name(Table::L1Index, spot.set);
    let cell = index.unwrap_or_else(|| cells.read(&name));
    let claimed = cells::update_from(cells, &name, cell, |cell| {
        let mut index = Index::decode(cell);
        match index.claim(spot.tag, bytes.len(), entry.expires_at_ms, entry.stored_at_ms) {
            Some(claim) => (Some(index.into_cell()), Some(claim)),
            None => (None, None),
        }
    });
    let Updated::Written(Some(claim)) = claimed else {
        return None;
    };
    for way in (0..WAYS).filter(|way| claim.evicted & (1 << way) != 0) {
        cells.write(&data_name(spot.set, way), &[], 0);
    }
    cells.write(&data_name(spot.set, claim.way), &bytes, 0);
    Some(())
}

/// Empties sets `from..to`, which a smaller bound no longer reaches.
pub fn clear_sets(cells: &impl SharedCells, from: u32, to: u32) {
    for set in from..to {
        let name = cells::name(Table::L1Index, set);
        if cells.read(&name).bytes.is_empty() {
            continue;
        }
        cells.write(&name, &[], 0);
        for way in 0..WAYS {
            cells.write(&data_name(set, way), &[], 0);
        }
    }
}

fn data_name(set: u32, way: usize) -> cells::Name {
    cells::name(Table::L1Data, set.saturating_mul(WAYS as u32).saturating_add(way as u32))
}
