//! How long to wait before trying again.

use crate::hash::unit;

/// Exponential backoff with full jitter (Brooker, "Exponential Backoff and Jitter", AWS 2015):
/// anything from nothing to the doubled ceiling, so that callers who failed together do not
/// come back together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Ceiling of the first wait, in milliseconds.
    pub base_ms: u64,
    /// Ceiling of any wait, in milliseconds.
    pub max_ms: u64,
}

impl Backoff {
    /// The wait before retry number `retry`, the first being 0, in milliseconds.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below the ceiling")]
    #[expect(clippy::cast_precision_loss, reason = "ceilings are far below 2^52 ms")]
    pub fn wait_ms(&self, retry: u32, random: u64) -> u64 {
        let doubled = self.base_ms.saturating_mul(1_u64.checked_shl(retry).unwrap_or(u64::MAX));
        let ceiling = doubled.min(self.max_ms);
        (unit(random) * (ceiling as f64 + 1.0)) as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn waits_lie_below_a_ceiling_that_doubles(retry in 0..100_u32, random in any::<u64>()) {
            let backoff = Backoff { base_ms: 100, max_ms: 2_000 };
            let ceiling = 100_u64.saturating_mul(2_u64.saturating_pow(retry)).min(2_000);
            prop_assert!(backoff.wait_ms(retry, random) <= ceiling);
        }
    }

    #[test]
    fn the_whole_range_is_used() {
        let backoff = Backoff { base_ms: 100, max_ms: 2_000 };
        assert_eq!(backoff.wait_ms(0, 0), 0);
        assert_eq!(backoff.wait_ms(0, u64::MAX), 100);
        assert_eq!(backoff.wait_ms(9, u64::MAX), 2_000);
    }
}
