//! An average that forgets.

/// Exponentially weighted moving average over time: a sample loses its weight with a half-life,
/// however many samples there are. Without any the estimate sinks at the same pace, so that a
/// provider that was slow once is tried again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ewma {
    half_life_ms: f64,
    value: Option<f64>,
    at_ms: u64,
}

impl Ewma {
    /// An average without samples.
    #[must_use]
    pub const fn new(half_life_ms: f64) -> Self {
        Self { half_life_ms, value: None, at_ms: 0 }
    }

    /// Adds a sample. One that is higher than the average counts at once (peak EWMA, from
    /// Twitter's Finagle): slowness is to be noticed faster than recovery.
    pub fn observe(&mut self, sample: f64, now_ms: u64) {
        let kept = self.kept(now_ms);
        self.value = Some(match self.value {
            Some(value) if sample < value => value * kept + sample * (1.0 - kept),
            Some(value) => value + (sample - value) * (1.0 - kept).max(PEAK_SHARE),
            None => sample,
        });
        self.at_ms = self.at_ms.max(now_ms);
    }

    /// The estimate at `now_ms`; `None` without samples.
    #[must_use]
    pub fn get(&self, now_ms: u64) -> Option<f64> {
        self.value.map(|value| value * self.kept(now_ms))
    }

    #[expect(clippy::cast_precision_loss, reason = "ages are far below 2^52 ms")]
    fn kept(&self, now_ms: u64) -> f64 {
        let age = now_ms.saturating_sub(self.at_ms) as f64;
        (-std::f64::consts::LN_2 * age / self.half_life_ms).exp()
    }
}

/// Least share that a slower sample has in the new average.
const PEAK_SHARE: f64 = 0.5;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn samples_lose_half_their_weight_in_a_half_life() {
        let mut average = Ewma::new(10_000.0);
        assert_eq!(average.get(5), None);
        average.observe(100.0, 0);
        average.observe(0.0, 10_000);
        assert_eq!(average.get(10_000).map(f64::round), Some(50.0));
        assert_eq!(average.get(20_000).map(f64::round), Some(25.0), "sinks without samples");
    }

    #[test]
    fn slowness_is_noticed_at_once() {
        let mut average = Ewma::new(10_000.0);
        average.observe(10.0, 0);
        average.observe(1_000.0, 1);
        assert!(average.get(1).is_some_and(|ms| ms > 500.0));
    }

    proptest! {
        #[test]
        fn it_stays_within_its_samples_and_survives_a_clock_set_back(
            samples in prop::collection::vec((0.0..1e6_f64, 0..1_000_000_u64), 1..50)
        ) {
            let mut average = Ewma::new(5_000.0);
            let highest = samples.iter().map(|(sample, _)| *sample).fold(0.0, f64::max);
            for (sample, at) in samples {
                average.observe(sample, at);
                let now = average.get(at).expect("a sample");
                prop_assert!((0.0..=highest + 1e-6).contains(&now));
            }
        }
    }
}
