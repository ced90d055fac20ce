//! A budget for extra work, retries or hedges: a share of the requests themselves. When a
//! provider fails as a whole, retries may add that share to its load and no more.

/// What one unit of extra work costs.
const PRICE: f64 = 1.0;

/// Earned by requests, spent by retries.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budget {
    ratio: f64,
    reserve: f64,
    balance: f64,
}

impl Budget {
    /// Each request earns `ratio` of a retry; up to `reserve` are saved up, and there at the
    /// start, so that a quiet gateway may retry at all.
    #[must_use]
    pub const fn new(ratio: f64, reserve: f64) -> Self {
        Self { ratio, reserve, balance: reserve }
    }

    /// A request came in.
    pub fn earn(&mut self) {
        self.balance = (self.balance + self.ratio).min(self.reserve);
    }

    /// `elapsed_ms` passed; a trickle of `per_second` keeps a gateway with hardly any traffic
    /// from losing its retries for good.
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 ms")]
    pub fn trickle(&mut self, per_second: f64, elapsed_ms: u64) {
        self.balance = (self.balance + per_second * elapsed_ms as f64 / 1000.0).min(self.reserve);
    }

    /// Takes one unit, if there is one.
    pub fn spend(&mut self) -> bool {
        let enough = self.balance >= PRICE;
        if enough {
            self.balance -= PRICE;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn retries_of_a_long_failure_are_the_ratio_of_the_requests() {
        let mut budget = Budget::new(0.2, 10.0);
        let mut retries = 0;
        for _ in 0..10_000 {
            budget.earn();
            retries += u32::from(budget.spend());
        }
        assert!((2_000..=2_010).contains(&retries), "{retries}");
    }

    #[test]
    fn a_trickle_brings_an_empty_budget_back() {
        let mut budget = Budget::new(0.0, 2.0);
        assert!(budget.spend() && budget.spend() && !budget.spend());
        budget.trickle(1.0, 1_500);
        assert!(budget.spend() && !budget.spend());
    }

    proptest! {
        #[test]
        fn it_is_never_overdrawn(ratio in 0.0..1.0_f64, reserve in 0.0..20.0_f64, work in prop::collection::vec(any::<bool>(), 0..300)) {
            let mut budget = Budget::new(ratio, reserve);
            let (mut earned, mut spent) = (0.0, 0.0);
            for is_request in work {
                if is_request { budget.earn(); earned += ratio; } else if budget.spend() { spent += 1.0; }
                prop_assert!(spent <= reserve + earned + 1e-6);
            }
        }
    }
}
