//! What callers are told of their limits.

use tidegate_core::limit::Rate;

use crate::pipeline::reply::Headers;
use crate::slices::Taken;
use crate::text::Text;

/// The bucket with the least left in it, for the `x-ratelimit-*` headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    limit: u64,
    remaining: u64,
    reset_ms: u64,
}

/// `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`.
pub const REQUESTS: [&str; 3] =
    ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"];
pub const TOKENS: [&str; 3] =
    ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"];

impl Quota {
    /// A bucket after it was taken from.
    pub fn new(taken: &Taken, rate: Rate) -> Self {
        Self { limit: rate.burst(), remaining: taken.remaining, reset_ms: taken.reset_ns.div_ceil(1_000_000) }
    }

    /// The one with less left.
    pub fn tighter(this: Option<Self>, other: Self) -> Option<Self> {
        Some(this.filter(|this| this.remaining <= other.remaining).unwrap_or(other))
    }

    /// Of `taken` tokens only `used` were used after all.
    pub fn correct(&mut self, taken: u64, used: u64) {
        let remaining = self.remaining.saturating_add(taken).saturating_sub(used).min(self.limit);
        let (missing, before) =
            (self.limit.saturating_sub(remaining), self.limit.saturating_sub(self.remaining));
        if let Some(reset_ms) = self.reset_ms.saturating_mul(missing).checked_div(before) {
            self.reset_ms = reset_ms;
        }
        self.remaining = remaining;
    }

    /// Adds the three headers to a reply.
    pub fn describe(&self, names: [&'static str; 3], headers: &mut Headers) {
        headers.extend(self.pairs(names).map(|(name, value)| (name, value.as_str().to_owned())));
    }

    /// The headers; the reset in OpenAI's form (`"12ms"`, `"1.500s"`): the time until the bucket
    /// is full.
    pub fn pairs(&self, names: [&'static str; 3]) -> [(&'static str, Text); 3] {
        let [limit, remaining, reset] = names;
        [
            (limit, Text::of_number(self.limit)),
            (remaining, Text::of_number(self.remaining)),
            (reset, Text::of_duration_ms(self.reset_ms)),
        ]
    }
}
