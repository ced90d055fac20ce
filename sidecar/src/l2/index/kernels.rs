//! The two loops in which a search spends its time, compiled for the instructions that nearly every
//! machine has as well as for those that all have.

/// How many signs of each row differ from the query's, in whose width rows lie one after the other.
pub(super) fn distances(signs: &[u64], query: &[u64]) -> Vec<u16> {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("popcnt") {
        // SAFETY: the instruction is there.
        return unsafe { counted(signs, query) };
    }
    count(signs, query)
}

/// The scalar product of each row and the query.
pub(super) fn dots<'a>(rows: impl Iterator<Item = &'a [i16]>, query: &[i16]) -> Vec<i32> {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the instructions are there.
        return unsafe { multiplied(rows, query) };
    }
    multiply(rows, query)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "popcnt")]
fn counted(signs: &[u64], query: &[u64]) -> Vec<u16> {
    count(signs, query)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn multiplied<'a>(rows: impl Iterator<Item = &'a [i16]>, query: &[i16]) -> Vec<i32> {
    multiply(rows, query)
}

#[inline(always)]
fn count(signs: &[u64], query: &[u64]) -> Vec<u16> {
    match query.len() {
        6 => count_wide::<6>(signs, query),
        8 => count_wide::<8>(signs, query),
        12 => count_wide::<12>(signs, query),
        16 => count_wide::<16>(signs, query),
        words => signs.chunks_exact(words.max(1)).map(|row| differing(row, query)).collect(),
    }
}

/// The same with a width the compiler knows, which it can unroll.
#[inline(always)]
fn count_wide<const WORDS: usize>(signs: &[u64], query: &[u64]) -> Vec<u16> {
    let Some(query) = query.first_chunk::<WORDS>() else {
        return Vec::new();
    };
    signs.as_chunks::<WORDS>().0.iter().map(|row| differing(row, query)).collect()
}

#[inline(always)]
fn differing(row: &[u64], query: &[u64]) -> u16 {
    row.iter().zip(query).map(|(a, b)| (a ^ b).count_ones()).sum::<u32>() as u16
}

#[inline(always)]
fn multiply<'a>(rows: impl Iterator<Item = &'a [i16]>, query: &[i16]) -> Vec<i32> {
    rows.map(|row| {
        row.iter().zip(query).map(|(x, y)| i32::from(*x) * i32::from(*y)).fold(0, i32::wrapping_add)
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_the_machine_has_more_changes_no_result(
            words in 1_usize..18,
            bits in prop::collection::vec(any::<u64>(), 18..200),
            numbers in prop::collection::vec(-2_000_i16..2_000, 64..400),
        ) {
            let query = &bits[..words];
            prop_assert_eq!(distances(&bits, query), count(&bits, query));
            let query = &numbers[..32];
            let rows = || numbers.chunks_exact(32);
            prop_assert_eq!(dots(rows(), query), multiply(rows(), query));
        }
    }
}
