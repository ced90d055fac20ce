//! Tokens one VM has taken from shared buckets and not yet given to requests.
//!
//! A shared bucket costs a read and a compare-and-swap in Envoy's one locked map. Fast buckets are
//! taken from in slices ([`Rate::slice`]): 2 ms worth of tokens, handed out here. Tokens are always
//! taken before they are given, so no more is ever admitted than the bucket holds; what a VM does
//! not use within [`LIFE_NS`] it gives back on its tick. Slow buckets have slices of one, and are
//! exact to the request.

use tidegate_core::limit::{Bucket, BucketSet, Decision, Rate};

use crate::cells::{self, Table, Updated};
use crate::ports::SharedCells;

/// Buckets of which one VM holds tokens at a time.
const SLOTS: usize = 64;
/// How long tokens are held, in nanoseconds.
const LIFE_NS: u64 = 50_000_000;

/// A bucket's place: its cell, and its tag in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    tag: u64,
    is_global: bool,
}

impl Place {
    /// The bucket of all callers; the only one in its cell.
    pub const GLOBAL: Self = Self { tag: 1, is_global: true };

    /// The bucket of a tenant.
    #[must_use]
    pub fn of_tenant(tenant: &str) -> Self {
        Self { tag: cells::hash(&[tenant.as_bytes()]), is_global: false }
    }

    fn update<T>(
        &self,
        shared: &impl SharedCells,
        change: impl FnMut(&[u8]) -> (Option<Vec<u8>>, T),
    ) -> Updated<T> {
        if self.is_global {
            return cells::update(shared, cells::GLOBAL_BUCKET, change);
        }
        let number = (self.tag % u64::from(cells::TENANT_SETS)) as u32;
        cells::update(shared, &cells::name(Table::Tenants, number), change)
    }
}

/// What came of asking for one token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Nanoseconds to wait, when there was none.
    pub wait_ns: Option<u64>,
    /// Tokens left, in the bucket and here.
    pub remaining: u64,
    /// Nanoseconds until the bucket is full.
    pub reset_ns: u64,
    /// The cell stayed contended, and the request was let through unseen.
    pub contended: bool,
}

#[derive(Debug, Clone)]
struct Slice {
    place: Place,
    rate: Rate,
    bucket: Bucket,
    tokens: u64,
    taken_at_ns: u64,
}

impl Slice {
    fn is_alive(&self, now_ns: u64) -> bool {
        now_ns.abs_diff(self.taken_at_ns) < LIFE_NS
    }
}

/// One VM's slices.
#[derive(Debug)]
pub struct Slices {
    slots: Vec<Option<Slice>>,
}

impl Default for Slices {
    fn default() -> Self {
        Self { slots: vec![None; SLOTS] }
    }
}

impl Slices {
    /// Takes one token of a bucket.
    pub fn take(&mut self, cells: &impl SharedCells, place: Place, now_ns: u64, rate: Rate) -> Taken {
        let slot = self.slots.get_mut((place.tag % SLOTS as u64) as usize);
        if let Some(Some(slice)) = &slot
            && slice.place == place
            && slice.rate == rate
            && slice.tokens > 0
            && slice.is_alive(now_ns)
            && let Some(Some(slice)) = slot
        {
            slice.tokens -= 1;
            return described(slice.bucket, slice.tokens, now_ns, rate, None);
        }
        let (taken, slice) = take_slice(cells, place, now_ns, rate);
        if let (Some(slot), Some(slice)) = (slot, slice)
            && let Some(old) = slot.replace(slice)
        {
            give_back(cells, old.place, old.tokens, old.rate);
        }
        taken
    }

    /// Puts one token back that was taken for a request that another bucket refused.
    pub fn put_back(&mut self, cells: &impl SharedCells, place: Place, rate: Rate) {
        match self.slots.get_mut((place.tag % SLOTS as u64) as usize) {
            Some(Some(slice)) if slice.place == place && slice.rate == rate => slice.tokens += 1,
            _ => give_back(cells, place, 1, rate),
        }
    }

    /// Gives back what was held too long.
    pub fn on_tick(&mut self, cells: &impl SharedCells, now_ns: u64) {
        for slot in &mut self.slots {
            if let Some(slice) = slot.take_if(|s| !s.is_alive(now_ns)) {
                give_back(cells, slice.place, slice.tokens, slice.rate);
            }
        }
    }
}

/// A slice if there is that much, else a single token, else the wait for one. A cell that stays
/// contended admits the request: others have just passed through it, so it is not empty by much,
/// and refusing without having looked would punish a bystander.
fn take_slice(cells: &impl SharedCells, place: Place, now_ns: u64, rate: Rate) -> (Taken, Option<Slice>) {
    let outcome = place.update(cells, |bytes| {
        let mut set = BucketSet::decode(bytes);
        for tokens in [rate.slice(), 1] {
            if let Decision::Taken(bucket) = set.take(place.tag, tokens, now_ns, rate) {
                return (Some(set.encode().to_vec()), Ok((bucket, tokens)));
            }
        }
        let bucket = set.get(place.tag);
        match bucket.take(1, now_ns, rate) {
            Decision::Wait(ns) => (None, Err((bucket, ns))),
            Decision::Taken(_) => (None, Err((bucket, 0))),
        }
    });
    match outcome {
        Updated::Written(Ok((bucket, tokens))) | Updated::Kept(Ok((bucket, tokens))) => {
            let tokens = tokens - 1;
            let slice = Slice { place, rate, bucket, tokens, taken_at_ns: now_ns };
            (described(bucket, tokens, now_ns, rate, None), Some(slice))
        }
        Updated::Written(Err((bucket, wait_ns))) | Updated::Kept(Err((bucket, wait_ns))) => {
            (described(bucket, 0, now_ns, rate, Some(wait_ns)), None)
        }
        Updated::Contended => {
            let unseen = described(Bucket::default(), 0, now_ns, rate, None);
            (Taken { contended: true, ..unseen }, None)
        }
    }
}

fn described(bucket: Bucket, held: u64, now_ns: u64, rate: Rate, wait_ns: Option<u64>) -> Taken {
    Taken {
        wait_ns,
        remaining: bucket.remaining(now_ns, rate).saturating_add(held).min(rate.burst()),
        reset_ns: bucket.reset_ns(now_ns, rate),
        contended: false,
    }
}

/// Contended past the bound: the bucket is short by a slice, which its refill mends in 2 ms.
fn give_back(cells: &impl SharedCells, place: Place, tokens: u64, rate: Rate) {
    if tokens == 0 {
        return;
    }
    let _: Updated<()> = place.update(cells, |bytes| {
        let mut set = BucketSet::decode(bytes);
        set.refund(place.tag, tokens, rate);
        (Some(set.encode().to_vec()), ())
    });
}
