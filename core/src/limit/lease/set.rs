//! Several holdings in one shared cell.

use super::{Holding, View};
use crate::limit::{Bucket, Rate};

/// Holdings of one cell.
pub const WAYS: usize = 4;
const VERSION: u8 = 1;
const ENTRY: usize = 36;
const BYTES: usize = 1 + WAYS * ENTRY;

/// The holdings of a cell, each under its pool's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HoldingSet {
    entries: [(u64, Holding); WAYS],
}

impl HoldingSet {
    /// From the bytes of a cell; foreign bytes are an empty set.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Self {
        let mut set = Self::default();
        let Some((&VERSION, rest)) = bytes.split_first() else { return set };
        let (entries, rest) = rest.as_chunks::<ENTRY>();
        if entries.len() != WAYS || !rest.is_empty() {
            return set;
        }
        for (slot, entry) in set.entries.iter_mut().zip(entries) {
            let (numbers, sharers) = entry.split_at(ENTRY - 4);
            let (numbers, _) = numbers.as_chunks::<8>();
            let [pool, balance, expires, full_at] = numbers else { continue };
            let holding = Holding {
                balance: i64::from_le_bytes(*balance),
                expires_at_ns: u64::from_le_bytes(*expires),
                bucket: Bucket::from_full_at_ns(u64::from_le_bytes(*full_at)),
                sharers: sharers.try_into().map_or(0, u32::from_le_bytes),
            };
            *slot = (u64::from_le_bytes(*pool), holding);
        }
        set
    }

    /// The bytes of the cell.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(BYTES);
        out.push(VERSION);
        for (pool, holding) in &self.entries {
            out.extend_from_slice(&pool.to_le_bytes());
            out.extend_from_slice(&holding.balance.to_le_bytes());
            out.extend_from_slice(&holding.expires_at_ns.to_le_bytes());
            out.extend_from_slice(&holding.bucket.full_at_ns().to_le_bytes());
            out.extend_from_slice(&holding.sharers.to_le_bytes());
        }
        out
    }

    /// The holding of a pool, a new one if it is not here.
    #[must_use]
    pub fn get(&self, pool: u64) -> Holding {
        self.entries.iter().find(|(p, _)| *p == pool).map_or_else(Holding::default, |(_, holding)| *holding)
    }

    /// Keeps a holding: in its own place, else a free one, else that of the one whose forgetting
    /// changes least.
    pub fn put(&mut self, pool: u64, holding: Holding, now_ns: u64) {
        let loss =
            |(p, held): &(u64, Holding)| (*p != pool, !held.is_idle(now_ns), held.balance.unsigned_abs());
        if let Some(place) = self.entries.iter_mut().min_by_key(|entry| loss(entry)) {
            *place = (pool, holding);
        }
    }

    /// Spends tokens of a pool; see [`Holding::take`].
    ///
    /// # Errors
    /// Nanoseconds to wait; nothing has changed then.
    pub fn take(
        &mut self,
        pool: u64,
        tokens: u64,
        now_ns: u64,
        rate: Rate,
        view: View,
    ) -> Result<Holding, u64> {
        let mut holding = self.get(pool);
        holding.take(tokens, now_ns, rate, view)?;
        self.put(pool, holding, now_ns);
        Ok(holding)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Mode;
    use super::*;
    use crate::policy::BucketPolicy;

    const LEASED: View = View { mode: Mode::Leased, gateways: 1 };

    #[test]
    fn holdings_survive_their_cell_and_the_idle_one_gives_way() {
        let rate = Rate::new(BucketPolicy { rate: 1.0, burst: 10 });
        let (mut set, now) = (HoldingSet::default(), 1_000_000_000_000);
        for pool in 1..=4 {
            set.take(pool, pool, now, rate, LEASED).expect("on credit");
        }
        assert_eq!(HoldingSet::decode(&set.encode()), set);
        set.take(9, 10, now, rate, LEASED).expect("on credit");
        assert_eq!(set.get(1), Holding::default(), "it owed least");
        assert_ne!(set.get(2), Holding::default());
        for bytes in [&b""[..], &[9; BYTES], &[VERSION; BYTES - 1]] {
            assert_eq!(HoldingSet::decode(bytes), HoldingSet::default());
        }
    }
}
