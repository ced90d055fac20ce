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

/// Part of a burst that one sharer may hold.
const SLICE_OF_BURST: u64 = 256;
/// Part of a quota that one sharer may hold: used at its steady rate, a minute's lasts for 58 ms.
const SLICE_OF_QUOTA: u64 = 1024;

/// A rate in the units of the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Nanoseconds one token takes to come back, at least 1.
    interval_ns: u64,
    /// Nanoseconds from empty to full.
    depth_ns: u64,
    /// Nanoseconds that the bucket may owe beyond empty.
    debt_ns: u64,
    burst: u64,
    slice: u64,
}

impl Rate {
    /// The rate of a validated [`BucketPolicy`].
    #[must_use]
    pub fn new(policy: BucketPolicy) -> Self {
        let BucketPolicy { rate, burst } = policy;
        let interval_ns = ((NS_PER_S / rate).round() as u64).max(1);
        let slice = (SLICE_NS / interval_ns).min(burst / SLICE_OF_BURST).max(1);
        Self { interval_ns, depth_ns: interval_ns.saturating_mul(burst), debt_ns: 0, burst, slice }
    }

    /// A quota of `amount` in `period_ns`, which can all be taken at once and comes back steadily.
    /// What turns out to have been more than was taken is owed, up to another whole quota.
    #[must_use]
    pub fn quota(amount: u64, period_ns: u64) -> Self {
        let burst = amount.max(1);
        let interval_ns = (period_ns / burst).max(1);
        let depth_ns = interval_ns.saturating_mul(burst);
        let slice = (burst / SLICE_OF_QUOTA).max(1);
        Self { interval_ns, depth_ns, debt_ns: depth_ns, burst, slice }
    }

    /// The rate of one of `of` equal sharers; each may have at least one token at a time.
    #[must_use]
    pub fn share(self, of: u32) -> Self {
        let of = u64::from(of.max(1));
        let (interval_ns, burst) = (self.interval_ns.saturating_mul(of), (self.burst / of).max(1));
        let depth_ns = interval_ns.saturating_mul(burst);
        let debt_ns = if self.debt_ns == 0 { 0 } else { depth_ns };
        Self { interval_ns, depth_ns, debt_ns, burst, slice: (self.slice / of).max(1) }
    }

    /// Nanoseconds that one token takes to come back.
    #[must_use]
    pub const fn interval_ns(self) -> u64 {
        self.interval_ns
    }

    /// The rate with these numbers, as [`Rate::interval_ns`] and [`Rate::burst`] gave them.
    #[must_use]
    pub const fn from_parts(interval_ns: u64, burst: u64) -> Self {
        let interval_ns = if interval_ns == 0 { 1 } else { interval_ns };
        Self { interval_ns, depth_ns: interval_ns.saturating_mul(burst), debt_ns: 0, burst, slice: 1 }
    }

    /// When a bucket that could not owe more would be full again.
    const fn latest(self, now_ns: u64) -> u64 {
        now_ns.saturating_add(self.depth_ns).saturating_add(self.debt_ns)
    }

    /// Most tokens that can be taken at once.
    #[must_use]
    pub const fn burst(self) -> u64 {
        self.burst
    }

    /// Tokens worth taking at once by one of several who share the bucket: of a rate what comes
    /// back within [`SLICE_NS`], at most 1/256 of the burst, at least 1; of a quota 1/1024. Slow
    /// buckets are so taken from one by one, and of fast ones each sharer holds a negligible part.
    #[must_use]
    pub const fn slice(self) -> u64 {
        self.slice
    }
}

/// A bucket's state: when it will be full again, in nanoseconds of the caller's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
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

    /// Nanoseconds until `tokens` could be taken, if nobody else comes.
    #[must_use]
    pub fn wait_ns(self, tokens: u64, now_ns: u64, rate: Rate) -> u64 {
        match self.take(tokens, now_ns, rate) {
            Decision::Taken(_) => 0,
            Decision::Wait(ns) => ns,
        }
    }

    /// Takes `tokens` that were used already, whether they are there or not.
    #[must_use]
    pub fn charge(self, tokens: u64, now_ns: u64, rate: Rate) -> Self {
        let owed = self.start(now_ns, rate).saturating_add(rate.interval_ns.saturating_mul(tokens));
        Self { full_at_ns: owed.min(rate.latest(now_ns)) }
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
        rate.depth_ns.saturating_sub(used) / rate.interval_ns
    }

    /// Nanoseconds until the bucket is full.
    #[must_use]
    pub fn reset_ns(self, now_ns: u64, rate: Rate) -> u64 {
        self.start(now_ns, rate) - now_ns
    }

    /// The moment from which taking counts: never in the past, and never further ahead than a
    /// bucket can owe (a clock set back or a burst made smaller must not lock a caller out).
    fn start(self, now_ns: u64, rate: Rate) -> u64 {
        self.full_at_ns.clamp(now_ns, rate.latest(now_ns))
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
    fn what_was_used_beyond_the_quota_is_owed_and_no_more_than_once_over() {
        let rate = Rate::quota(6000, 60 * SECOND);
        let now = 1000 * SECOND;
        let Decision::Taken(bucket) = Bucket::default().take(5000, now, rate) else {
            panic!("a full bucket gives its quota")
        };
        let owing = bucket.charge(2000, now, rate);
        assert_eq!(owing.remaining(now, rate), 0);
        assert_eq!(owing.take(1, now, rate), Decision::Wait(10 * SECOND + SECOND / 100));
        assert_eq!(owing.refund(2000, rate), bucket);
        assert_eq!(owing.charge(u64::MAX, now, rate).reset_ns(now, rate), 120 * SECOND);
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
