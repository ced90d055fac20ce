//! How many tokens a provider makes of a prompt, against the estimate that knows no vocabulary
//! ([`crate::chat::estimate_prompt_tokens`]). Providers count what they report with their own
//! tokenizers; from those counts a line through estimate and count is learned for each model (least
//! squares, newer samples counting for more), and applied to the few prompts whose count nobody
//! reports. A model of which nothing is known has the line of its provider; where nothing is known of
//! the provider either, the estimate stands.

use std::collections::BTreeMap;

/// Lines that are told apart.
const LINES_MAX: usize = 512;
/// Samples before a line is believed.
const SAMPLES_MIN: u32 = 8;
/// Each sample fades those before it by one part in this many.
const FADE: f64 = 256.0;
/// Largest correction, either way; beyond it something else is wrong.
const RATIO_MAX: f64 = 4.0;
/// Prompts have to differ by this share of their mean (one standard deviation) for a slope of its own;
/// else the line goes through zero.
const SPREAD_MIN: f64 = 0.1;
/// Requests that are all taken as samples, at first.
const ALL: u64 = 64;
/// Of those after them, one in this many: estimating reads the whole body.
const SHARE: u64 = 16;

/// Faded sums over samples of estimate (`x`) and count (`y`).
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    samples: u32,
    n: f64,
    x: f64,
    y: f64,
    xx: f64,
    xy: f64,
}

impl Sums {
    fn learn(&mut self, x: f64, y: f64) {
        let kept = 1.0 - 1.0 / FADE;
        for (sum, value) in [
            (&mut self.n, 1.0),
            (&mut self.x, x),
            (&mut self.y, y),
            (&mut self.xx, x * x),
            (&mut self.xy, x * y),
        ] {
            *sum = *sum * kept + value;
        }
        self.samples = self.samples.saturating_add(1);
    }

    /// The count to expect for an estimate of `x`; `None` while too little is known.
    fn count(&self, x: f64) -> Option<f64> {
        if self.samples < SAMPLES_MIN {
            return None;
        }
        let (mean_x, mean_y) = (self.x / self.n, self.y / self.n);
        let variance = self.xx / self.n - mean_x * mean_x;
        let slope = if variance > (SPREAD_MIN * mean_x).powi(2) {
            (self.xy / self.n - mean_x * mean_y) / variance
        } else {
            return Some(bounded(x * mean_y / mean_x, x));
        };
        Some(bounded(mean_y + slope * (x - mean_x), x))
    }
}

fn bounded(count: f64, estimate: f64) -> f64 {
    count.clamp(estimate / RATIO_MAX, estimate * RATIO_MAX)
}

/// What was learned of all providers.
#[derive(Debug, Clone, Default)]
pub struct Calibration {
    asked: u64,
    providers: BTreeMap<String, Sums>,
    models: BTreeMap<(String, String), Sums>,
}

impl Calibration {
    /// Whether the next request is to be a sample.
    pub const fn wants(&mut self) -> bool {
        self.asked += 1;
        self.asked <= ALL || self.asked.is_multiple_of(SHARE)
    }

    /// A prompt that was estimated at `estimated` tokens had `reported`.
    #[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^52")]
    pub fn learn(&mut self, provider: &str, model: &str, estimated: u64, reported: u64) {
        if estimated == 0 || reported == 0 {
            return;
        }
        let (estimated, reported) = (estimated as f64, reported as f64);
        let model = (provider.to_owned(), model.to_owned());
        if let Some(sums) = place(&mut self.models, model) {
            sums.learn(estimated, reported);
        }
        if let Some(sums) = place(&mut self.providers, provider.to_owned()) {
            sums.learn(estimated, reported);
        }
    }

    /// What the provider will have made of a prompt estimated at `estimated` tokens.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "token counts are far below 2^52, and corrected ones above 0"
    )]
    pub fn correct(&self, provider: &str, model: &str, estimated: u64) -> u64 {
        let x = estimated as f64;
        let of_model =
            self.models.get(&(provider.to_owned(), model.to_owned())).and_then(|sums| sums.count(x));
        let count = of_model.or_else(|| self.providers.get(provider)?.count(x));
        count.map_or(estimated, |count| count.round() as u64)
    }
}

/// The place of `key`, unless all are taken.
fn place<K: Ord>(table: &mut BTreeMap<K, Sums>, key: K) -> Option<&mut Sums> {
    if table.len() >= LINES_MAX && !table.contains_key(&key) {
        return None;
    }
    Some(table.entry(key).or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_model_s_line_goes_before_the_provider_s_and_strangers_are_left_alone() {
        let mut calibration = Calibration::default();
        for _ in 0..SAMPLES_MIN {
            assert_eq!(calibration.correct("p", "m", 100), 100, "too few to be believed");
            calibration.learn("p", "m", 100, 80);
        }
        assert_eq!(calibration.correct("p", "m", 100), 80);
        assert_eq!(calibration.correct("p", "unseen", 100), 80);
        assert_eq!(calibration.correct("other", "m", 100), 100);
        for _ in 0..1000 {
            calibration.learn("p", "n", 100, 120);
        }
        assert_eq!((calibration.correct("p", "m", 100), calibration.correct("p", "n", 100)), (80, 120));
        assert!(calibration.correct("p", "unseen", 100) > 110, "what is newer counts for more");
    }

    #[test]
    fn a_flood_of_models_is_bounded_and_samples_become_rare() {
        let mut calibration = Calibration::default();
        for number in 0..5000 {
            calibration.learn("p", &number.to_string(), 10, 20);
        }
        assert!(calibration.models.len() <= LINES_MAX);
        assert_eq!(calibration.correct("p", "4999", 10), 20, "by its provider");
        let taken = (0..ALL + 10 * SHARE).filter(|_| calibration.wants()).count() as u64;
        assert_eq!(taken, ALL + 10);
    }

    proptest! {
        /// Whatever the lengths, and though every prompt has a frame of its own: the corrected sum is
        /// within 1 % of the provider's count.
        #[test]
        fn a_proportion_and_a_frame_are_found(
            ratio in 0.5..2.0_f64,
            frame in 0.0..10.0_f64,
            prompts in prop::collection::vec(20_u64..5_000, 64..256),
        ) {
            let reported = |estimated: u64| (estimated as f64 * ratio + frame).round() as u64;
            let mut calibration = Calibration::default();
            for prompt in &prompts {
                calibration.learn("p", "m", *prompt, reported(*prompt));
            }
            let ours: u64 = prompts.iter().map(|prompt| calibration.correct("p", "m", *prompt)).sum();
            let theirs: u64 = prompts.iter().map(|prompt| reported(*prompt)).sum();
            prop_assert!((ours as f64 / theirs as f64 - 1.0).abs() < 0.01);
        }
    }
}
