//! The choice among candidates, and what has to be remembered for it.

use std::collections::BTreeMap;

use super::candidate::Candidate;
use super::ring::Ring;
use super::strategy::{Draw, Strategy};
use crate::hash::{hash, mix, unit};

/// Sets of candidates that turns are remembered for; beyond it all start anew. Requests for
/// different models have different sets, and each set its own turn: with one turn for all, two
/// models asked for alternately would each meet one provider only.
pub const SETS_MAX: usize = 1024;

/// What is remembered of one set of candidates.
#[derive(Debug, Default)]
struct Turns {
    next: u64,
    credits: BTreeMap<u64, i64>,
    ring: Option<(u64, Ring)>,
}

/// Chooses among candidates. Not shared: whoever shares it locks it.
#[derive(Debug, Default)]
pub struct Balancer {
    sets: BTreeMap<u64, Turns>,
}

impl Balancer {
    /// The place in `candidates` of the one that `strategy` chooses; `None` when there are none.
    pub fn pick(&mut self, strategy: Strategy, candidates: &[Candidate], draw: &Draw) -> Option<usize> {
        if candidates.len() <= 1 {
            return (!candidates.is_empty()).then_some(0);
        }
        match strategy {
            Strategy::RoundRobin => self.turns(candidates).turn(candidates.len()),
            Strategy::WeightedRoundRobin => self.turns(candidates).weighted(candidates),
            Strategy::LeastLatency => self.least(candidates, Candidate::expected_wait),
            Strategy::LeastConnections => self.least(candidates, Candidate::load),
            Strategy::CostOptimized => self.cheapest(candidates, draw.quality_floor),
            Strategy::Random => Some(below(draw.random, candidates.len())),
            Strategy::PowerOfTwo => Some(of_two(candidates, draw.random)),
            Strategy::StickySession => match draw.key {
                Some(key) => rendezvous(candidates, key),
                None => self.turns(candidates).weighted(candidates),
            },
            Strategy::ConsistentHash => match draw.key {
                Some(key) => self.turns(candidates).ring(candidates).pick(key, candidates),
                None => self.turns(candidates).weighted(candidates),
            },
        }
    }

    fn turns(&mut self, candidates: &[Candidate]) -> &mut Turns {
        let set = candidates.iter().fold(0, |set, c| mix(set ^ c.id));
        if self.sets.len() >= SETS_MAX && !self.sets.contains_key(&set) {
            self.sets.clear();
        }
        self.sets.entry(set).or_default()
    }

    /// The candidate with the lowest score; those that are level take turns.
    fn least(&mut self, candidates: &[Candidate], score: impl Fn(&Candidate) -> f64) -> Option<usize> {
        let lowest = candidates.iter().map(&score).min_by(f64::total_cmp)?;
        let level: Vec<usize> = (0..candidates.len())
            .filter(|i| candidates.get(*i).is_some_and(|c| score(c) <= lowest))
            .collect();
        if let [only] = level[..] {
            return Some(only);
        }
        let turn = self.turns(candidates).turn(level.len())?;
        level.get(turn).copied()
    }

    /// The cheapest candidate of at least the quality asked for; if none is, the best ones count.
    /// A candidate whose price is not known comes after all whose price is.
    fn cheapest(&mut self, candidates: &[Candidate], floor: f64) -> Option<usize> {
        let best = candidates.iter().map(|c| c.quality).max_by(f64::total_cmp)?;
        let floor = floor.min(best);
        self.least(candidates, |c| if c.quality < floor { f64::INFINITY } else { c.cost.unwrap_or(f64::MAX) })
    }
}

impl Turns {
    fn turn(&mut self, among: usize) -> Option<usize> {
        let turn = self.next;
        self.next = self.next.wrapping_add(1);
        usize::try_from(turn % u64::try_from(among.max(1)).ok()?).ok()
    }

    /// Smooth weighted round robin, as nginx does it: every candidate gains its weight, the
    /// richest one is taken and pays what all gained. The credits' sum stays zero.
    fn weighted(&mut self, candidates: &[Candidate]) -> Option<usize> {
        let mut sum = 0;
        let mut best: Option<(usize, u64, i64)> = None;
        for (place, candidate) in candidates.iter().enumerate() {
            let weight = i64::from(candidate.weight.max(1));
            sum += weight;
            let credit = self.credits.entry(candidate.id).or_default();
            *credit += weight;
            if best.is_none_or(|(_, _, most)| *credit > most) {
                best = Some((place, candidate.id, *credit));
            }
        }
        let (place, id, _) = best?;
        *self.credits.entry(id).or_default() -= sum;
        Some(place)
    }

    /// The ring of these candidates, made anew when a weight has changed.
    fn ring(&mut self, candidates: &[Candidate]) -> &Ring {
        let weights = candidates.iter().fold(0, |all, c| mix(all ^ u64::from(c.weight)));
        if self.ring.as_ref().is_none_or(|(of, _)| *of != weights) {
            self.ring = None;
        }
        &self.ring.get_or_insert_with(|| (weights, Ring::new(candidates))).1
    }
}

/// A number below `n` out of random bits (Lemire's multiplication; the bias is n / 2^64).
fn below(random: u64, n: usize) -> usize {
    let product = u128::from(random) * n as u128;
    usize::try_from(product >> 64).unwrap_or(0)
}

/// Two different candidates at random, and of these the one with the shorter expected wait; by
/// requests in flight while either was never measured (Mitzenmacher, TPDS 2001).
fn of_two(candidates: &[Candidate], random: u64) -> usize {
    let first = below(random, candidates.len());
    let second = (first + 1 + below(mix(random), candidates.len() - 1)) % candidates.len();
    let (Some(a), Some(b)) = (candidates.get(first), candidates.get(second)) else { return first };
    let (one, other) = if a.latency_ms.is_some() && b.latency_ms.is_some() {
        (a.expected_wait(), b.expected_wait())
    } else {
        (a.load(), b.load())
    };
    if other < one { second } else { first }
}

/// Weighted rendezvous hashing (Thaler, Ravishankar 1998; weights by Schindelhauer, Schomaker
/// 2005): the highest of `-weight / ln(hash)`. Needs no memory, and a candidate that goes takes
/// only its own keys with it.
fn rendezvous(candidates: &[Candidate], key: u64) -> Option<usize> {
    let score = |c: &Candidate| {
        let drawn = unit(mix(key ^ hash(&[&c.id.to_le_bytes()]))).max(f64::MIN_POSITIVE);
        -f64::from(c.weight.max(1)) / drawn.ln()
    };
    (0..candidates.len())
        .filter_map(|place| Some((place, score(candidates.get(place)?))))
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .map(|(place, _)| place)
}

#[cfg(test)]
mod tests;
