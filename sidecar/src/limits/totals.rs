//! What was used, and by whom.

use serde::{Deserialize, Serialize};

/// Whose row, and for what.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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
    pub const fn add(&mut self, more: &Self) {
        self.requests = self.requests.saturating_add(more.requests);
        self.estimated_requests = self.estimated_requests.saturating_add(more.estimated_requests);
        self.prompt_tokens = self.prompt_tokens.saturating_add(more.prompt_tokens);
        self.cached_tokens = self.cached_tokens.saturating_add(more.cached_tokens);
        self.completion_tokens = self.completion_tokens.saturating_add(more.completion_tokens);
        self.cost_nano_usd = self.cost_nano_usd.saturating_add(more.cost_nano_usd);
    }

    /// What is in this sum beyond an earlier one.
    #[must_use]
    pub const fn since(&self, earlier: &Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(earlier.requests),
            estimated_requests: self.estimated_requests.saturating_sub(earlier.estimated_requests),
            prompt_tokens: self.prompt_tokens.saturating_sub(earlier.prompt_tokens),
            cached_tokens: self.cached_tokens.saturating_sub(earlier.cached_tokens),
            completion_tokens: self.completion_tokens.saturating_sub(earlier.completion_tokens),
            cost_nano_usd: self.cost_nano_usd.saturating_sub(earlier.cost_nano_usd),
        }
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
