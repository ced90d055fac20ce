//! Requests at a time, counted by several sharers in one cell.
//!
//! A count that is only raised and lowered is wrong for ever when a sharer dies between the two.
//! So each sharer's part stands by itself and has to be renewed; what a dead one held is forgotten
//! after [`LIFE_MS`].

/// Parts in one cell.
pub const SHARERS_MAX: usize = 64;
/// How long a part counts after it was last written, in milliseconds.
pub const LIFE_MS: u64 = 5_000;
const VERSION: u8 = 1;
const ENTRY: usize = 28;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    tag: u64,
    sharer: u64,
    written_ms: u64,
    count: u32,
}

impl Part {
    /// A time in the future is a clock that was set back, and counts as just now.
    const fn is_alive(&self, now_ms: u64) -> bool {
        self.count > 0 && now_ms.saturating_sub(self.written_ms) < LIFE_MS
    }
}

/// One cell: parts of those limits that fall into it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Permits {
    parts: Vec<Part>,
}

/// What came of asking for permits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permitted {
    /// Taken; so many are in use now.
    Taken(u32),
    /// All are in use.
    Refused,
    /// The cell has no place for another part, so the limit cannot be kept.
    Full,
}

impl Permits {
    /// Reads a cell; anything this build did not write is empty.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Self {
        let Some((&VERSION, rest)) = bytes.split_first() else { return Self::default() };
        let (entries, []) = rest.as_chunks::<ENTRY>() else { return Self::default() };
        let parts = entries.iter().take(SHARERS_MAX).filter_map(|entry| {
            let (tag, rest) = entry.split_first_chunk::<8>()?;
            let (sharer, rest) = rest.split_first_chunk::<8>()?;
            let (written, count) = rest.split_first_chunk::<8>()?;
            Some(Part {
                tag: u64::from_le_bytes(*tag),
                sharer: u64::from_le_bytes(*sharer),
                written_ms: u64::from_le_bytes(*written),
                count: u32::from_le_bytes(count.try_into().ok()?),
            })
        });
        Self { parts: parts.collect() }
    }

    /// The bytes of the cell.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1 + self.parts.len() * ENTRY);
        out.push(VERSION);
        for Part { tag, sharer, written_ms, count } in &self.parts {
            out.extend_from_slice(&tag.to_le_bytes());
            out.extend_from_slice(&sharer.to_le_bytes());
            out.extend_from_slice(&written_ms.to_le_bytes());
            out.extend_from_slice(&count.to_le_bytes());
        }
        out
    }

    /// How many are in use.
    #[must_use]
    pub fn in_use(&self, tag: u64, now_ms: u64) -> u32 {
        let alive = self.parts.iter().filter(|part| part.tag == tag && part.is_alive(now_ms));
        alive.fold(0, |sum, part| sum.saturating_add(part.count))
    }

    /// Takes `count` for `sharer`, if no more than `most` are then in use.
    pub fn take(&mut self, tag: u64, sharer: u64, count: u32, most: u32, now_ms: u64) -> Permitted {
        let after = self.in_use(tag, now_ms).saturating_add(count);
        if after > most {
            return Permitted::Refused;
        }
        self.parts.retain(|part| part.is_alive(now_ms));
        let is_full = self.parts.len() == SHARERS_MAX;
        match self.parts.iter_mut().find(|part| part.tag == tag && part.sharer == sharer) {
            Some(part) => {
                part.count = part.count.saturating_add(count);
                part.written_ms = now_ms;
            }
            None if is_full => return Permitted::Full,
            None => self.parts.push(Part { tag, sharer, written_ms: now_ms, count }),
        }
        Permitted::Taken(after)
    }

    /// Says that `sharer` holds `count` now: fewer than before, or the same for longer.
    pub fn hold(&mut self, tag: u64, sharer: u64, count: u32, now_ms: u64) {
        self.parts.retain(|part| part.is_alive(now_ms) && !(part.tag == tag && part.sharer == sharer));
        if count > 0 && self.parts.len() < SHARERS_MAX {
            self.parts.push(Part { tag, sharer, written_ms: now_ms, count });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_dead_sharer_held_comes_back() {
        let mut permits = Permits::default();
        assert_eq!(permits.take(1, 7, 2, 3, 1_000), Permitted::Taken(2));
        assert_eq!(permits.take(1, 8, 1, 3, 2_000), Permitted::Taken(3));
        assert_eq!(permits.take(1, 9, 1, 3, 5_999), Permitted::Refused);
        permits.hold(1, 8, 1, 5_000);
        assert_eq!(permits.take(1, 9, 2, 3, 6_000), Permitted::Taken(3), "only 8 has said that it lives");
        assert_eq!(permits.take(2, 9, 1, 1, 6_000), Permitted::Taken(1), "another limit in the same cell");
    }

    #[test]
    fn a_clock_set_back_frees_nothing_and_locks_nothing_for_ever() {
        let mut permits = Permits::default();
        assert_eq!(permits.take(1, 7, 1, 1, 9_000_000), Permitted::Taken(1));
        assert_eq!(permits.take(1, 8, 1, 1, 1_000), Permitted::Refused);
        permits.hold(1, 7, 0, 1_000);
        assert_eq!(permits.take(1, 8, 1, 1, 1_000), Permitted::Taken(1));
    }

    #[test]
    fn a_cell_is_bounded_and_foreign_bytes_are_empty() {
        let mut permits = Permits::default();
        for sharer in 0..SHARERS_MAX as u64 {
            assert!(matches!(permits.take(1, sharer, 1, 1000, 1), Permitted::Taken(_)));
        }
        assert_eq!(permits.take(1, 999, 1, 1000, 1), Permitted::Full);
        assert_eq!(Permits::decode(&permits.encode()), permits);
        for bytes in [&b""[..], &[9; 29], &[VERSION; 28]] {
            assert_eq!(Permits::decode(bytes), Permits::default());
        }
    }

    proptest! {
        #[test]
        fn never_more_than_the_limit_and_what_is_given_back_can_be_taken(
            most in 1u32..20, steps in prop::collection::vec((0u64..4, any::<bool>()), 1..200)
        ) {
            let (mut permits, mut held) = (Permits::default(), [0u32; 4]);
            for (sharer, takes) in steps {
                let own = &mut held[sharer as usize];
                if takes {
                    if let Permitted::Taken(_) = permits.take(5, sharer, 1, most, 100) { *own += 1; }
                } else if *own > 0 {
                    *own -= 1;
                    permits.hold(5, sharer, *own, 100);
                }
                permits = Permits::decode(&permits.encode());
                let total: u32 = held.iter().sum();
                prop_assert!(total <= most);
                prop_assert_eq!(permits.in_use(5, 100), total);
            }
        }
    }
}
