//! Consistent hashing (Karger et al., STOC 1997) with bounded loads (Mirrokni, Thorup,
//! Zadimoghaddam, SODA 2018): a key goes to the first point after it on a circle, and past
//! providers that already have more than their share of what is in flight.

use super::candidate::Candidate;
use crate::hash::mix;

/// Points of a provider of average weight. With 256 of them the shares of equal providers lie
/// within a few per cent of each other.
const POINTS: u32 = 256;
/// Most points of one provider, however heavy.
const POINTS_MAX: u32 = 4096;
/// How far a provider's load may exceed its share before keys pass it by.
const LOAD_FACTOR: f64 = 1.25;

/// A circle of points, sorted.
#[derive(Debug, Clone, Default)]
pub(super) struct Ring {
    points: Vec<(u64, usize)>,
}

impl Ring {
    /// A circle with points for each candidate, by its place in `candidates`.
    pub(super) fn new(candidates: &[Candidate]) -> Self {
        let total: u64 = candidates.iter().map(|c| u64::from(c.weight.max(1))).sum();
        let mut points = Vec::new();
        for (place, candidate) in candidates.iter().enumerate() {
            let share = u64::from(candidate.weight.max(1)) * candidates.len() as u64 * u64::from(POINTS);
            let count = share.div_ceil(total.max(1)).clamp(1, u64::from(POINTS_MAX));
            points.extend((0..count).map(|i| (mix(candidate.id ^ mix(i)), place)));
        }
        points.sort_unstable();
        Self { points }
    }

    /// Where `key` goes. Only when every provider is over its share does the first one after
    /// the key get it all the same.
    pub(super) fn pick(&self, key: u64, candidates: &[Candidate]) -> Option<usize> {
        let start = self.points.partition_point(|(point, _)| *point < key);
        let around =
            || self.points.iter().cycle().skip(start).take(self.points.len()).map(|(_, place)| *place);
        let weights: f64 = candidates.iter().map(|c| f64::from(c.weight.max(1))).sum();
        let load: f64 = candidates.iter().map(|c| f64::from(c.in_flight)).sum::<f64>() + 1.0;
        let has_room = |c: &Candidate| {
            let share = f64::from(c.weight.max(1)) / weights;
            f64::from(c.in_flight) < (LOAD_FACTOR * load * share).ceil()
        };
        around().find(|place| candidates.get(*place).is_some_and(has_room)).or_else(|| around().next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::hash;

    fn nodes(names: impl IntoIterator<Item = u32>) -> Vec<Candidate> {
        names
            .into_iter()
            .map(|name| Candidate {
                id: hash(&[b"node", &name.to_le_bytes()]),
                weight: 1,
                in_flight: 0,
                latency_ms: None,
                cost: None,
                quality: 1.0,
            })
            .collect()
    }

    fn owner(candidates: &[Candidate], ring: &Ring, key: u64) -> u64 {
        ring.pick(key, candidates).map(|place| candidates[place].id).expect("somebody")
    }

    #[test]
    fn a_node_that_goes_takes_only_its_own_keys_with_it() {
        const KEYS: u64 = 20_000;
        for n in [3_u32, 5, 10, 20] {
            let all = nodes(0..n);
            let whole = Ring::new(&all);
            for gone in 0..n {
                let rest = nodes((0..n).filter(|i| *i != gone));
                let smaller = Ring::new(&rest);
                let mut moved = 0;
                for key in (0..KEYS).map(|k| hash(&[&k.to_le_bytes()])) {
                    let (before, after) = (owner(&all, &whole, key), owner(&rest, &smaller, key));
                    if before != after {
                        assert_eq!(before, all[gone as usize].id, "a key moved that had no reason to");
                        moved += 1;
                    }
                }
                let share = f64::from(moved) / KEYS as f64;
                assert!(share <= 1.25 / f64::from(n), "{gone} of {n}: {share}");
            }
        }
    }

    #[test]
    fn heavy_nodes_get_more_keys() {
        let mut candidates = nodes(0..2);
        candidates[0].weight = 3;
        let ring = Ring::new(&candidates);
        let first =
            (0..20_000_u64).filter(|k| ring.pick(hash(&[&k.to_le_bytes()]), &candidates) == Some(0)).count();
        assert!((13_500..16_500).contains(&first), "{first}");
    }

    #[test]
    fn an_overloaded_node_is_passed_by() {
        let mut candidates = nodes(0..4);
        let ring = Ring::new(&candidates);
        let key = hash(&[b"session"]);
        let home = ring.pick(key, &candidates).expect("somebody");
        candidates[home].in_flight = 10;
        let other = ring.pick(key, &candidates).expect("somebody");
        assert_ne!(home, other);
        for candidate in &mut candidates {
            candidate.in_flight = 10;
        }
        assert_eq!(ring.pick(key, &candidates), Some(home), "all as busy: home again");
        assert_eq!(Ring::default().pick(key, &[]), None);
    }
}
