//! Fair parts of one bucket among the tenants that use it.
//!
//! While there is plenty in a bucket, whoever comes takes from it. Once less than half of it is
//! left ([`Supply::is_contended`]), what there is belongs to the tenants that came lately, each by
//! its weight: what comes back is dealt out by weight, what one does not use flows over to those
//! who do, and a tenant that uses less than its part keeps a reserve that no other can take. This
//! is weighted max-min fairness (Bertsekas and Gallager, Data Networks, 6.5.2), reached by filling
//! as with water. The bucket itself stays the authority: here is only decided who may ask it.
//!
//! Nothing is assumed of where the tokens come from. What came back is what is there now beyond
//! what was dealt out, so the same serves a bucket that refills and tokens that are leased.
//!
//! Up to [`SHARERS_MAX`] tenants at a time are told apart. Further ones share [`BINS`] places, by
//! their tag (McKenney, Stochastic Fairness Queueing, 1990).

mod codec;
#[cfg(test)]
mod tests;

/// Most tenants that are told apart.
pub const SHARERS_MAX: usize = 64;
/// Places that all further tenants share.
pub const BINS: u64 = 16;
/// Largest weight.
pub const WEIGHT_MAX: u32 = 1_000;

/// Parts into which a token is divided when it is dealt out.
const PARTS: i64 = 1024;
/// No credit is larger, in parts, so that sums of them cannot overflow.
const CREDIT_MAX: i64 = 1 << 55;
/// Part of a bucket below which it is contended.
const CONTENDED_BELOW: u64 = 2;
/// A tenant counts for so many times as long as the bucket takes to fill, so that one who comes a
/// few times more rarely than its part would allow still finds what was kept for it. Nobody is
/// slower for that: what is kept is bounded, and whatever comes beyond it is dealt to the others.
const ACTIVE_FILLS: u64 = 4;
/// Bounds of that time, in nanoseconds.
const ACTIVE_NS: std::ops::RangeInclusive<u64> = 10_000_000_000..=60_000_000_000;
/// Callers are told to wait in whole seconds too; a claim lasts as much longer, in nanoseconds.
const CLAIM_GRACE_NS: u64 = 1_100_000_000;

/// Who wants tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sharer {
    /// Number of the tenant.
    pub tag: u64,
    /// Its weight, 1 to [`WEIGHT_MAX`].
    pub weight: u32,
}

/// What there is to share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Supply {
    /// Tokens that could be taken now.
    pub level: u64,
    /// Tokens when it is full.
    pub burst: u64,
    /// Nanoseconds that one token takes to come back.
    pub interval_ns: u64,
}

impl Supply {
    /// Whether taking `tokens` has to be decided by whose they are.
    #[must_use]
    pub const fn is_contended(&self, tokens: u64) -> bool {
        self.level.saturating_sub(tokens) < self.burst.div_ceil(CONTENDED_BELOW)
    }

    /// How long a tenant counts after it came.
    fn active_ns(&self) -> u64 {
        let fill_ns = self.interval_ns.saturating_mul(self.burst);
        fill_ns.saturating_mul(ACTIVE_FILLS).clamp(*ACTIVE_NS.start(), *ACTIVE_NS.end())
    }
}

/// One tenant, or several that share a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    tag: u64,
    weight: u32,
    /// What is kept for it, in parts; below zero, what it took of a full bucket beyond that.
    credit: i64,
    /// Tokens it asked for last.
    want: u64,
    /// When it came last.
    seen_ns: u64,
    /// Until when it was told to wait; 0 once it got in.
    claim_ns: u64,
}

/// The tenants of one bucket.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shares {
    entries: Vec<Entry>,
}

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Nanoseconds after which the same is granted if nobody else comes; `None` if it is now.
    pub wait_ns: Option<u64>,
    /// Tokens that the tenant could still take.
    pub remaining: u64,
    /// Whether anything changed that the others must know.
    pub is_news: bool,
}

impl Shares {
    /// Whether `sharer` may take `tokens`; if so, they are its from now on.
    pub fn take(&mut self, sharer: Sharer, tokens: u64, supply: Supply, now_ns: u64) -> Verdict {
        let before = self.entries.len();
        self.forget(supply, now_ns);
        let is_alone = self.entries.iter().all(|entry| entry.tag == sharer.tag);
        let Some(index) = self.place(sharer) else {
            return Verdict { wait_ns: None, remaining: supply.level, is_news: false };
        };
        let mut is_news = before != self.entries.len();
        if let Some(entry) = self.entries.get_mut(index) {
            // Who keeps coming need not be written down each time.
            is_news |= now_ns.abs_diff(entry.seen_ns) > supply.active_ns() / 4 || entry.want != tokens;
            if is_news {
                *entry = Entry { weight: sharer.weight, want: tokens, seen_ns: now_ns, ..*entry };
            }
        }
        self.follow(supply);
        let available = self.available(index, supply);
        if self.may_take(index, tokens, available, supply, now_ns) {
            let left = parts(tokens);
            if let Some(entry) = self.entries.get_mut(index) {
                entry.credit = entry.credit.saturating_sub(left);
                entry.claim_ns = 0;
            }
            return Verdict {
                wait_ns: None,
                remaining: whole(available.saturating_sub(left)),
                is_news: is_news || !is_alone,
            };
        }
        let wait_ns = self.wait_ns(index, tokens, available, supply, now_ns);
        if let Some(entry) = self.entries.get_mut(index)
            && entry.claim_ns <= now_ns
        {
            entry.claim_ns = now_ns.saturating_add(wait_ns).saturating_add(CLAIM_GRACE_NS);
            is_news = true;
        }
        Verdict { wait_ns: Some(wait_ns), remaining: whole(available), is_news }
    }

    /// What was taken before turned out to be less (`back` above zero) or more.
    pub fn settle(&mut self, sharer: Sharer, back: i64) {
        let place = self.find(sharer);
        if let Some(entry) = place.and_then(|index| self.entries.get_mut(index)) {
            let credit = entry.credit.saturating_add(back.saturating_mul(PARTS));
            entry.credit = credit.clamp(-CREDIT_MAX, CREDIT_MAX);
        }
    }

    /// Whether nobody counts any more.
    #[must_use]
    pub fn is_idle(&self, supply: Supply, now_ns: u64) -> bool {
        !self.entries.iter().any(|entry| now_ns.abs_diff(entry.seen_ns) < supply.active_ns())
    }

    /// Those who have not come for long no longer count; what was kept for them is dealt out.
    fn forget(&mut self, supply: Supply, now_ns: u64) {
        self.entries.retain(|entry| now_ns.abs_diff(entry.seen_ns) < supply.active_ns());
    }

    fn find(&self, sharer: Sharer) -> Option<usize> {
        let of = |tag: u64| self.entries.iter().position(|entry| entry.tag == tag);
        of(sharer.tag).or_else(|| of(sharer.tag % BINS))
    }

    fn place(&mut self, sharer: Sharer) -> Option<usize> {
        if let Some(index) = self.entries.iter().position(|entry| entry.tag == sharer.tag) {
            return Some(index);
        }
        let tag = if self.entries.len() < SHARERS_MAX { sharer.tag } else { sharer.tag % BINS };
        let is_there = |entry: &Entry| entry.tag == tag;
        if !self.entries.iter().any(is_there) {
            let Sharer { weight, .. } = sharer;
            self.entries.push(Entry { tag, weight, credit: 0, want: 0, seen_ns: 0, claim_ns: 0 });
        }
        self.entries.iter().position(is_there)
    }

    /// Deals out what is there: nobody more than its cap, and what one has too much the others.
    fn follow(&mut self, supply: Supply) {
        let all: u64 = self.entries.iter().map(|entry| u64::from(entry.weight)).sum();
        for entry in &mut self.entries {
            // Nobody owes more than a whole bucket.
            entry.credit = entry.credit.clamp(-parts(supply.burst), cap(entry, all, supply));
        }
        let kept = self.kept();
        let there = parts(supply.level);
        if kept <= there {
            self.deal(there - kept, all, supply);
            return;
        }
        // Somebody took what was kept for others; nobody knows whose it was.
        let owned: i64 = self.entries.iter().map(|entry| entry.credit.max(0)).sum();
        for entry in &mut self.entries {
            entry.credit -= part_of(kept - there, entry.credit.max(0), owned);
        }
    }

    /// Deals out so many parts by weight; what is more than all caps stays with nobody.
    fn deal(&mut self, mut left: i64, all: u64, supply: Supply) {
        for _ in 0..self.entries.len() {
            let open = self.open_weight(all, supply);
            let (mut dealt, mut is_full) = (0, false);
            for entry in &mut self.entries {
                let room = cap(entry, all, supply) - entry.credit;
                let part = part_of(left, i64::from(entry.weight), open);
                if room > 0 {
                    entry.credit += part.min(room);
                    dealt += part.min(room);
                    is_full |= part >= room;
                }
            }
            left -= dealt;
            if !is_full || left <= 0 {
                return;
            }
        }
    }

    /// Weight of those who have room.
    fn open_weight(&self, all: u64, supply: Supply) -> i64 {
        let open = self.entries.iter().filter(|entry| entry.credit < cap(entry, all, supply));
        open.map(|entry| i64::from(entry.weight)).sum()
    }

    fn kept(&self) -> i64 {
        self.entries.iter().map(|entry| entry.credit).sum()
    }

    /// What is kept for one, and what is kept for nobody.
    fn available(&self, index: usize, supply: Supply) -> i64 {
        let own = self.entries.get(index).map_or(0, |entry| entry.credit);
        own.saturating_add((parts(supply.level) - self.kept()).max(0)).min(parts(supply.level)).max(0)
    }

    /// A full bucket would lose what comes back; so whoever comes may take, except from those
    /// who were told to wait for what is now theirs.
    fn may_take(&self, index: usize, tokens: u64, available: i64, supply: Supply, now_ns: u64) -> bool {
        if tokens > supply.level {
            return false;
        }
        let promised = self.claims(index, now_ns).fold(0_u64, |sum, entry| sum.saturating_add(entry.want));
        parts(tokens) <= available
            || (supply.level >= supply.burst && tokens <= supply.level.saturating_sub(promised))
    }

    /// Others who wait for what is kept for them.
    fn claims(&self, index: usize, now_ns: u64) -> impl Iterator<Item = &Entry> {
        let others = self.entries.iter().enumerate().filter(move |(other, _)| *other != index);
        let waits = move |entry: &&Entry| entry.claim_ns > now_ns && entry.credit >= parts(entry.want);
        others.map(|(_, entry)| entry).filter(waits)
    }

    fn wait_ns(&self, index: usize, tokens: u64, available: i64, supply: Supply, now_ns: u64) -> u64 {
        let all: u64 = self.entries.iter().map(|entry| u64::from(entry.weight)).sum();
        let weight = self.entries.get(index).map_or(1, |entry| entry.weight);
        let open = self.open_weight(all, supply).max(i64::from(weight)).unsigned_abs();
        let lacking = parts(tokens).saturating_sub(available).max(0).unsigned_abs();
        let by_share = u128::from(lacking) * u128::from(supply.interval_ns) * u128::from(open)
            / u128::from(weight.max(1))
            / u128::from(PARTS.unsigned_abs());
        let by_share = u64::try_from(by_share).unwrap_or(u64::MAX);
        let until = |tokens: u64| tokens.saturating_sub(supply.level).saturating_mul(supply.interval_ns);
        let full = until(supply.burst);
        let claims = self.claims(index, now_ns).map(|entry| entry.claim_ns - now_ns).max().unwrap_or(0);
        let wait = if by_share <= full { by_share } else { full.max(claims) };
        wait.max(until(tokens)).max(1)
    }
}

/// Most that is kept for one: its part of what is contended, and at least what it asks for.
fn cap(entry: &Entry, all: u64, supply: Supply) -> i64 {
    let contended = parts(supply.burst) / CONTENDED_BELOW.cast_signed();
    let share = part_of(contended, i64::from(entry.weight), i64::try_from(all).unwrap_or(i64::MAX));
    share.max(parts(entry.want.min(supply.burst)))
}

/// `amount * of / all`.
fn part_of(amount: i64, of: i64, all: i64) -> i64 {
    let part = i128::from(amount) * i128::from(of) / i128::from(all.max(1));
    i64::try_from(part).unwrap_or(i64::MAX)
}

fn parts(tokens: u64) -> i64 {
    i64::try_from(tokens).unwrap_or(i64::MAX).saturating_mul(PARTS).min(CREDIT_MAX)
}

const fn whole(parts: i64) -> u64 {
    if parts <= 0 { 0 } else { (parts / PARTS).unsigned_abs() }
}
