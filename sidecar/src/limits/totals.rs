//! What was used, and by whom.

use serde::{Deserialize, Serialize};

/// Whose row, and for what.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Account {
    /// Tenant.
    pub tenant: String,
    /// Id of the key or user; absent for anonymous callers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Provider that answered.
    pub provider: String,
    /// Model that answered.
    pub model: String,
}

/// What was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Requests that used anything.
    pub requests: u64,
    /// Of these, such whose usage was estimated, because nobody reported it.
    pub estimated_requests: u64,
    /// Tokens of prompts, cached ones included.
    pub prompt_tokens: u64,
    /// Tokens of prompts that the provider had cached.
    pub cached_tokens: u64,
    /// Tokens of answers.
    pub completion_tokens: u64,
    /// Money, in nanodollars.
    pub cost_nano_usd: u64,
}

impl Totals {
    /// Adds another sum.
    pub fn add(&mut self, more: &Self) {
        *self = self.with(more, u64::saturating_add);
    }

    /// What is in this sum beyond an earlier one.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        self.with(earlier, u64::saturating_sub)
    }

    fn with(&self, other: &Self, operation: fn(u64, u64) -> u64) -> Self {
        let mut numbers = self.numbers();
        numbers.iter_mut().zip(other.numbers()).for_each(|(own, other)| *own = operation(*own, other));
        Self::of_numbers(numbers)
    }

    /// The numbers in the order of the fields, as gateways tell each other.
    #[must_use]
    pub const fn numbers(&self) -> [u64; 6] {
        let Self {
            requests,
            estimated_requests,
            prompt_tokens,
            cached_tokens,
            completion_tokens,
            cost_nano_usd,
        } = *self;
        [requests, estimated_requests, prompt_tokens, cached_tokens, completion_tokens, cost_nano_usd]
    }

    /// The sum with these [`Self::numbers`].
    #[must_use]
    pub const fn of_numbers(numbers: [u64; 6]) -> Self {
        let [requests, estimated_requests, prompt_tokens, cached_tokens, completion_tokens, cost_nano_usd] =
            numbers;
        Self { requests, estimated_requests, prompt_tokens, cached_tokens, completion_tokens, cost_nano_usd }
    }
}
