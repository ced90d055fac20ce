//! Tenants that share a bucket, in a cell beside it; only looked at while the bucket is contended.
//!
//! Bucket and tenants are changed one after the other. Another worker may come between; what the
//! tenants' cell then has too much or too little is dealt out, or taken back, at the next look.

use tidegate_core::limit::fair::{Shares, Supply, Verdict};

use crate::cells::{self, Updated};
use crate::place::Account;
use crate::ports::SharedCells;

/// Whether the tenant may take so many tokens; if so, they are counted as its.
pub fn take(
    shared: &impl SharedCells,
    account: &Account,
    tokens: u64,
    supply: Supply,
    now_ns: u64,
) -> Verdict {
    let bucket = account.place.id();
    let outcome = cells::update(shared, &account.place.shares(), |bytes| {
        let Some(mut shares) = of(bytes, bucket, supply, now_ns) else { return (None, unshared(supply)) };
        let verdict = shares.take(account.sharer, tokens, supply, now_ns);
        (verdict.is_news.then(|| shares.encode(bucket)), verdict)
    });
    match outcome {
        Updated::Written(verdict) | Updated::Kept(verdict) => verdict,
        // The bucket itself still decides.
        Updated::Contended => unshared(supply),
    }
}

/// What [`take`] would say; nothing changes.
pub fn look(
    shared: &impl SharedCells,
    account: &Account,
    tokens: u64,
    supply: Supply,
    now_ns: u64,
) -> Verdict {
    let bytes = shared.read(&account.place.shares()).bytes;
    let shares = of(&bytes, account.place.id(), supply, now_ns);
    shares.map_or(unshared(supply), |mut shares| shares.take(account.sharer, tokens, supply, now_ns))
}

/// Of what the tenant had taken, `back` is there again (or, below zero, more was used).
pub fn settle(shared: &impl SharedCells, account: &Account, back: i64) {
    let bucket = account.place.id();
    // Contended past the bound: it is dealt out to all.
    let _: Updated<()> = cells::update(shared, &account.place.shares(), |bytes| {
        let (owner, mut shares) = Shares::decode(bytes);
        if owner != bucket {
            return (None, ());
        }
        shares.settle(account.sharer, back);
        (Some(shares.encode(bucket)), ())
    });
}

/// The tenants of a bucket; `None` if another bucket's, which is in use, are there.
fn of(bytes: &[u8], bucket: u64, supply: Supply, now_ns: u64) -> Option<Shares> {
    match Shares::decode(bytes) {
        (owner, shares) if owner == bucket => Some(shares),
        (_, shares) => shares.is_idle(supply, now_ns).then(Shares::default),
    }
}

/// Without a place to remember tenants in, the first who comes is served.
const fn unshared(supply: Supply) -> Verdict {
    Verdict { wait_ns: None, remaining: supply.level, is_news: false }
}
