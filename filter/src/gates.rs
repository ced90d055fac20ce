//! The cells of the policies' gates: several gates in each, since a policy's place comes from its
//! name. A gate whose policy is gone gives way; while all places of a cell are taken, a further
//! policy there refuses nobody.

use tidegate_core::incident::enforcement::Measure;
use tidegate_core::incident::gate::{GATE_BYTES, Gate, GatePhase};

use crate::cells::{self, Table, Updated};
use crate::ports::SharedCells;

/// Gates in one cell.
const WAYS: usize = 8;
/// Bytes of a gate with its tag.
const SLOT_BYTES: usize = 8 + GATE_BYTES;

/// What became of a gate.
#[derive(Debug, Clone, Copy)]
pub struct Changed<T> {
    /// What the change gave.
    pub outcome: T,
    /// Where the gate was; `None` for one that did not exist.
    pub before: Option<GatePhase>,
    /// Where it is.
    pub phase: GatePhase,
}

/// Reads, changes and writes the gate called `tag`, made anew where there is none. `is_live` says
/// of other gates in the cell whether their policies are still in force. `None` when there is no
/// place or others kept writing.
pub fn update<T>(
    cells: &impl SharedCells,
    tag: u64,
    measure: &Measure,
    now_ns: u64,
    is_live: impl Fn(u64) -> bool,
    mut change: impl FnMut(&mut Gate) -> T,
) -> Option<Changed<T>> {
    let name = cells::name(Table::Gates, (tag % u64::from(cells::GATES)) as u32);
    let updated = cells::update(cells, &name, |bytes| {
        let mut slots = decode(bytes);
        let found = slots.iter().find(|(t, _)| *t == tag).map(|(_, gate)| *gate);
        let mut gate = found.unwrap_or_else(|| Gate::new(measure, now_ns));
        let outcome = change(&mut gate);
        let before = found.map(|gate| gate.phase());
        let changed = Changed { outcome, before, phase: gate.phase() };
        if found == Some(gate) {
            return (None, Some(changed));
        }
        slots.retain(|(t, _)| *t != tag && is_live(*t));
        if slots.len() >= WAYS {
            return (None, None);
        }
        slots.push((tag, gate));
        (Some(encode(&slots)), Some(changed))
    });
    match updated {
        Updated::Written(outcome) | Updated::Kept(outcome) => outcome,
        Updated::Contended => None,
    }
}

/// A gate as it is; `None` when there is none.
pub fn look(cells: &impl SharedCells, tag: u64) -> Option<Gate> {
    let name = cells::name(Table::Gates, (tag % u64::from(cells::GATES)) as u32);
    decode(&cells.read(&name).bytes).into_iter().find(|(t, _)| *t == tag).map(|(_, gate)| gate)
}

fn decode(bytes: &[u8]) -> Vec<(u64, Gate)> {
    let (chunks, _) = bytes.as_chunks::<SLOT_BYTES>();
    let slot = |chunk: &[u8; SLOT_BYTES]| {
        let (tag, rest) = chunk.split_first_chunk::<8>()?;
        Some((u64::from_le_bytes(*tag), Gate::decode(rest.try_into().ok()?)?))
    };
    chunks.iter().filter_map(slot).collect()
}

fn encode(slots: &[(u64, Gate)]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(slots.len() * SLOT_BYTES);
    for (tag, gate) in slots {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&gate.encode());
    }
    bytes
}
