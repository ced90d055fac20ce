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

/// The index of one set, kept as the bytes of its cell: storing changes one way of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    cell: Vec<u8>,
}

/// What storing came to: write the entry to `way`, empty the `evicted` ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The way to write to.
    pub way: usize,
    /// Bit i: way i held an answer that must go.
    pub evicted: u32,
}

impl Default for Index {
    fn default() -> Self {
        Self { cell: vec![VERSION] }
    }
}

impl Index {
    /// Reads an index cell; anything this build did not write is an empty set.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Self {
        let is_ours = |rest: &[u8]| rest.len().is_multiple_of(WAY_BYTES) && rest.len() <= WAYS * WAY_BYTES;
        match bytes.split_first() {
            Some((&VERSION, rest)) if is_ours(rest) => Self { cell: bytes.to_vec() },
            _ => Self::default(),
        }
    }

    /// Finds the way of `tag` in an index cell.
    #[must_use]
    pub fn find(bytes: &[u8], tag: u64, now_ms: u64) -> Option<usize> {
        let (&VERSION, rest) = bytes.split_first()? else { return None };
        let (chunks, _) = rest.as_chunks::<WAY_BYTES>();
        let tag_bytes = tag.to_le_bytes();
        chunks.iter().take(WAYS).position(|chunk| {
            chunk.starts_with(&tag_bytes) && {
                let way = Way::decode(chunk);
                way.bytes > 0 && now_ms < way.expires_at_ms
            }
        })
    }

    /// Whether storing one more answer, of the size usual in this set, would push out a live answer
    /// younger than `retention_ms` that has been promised `ttl_ms`.
    #[must_use]
    pub fn is_churning(bytes: &[u8], now_ms: u64, ttl_ms: u64, retention_ms: u64) -> bool {
        let Some((&VERSION, rest)) = bytes.split_first() else { return false };
        let (mut live, mut total, mut first_expiry) = (0, 0, u64::MAX);
        for way in rest.as_chunks::<WAY_BYTES>().0.iter().map(Way::decode) {
            if way.bytes > 0 && now_ms < way.expires_at_ms {
                live += 1;
                total += u64::from(way.bytes);
                first_expiry = first_expiry.min(way.expires_at_ms);
            }
        }
        let has_room = live < WAYS && total + total / (live as u64).max(1) <= SET_BYTES;
        !has_room && now_ms < first_expiry.saturating_sub(ttl_ms).saturating_add(retention_ms)
    }

    /// The bytes of the cell.
    #[must_use]
    pub fn into_cell(self) -> Vec<u8> {
        self.cell
    }

    /// Makes room for an answer of `bytes` and claims a way for it; `None` if it can never fit.
    pub fn claim(&mut self, tag: u64, bytes: usize, expires_at_ms: u64, now_ms: u64) -> Option<Claim> {
        let bytes = u32::try_from(bytes).ok().filter(|b| *b > 0 && u64::from(*b) <= SET_BYTES)?;
        let mut evicted = 0u32;
        let mut total = u64::from(bytes);
        for (i, chunk) in self.chunks_mut().iter_mut().enumerate() {
            let way = Way::decode(chunk);
            if way.bytes > 0 && (way.tag == tag || way.expires_at_ms <= now_ms) {
                *chunk = [0; WAY_BYTES];
                evicted |= 1 << i;
            } else {
                total += u64::from(way.bytes);
            }
        }
        let mut free = self.free_way();
        while total > SET_BYTES || free.is_none() {
            let (i, oldest) = self.oldest()?;
            *self.chunks_mut().get_mut(i)? = [0; WAY_BYTES];
            evicted |= 1 << i;
            total -= u64::from(oldest.bytes);
            free = free.or(Some(i));
        }
        let way = free?;
        if way == self.chunks().len() {
            self.cell.extend_from_slice(&[0; WAY_BYTES]);
        }
        *self.chunks_mut().get_mut(way)? = Way { tag, expires_at_ms, bytes }.encode();
        Some(Claim { way, evicted: evicted & !(1 << way) })
    }

    /// Bytes of answers in this set.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.chunks().iter().map(|chunk| u64::from(Way::decode(chunk).bytes)).sum()
    }

    fn free_way(&self) -> Option<usize> {
        let chunks = self.chunks();
        let emptied = chunks.iter().position(|chunk| Way::decode(chunk).bytes == 0);
        emptied.or((chunks.len() < WAYS).then_some(chunks.len()))
    }

    fn oldest(&self) -> Option<(usize, Way)> {
        let ways = self.chunks().iter().map(Way::decode).enumerate();
        ways.filter(|(_, way)| way.bytes > 0).min_by_key(|(_, way)| way.expires_at_ms)
    }

    fn chunks(&self) -> &[[u8; WAY_BYTES]] {
        self.cell.get(1..).unwrap_or_default().as_chunks().0
    }

    fn chunks_mut(&mut self) -> &mut [[u8; WAY_BYTES]] {
        self.cell.get_mut(1..).unwrap_or_default().as_chunks_mut().0
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

    fn encode(&self) -> [u8; WAY_BYTES] {
        let mut chunk = [0; WAY_BYTES];
        chunk[..8].copy_from_slice(&self.tag.to_le_bytes());
        chunk[8..16].copy_from_slice(&self.expires_at_ms.to_le_bytes());
        chunk[16..].copy_from_slice(&self.bytes.to_le_bytes());
        chunk
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
        let cell = index.clone().into_cell();
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
        assert_eq!(Index::find(&index.clone().into_cell(), 1, 0), None);
        assert_eq!(index.claim(100, SET_BYTES as usize + 1, 1, 0), None);
    }

    #[test]
    fn a_set_churns_when_it_is_full_of_young_answers() {
        let (ttl, retention) = (300_000, 60_000);
        let churns = |index: &Index, now| Index::is_churning(&index.clone().into_cell(), now, ttl, retention);
        let mut small = Index::default();
        assert!(!churns(&small, 0));
        for i in 0..WAYS as u64 {
            assert!(!churns(&small, 10));
            small.claim(i + 1, 1, 10 + ttl, 10).expect("fits");
        }
        assert!(churns(&small, 60_009) && !churns(&small, 60_010), "after a minute all may go");
        assert!(!churns(&small, 300_010), "all have expired");

        let mut large = Index::default();
        for i in 0..4 {
            assert!(!churns(&large, 10));
            large.claim(i + 1, SET_BYTES as usize / 4, 10 + ttl, 10).expect("fits");
        }
        assert!(churns(&large, 10), "a fifth of that size does not fit");
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
                let cell = index.clone().into_cell();
                prop_assert_eq!(Index::find(&cell, tag, now), Some(claim.way));
                prop_assert_eq!(&Index::decode(&cell), &index);
            }
        }
    }
}
