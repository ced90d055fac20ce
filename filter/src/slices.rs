//! Tokens one VM has taken from shared buckets and not yet given to requests.
//!
//! A shared bucket costs a read and a compare-and-swap in Envoy's one locked map. Fast buckets are
//! taken from in slices ([`Rate::slice`]), handed out here. Tokens are always taken before they
//! are given, so no more is ever admitted than the bucket holds; what a VM does not use within
//! [`LIFE_NS`] it gives back on its tick. Slow buckets have slices of one, and are exact to the
//! request.

use tidegate_core::limit::fair::{Supply, Verdict};
use tidegate_core::limit::{Bucket, BucketSet, Decision, Look, Rate};

use crate::cells::Updated;
use crate::fleet::{Fleet, Outcome};
use crate::place::{Account, Place};
use crate::ports::{Cell, SharedCells};
use crate::shares;

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
    /// There are enough in the bucket, but they are kept for other tenants.
    pub is_kept: bool,
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
    pub fn take(&mut self, cells: &impl SharedCells, account: Account, tokens: u64, now_ns: u64) -> Taken {
        let Account { place, rate, .. } = account;
        let held = self.find(place, rate).filter(|slice| slice.is_alive(now_ns));
        if let Some(slice) = held
            && let Some(left) = slice.tokens.checked_sub(tokens)
        {
            slice.tokens = left;
            return described(slice.bucket, left, now_ns, rate, None);
        }
        let held = self.find(place, rate).map_or(0, |slice| std::mem::take(&mut slice.tokens));
        let wanted = tokens.saturating_sub(held);
        let (taken, slice) = self.fetch(cells, &account, wanted, held, now_ns);
        match slice {
            Some(slice) => self.keep(cells, slice),
            None => drop(self.return_surplus(cells, &account, held, now_ns)),
        }
        taken
    }

    /// Tokens out of the shared bucket: a slice of it, unless several tenants contend for what is
    /// left; then just `tokens`, if this one may have them.
    fn fetch(
        &mut self,
        cells: &impl SharedCells,
        account: &Account,
        tokens: u64,
        held: u64,
        now_ns: u64,
    ) -> (Taken, Option<Slice>) {
        let Account { place, rate, .. } = *account;
        let slice = rate.slice();
        if !place.is_common() {
            let outcome = self.take_shared(cells, account, None, tokens, slice, now_ns);
            return came_of(outcome, place, held, now_ns, rate);
        }
        let (cell, supply) = self.supply(cells, account, now_ns);
        let Some(supply) = supply.filter(|supply| supply.is_contended(tokens.max(slice))) else {
            let outcome = self.take_shared(cells, account, cell, tokens, slice, now_ns);
            return came_of(outcome, place, held, now_ns, rate);
        };
        let verdict = shares::take(cells, account, tokens, supply, now_ns);
        if let Some(wait_ns) = verdict.wait_ns {
            self.fleet.note_refused(place, tokens, rate);
            return (refused(supply, &verdict, tokens, wait_ns), None);
        }
        let outcome = self.take_shared(cells, account, cell, tokens, 0, now_ns);
        let (taken, slice) = came_of(outcome, place, held, now_ns, rate);
        (Taken { remaining: taken.remaining.min(verdict.remaining), ..taken }, slice)
    }

    /// What there is to share of a bucket, and its cell where that was read for it.
    fn supply(
        &self,
        cells: &impl SharedCells,
        account: &Account,
        now_ns: u64,
    ) -> (Option<Cell>, Option<Supply>) {
        let Account { place, rate, .. } = *account;
        if let Some(pool) = place.pool() {
            return (None, self.fleet.supply(cells, pool, now_ns, rate));
        }
        let cell = place.read(cells);
        let bucket = BucketSet::decode(&cell.bytes).get(place.tag());
        (Some(cell), Some(supply_of(bucket, now_ns, rate)))
    }

    /// What the bucket would say; nothing is taken.
    pub fn look(&self, cells: &impl SharedCells, account: &Account, tokens: u64, now_ns: u64) -> Look {
        let Account { place, rate, .. } = *account;
        let (cell, supply) = self.supply(cells, account, now_ns);
        let look = match (place.pool(), &cell) {
            (Some(pool), _) => self.fleet.look(cells, pool, tokens, now_ns, rate),
            (None, Some(cell)) => {
                Look::of(BucketSet::decode(&cell.bytes).get(place.tag()), tokens, now_ns, rate)
            }
            (None, None) => Look::of(Bucket::default(), tokens, now_ns, rate),
        };
        let contended = supply.filter(|supply| place.is_common() && supply.is_contended(tokens));
        let Some(supply) = contended else { return look };
        let verdict = shares::look(cells, account, tokens, supply, now_ns);
        Look {
            wait_ns: look.wait_ns.max(verdict.wait_ns.unwrap_or(0)),
            share: Some(verdict.remaining),
            ..look
        }
    }

    /// Nanoseconds until `tokens` could be taken; nothing is taken.
    pub fn wait_ns(&mut self, cells: &impl SharedCells, account: &Account, tokens: u64, now_ns: u64) -> u64 {
        let held = self.find(account.place, account.rate).map_or(0, |slice| slice.tokens);
        self.look(cells, account, tokens.saturating_sub(held), now_ns).wait_ns
    }

    /// Puts tokens back that were taken and not used.
    pub fn put_back(&mut self, cells: &impl SharedCells, account: &Account, tokens: u64, now_ns: u64) {
        let surplus = match self.find(account.place, account.rate) {
            Some(slice) if account.rate.slice() > 1 => {
                slice.tokens = slice.tokens.saturating_add(tokens);
                let surplus = slice.tokens.saturating_sub(slice.rate.slice());
                slice.tokens -= surplus;
                surplus
            }
            // Of a slow bucket another worker may be asked for the next one.
            _ => tokens,
        };
        let supply = self.return_surplus(cells, account, surplus, now_ns);
        settle(cells, account, supply, signed(surplus));
    }

    /// Takes tokens that were used already, whether they are there or not.
    pub fn charge(&mut self, cells: &impl SharedCells, account: &Account, tokens: u64, now_ns: u64) {
        let Account { place, rate, .. } = *account;
        let held = self.find(place, rate).map_or(0, |slice| {
            let part = slice.tokens.min(tokens);
            slice.tokens -= part;
            part
        });
        let due = tokens - held;
        if due == 0 {
            return;
        }
        let supply = if let Some(pool) = place.pool() {
            self.fleet.charge(cells, pool, due, now_ns, rate)
        } else {
            // Contended past the bound: the bucket is so much too full.
            change(cells, place, now_ns, rate, |set| set.charge(place.tag(), due, now_ns, rate))
        };
        settle(cells, account, supply, -signed(due));
    }

    /// Gives back what was held too long.
    pub fn on_tick(&mut self, cells: &impl SharedCells, now_ns: u64) {
        for slot in self.sets.iter_mut().flatten() {
            if let Some(slice) = slot.take_if(|s| !s.is_alive(now_ns)) {
                give_back(cells, &self.fleet, &slice, now_ns);
            }
        }
    }

    fn return_surplus(
        &self,
        cells: &impl SharedCells,
        account: &Account,
        tokens: u64,
        now_ns: u64,
    ) -> Option<Supply> {
        let Account { place, rate, .. } = *account;
        give_back(
            cells,
            &self.fleet,
            &Slice { place, rate, bucket: Bucket::default(), tokens, taken_at_ns: now_ns },
            now_ns,
        )
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
        let now_ns = slice.taken_at_ns;
        if let Some(slot) = set.iter_mut().min_by_key(|slot| rank(slot))
            && let Some(old) = slot.replace(slice)
        {
            give_back(cells, &self.fleet, &old, now_ns);
        }
    }

    /// As many as are worth taking at once (`slice`) if they are there, else just `tokens`, else
    /// the wait for them.
    fn take_shared(
        &mut self,
        cells: &impl SharedCells,
        account: &Account,
        cell: Option<Cell>,
        tokens: u64,
        slice: u64,
        now_ns: u64,
    ) -> Updated<Outcome> {
        let Account { place, rate, .. } = *account;
        if let Some(pool) = place.pool() {
            return self.fleet.take(cells, pool, tokens, tokens.max(slice), now_ns, rate);
        }
        let (tag, cell) = (place.tag(), cell.unwrap_or_else(|| place.read(cells)));
        place.update_from(cells, cell, |bytes| {
            let mut set = BucketSet::decode(bytes);
            for amount in [tokens.max(slice), tokens] {
                if let Decision::Taken(bucket) = set.take(tag, amount, now_ns, rate) {
                    return (Some(set.encode().to_vec()), Ok((bucket, amount - tokens)));
                }
            }
            let bucket = set.get(tag);
            (None, Err((bucket, bucket.wait_ns(tokens, now_ns, rate))))
        })
    }
}

fn supply_of(bucket: Bucket, now_ns: u64, rate: Rate) -> Supply {
    Supply { level: bucket.remaining(now_ns, rate), burst: rate.burst(), interval_ns: rate.interval_ns() }
}

/// Refused for the sake of other tenants, or because there is nothing.
fn refused(supply: Supply, verdict: &Verdict, tokens: u64, wait_ns: u64) -> Taken {
    let missing = supply.burst.saturating_sub(supply.level);
    Taken {
        wait_ns: Some(wait_ns),
        remaining: verdict.remaining,
        reset_ns: missing.saturating_mul(supply.interval_ns),
        contended: false,
        is_kept: supply.level >= tokens,
    }
}

/// Of a contended bucket the tenant's part is corrected too.
fn settle(cells: &impl SharedCells, account: &Account, supply: Option<Supply>, back: i64) {
    if account.place.is_common() && supply.is_some_and(|supply| supply.is_contended(0)) {
        shares::settle(cells, account, back);
    }
}

fn signed(tokens: u64) -> i64 {
    i64::try_from(tokens).unwrap_or(i64::MAX)
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
        is_kept: false,
    }
}

/// Contended past the bound: the bucket is short by a slice, which its refill mends in 2 ms.
fn give_back(cells: &impl SharedCells, fleet: &Fleet, slice: &Slice, now_ns: u64) -> Option<Supply> {
    let Slice { place, rate, tokens, .. } = *slice;
    if tokens == 0 {
        return None;
    }
    if let Some(pool) = place.pool() {
        return fleet.put_back(cells, pool, tokens, rate);
    }
    change(cells, place, now_ns, rate, |set| set.refund(place.tag(), tokens, rate))
}

/// Changes a bucket; what there is afterwards.
fn change(
    cells: &impl SharedCells,
    place: Place,
    now_ns: u64,
    rate: Rate,
    change: impl Fn(&mut BucketSet),
) -> Option<Supply> {
    let outcome = place.update(cells, |bytes| {
        let mut set = BucketSet::decode(bytes);
        change(&mut set);
        (Some(set.encode().to_vec()), supply_of(set.get(place.tag()), now_ns, rate))
    });
    match outcome {
        Updated::Written(supply) | Updated::Kept(supply) => Some(supply),
        Updated::Contended => None,
    }
}
