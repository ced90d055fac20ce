//! Where answers lie in Envoy's shared data, which has no delete and no limit of its own.
//!
//! The configured bound is cut into sets of [`SET_BYTES`]. Each set has an index cell that names
//! up to [`WAYS`] answers with their sizes, and one data cell a way. Storing claims a way in the
//! index (by compare-and-swap), evicting what is expired or oldest until the set's answers fit,
//! so the stored bytes never exceed the bound, plus the answers being written at that moment,
//! one a worker. A look-up that misses reads one cell of at most 645 bytes.

/// Bytes of answers in one set, and so the largest answer that is stored.
pub const SET_BYTES: u64 = 256 << 10;
/// Answers in one set.
pub const WAYS: usize = 32;

const VERSION: u8 = 1;
const WAY_BYTES: usize = 20;

/// Number of sets under a bound of `bytes_max`.
#[must_use]
pub fn sets(bytes_max: u64) -> u32 {
    u32::try_from(bytes_max / SET_BYTES).unwrap_or(u32::MAX).max(1)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Way {
    tag: u64,
    expires_at_ms: u64,
    bytes: u32,
}

/// The index of one set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Index {
    ways: [Way; WAYS],
}

/// What storing came to: write the entry to `way`, empty the `evicted` ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The way to write to.
    pub way: usize,
    /// Bit i: way i held an answer that must go.
    pub evicted: u32,
}

impl Index {
    /// Reads an index cell; anything this build did not write is an empty set.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Self {
        let mut index = Self::default();
        if let Some((&VERSION, rest)) = bytes.split_first() {
            let (chunks, _) = rest.as_chunks::<WAY_BYTES>();
            for (way, chunk) in index.ways.iter_mut().zip(chunks) {
                *way = Way::decode(chunk);
            }
        }
        index
    }

    /// Finds the way of `tag` in an index cell without decoding the rest.
    #[must_use]
    pub fn find(bytes: &[u8], tag: u64, now_ms: u64) -> Option<usize> {
        let (&VERSION, rest) = bytes.split_first()? else {
            return None;
        };
        let (chunks, _) = rest.as_chunks::<WAY_BYTES>();
        let tag_bytes = tag.to_le_bytes();
        chunks.iter().take(WAYS).position(|chunk| {
            chunk.starts_with(&tag_bytes) && {
                let way = Way::decode(chunk);
                way.bytes > 0 && now_ms < way.expires_at_ms
            }
        })
    }

    /// The bytes of the cell, without the unused ways at its end.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let used = self.ways.iter().rposition(|w| w.bytes > 0).map_or(0, |last| last + 1);
        let mut out = Vec::with_capacity(1 + used * WAY_BYTES);
        out.push(VERSION);
        for way in self.ways.iter().take(used) {
            out.extend_from_slice(&way.tag.to_le_bytes());
            out.extend_from_slice(&way.expires_at_ms.to_le_bytes());
            out.extend_from_slice(&way.bytes.to_le_bytes());
        }
        out
    }

    /// Makes room for an answer of `bytes` and claims a way for it; `None` if it can never fit.
    pub fn claim(&mut self, tag: u64, bytes: usize, expires_at_ms: u64, now_ms: u64) -> Option<Claim> {
        let bytes = u32::try_from(bytes).ok().filter(|b| *b > 0 && u64::from(*b) <= SET_BYTES)?;
        let mut evicted = 0u32;
        for (i, way) in self.ways.iter_mut().enumerate() {
            if way.bytes > 0 && (way.tag == tag || way.expires_at_ms <= now_ms) {
                *way = Way::default();
                evicted |= 1 << i;
            }
        }
        while self.bytes() + u64::from(bytes) > SET_BYTES || self.ways.iter().all(|w| w.bytes > 0) {
            let (i, oldest) = self
                .ways
                .iter_mut()
                .enumerate()
                .filter(|(_, w)| w.bytes > 0)
                .min_by_key(|(_, w)| w.expires_at_ms)?;
            *oldest = Way::default();
            evicted |= 1 << i;
        }
        let (way, free) = self.ways.iter_mut().enumerate().find(|(_, w)| w.bytes == 0)?;
        *free = Way { tag, expires_at_ms, bytes };
        Some(Claim { way, evicted: evicted & !(1 << way) })
    }

    /// Bytes of answers in this set.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.ways.iter().map(|w| u64::from(w.bytes)).sum()
    }
}

impl Way {
    fn decode(chunk: &[u8; WAY_BYTES]) -> Self {
        let (tag, rest) = chunk.split_at(8);
        let (expires, bytes) = rest.split_at(8);
        Self {
            tag: tag.try_into().map_or(0, u64::from_le_bytes),
            expires_at_ms: expires.try_into().map_or(0, u64::from_le_bytes),
            bytes: bytes.try_into().map_or(0, u32::from_le_bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_was_claimed_is_found_until_it_expires() {
        let mut index = Index::default();
        let claim = index.claim(7, 100, 5_000, 1_000).expect("fits");
        let cell = index.encode();
        assert_eq!(Index::find(&cell, 7, 4_999), Some(claim.way));
        assert_eq!(Index::find(&cell, 7, 5_000), None);
        assert_eq!(Index::find(&cell, 8, 1_000), None);
        assert_eq!(Index::find(b"", 7, 1_000), None);
    }

    #[test]
    fn the_oldest_goes_first_and_a_giant_never_comes() {
        let mut index = Index::default();
        for i in 0..WAYS as u64 {
            index.claim(i + 1, 1, 10_000 + i, 0).expect("fits");
        }
        let claim = index.claim(99, 1, 20_000, 0).expect("fits");
        assert_eq!((claim.way, claim.evicted), (0, 0), "the oldest way is taken over, not emptied");
        assert_eq!(Index::find(&index.encode(), 1, 0), None);
        assert_eq!(index.claim(100, SET_BYTES as usize + 1, 1, 0), None);
    }

    proptest! {
        #[test]
        fn the_bound_holds_whatever_is_stored(
            stores in prop::collection::vec((0u64..64, 1usize..=SET_BYTES as usize, 0u64..100), 1..200)
        ) {
            let (mut index, mut now) = (Index::default(), 0);
            for (tag, bytes, gap) in stores {
                now += gap;
                let claim = index.claim(tag, bytes, now + 500, now).expect("fits a set");
                prop_assert!(index.bytes() <= SET_BYTES);
                prop_assert!(claim.evicted & (1 << claim.way) == 0);
                let cell = index.encode();
                prop_assert_eq!(Index::find(&cell, tag, now), Some(claim.way));
                prop_assert_eq!(&Index::decode(&cell), &index);
            }
        }
    }
}
