//! Where the bucket of a level lies.
//!
//! Buckets of one kind share sets of four, in which the one that owes least gives way. What
//! callers choose freely (addresses, names of models) has sets of its own, so that a flood of
//! invented ones displaces only each other; the bucket of all callers has a cell to itself.

use tidegate_core::address::ClientAddress;
use tidegate_core::limit::{Attribute, Kind, Level};
use tidegate_core::policy::Scope;

use crate::cells::{self, Table, Updated};
use crate::ports::{Cell, SharedCells};

/// A bucket's cell, and its tag in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    kind: Kind,
    tag: u64,
    number: u32,
    is_fleet: bool,
}

impl Place {
    /// The bucket of a request from `ip` at a level.
    #[must_use]
    pub fn of(level: &Level, kind: Kind, ip: Option<ClientAddress>) -> Self {
        let shape = level.shape;
        let tag = level.tag(ip);
        let shared = match kind {
            Kind::Requests => level.requests,
            Kind::Minute => level.minute,
            Kind::Day => level.day,
        };
        let is_fleet = shared.is_some_and(|shared| shared.scope == Scope::Fleet);
        if shape.is_empty() {
            return Self { kind, tag, number: 0, is_fleet };
        }
        let (known, open) = match kind {
            Kind::Requests => (cells::REQUEST_SETS, cells::OPEN_SETS),
            Kind::Minute => (cells::MINUTE_SETS, cells::OPEN_SETS),
            Kind::Day => (cells::DAY_SETS, cells::OPEN_SETS),
        };
        let is_open = shape.has(Attribute::Ip) || shape.has(Attribute::Model);
        let (first, sets) = if is_open { (1 + known, open) } else { (1, known) };
        Self { kind, tag, number: first + (tag % u64::from(sets)) as u32, is_fleet }
    }

    /// The number of its pool, if all gateways of the fleet share it.
    #[must_use]
    pub fn pool(&self) -> Option<u64> {
        // The kinds of one level have one tag, and a pool each.
        self.is_fleet.then(|| self.tag ^ cells::hash(&[&[self.kind as u8]]))
    }

    /// The bucket's tag.
    #[must_use]
    pub const fn tag(&self) -> u64 {
        self.tag
    }

    fn name(&self) -> cells::Name {
        let table = match self.kind {
            Kind::Requests => Table::Requests,
            Kind::Minute => Table::Minutes,
            Kind::Day => Table::Days,
        };
        cells::name(table, self.number)
    }

    /// Reads its cell.
    #[must_use]
    pub fn read(&self, shared: &impl SharedCells) -> Cell {
        shared.read(&self.name())
    }

    /// Changes its cell; see [`cells::update`].
    pub fn update<T>(
        &self,
        shared: &impl SharedCells,
        change: impl FnMut(&[u8]) -> (Option<Vec<u8>>, T),
    ) -> Updated<T> {
        cells::update(shared, &self.name(), change)
    }
}
