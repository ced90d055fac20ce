//! Tokens one VM has taken from shared buckets and not yet given to requests.
//!
//! A shared bucket costs a read and a compare-and-swap in Envoy's one locked map. Fast buckets are
//! taken from in slices ([`Rate::slice`]), handed out here. Tokens are always taken before they
//! are given, so no more is ever admitted than the bucket holds; what a VM does not use within
//! [`LIFE_NS`] it gives back on its tick. Slow buckets have slices of one, and are exact to the
//! request.

use tidegate_core::limit::{Bucket, BucketSet, Decision, Rate};

use crate::cells::Updated;
use crate::fleet::{Fleet, Outcome};
use crate::place::Place;
use crate::ports::SharedCells;

/// Sets of slices in one VM.
const SETS: usize = 128;
/// Slices in one set.
const WAYS: usize = 4;
/// How long tokens are held, in nanoseconds.
const LIFE_NS: u64 = 50_000_000;

/// What came of asking for tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Nanoseconds to wait, when there were not enough.
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

    fn is_of(&self, place: Place, rate: Rate) -> bool {
        self.place == place && self.rate == rate
    }
}

/// One VM's slices.
#[derive(Debug)]
pub struct Slices {
    sets: Vec<[Option<Slice>; WAYS]>,
    /// Limits that are not of this gateway alone.
    pub fleet: Fleet,
}

impl Default for Slices {
    fn default() -> Self {
        Self { sets: vec![[const { None }; WAYS]; SETS], fleet: Fleet::default() }
    }
}

impl Slices {
    /// Takes `tokens` of a bucket, at most its burst.
    pub fn take(
        &mut self,
        cells: &impl SharedCells,
        place: Place,
        tokens: u64,
        now_ns: u64,
        rate: Rate,
    ) -> Taken {
        let held = self.find(place, rate).filter(|slice| slice.is_alive(now_ns));
        if let Some(slice) = held
            && let Some(left) = slice.tokens.checked_sub(tokens)
        {
            slice.tokens = left;
            return described(slice.bucket, left, now_ns, rate, None);
        }
        let held = self.find(place, rate).map_or(0, |slice| std::mem::take(&mut slice.tokens));
        let wanted = tokens.saturating_sub(held);
        let outcome = match place.pool() {
            Some(pool) => self.fleet.take(cells, pool, wanted, now_ns, rate),
            None => take_shared(cells, place, wanted, now_ns, rate),
        };
        let (taken, slice) = came_of(outcome, place, held, now_ns, rate);
        match slice {
            Some(slice) => self.keep(cells, slice),
            None => self.put_back(cells, place, held, rate),
        }
        taken
    }

    /// Nanoseconds until `tokens` could be taken; nothing is taken.
    pub fn wait_ns(
        &mut self,
        cells: &impl SharedCells,
        place: Place,
        tokens: u64,
        now_ns: u64,
        rate: Rate,
    ) -> u64 {
        let held = self.find(place, rate).map_or(0, |slice| slice.tokens);
        if let Some(pool) = place.pool() {
            return self.fleet.wait_ns(cells, pool, tokens.saturating_sub(held), now_ns, rate);
        }
        let set = BucketSet::decode(&place.read(cells).bytes);
        set.get(place.tag()).wait_ns(tokens.saturating_sub(held), now_ns, rate)
    }

    /// Puts tokens back that were taken and not used.
    pub fn put_back(&mut self, cells: &impl SharedCells, place: Place, tokens: u64, rate: Rate) {
        let surplus = match self.find(place, rate) {
            Some(slice) if rate.slice() > 1 => {
                slice.tokens = slice.tokens.saturating_add(tokens);
                let surplus = slice.tokens.saturating_sub(rate.slice());
                slice.tokens -= surplus;
                surplus
            }
            // Of a slow bucket another worker may be asked for the next one.
            _ => tokens,
        };
        give_back(cells, &self.fleet, place, surplus, rate);
    }

    /// Takes tokens that were used already, whether they are there or not.
    pub fn charge(&mut self, cells: &impl SharedCells, place: Place, tokens: u64, now_ns: u64, rate: Rate) {
        let held = self.find(place, rate).map_or(0, |slice| {
            let part = slice.tokens.min(tokens);
            slice.tokens -= part;
            part
        });
        if tokens == held {
            return;
        }
        if let Some(pool) = place.pool() {
            return self.fleet.charge(cells, pool, tokens - held, now_ns, rate);
        }
        // Contended past the bound: the bucket is so much too full.
        let _: Updated<()> = place.update(cells, |bytes| {
            let mut set = BucketSet::decode(bytes);
            set.charge(place.tag(), tokens - held, now_ns, rate);
            (Some(set.encode().to_vec()), ())
        });
    }

    /// Gives back what was held too long.
    pub fn on_tick(&mut self, cells: &impl SharedCells, now_ns: u64) {
        for slot in self.sets.iter_mut().flatten() {
            if let Some(slice) = slot.take_if(|s| !s.is_alive(now_ns)) {
                give_back(cells, &self.fleet, slice.place, slice.tokens, slice.rate);
            }
        }
    }

    fn set(&mut self, place: Place) -> Option<&mut [Option<Slice>; WAYS]> {
        self.sets.get_mut((place.tag() % SETS as u64) as usize)
    }

    fn find(&mut self, place: Place, rate: Rate) -> Option<&mut Slice> {
        self.set(place)?.iter_mut().flatten().find(|slice| slice.is_of(place, rate))
    }

    /// Keeps a slice in the slot of its predecessor, in a free one, or in that of the oldest.
    fn keep(&mut self, cells: &impl SharedCells, slice: Slice) {
        let Some(set) = self.set(slice.place) else { return };
        let rank = |slot: &Option<Slice>| match slot {
            Some(old) if old.place == slice.place => (0, 0),
            None => (1, 0),
            Some(old) => (2, old.taken_at_ns),
        };
        if let Some(slot) = set.iter_mut().min_by_key(|slot| rank(slot))
            && let Some(old) = slot.replace(slice)
        {
            give_back(cells, &self.fleet, old.place, old.tokens, old.rate);
        }
    }
}

/// A slice if there is that much, else just `tokens`, else the wait for them.
fn take_shared(
    cells: &impl SharedCells,
    place: Place,
    tokens: u64,
    now_ns: u64,
    rate: Rate,
) -> Updated<Outcome> {
    let tag = place.tag();
    place.update(cells, |bytes| {
        let mut set = BucketSet::decode(bytes);
        for amount in [tokens.max(rate.slice()), tokens] {
            if let Decision::Taken(bucket) = set.take(tag, amount, now_ns, rate) {
                return (Some(set.encode().to_vec()), Ok((bucket, amount - tokens)));
            }
        }
        let bucket = set.get(tag);
        match bucket.take(tokens, now_ns, rate) {
            Decision::Wait(ns) => (None, Err((bucket, ns))),
            Decision::Taken(_) => (None, Err((bucket, 0))),
        }
    })
}

/// A cell that stays contended admits the request: others have just passed through it, so it is
/// not empty by much, and refusing without having looked would punish a bystander.
fn came_of(
    outcome: Updated<Outcome>,
    place: Place,
    held: u64,
    now_ns: u64,
    rate: Rate,
) -> (Taken, Option<Slice>) {
    match outcome {
        Updated::Written(Ok((bucket, tokens))) | Updated::Kept(Ok((bucket, tokens))) => {
            let slice = Slice { place, rate, bucket, tokens, taken_at_ns: now_ns };
            (described(bucket, tokens, now_ns, rate, None), Some(slice))
        }
        Updated::Written(Err((bucket, wait_ns))) | Updated::Kept(Err((bucket, wait_ns))) => {
            (described(bucket, held, now_ns, rate, Some(wait_ns)), None)
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
fn give_back(cells: &impl SharedCells, fleet: &Fleet, place: Place, tokens: u64, rate: Rate) {
    if tokens == 0 {
        return;
    }
    if let Some(pool) = place.pool() {
        return fleet.put_back(cells, pool, tokens, rate);
    }
    let _: Updated<()> = place.update(cells, |bytes| {
        let mut set = BucketSet::decode(bytes);
        set.refund(place.tag(), tokens, rate);
        (Some(set.encode().to_vec()), ())
    });
}
