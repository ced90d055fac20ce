//! The keys of one provider: used in turn, and each rested for as long as the provider said.

use std::collections::BTreeMap;

/// Models of one key that are remembered apart; beyond it the ones that rest shortest go.
const MODELS_MAX: usize = 64;

/// When each key may be used again. A provider without keys counts as one with a single key.
#[derive(Debug)]
pub struct KeyPool {
    next: usize,
    rests: Vec<Rest>,
}

/// Moments on the routing clock, in milliseconds.
#[derive(Debug, Default)]
struct Rest {
    all_until_ms: u64,
    by_model: BTreeMap<u64, u64>,
}

impl Rest {
    fn until(&self, model: u64) -> u64 {
        self.by_model.get(&model).copied().unwrap_or(0).max(self.all_until_ms)
    }
}

impl KeyPool {
    /// A pool of `keys` keys, none of them resting.
    #[must_use]
    pub fn new(keys: usize) -> Self {
        Self { next: 0, rests: (0..keys.max(1)).map(|_| Rest::default()).collect() }
    }

    /// How many keys there are.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.rests.len()
    }

    /// How many of them rest for every model, or for some.
    #[must_use]
    pub fn resting(&self, now_ms: u64) -> usize {
        let rests = |rest: &&Rest| {
            rest.all_until_ms > now_ms || rest.by_model.values().any(|until_ms| *until_ms > now_ms)
        };
        self.rests.iter().filter(rests).count()
    }

    /// Milliseconds until some key may be used for the model with this hash; 0 if one may now.
    #[must_use]
    pub fn wait_ms(&self, model: u64, now_ms: u64) -> u64 {
        let soonest = self.rests.iter().map(|rest| rest.until(model)).min().unwrap_or(0);
        soonest.saturating_sub(now_ms)
    }

    /// The next key in turn that does not rest, or else the one that rests shortest; one that is to
    /// be avoided only when there is no other.
    pub fn take(&mut self, model: u64, now_ms: u64, avoided: impl Fn(usize) -> bool) -> usize {
        let count = self.rests.len();
        let in_turn = (0..count).map(|i| (self.next + i) % count);
        let until = |index: &usize| self.rests.get(*index).map_or(0, |rest| rest.until(model).max(now_ms));
        let taken = in_turn.min_by_key(|index| (avoided(*index), until(index))).unwrap_or(0);
        self.next = (taken + 1) % count;
        taken
    }

    /// Rests a key for one model, or for all, until `until_ms`. A longer rest stays.
    pub fn rest(&mut self, key: usize, model: Option<u64>, until_ms: u64) {
        let Some(rest) = self.rests.get_mut(key) else { return };
        let Some(model) = model else {
            rest.all_until_ms = rest.all_until_ms.max(until_ms);
            return;
        };
        if rest.by_model.len() >= MODELS_MAX && !rest.by_model.contains_key(&model) {
            let shortest =
                rest.by_model.iter().min_by_key(|(_, until_ms)| **until_ms).map(|(model, _)| *model);
            shortest.map(|model| rest.by_model.remove(&model));
        }
        let until = rest.by_model.entry(model).or_default();
        *until = (*until).max(until_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_take_turns_and_resting_ones_are_passed_by() {
        let mut pool = KeyPool::new(3);
        assert_eq!([0; 4].map(|_| pool.take(1, 0, |_| false)), [0, 1, 2, 0]);
        pool.rest(1, Some(1), 5_000);
        assert_eq!([0; 3].map(|_| pool.take(1, 0, |_| false)), [2, 0, 2]);
        assert_eq!([0; 3].map(|_| pool.take(2, 0, |_| false)), [0, 1, 2], "another model is not concerned");
        assert_eq!(pool.take(1, 5_000, |_| false), 0);
        assert_eq!(pool.take(1, 5_000, |_| false), 1, "rested");
        assert_eq!([0; 3].map(|_| pool.take(1, 5_000, |key| key == 2)), [0, 1, 0]);
        assert_eq!(pool.take(1, 5_000, |_| true), 1, "there is no other");
    }

    #[test]
    fn when_all_rest_the_wait_is_the_shortest() {
        let mut pool = KeyPool::new(2);
        pool.rest(0, None, 9_000);
        assert_eq!(pool.wait_ms(1, 0), 0);
        pool.rest(1, Some(1), 4_000);
        assert_eq!((pool.wait_ms(1, 1_000), pool.wait_ms(2, 1_000)), (3_000, 0));
        assert_eq!(pool.take(1, 1_000, |_| false), 1);
        pool.rest(1, Some(1), 2_000);
        assert_eq!(pool.wait_ms(1, 1_000), 3_000, "a rest is not shortened");
        assert_eq!((pool.resting(1_000), pool.resting(5_000), pool.resting(9_000)), (2, 1, 0));
    }

    #[test]
    fn models_are_bounded_and_no_keys_count_as_one() {
        let mut pool = KeyPool::new(0);
        assert_eq!((pool.count(), pool.take(0, 0, |_| false)), (1, 0));
        (0..1000).for_each(|model| pool.rest(0, Some(model), model + 1));
        assert_eq!(pool.rests[0].by_model.len(), MODELS_MAX);
        assert!(pool.wait_ms(999, 0) > 0, "the longest rests are kept");
        pool.rest(7, None, 1);
    }
}
