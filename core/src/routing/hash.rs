//! Hashes that are the same in every process and version, so that keys stay where they are.

/// FNV-1a of `bytes`, finished by [`mix`]: FNV alone spreads short, similar names badly.
#[must_use]
pub fn hash(bytes: &[u8]) -> u64 {
    let fnv = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    mix(fnv)
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
pub(super) fn unit(x: u64) -> f64 {
    (x >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_stable_and_spreads() {
        assert_eq!(hash(b"openai"), hash(b"openai"));
        let close: std::collections::BTreeSet<u64> =
            (0..1000_u32).map(|i| hash(&i.to_le_bytes()) % 10_000).collect();
        assert!(close.len() > 900, "{}", close.len());
        assert!(unit(u64::MAX) < 1.0 && unit(0) == 0.0);
    }
}
