//! The token bucket, kept as one number.
//!
//! A bucket of rate r and burst b is equivalent to the generic cell rate algorithm (ITU-T I.371,
//! Annex A) with increment T = 1/r and tolerance b·T: instead of a fill level and the time it was
//! true, one stores the *theoretical arrival time*, the moment at which the bucket will be full
//! again. One field cannot be torn by concurrent writers, a refund is a subtraction, and a bucket
//! whose moment has passed is indistinguishable from one that never existed, so idle buckets cost
//! nothing to forget.

use crate::policy::BucketPolicy;

const NS_PER_S: f64 = 1e9;
/// Time whose worth of tokens one sharer may hold, in nanoseconds.
pub const SLICE_NS: u64 = 2_000_000;

/// A rate in the units of the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Nanoseconds one token takes to come back, at least 1.
    interval_ns: u64,
    /// Nanoseconds from empty to full.
    depth_ns: u64,
    burst: u64,
}

impl Rate {
    /// The rate of a validated [`BucketPolicy`].
    #[must_use]
    pub fn new(policy: BucketPolicy) -> Self {
        let interval_ns = ((NS_PER_S / policy.rate).round() as u64).max(1);
        Self { interval_ns, depth_ns: interval_ns.saturating_mul(policy.burst), burst: policy.burst }
    }

    /// Most tokens that can be taken at once.
    #[must_use]
    pub const fn burst(self) -> u64 {
        self.burst
    }

    /// Tokens worth taking at once by one of several who share the bucket: what comes back within
    /// [`SLICE_NS`], at most 1/256 of the burst, at least 1. Slow buckets are so taken from one by
    /// one, and of fast ones each sharer holds a negligible part.
    #[must_use]
    pub fn slice(self) -> u64 {
        (SLICE_NS / self.interval_ns).min(self.burst / 256).max(1)
    }
}

/// A bucket's state: when it will be full again, in nanoseconds of the caller's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bucket {
    full_at_ns: u64,
}

/// What a request for tokens came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Taken; this is the bucket afterwards.
    Taken(Bucket),
    /// Not taken; the same request succeeds after this many nanoseconds if nobody else comes.
    Wait(u64),
}

impl Bucket {
    /// From the number that [`Bucket::full_at_ns`] gave.
    #[must_use]
    pub const fn from_full_at_ns(full_at_ns: u64) -> Self {
        Self { full_at_ns }
    }

    /// The one number that is the bucket.
    #[must_use]
    pub const fn full_at_ns(self) -> u64 {
        self.full_at_ns
    }

    /// Whether the bucket is full at `now_ns`, and so the same as a new one.
    #[must_use]
    pub const fn is_full(self, now_ns: u64) -> bool {
        self.full_at_ns <= now_ns
    }

    /// Takes `tokens` if they are there.
    #[must_use]
    pub fn take(self, tokens: u64, now_ns: u64, rate: Rate) -> Decision {
        let start = self.start(now_ns, rate);
        let full_at_ns = start.saturating_add(rate.interval_ns.saturating_mul(tokens));
        let horizon = now_ns.saturating_add(rate.depth_ns);
        if full_at_ns > horizon {
            Decision::Wait(full_at_ns - horizon)
        } else {
            Decision::Taken(Self { full_at_ns })
        }
    }

    /// Puts `tokens` back that were taken before.
    #[must_use]
    pub fn refund(self, tokens: u64, rate: Rate) -> Self {
        let back = rate.interval_ns.saturating_mul(tokens);
        Self { full_at_ns: self.full_at_ns.saturating_sub(back) }
    }

    /// Tokens that could be taken now.
    #[must_use]
    pub fn remaining(self, now_ns: u64, rate: Rate) -> u64 {
        let used = self.start(now_ns, rate) - now_ns;
        (rate.depth_ns - used) / rate.interval_ns
    }

    /// Nanoseconds until the bucket is full.
    #[must_use]
    pub fn reset_ns(self, now_ns: u64, rate: Rate) -> u64 {
        self.start(now_ns, rate) - now_ns
    }

    /// The moment from which taking counts: never in the past, and never further ahead than an
    /// empty bucket (a clock set back or a burst made smaller must not lock a caller out).
    fn start(self, now_ns: u64, rate: Rate) -> u64 {
        self.full_at_ns.clamp(now_ns, now_ns.saturating_add(rate.depth_ns))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn rate(rate: f64, burst: u64) -> Rate {
        Rate::new(BucketPolicy { rate, burst })
    }

    #[test]
    fn burst_then_rate_and_not_one_more() {
        let rate = rate(100.0, 100);
        let mut bucket = Bucket::default();
        let mut admitted = 0;
        let start = 1_700_000_000 * SECOND;
        for step in 0..100_000u64 {
            let now = start + step * (10 * SECOND / 100_000);
            if let Decision::Taken(next) = bucket.take(1, now, rate) {
                bucket = next;
                admitted += 1;
            }
        }
        assert_eq!(admitted, 100 + 999, "burst, and one each 10 ms until just before 10 s");
    }

    #[test]
    fn slices_are_small_against_the_rate_and_the_burst() {
        assert_eq!(rate(100.0, 100).slice(), 1);
        assert_eq!(rate(10_000.0, 10_000).slice(), 20);
        assert_eq!(rate(1e6, 1000).slice(), 3);
    }

    #[test]
    fn a_clock_set_back_locks_nobody_out() {
        let rate = rate(10.0, 5);
        let Decision::Taken(bucket) = Bucket::default().take(5, 1000 * SECOND, rate) else {
            panic!("a full bucket gives its burst")
        };
        assert_eq!(bucket.take(1, SECOND, rate), Decision::Wait(SECOND / 10));
    }

    proptest! {
        #[test]
        fn waiting_as_told_gets_in_and_a_moment_less_does_not(
            r in 0.01f64..1e6, burst in 1u64..1000, takes in prop::collection::vec((0u64..SECOND, 1u64..50), 1..200)
        ) {
            let rate = rate(r, burst);
            let (mut bucket, mut now) = (Bucket::default(), SECOND);
            for (gap, tokens) in takes {
                now += gap;
                let tokens = tokens.min(burst);
                match bucket.take(tokens, now, rate) {
                    Decision::Taken(next) => {
                        prop_assert_eq!(next.remaining(now, rate), bucket.remaining(now, rate) - tokens);
                        bucket = next;
                    }
                    Decision::Wait(ns) => {
                        prop_assert!(matches!(bucket.take(tokens, now + ns, rate), Decision::Taken(_)));
                        prop_assert!(matches!(bucket.take(tokens, now + ns - 1, rate), Decision::Wait(_)));
                    }
                }
            }
        }

        #[test]
        fn never_more_than_burst_plus_rate_times_time(
            r in 1f64..1e4, burst in 1u64..100, gaps in prop::collection::vec(0u64..SECOND / 10, 1..500)
        ) {
            let rate = rate(r, burst);
            let (mut bucket, mut now, mut admitted) = (Bucket::default(), SECOND, 0u64);
            for gap in gaps {
                now += gap;
                if let Decision::Taken(next) = bucket.take(1, now, rate) {
                    bucket = next;
                    admitted += 1;
                }
            }
            let bound = burst + (now - SECOND) / rate.interval_ns;
            prop_assert!(admitted <= bound, "{} > {}", admitted, bound);
        }

        #[test]
        fn a_refund_undoes_a_take(r in 1f64..1e4, burst in 1u64..100, tokens in 1u64..100) {
            let rate = rate(r, burst);
            let tokens = tokens.min(burst);
            if let Decision::Taken(taken) = Bucket::default().take(tokens, SECOND, rate) {
                prop_assert_eq!(taken.refund(tokens, rate).remaining(SECOND, rate), burst);
            }
        }
    }
}
