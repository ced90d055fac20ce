//! How many errors a cluster has now, and whether they grow.

use serde::{Deserialize, Serialize};

/// Time constant of what happens now, in milliseconds.
const FAST_MS: f64 = 10_000.0;
/// Time constant of what was before, in milliseconds.
const SLOW_MS: f64 = 300_000.0;
/// From this balance of now and before, a trend is one.
const TREND_MIN: f64 = 0.2;

/// Where a rate is going.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trend {
    /// More now than before.
    Growing,
    /// As before.
    Steady,
    /// Less now than before.
    Falling,
}

impl Trend {
    /// Its name in answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Growing => "growing",
            Self::Steady => "steady",
            Self::Falling => "falling",
        }
    }
}

/// Two exponentially weighted rates: the last ten seconds, and the last five minutes.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Activity {
    fast: f64,
    slow: f64,
    at_ms: u64,
}

impl Activity {
    /// Counts `errors` at `now_ms`. A clock that goes back counts as standing still.
    pub fn count(&mut self, errors: u64, now_ms: u64) {
        let (fast, slow) = self.rates(now_ms);
        *self = Self {
            fast: fast + errors as f64 * 1000.0 / FAST_MS,
            slow: slow + errors as f64 * 1000.0 / SLOW_MS,
            at_ms: self.at_ms.max(now_ms),
        };
    }

    /// Errors a second, now.
    #[must_use]
    pub fn rate(&self, now_ms: u64) -> f64 {
        self.rates(now_ms).0
    }

    /// Now against before, from -1 (over) to 1 (all of it is new).
    #[must_use]
    pub fn balance(&self, now_ms: u64) -> f64 {
        let (fast, slow) = self.rates(now_ms);
        if fast + slow > f64::EPSILON { (fast - slow) / (fast + slow) } else { 0.0 }
    }

    /// Where it is going.
    #[must_use]
    pub fn trend(&self, now_ms: u64) -> Trend {
        match self.balance(now_ms) {
            balance if balance > TREND_MIN => Trend::Growing,
            balance if balance < -TREND_MIN => Trend::Falling,
            _ => Trend::Steady,
        }
    }

    /// Adds another's errors, of a cluster that becomes one with this.
    pub(super) fn join(&mut self, other: &Self, now_ms: u64) {
        let ((fast, slow), (other_fast, other_slow)) = (self.rates(now_ms), other.rates(now_ms));
        *self = Self { fast: fast + other_fast, slow: slow + other_slow, at_ms: self.at_ms.max(now_ms) };
    }

    fn rates(&self, now_ms: u64) -> (f64, f64) {
        let elapsed = now_ms.saturating_sub(self.at_ms) as f64;
        (self.fast * (-elapsed / FAST_MS).exp(), self.slow * (-elapsed / SLOW_MS).exp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fed(per_second: u64, seconds: std::ops::Range<u64>, mut activity: Activity) -> Activity {
        seconds.for_each(|s| activity.count(per_second, s * 1000));
        activity
    }

    #[test]
    fn a_steady_stream_has_its_rate_and_no_trend() {
        let activity = fed(50, 0..3000, Activity::default());
        assert!((activity.rate(2_999_000) - 50.0).abs() < 4.0);
        assert_eq!(activity.trend(2_999_000), Trend::Steady);
    }

    #[test]
    fn an_onset_grows_and_an_end_falls() {
        let mut activity = fed(1, 0..600, Activity::default());
        activity = fed(50, 600..605, activity);
        assert_eq!(activity.trend(605_000), Trend::Growing);
        assert_eq!(activity.trend(700_000), Trend::Falling);
        assert!(activity.rate(700_000) < 0.1);
    }

    #[test]
    fn a_clock_that_goes_back_does_no_harm() {
        let mut activity = fed(5, 0..100, Activity::default());
        let before = activity.rate(99_000);
        activity.count(1, 3000);
        assert!(activity.rate(3000) >= before && activity.rate(3000).is_finite());
    }
}
