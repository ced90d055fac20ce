//! Where the bucket of a level lies.
//!
//! Buckets of one kind share sets of four, in which the one that owes least gives way. What
//! callers choose freely (addresses, names of models) has sets of its own, so that a flood of
//! invented ones displaces only each other; the bucket of all callers has a cell to itself.

use tidegate_core::address::ClientAddress;
use tidegate_core::hash::hash;
use tidegate_core::limit::fair::Sharer;
use tidegate_core::limit::{Attribute, Kind, Level, Rate};
use tidegate_core::policy::Scope;

use crate::cells::{self, Table, Updated};
use crate::ports::{Cell, SharedCells};

/// A bucket, and the tenant on whose account is taken from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    /// Where the bucket lies.
    pub place: Place,
    /// Its rate.
    pub rate: Rate,
    /// The tenant.
    pub sharer: Sharer,
}

/// A bucket's cell, and its tag in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    kind: Kind,
    tag: u64,
    number: u32,
    is_fleet: bool,
    is_common: bool,
    is_open: bool,
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
        let is_common = !shape.has(Attribute::Tenant) && !shape.has(Attribute::Key);
        let is_open = shape.has(Attribute::Ip) || shape.has(Attribute::Model);
        if shape.is_empty() {
            return Self { kind, tag, number: 0, is_fleet, is_common, is_open };
        }
        let (known, open) = match kind {
            Kind::Requests => (cells::REQUEST_SETS, cells::OPEN_SETS),
            Kind::Minute => (cells::MINUTE_SETS, cells::OPEN_SETS),
            Kind::Day => (cells::DAY_SETS, cells::OPEN_SETS),
        };
        let (first, sets) = if is_open { (1 + known, open) } else { (1, known) };
        let number = first + (tag % u64::from(sets)) as u32;
        Self { kind, tag, number, is_fleet, is_common, is_open }
    }

    /// Its number among the buckets of all kinds: the kinds of one level have one tag.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.tag ^ hash(&[&[self.kind as u8]])
    }

    /// The number of its pool, if all gateways of the fleet share it.
    #[must_use]
    pub fn pool(&self) -> Option<u64> {
        self.is_fleet.then(|| self.id())
    }

    /// Whether several tenants take from it.
    #[must_use]
    pub const fn is_common(&self) -> bool {
        self.is_common
    }

    /// Where the tenants that share it are kept.
    #[must_use]
    pub fn shares(&self) -> cells::Name {
        let (first, cells) = if self.is_open {
            (cells::SHARE_CELLS, cells::OPEN_SHARE_CELLS)
        } else {
            (0, cells::SHARE_CELLS)
        };
        cells::name(Table::Shares, first + (self.id() % u64::from(cells)) as u32)
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

    /// Changes its cell, beginning with what was read of it; see [`cells::update_from`].
    pub fn update_from<T>(
        &self,
        shared: &impl SharedCells,
        cell: Cell,
        change: impl FnMut(&[u8]) -> (Option<Vec<u8>>, T),
    ) -> Updated<T> {
        cells::update_from(shared, &self.name(), cell, change)
    }
}
