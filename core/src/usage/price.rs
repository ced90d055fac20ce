//! What tokens cost.

use serde::{Deserialize, Serialize};

/// Picodollars of a millionth of a dollar: a price of one dollar per million tokens is this many
/// picodollars a token.
const PICO_PER_MICRO: f64 = 1e6;
/// Picodollars of a nanodollar.
const PICO_PER_NANO: u128 = 1000;
/// Highest price, in US dollars per million tokens.
pub const PRICE_MAX: f64 = 1e6;

/// What a provider takes for a million tokens, in US dollars; 0 for one that takes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Price {
    /// Tokens of the prompt.
    pub input: f64,
    /// Tokens of the answer.
    pub output: f64,
    /// Tokens of the prompt that the provider had cached.
    pub cached_input: f64,
}

impl Price {
    /// What a request costs, in nanodollars: `cached` of the `prompt` tokens at the price of
    /// cached ones, rounded once.
    #[must_use]
    pub fn cost_nano_usd(&self, prompt: u64, cached: u64, completion: u64) -> u64 {
        let cached = cached.min(prompt);
        let parts = [(prompt - cached, self.input), (cached, self.cached_input), (completion, self.output)];
        let pico: u128 = parts
            .iter()
            .map(|(tokens, price)| u128::from(*tokens) * u128::from(pico_per_token(*price)))
            .sum();
        u64::try_from((pico + PICO_PER_NANO / 2) / PICO_PER_NANO).unwrap_or(u64::MAX)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to what a price can be; NaN becomes 0"
)]
fn pico_per_token(price: f64) -> u64 {
    (price.clamp(0.0, PRICE_MAX) * PICO_PER_MICRO).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_tokens_cost_their_price() {
        let price = Price { input: 0.15, output: 0.6, cached_input: 0.075 };
        assert_eq!(price.cost_nano_usd(1_000_000, 0, 0), 150_000_000);
        assert_eq!(price.cost_nano_usd(1_000_000, 1_000_000, 0), 75_000_000);
        assert_eq!(price.cost_nano_usd(0, 0, 1_000_000), 600_000_000);
        assert_eq!(price.cost_nano_usd(3, 1, 5), 300 + 75 + 3000);
        assert_eq!(Price::default().cost_nano_usd(u64::MAX, 0, u64::MAX), 0);
    }

    #[test]
    fn absurd_numbers_neither_panic_nor_wrap() {
        let dear = Price { input: f64::INFINITY, output: f64::NAN, cached_input: -1.0 };
        assert_eq!(dear.cost_nano_usd(u64::MAX, 0, 1), u64::MAX);
        assert_eq!(dear.cost_nano_usd(1, 7, 9), 0, "more cached than there is counts as all");
    }
}
