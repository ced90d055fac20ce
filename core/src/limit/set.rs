//! Several buckets in one shared cell, found by tag.
//!
//! Keys come from outside, shared data has no delete, so there is a fixed number of cells and a
//! key is hashed to one of them. Each holds [`WAYS`] buckets; one that is full again is the same
//! as none, so its place is free.

use super::{Bucket, Decision, Rate};

/// Buckets in one cell.
pub const WAYS: usize = 4;
const VERSION: u8 = 1;
const ENTRY: usize = 16;
const BYTES: usize = 1 + WAYS * ENTRY;

/// One cell of buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BucketSet {
    entries: [(u64, Bucket); WAYS],
}

impl BucketSet {
    /// Reads a cell; anything this build did not write is an empty set.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Self {
        let mut set = Self::default();
        let Some((&VERSION, rest)) = bytes.split_first() else {
            return set;
        };
        if rest.len() != WAYS * ENTRY {
            return set;
        }
        let (entries, _) = rest.as_chunks::<ENTRY>();
        for (slot, entry) in set.entries.iter_mut().zip(entries) {
            let (tag, full_at) = entry.split_at(8);
            let number = |b: &[u8]| b.try_into().map_or(0, u64::from_le_bytes);
            *slot = (number(tag), Bucket::from_full_at_ns(number(full_at)));
        }
        set
    }

    /// The bytes of the cell.
    #[must_use]
    pub fn encode(&self) -> [u8; BYTES] {
        let mut out = [0; BYTES];
        out[0] = VERSION;
        let (chunks, _) = out[1..].as_chunks_mut::<ENTRY>();
        for (chunk, (tag, bucket)) in chunks.iter_mut().zip(&self.entries) {
            let (a, b) = chunk.split_at_mut(8);
            a.copy_from_slice(&tag.to_le_bytes());
            b.copy_from_slice(&bucket.full_at_ns().to_le_bytes());
        }
        out
    }

    /// The bucket of `tag`, new if it is not here.
    #[must_use]
    pub fn get(&self, tag: u64) -> Bucket {
        self.entries.iter().find(|(t, _)| *t == tag).map_or_else(Bucket::default, |(_, b)| *b)
    }

    /// Takes from the bucket of `tag`; the set is changed only when the tokens were there.
    pub fn take(&mut self, tag: u64, tokens: u64, now_ns: u64, rate: Rate) -> Decision {
        let decision = self.get(tag).take(tokens, now_ns, rate);
        if let Decision::Taken(bucket) = decision {
            self.put(tag, bucket, now_ns);
        }
        decision
    }

    /// Takes from the bucket of `tag` what was used already.
    pub fn charge(&mut self, tag: u64, tokens: u64, now_ns: u64, rate: Rate) {
        let bucket = self.get(tag).charge(tokens, now_ns, rate);
        self.put(tag, bucket, now_ns);
    }

    /// Gives tokens back to the bucket of `tag`, if it is still here.
    pub fn refund(&mut self, tag: u64, tokens: u64, rate: Rate) {
        if let Some((_, bucket)) = self.entries.iter_mut().find(|(t, _)| *t == tag) {
            *bucket = bucket.refund(tokens, rate);
        }
    }

    /// Own place, else a free one, else that of the bucket that is full again soonest: the least
    /// debt is forgotten.
    fn put(&mut self, tag: u64, bucket: Bucket, now_ns: u64) {
        let place =
            self.entries.iter_mut().min_by_key(|(t, b)| (*t != tag, !b.is_full(now_ns), b.full_at_ns()));
        if let Some(place) = place {
            *place = (tag, bucket);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::BucketPolicy;

    #[test]
    fn four_tenants_share_a_cell_without_sharing_a_limit() {
        let rate = Rate::new(BucketPolicy { rate: 1.0, burst: 2 });
        let mut set = BucketSet::default();
        for tag in 1..=4 {
            for _ in 0..2 {
                set = BucketSet::decode(&set.encode());
                assert!(matches!(set.take(tag, 1, 1_000, rate), Decision::Taken(_)));
            }
        }
        for tag in 1..=4 {
            assert!(matches!(set.take(tag, 1, 1_000, rate), Decision::Wait(_)), "tenant {tag}");
        }
    }

    #[test]
    fn a_fifth_takes_the_place_of_the_one_that_owes_least() {
        let rate = Rate::new(BucketPolicy { rate: 1.0, burst: 10 });
        let mut set = BucketSet::default();
        for tag in 1..=4 {
            let _ = set.take(tag, tag, 1_000, rate);
        }
        let _ = set.take(9, 10, 1_000, rate);
        assert_eq!(set.get(1), Bucket::default());
        assert!((2..=4).all(|tag| set.get(tag) != Bucket::default()));
    }

    #[test]
    fn foreign_bytes_are_an_empty_set() {
        for bytes in [&b""[..], &[9; BYTES], &[VERSION; BYTES - 1]] {
            assert_eq!(BucketSet::decode(bytes), BucketSet::default());
        }
    }
}
