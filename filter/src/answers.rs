//! The cells of the exact cache: an index for each set, and one cell for each way of it
//! ([`tidegate_core::cache::slots`]).

use tidegate_core::cache::slots::{Index, WAYS};
use tidegate_core::cache::{CacheKey, Entry};

use crate::cells::{self, Table, Updated};
use crate::ports::{Cell, SharedCells};

/// Reads the index of a set, and where in it an answer to `key` lies.
#[must_use]
pub fn look_up(cells: &impl SharedCells, set: u32, key: &CacheKey, now_ms: u64) -> (Cell, Option<usize>) {
    let index = cells.read(&cells::name(Table::L1Index, set));
    let way = Index::find(&index.bytes, key.tag(), now_ms);
    (index, way)
}

/// Reads a way; [`Entry::decode`] tells what is in it.
#[must_use]
pub fn read(cells: &impl SharedCells, set: u32, way: usize) -> Vec<u8> {
    cells.read(&data_name(set, way)).bytes
}

/// Stores an entry: claims a way in the index, then empties the evicted ways and writes the claimed
/// one. `None` when it does not fit, or the index stayed contended: the cache is then only slower.
pub fn write(cells: &impl SharedCells, index: Option<Cell>, set: u32, entry: &Entry<'_>) -> Option<()> {
    let bytes = entry.encode()?;
    let name = cells::name(Table::L1Index, set);
    let cell = index.unwrap_or_else(|| cells.read(&name));
    let claimed = cells::update_from(cells, &name, cell, |cell| {
        let mut index = Index::decode(cell);
        match index.claim(entry.key.tag(), bytes.len(), entry.expires_at_ms, entry.stored_at_ms) {
            Some(claim) => (Some(index.into_cell()), Some(claim)),
            None => (None, None),
        }
    });
    let Updated::Written(Some(claim)) = claimed else {
        return None;
    };
    for way in (0..WAYS).filter(|way| claim.evicted & (1 << way) != 0) {
        cells.write(&data_name(set, way), &[], 0);
    }
    cells.write(&data_name(set, claim.way), &bytes, 0);
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
