//! One provider as a strategy sees it.

/// A provider that could answer, and what is known of it now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Hash of its name: what keys are mapped to, whatever its place in the list.
    pub id: u64,
    /// Its share; at least 1.
    pub weight: u32,
    /// Requests that it has not answered yet.
    pub in_flight: u32,
    /// Expected milliseconds until it answers; `None` when it was never measured.
    pub latency_ms: Option<f64>,
    /// What the request is expected to cost there; `None` when its price is not known.
    pub cost: Option<f64>,
    /// How good its answers are, 0 to 1, as the operator says.
    pub quality: f64,
}

impl Candidate {
    /// Expected wait of one more request: peak EWMA, the latency times the queue. What was never
    /// measured comes first, so that it will be.
    pub(super) fn expected_wait(&self) -> f64 {
        self.latency_ms.unwrap_or(0.0) * f64::from(self.in_flight.saturating_add(1))
    }

    /// Requests in flight, this one included, for each unit of weight.
    pub(super) fn load(&self) -> f64 {
        f64::from(self.in_flight.saturating_add(1)) / f64::from(self.weight.max(1))
    }
}

/// How finely a growing weight is divided.
const SLOW_START_STEPS: u32 = 100;
/// Share of its weight that a provider has when it comes back.
const SLOW_START_FLOOR: f64 = 0.1;

/// The weight of a provider that came (back) `age_ms` ago: a tenth of its own at first, then
/// rising evenly until `window_ms` have passed. In units of a hundredth, so that small weights
/// can grow too.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 1 and the scaled weight"
)]
#[expect(clippy::cast_precision_loss, reason = "ages are far below 2^52 ms")]
pub fn slow_start_weight(weight: u32, age_ms: u64, window_ms: u64) -> u32 {
    let scaled = weight.max(1).saturating_mul(SLOW_START_STEPS);
    if age_ms >= window_ms {
        return scaled;
    }
    let share = (age_ms as f64 / window_ms as f64).max(SLOW_START_FLOOR);
    ((f64::from(scaled) * share) as u32).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_providers_weight_rises_to_its_own() {
        let weights: Vec<u32> =
            [0, 1_000, 5_000, 10_000, 99_000].map(|age| slow_start_weight(2, age, 10_000)).into();
        assert_eq!(weights, [20, 20, 100, 200, 200]);
        assert_eq!(slow_start_weight(3, 0, 0), 300, "without a window there is no slow start");
    }
}
