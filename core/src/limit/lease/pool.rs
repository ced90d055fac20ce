//! The one bucket of a shared limit.

use crate::limit::{Bucket, Decision, Rate};

/// How long a gateway that came counts as one of several, in nanoseconds.
const CONTEST_NS: u64 = 1_000_000_000;
/// Gateways remembered of one pool; further ones take the place of those that came longest ago.
const VISITORS_MAX: usize = 32;
/// Of a token; a claim that misses a whole one by less is one.
const ROUNDING: f64 = 1e-6;

/// What a gateway got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    /// Tokens, at most what was asked for.
    pub tokens: u64,
    /// Nanoseconds until the pool is full, if nobody takes anything.
    pub full_in_ns: u64,
}

/// A pool, and who came lately. The script in Redis does the same with Redis's clock.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Pool {
    bucket: Bucket,
    /// Gateways, and when they came last.
    visitors: Vec<(u64, u64)>,
}

impl Pool {
    /// Takes `back` back, then gives of what is there what `gateway` asks for. While others come
    /// too, each has a claim on an equal part of what came back since its last visit, so that
    /// nobody gets more by coming first; of what is there beyond all claims it gets half;
    /// and one token in any case, since claims on a small bucket may all be less than one.
    pub fn exchange(&mut self, gateway: u64, ask: u64, back: u64, now_ns: u64, rate: Rate) -> Granted {
        let since = |came_ns: u64| now_ns.saturating_sub(came_ns).min(CONTEST_NS);
        let own_ns = self.visitors.iter().find(|(g, _)| *g == gateway).map_or(0, |(_, came)| since(*came));
        self.visitors.retain(|(g, came)| *g != gateway && since(*came) < CONTEST_NS);
        let others_ns: u64 = self.visitors.iter().map(|(_, came)| since(*came)).sum();
        let sharers = self.visitors.len() as f64 + 1.0;
        self.visitors.truncate(VISITORS_MAX - 1);
        self.visitors.insert(0, (gateway, now_ns));

        let bucket = self.bucket.refund(back, rate);
        let there = bucket.remaining(now_ns, rate);
        let most = if sharers > 1.0 {
            let claim = |ns: u64| ns as f64 / rate.interval_ns() as f64 / sharers;
            let surplus = (there as f64 - claim(own_ns) - claim(others_ns)).max(0.0);
            let part = (claim(own_ns) + ROUNDING).floor() + (surplus / 2.0 - ROUNDING).ceil();
            (part as u64).max(1).min(there)
        } else {
            there
        };
        let tokens = ask.min(most);
        self.bucket = match bucket.take(tokens, now_ns, rate) {
            Decision::Taken(bucket) => bucket,
            Decision::Wait(_) => bucket,
        };
        Granted { tokens, full_in_ns: self.bucket.reset_ns(now_ns, rate) }
    }

    /// Whether it is as good as forgotten: full, and no gateway counts any more.
    #[must_use]
    pub fn is_idle(&self, now_ns: u64) -> bool {
        let is_gone = |came_ns: u64| now_ns.saturating_sub(came_ns) >= CONTEST_NS;
        self.bucket.is_full(now_ns) && self.visitors.iter().all(|(_, came)| is_gone(*came))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::BucketPolicy;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn one_gateway_gets_all_and_of_two_each_gets_half_of_what_is_left() {
        let rate = Rate::new(BucketPolicy { rate: 1.0, burst: 100 });
        let (mut pool, now) = (Pool::default(), 1000 * SECOND);
        assert_eq!(pool.exchange(1, 20, 0, now, rate).tokens, 20);
        assert_eq!(pool.exchange(2, 100, 0, now, rate).tokens, 40);
        assert_eq!(pool.exchange(1, 100, 10, now, rate).tokens, 25, "half of 40 and the 10 given back");
        assert_eq!(pool.exchange(1, 100, 0, now + CONTEST_NS, rate).tokens, 26, "alone again");
        let empty = pool.exchange(1, 1, 0, now + CONTEST_NS, rate);
        assert_eq!(empty, Granted { tokens: 0, full_in_ns: 100 * SECOND });
        assert!(!pool.is_idle(now + 50 * SECOND) && pool.is_idle(now + 101 * SECOND));
    }

    #[test]
    fn nobody_gets_much_more_by_coming_first() {
        let rate = Rate::new(BucketPolicy { rate: 100.0, burst: 100 });
        let (mut pool, mut now, mut got) = (Pool::default(), 1000 * SECOND, [0; 3]);
        for _ in 0..500 {
            now += SECOND / 5;
            for (gateway, got) in got.iter_mut().enumerate() {
                *got += pool.exchange(gateway as u64, 1000, 0, now, rate).tokens;
            }
        }
        assert_eq!(got.iter().sum::<u64>(), 100 * 100 + 80);
        assert!(got.iter().all(|got| got.abs_diff(3360) < 400), "{got:?}");
    }

    #[test]
    fn what_is_given_back_never_makes_it_more_than_full() {
        let rate = Rate::new(BucketPolicy { rate: 1.0, burst: 5 });
        let mut pool = Pool::default();
        assert_eq!(pool.exchange(1, 9, 9, SECOND, rate).tokens, 5);
    }
}
