//! What probes of a slice that seems well again came to.

/// Outcomes remembered; beyond, older ones count less.
const OUTCOMES_MAX: u32 = 400;
/// A run of failures is a relapse where chance would make one in so many.
const RELAPSE_ODDS: f64 = 1000.0;

/// Outcomes since the slice seemed well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tally {
    /// Probes that succeeded.
    pub(super) good: u32,
    /// Those that failed, but for the last ones in a row.
    pub(super) bad: u32,
    /// Those that failed in a row since the last success.
    pub(super) run: u32,
}

impl Tally {
    pub(super) const fn succeeded(&mut self) {
        self.good += 1;
        self.bad = self.bad.saturating_add(self.run);
        self.run = 0;
        if self.good.saturating_add(self.bad) > OUTCOMES_MAX {
            (self.good, self.bad) = (self.good / 2, self.bad / 2);
        }
    }

    pub(super) const fn failed(&mut self) {
        self.run = self.run.saturating_add(1);
    }

    /// Whether the last failures say that the slice is ill again: a single one while nothing has
    /// succeeded; else a run that by the share of failures until then (Laplace's estimate) would
    /// come about once in [`RELAPSE_ODDS`]. A slice of which a part fails is not closed for it.
    pub(super) fn is_relapse(&self) -> bool {
        if self.good == 0 {
            return self.run > 0;
        }
        let failing = (f64::from(self.bad) + 1.0) / (f64::from(self.bad) + f64::from(self.good) + 2.0);
        f64::from(self.run) * failing.ln() <= -RELAPSE_ODDS.ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Failures in a row that close a slice of which `bad` of `good + bad` failed until then.
    fn run(good: u32, bad: u32) -> u32 {
        let tally = |run| Tally { good, bad, run };
        (1..1000).find(|run| tally(*run).is_relapse()).unwrap_or(0)
    }

    #[test]
    fn the_more_has_succeeded_the_shorter_the_run_that_is_no_chance() {
        assert_eq!([run(0, 0), run(1, 0), run(4, 0), run(13, 0), run(300, 0)], [1, 7, 4, 3, 2]);
        assert_eq!([run(20, 20), run(10, 30)], [10, 23], "where half fails anyway, a few say little");
    }

    #[test]
    fn the_past_fades() {
        let mut tally = Tally::default();
        (0..10_000).for_each(|_| tally.succeeded());
        assert!(tally.good <= OUTCOMES_MAX);
        for _ in 0..400 {
            tally.failed();
            tally.succeeded();
        }
        assert!(run(tally.good, tally.bad) >= 8, "{tally:?}");
    }
}
