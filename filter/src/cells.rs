//! Names of the shared cells, and the one loop that changes them.
//!
//! The prefix carries the version of the encodings: cells outlive the code that wrote them.

use tidegate_core::hash::hash;

use crate::ports::{Cell, Clock, SharedCells};

/// Compare-and-swap attempts before a caller must decide without.
pub const CAS_ATTEMPTS_MAX: usize = 8;

/// Cell of the current policy's revision.
pub const REVISION: &str = "tg1/rev";
/// Cell of the current policy document.
pub const DOCUMENT: &str = "tg1/doc";
/// Cell of the lease on polling the sidecar.
pub const LEASE: &str = "tg1/lease";
/// Counter that numbers the VMs of this process.
pub const VM_COUNT: &str = "tg1/vms";
/// Cell of what is known of the fleet.
pub const FLEET: &str = "tg1/fleet";
/// Cell of what was asked of the limits of the fleet.
pub const ASKED: &str = "tg1/asked";
/// Counter that rises when a breaker leaves its closed state.
pub const BREAKER_EPOCH: &str = "tg1/ke";

/// Sets of request buckets that operators' names make (tenants, keys, routes).
pub const REQUEST_SETS: u32 = 4096;
/// Sets of the same for tokens per minute.
pub const MINUTE_SETS: u32 = 4096;
/// Sets of the same for tokens per day, which are in use for longer.
pub const DAY_SETS: u32 = 16_384;
/// Sets of each kind that callers' names make (addresses, models).
pub const OPEN_SETS: u32 = 4096;
/// Sets of holdings of limits of the fleet.
pub const FLEET_SETS: u32 = 4096;
/// Cells of the tenants that share a bucket, of buckets that operators' names make.
pub const SHARE_CELLS: u32 = 256;
/// The same of buckets that callers' names make (addresses, models).
pub const OPEN_SHARE_CELLS: u32 = 256;
/// Cells of requests at a time.
pub const PERMIT_CELLS: u32 = 1024;
/// Cells of breakers.
pub const BREAKERS: u32 = 1024;
/// Cells of verdicts.
pub const VERDICTS: u32 = 4096;
/// Cells of policies' gates.
pub const GATES: u32 = 1024;

/// Kinds of numbered cells.
#[derive(Debug, Clone, Copy)]
pub enum Table {
    /// A set of buckets of requests per second.
    Requests,
    /// A set of buckets of tokens per minute.
    Minutes,
    /// A set of buckets of tokens per day.
    Days,
    /// A set of holdings of limits of the fleet.
    Fleet,
    /// Tenants that share a bucket.
    Shares,
    /// Requests at a time.
    Permits,
    /// A breaker.
    Breakers,
    /// A verdict on a credential.
    Verdicts,
    /// Gates of policies.
    Gates,
    /// The index of a set of cached answers.
    L1Index,
    /// Cached answers, one a way.
    L1Data,
}

/// Longest name of a numbered cell: prefix and eight hex digits.
const NAME_BYTES_MAX: usize = 6 + 8;

/// Name of a numbered cell; on the stack, since every request needs several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    bytes: [u8; NAME_BYTES_MAX],
}

impl std::ops::Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        std::str::from_utf8(&self.bytes).unwrap_or_default()
    }
}

/// Name of the numbered cell.
#[must_use]
pub fn name(table: Table, number: u32) -> Name {
    let prefix = match table {
        Table::Requests => b"tg1/b/",
        Table::Minutes => b"tg1/m/",
        Table::Days => b"tg1/y/",
        Table::Fleet => b"tg1/f/",
        Table::Shares => b"tg1/h/",
        Table::Permits => b"tg1/p/",
        Table::Breakers => b"tg1/k/",
        Table::Verdicts => b"tg1/v/",
        Table::Gates => b"tg1/s/",
        Table::L1Index => b"tg1/i/",
        Table::L1Data => b"tg1/d/",
    };
    let mut bytes = [0; NAME_BYTES_MAX];
    let (head, digits) = bytes.split_at_mut(prefix.len());
    head.copy_from_slice(prefix);
    for (i, digit) in digits.iter_mut().rev().enumerate() {
        let nibble = (number >> (4 * i)) as u8 & 15;
        *digit = if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
    }
    Name { bytes }
}

/// A number that no other VM of this process has, mixed with the time: a name for a VM among all
/// gateways, for all practical purposes.
pub fn unique(host: &(impl SharedCells + Clock)) -> u64 {
    let number = update(host, VM_COUNT, |bytes| {
        let number = bytes.try_into().map_or(0, u64::from_le_bytes) + 1;
        (Some(number.to_le_bytes().to_vec()), number)
    });
    // Contended past the bound: the time alone has to tell the VMs apart.
    let number = if let Updated::Written(number) = number { number } else { 0 };
    hash(&[&number.to_le_bytes(), &host.now_ns().to_le_bytes()]).max(1)
}

/// What became of an update.
#[derive(Debug, PartialEq, Eq)]
pub enum Updated<T> {
    /// Written.
    Written(T),
    /// The change was not wanted after all; nothing was written.
    Kept(T),
    /// Others wrote first [`CAS_ATTEMPTS_MAX`] times.
    Contended,
}

/// Version to write a missing cell with. The host compares versions only where a cell exists and
/// simply inserts where none does, so a version that is never given out creates exclusively: of two
/// VMs that create at once, the second finds a cell with another version and loses.
const CREATE: u32 = u32::MAX;

/// Reads, changes and writes a cell until nobody else wrote in between. `change` gets the bytes
/// and returns the new ones, or `None` to leave the cell alone.
pub fn update<T>(
    cells: &impl SharedCells,
    key: &str,
    change: impl FnMut(&[u8]) -> (Option<Vec<u8>>, T),
) -> Updated<T> {
    update_from(cells, key, cells.read(key), change)
}

/// As [`update`], beginning with a cell that was read a while ago: where it has not changed since,
/// a second look is saved.
pub fn update_from<T>(
    cells: &impl SharedCells,
    key: &str,
    mut cell: Cell,
    mut change: impl FnMut(&[u8]) -> (Option<Vec<u8>>, T),
) -> Updated<T> {
    for _ in 0..CAS_ATTEMPTS_MAX {
        let (bytes, outcome) = change(&cell.bytes);
        let Some(bytes) = bytes else { return Updated::Kept(outcome) };
        let cas = if cell.cas == 0 { CREATE } else { cell.cas };
        if cells.write(key, &bytes, cas) {
            return Updated::Written(outcome);
        }
        cell = cells.read(key);
    }
    Updated::Contended
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct() {
        let names: std::collections::BTreeSet<_> = (0..5000).map(|n| name(Table::L1Data, n)).collect();
        assert_eq!(names.len(), 5000);
        assert_ne!(name(Table::Requests, 1), name(Table::Verdicts, 1));
    }
}
