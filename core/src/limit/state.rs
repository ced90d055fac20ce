//! What buckets hold, for people who ask.

use serde::{Deserialize, Serialize};

use super::{Bucket, BucketName, Kind, Level, Rate, Subject};

/// One limit of one bucket, and what it would say to a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BucketState {
    /// [`BucketName`], as in `tenant:acme`.
    pub bucket: String,
    /// The limit, by its key in the configuration.
    pub limit: String,
    /// Most that can be taken at once.
    pub most: u64,
    /// What is left now.
    pub remaining: u64,
    /// When all of it is there again, in milliseconds.
    pub reset_ms: u64,
    /// How long the request would have to wait, in milliseconds; 0 if it would pass.
    pub wait_ms: u64,
    /// What is left for this tenant, where several want more than there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share_remaining: Option<u64>,
}

/// What one bucket would say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Tokens left.
    pub remaining: u64,
    /// Nanoseconds until it is full.
    pub reset_ns: u64,
    /// Nanoseconds to wait; 0 if there is enough.
    pub wait_ns: u64,
    /// Of the tokens left, those that the tenant may have; `None` while nobody needs to share.
    pub share: Option<u64>,
}

impl Look {
    /// A bucket that nobody shares, asked for `amount`.
    #[must_use]
    pub fn of(bucket: Bucket, amount: u64, now_ns: u64, rate: Rate) -> Self {
        Self {
            remaining: bucket.remaining(now_ns, rate),
            reset_ns: bucket.reset_ns(now_ns, rate),
            wait_ns: bucket.wait_ns(amount, now_ns, rate),
            share: None,
        }
    }
}

/// Reads buckets as they are.
pub trait Buckets {
    /// The bucket of `subject` at a level, asked for `amount`.
    fn look(&mut self, level: &Level, kind: Kind, rate: Rate, subject: &Subject<'_>, amount: u64) -> Look;
    /// Requests of it in flight here.
    fn in_flight(&mut self, level: &Level, subject: &Subject<'_>) -> u32;
    /// Gateways of the fleet, as last known; at least 1.
    fn gateways(&self) -> u32;
}

/// When to try again if too many requests are in flight, in milliseconds: nobody knows when one of
/// them will be done.
pub const IN_FLIGHT_RETRY_MS: u64 = 1_000;

/// All limits of `levels`, for one request of `subject` that needs so many tokens.
pub fn states(
    levels: &[Level],
    subject: &Subject<'_>,
    tokens: u64,
    buckets: &mut impl Buckets,
) -> Vec<BucketState> {
    let mut states = Vec::new();
    for level in levels {
        let bucket = || BucketName::of(level.shape, subject).to_string();
        for (kind, shared) in level.rates() {
            let rate = shared.rate;
            let amount = if kind == Kind::Requests { 1 } else { tokens.min(rate.burst()) };
            let look = buckets.look(level, kind, rate, subject, amount);
            let ms = |ns: u64| ns.div_ceil(1_000_000);
            states.push(BucketState {
                bucket: bucket(),
                limit: kind.label().to_owned(),
                most: rate.burst(),
                remaining: look.remaining,
                reset_ms: ms(look.reset_ns),
                wait_ms: ms(look.wait_ns),
                share_remaining: look.share,
            });
        }
        if let Some(at_a_time) = level.concurrency {
            let most = at_a_time.here(buckets.gateways());
            let remaining = most.saturating_sub(buckets.in_flight(level, subject));
            states.push(BucketState {
                bucket: bucket(),
                limit: "concurrency".to_owned(),
                most: most.into(),
                remaining: remaining.into(),
                reset_ms: 0,
                wait_ms: if remaining == 0 { IN_FLIGHT_RETRY_MS } else { 0 },
                share_remaining: None,
            });
        }
    }
    states
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::RuleSet;
    use crate::policy::{BucketPolicy, Limits};

    /// Every bucket was just emptied by this much.
    struct Used(u64);

    impl Buckets for Used {
        fn look(&mut self, _: &Level, _: Kind, rate: Rate, _: &Subject<'_>, amount: u64) -> Look {
            let now_ns = 1_000_000_000;
            Look::of(Bucket::default().charge(self.0, now_ns, rate), amount, now_ns, rate)
        }

        fn in_flight(&mut self, _: &Level, _: &Subject<'_>) -> u32 {
            2
        }

        fn gateways(&self) -> u32 {
            2
        }
    }

    #[test]
    fn every_limit_says_what_it_would_do() {
        let mut limits = Limits::of_requests(
            BucketPolicy { rate: 100.0, burst: 100 },
            BucketPolicy { rate: 1.0, burst: 10 },
        );
        limits.rules[1].tokens_per_minute = Some(60);
        limits.rules[1].concurrency = Some(2);
        let subject = Subject { tenant: "acme", ..Subject::default() };
        let levels = RuleSet::new(&limits).levels(&subject);
        let found = states(&levels, &subject, 70, &mut Used(10));
        let row: Vec<_> =
            found.iter().map(|s| (s.bucket.as_str(), s.limit.as_str(), s.remaining, s.wait_ms)).collect();
        assert_eq!(
            row,
            [
                ("tenant:acme", "requests_per_second", 0, 1_000),
                ("tenant:acme", "tokens_per_minute", 50, 10_000),
                ("tenant:acme", "concurrency", 0, 1_000),
                ("global", "requests_per_second", 90, 0),
            ]
        );
        assert_eq!(found[0].reset_ms, 10_000);
    }
}
