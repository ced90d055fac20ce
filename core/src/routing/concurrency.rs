//! How many requests a provider can take at once, found out by watching it.
//!
//! Additive increase, multiplicative decrease (Chiu, Jain 1989), as TCP and Netflix's
//! concurrency-limits use it: every success while the limit is in use raises it by one for each
//! round of that many requests, every sign of overload lowers it by a tenth, at most once for
//! each round trip so that one burst of refusals counts once.

/// Lowest limit.
const LIMIT_MIN: f64 = 4.0;
/// What a sign of overload leaves of the limit.
const DECREASE: f64 = 0.9;

/// A limit on requests in flight that adapts itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdaptiveLimit {
    limit: f64,
    max: f64,
    quiet_until_ms: u64,
}

impl AdaptiveLimit {
    /// A limit that begins at, and never exceeds, `max`.
    #[must_use]
    pub fn new(max: u32) -> Self {
        let max = f64::from(max).max(1.0);
        Self { limit: max, max, quiet_until_ms: 0 }
    }

    /// The limit now.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and the maximum")]
    pub fn limit(&self) -> u32 {
        self.limit as u32
    }

    /// Whether one more request may go.
    #[must_use]
    pub fn admits(&self, in_flight: u32) -> bool {
        in_flight < self.limit()
    }

    /// A request succeeded while `in_flight` were on their way, itself included.
    pub fn success(&mut self, in_flight: u32) {
        if f64::from(in_flight) * 2.0 >= self.limit {
            self.limit = (self.limit + 1.0 / self.limit).min(self.max);
        }
    }

    /// The provider said that it has too much to do, or did not answer in time. `round_trip_ms`
    /// is how long its answers take.
    pub fn overload(&mut self, in_flight: u32, round_trip_ms: u64, now_ms: u64) {
        if now_ms < self.quiet_until_ms {
            return;
        }
        self.quiet_until_ms = now_ms.saturating_add(round_trip_ms);
        // What was on its way is what was too much, if that is less than the limit.
        let from = self.limit.min(f64::from(in_flight).max(LIMIT_MIN));
        self.limit = (from * DECREASE).max(LIMIT_MIN.min(self.max));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_finds_a_providers_capacity() {
        const CAPACITY: u32 = 40;
        let mut limit = AdaptiveLimit::new(1_000);
        let mut lowest = u32::MAX;
        let mut highest = 0;
        for round in 0..2_000_u64 {
            let sent = limit.limit();
            for _ in 0..sent.min(CAPACITY) {
                limit.success(sent);
            }
            if sent > CAPACITY {
                limit.overload(sent, 100, round * 100);
            }
            if round > 200 {
                (lowest, highest) = (lowest.min(sent), highest.max(sent));
            }
        }
        assert!(lowest >= CAPACITY * 8 / 10 && highest <= CAPACITY + 3, "{lowest} to {highest}");
    }

    #[test]
    fn a_burst_of_refusals_counts_once() {
        let mut limit = AdaptiveLimit::new(100);
        (0..50).for_each(|_| limit.overload(100, 1_000, 5_000));
        assert_eq!(limit.limit(), 90);
        assert!(limit.admits(89) && !limit.admits(90));
    }

    #[test]
    fn an_idle_limit_does_not_grow() {
        let mut limit = AdaptiveLimit::new(100);
        limit.overload(20, 0, 1);
        let before = limit.limit();
        (0..1_000).for_each(|_| limit.success(1));
        assert_eq!(limit.limit(), before);
    }

    proptest! {
        #[test]
        fn it_stays_between_its_bounds(max in 1..5_000_u32, events in prop::collection::vec((any::<bool>(), 0..6_000_u32), 0..300)) {
            let mut limit = AdaptiveLimit::new(max);
            for (now, (good, in_flight)) in events.into_iter().enumerate() {
                if good { limit.success(in_flight) } else { limit.overload(in_flight, 0, now as u64) }
                prop_assert!((1..=max).contains(&limit.limit()));
            }
        }
    }
}
