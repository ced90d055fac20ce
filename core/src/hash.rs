//! Hashes that are the same in every process, so that keys stay where they are.

/// A 64-bit hash that takes eight bytes at a step; good for spreading names over places, not against
/// an adversary who can choose them freely. Parts do not run into each other. The multiplier is that
/// of PCG64's state (O'Neill, HMC-CS-2014-0905), the finisher [`mix`].
#[must_use]
pub fn hash(parts: &[&[u8]]) -> u64 {
    let step = |hash: u64, word: u64| {
        let product = (hash ^ word).wrapping_mul(0x5851_f42d_4c95_7f2d);
        product ^ (product >> 32)
    };
    let mut hash = 0;
    for part in parts {
        let (words, rest) = part.as_chunks::<8>();
        hash = step(hash, part.len() as u64);
        hash = words.iter().fold(hash, |hash, word| step(hash, u64::from_le_bytes(*word)));
        hash = step(hash, rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)));
    }
    mix(hash)
}

/// The finisher of splitmix64 (Steele, Lea, Flood, OOPSLA 2014): every bit of the input moves
/// half of the output's.
#[must_use]
pub const fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The upper 53 bits of `x` as a number from 0 up to, but not including, 1.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "53 bits fit a double")]
pub(crate) fn unit(x: u64) -> f64 {
    (x >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_spreads_and_parts_are_kept_apart() {
        let close: std::collections::BTreeSet<u64> =
            (0..1000_u32).map(|i| hash(&[&i.to_le_bytes()]) % 10_000).collect();
        assert!(close.len() > 900, "{}", close.len());
        let cuts: [&[&[u8]]; 6] =
            [&[b"ab", b"c"], &[b"a", b"bc"], &[b"abc"], &[b"abc", b""], &[b"abc\0"], &[b"abcdefgh\0"]];
        let told_apart: std::collections::BTreeSet<u64> = cuts.into_iter().map(hash).collect();
        assert_eq!(told_apart.len(), cuts.len());
        assert!(unit(u64::MAX) < 1.0 && unit(0) == 0.0);
    }
}
