//! Quantiles of latencies in fixed memory.

/// Buckets for each doubling: an estimate is at most a quarter of a doubling (19 %) too high.
const PER_DOUBLING: usize = 4;
/// Doublings covered: 1 ms to over an hour.
const DOUBLINGS: usize = 22;
const BUCKETS: usize = PER_DOUBLING * DOUBLINGS;
/// After this many samples all counts are halved, so that old ones fade.
const FADE_AFTER: u32 = 1024;
/// Fewer samples than this say nothing about a tail.
const SAMPLES_MIN: u32 = 20;

/// A fading histogram with buckets of equal ratio.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quantiles {
    counts: [u32; BUCKETS],
    total: u32,
}

impl Default for Quantiles {
    fn default() -> Self {
        Self { counts: [0; BUCKETS], total: 0 }
    }
}

impl Quantiles {
    /// Adds a latency in milliseconds.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded below BUCKETS")]
    #[expect(clippy::cast_precision_loss, reason = "a small constant")]
    pub fn observe(&mut self, ms: f64) {
        let bucket = (ms.max(1.0).log2() * PER_DOUBLING as f64) as usize;
        if let Some(count) = self.counts.get_mut(bucket.min(BUCKETS - 1)) {
            *count += 1;
            self.total += 1;
        }
        if self.total >= FADE_AFTER {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.total = self.counts.iter().sum();
        }
    }

    /// Upper bound of the bucket in which quantile `q` (0 to 1) lies, in milliseconds; `None`
    /// while there are too few samples.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "bucket numbers are small")]
    pub fn get(&self, q: f64) -> Option<f64> {
        if self.total < SAMPLES_MIN {
            return None;
        }
        let wanted = f64::from(self.total) * q.clamp(0.0, 1.0);
        let mut seen = 0;
        let bucket = self.counts.iter().position(|count| {
            seen += count;
            f64::from(seen) >= wanted && *count > 0
        })?;
        Some(2_f64.powf((bucket + 1) as f64 / PER_DOUBLING as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_a_bucket() {
        let mut seen = Quantiles::default();
        assert_eq!(seen.get(0.95), None);
        for ms in 1..=1000 {
            seen.observe(f64::from(ms));
        }
        for (q, truth) in [(0.5, 500.0), (0.95, 950.0), (0.99, 990.0)] {
            let found = seen.get(q).expect("samples");
            assert!((truth..truth * 1.2).contains(&found), "{q}: {found}");
        }
    }

    #[test]
    fn old_samples_fade_and_extremes_fit() {
        let mut seen = Quantiles::default();
        (0..1000).for_each(|_| seen.observe(10_000.0));
        (0..10_000).for_each(|_| seen.observe(10.0));
        assert!(seen.get(0.95).is_some_and(|ms| ms < 20.0));
        for extreme in [0.0, -1.0, f64::MAX, f64::NAN] {
            seen.observe(extreme);
        }
        assert!(seen.get(1.0).is_some());
    }
}
