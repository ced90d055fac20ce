//! How long a model's answer will be, learned from those it gave.
//!
//! Mean and mean deviation are kept as TCP keeps its round-trip times (RFC 6298), and the
//! prediction is the mean and two deviations: high, because what is reserved too much comes back
//! at the end, and what is reserved too little was given away.

/// Models that are told apart; others share a place with one of them.
const MODELS: usize = 64;
/// Tokens that an answer of an unknown model is taken for.
pub const UNKNOWN_TOKENS: u64 = 256;
/// Longest prediction, in tokens.
const PREDICTION_MAX: u64 = 32_768;
/// Weight of an answer in the mean: one in this many.
const MEAN_WEIGHT: i64 = 8;
/// Weight of an answer in the deviation: one in this many.
const DEVIATION_WEIGHT: i64 = 4;
/// Deviations above the mean that are reserved.
const DEVIATIONS: i64 = 2;

#[derive(Debug, Clone, Copy, Default)]
struct Learned {
    model: u64,
    mean: i64,
    deviation: i64,
}

/// Answer lengths by model.
#[derive(Debug, Clone)]
pub struct OutputLengths {
    models: [Option<Learned>; MODELS],
}

impl Default for OutputLengths {
    fn default() -> Self {
        Self { models: [None; MODELS] }
    }
}

impl OutputLengths {
    /// Tokens to expect of the model with this number.
    #[must_use]
    pub fn predict(&self, model: u64) -> u64 {
        let place = self.models.get((model % MODELS as u64) as usize).copied().flatten();
        place.filter(|known| known.model == model).map_or(
            UNKNOWN_TOKENS,
            |Learned { mean, deviation, .. }| {
                (mean + DEVIATIONS * deviation).clamp(1, PREDICTION_MAX as i64) as u64
            },
        )
    }

    /// An answer of the model had so many tokens.
    pub fn learn(&mut self, model: u64, tokens: u64) {
        let tokens = tokens.min(PREDICTION_MAX) as i64;
        let Some(place) = self.models.get_mut((model % MODELS as u64) as usize) else { return };
        let known = place.filter(|known| known.model == model);
        let learned = known.map_or(
            Learned { model, mean: tokens, deviation: tokens / 2 },
            |Learned { mean, deviation, .. }| {
                let off = tokens - mean;
                Learned {
                    model,
                    mean: mean + round(off, MEAN_WEIGHT),
                    deviation: deviation + round(off.abs() - deviation, DEVIATION_WEIGHT),
                }
            },
        );
        *place = Some(learned);
    }
}

/// Division away from zero, so that a small steady difference is learned too.
const fn round(value: i64, by: i64) -> i64 {
    (value + value.signum() * (by - 1)) / by
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn steady_answers_are_foretold_and_another_model_is_unknown() {
        let mut lengths = OutputLengths::default();
        assert_eq!(lengths.predict(1), UNKNOWN_TOKENS);
        for _ in 0..100 {
            lengths.learn(1, 40);
        }
        assert_eq!(lengths.predict(1), 40);
        assert_eq!(lengths.predict(1 + MODELS as u64), UNKNOWN_TOKENS);
    }

    proptest! {
        #[test]
        fn most_answers_are_covered_by_what_was_reserved(
            mean in 20u64..2000, spread in prop::collection::vec(0.5f64..1.5, 400)
        ) {
            let (mut lengths, mut covered) = (OutputLengths::default(), 0);
            for (i, factor) in spread.iter().enumerate() {
                let tokens = (mean as f64 * factor) as u64;
                covered += usize::from(i >= 100 && lengths.predict(9) >= tokens);
                lengths.learn(9, tokens);
            }
            prop_assert!(covered >= 240, "{covered} of 300");
        }

        #[test]
        fn absurd_answers_do_not_break_it(answers in prop::collection::vec(any::<u64>(), 1..50)) {
            let mut lengths = OutputLengths::default();
            for tokens in answers {
                lengths.learn(3, tokens);
                prop_assert!((1..=PREDICTION_MAX).contains(&lengths.predict(3)));
            }
        }
    }
}
