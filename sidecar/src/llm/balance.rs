//! Smooth weighted round robin: over any run of requests each provider gets its share, and
//! heavy ones come interleaved instead of in bursts. The algorithm is nginx's: every candidate
//! gains its weight, the richest one is taken and pays what all gained.

use std::sync::{Mutex, PoisonError};

/// Credit of each provider, by its index.
#[derive(Debug)]
pub struct Balance {
    credits: Mutex<Vec<i64>>,
}

impl Balance {
    /// A balance over `providers` providers.
    #[must_use]
    pub fn new(providers: usize) -> Self {
        Self { credits: Mutex::new(vec![0; providers]) }
    }

    /// Picks one of `candidates`, given as `(index, weight)`; `None` when there are none.
    /// The credits of providers that are not candidates stay as they are, so that the sum of
    /// all credits is always zero and none can grow beyond the weights' sum.
    pub fn pick(&self, candidates: impl Iterator<Item = (usize, u32)> + Clone) -> Option<usize> {
        let mut alone = candidates.clone();
        if let (first, None) = (alone.next(), alone.next()) {
            return first.map(|(index, _)| index);
        }
        let mut credits = self.credits.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sum = 0;
        let mut best: Option<(usize, i64)> = None;
        for (index, weight) in candidates {
            let Some(credit) = credits.get_mut(index) else { continue };
            sum += i64::from(weight);
            *credit += i64::from(weight);
            if best.is_none_or(|(_, most)| *credit > most) {
                best = Some((index, *credit));
            }
        }
        let (index, _) = best?;
        if let Some(credit) = credits.get_mut(index) {
            *credit -= sum;
        }
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_follow_the_weights_and_interleave() {
        let balance = Balance::new(3);
        let candidates = [(0, 5), (1, 1), (2, 1)];
        let picks: Vec<_> = (0..7).map(|_| balance.pick(candidates.into_iter()).expect("one")).collect();
        assert_eq!(picks, [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn a_single_candidate_is_taken_and_none_is_none() {
        let balance = Balance::new(2);
        assert_eq!(balance.pick([(1, 7)].into_iter()), Some(1));
        assert_eq!(balance.pick([].into_iter()), None);
    }

    #[test]
    fn overlapping_sets_of_candidates_keep_every_credit_bounded() {
        let balance = Balance::new(3);
        let sets: [&[(usize, u32)]; 3] = [&[(0, 3), (1, 1)], &[(1, 2), (2, 9)], &[(0, 1), (1, 1), (2, 1)]];
        for round in 0..10_000 {
            balance.pick(sets[round % 3].iter().copied());
        }
        let credits = balance.credits.lock().expect("lock");
        assert_eq!(credits.iter().sum::<i64>(), 0);
        assert!(credits.iter().all(|c| c.abs() <= 40), "{credits:?}");
    }
}
