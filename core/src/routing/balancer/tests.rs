use proptest::prelude::*;

use super::*;
use crate::routing::Strategy;

const REQUESTS: u32 = 100_000;
/// How far a share may be from its definition.
const TOLERANCE: f64 = 0.02;

fn candidate(name: &str, weight: u32) -> Candidate {
    Candidate {
        id: hash(&[name.as_bytes()]),
        weight,
        in_flight: 0,
        latency_ms: None,
        cost: None,
        quality: 1.0,
    }
}

fn three(weights: [u32; 3]) -> Vec<Candidate> {
    ["a", "b", "c"].iter().zip(weights).map(|(name, weight)| candidate(name, weight)).collect()
}

fn draw(request: u32, key: Option<u64>) -> Draw {
    Draw { random: mix(u64::from(request)), key, quality_floor: 0.0 }
}

/// Shares over [`REQUESTS`] requests, each with a session of its own.
fn shares(strategy: Strategy, candidates: &[Candidate]) -> Vec<f64> {
    let mut balancer = Balancer::default();
    let mut counts = vec![0_u32; candidates.len()];
    for request in 0..REQUESTS {
        let draw = draw(request, Some(hash(&[&request.to_be_bytes()])));
        counts[balancer.pick(strategy, candidates, &draw).expect("one")] += 1;
    }
    counts.into_iter().map(|count| f64::from(count) / f64::from(REQUESTS)).collect()
}

fn assert_shares(strategy: Strategy, candidates: &[Candidate], expected: [f64; 3]) {
    let found = shares(strategy, candidates);
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= TOLERANCE, "{strategy:?}: {found} and not {expected}");
    }
}

#[test]
fn each_strategys_shares_are_those_of_its_definition() {
    let third = [1.0 / 3.0; 3];
    let even = three([1, 1, 1]);
    let weighted = three([6, 3, 1]);
    assert_shares(Strategy::RoundRobin, &weighted, third);
    assert_shares(Strategy::Random, &weighted, third);
    assert_shares(Strategy::WeightedRoundRobin, &weighted, [0.6, 0.3, 0.1]);
    assert_shares(Strategy::StickySession, &weighted, [0.6, 0.3, 0.1]);
    for strategy in [Strategy::LeastConnections, Strategy::LeastLatency, Strategy::CostOptimized] {
        assert_shares(strategy, &even, third);
    }
    assert_shares(Strategy::PowerOfTwo, &even, third);
}

/// The ring's shares are only as even as its points; its definition is bounded load.
#[test]
fn the_rings_shares_are_near_the_weights() {
    for (found, expected) in shares(Strategy::ConsistentHash, &three([6, 3, 1])).iter().zip([0.6, 0.3, 0.1]) {
        assert!((found / expected - 1.0).abs() < 0.25, "{found} and not {expected}");
    }
}

/// Requests stay in flight as long as their provider takes; every request is in somebody's hands.
#[test]
fn least_connections_follow_the_speed_of_the_providers() {
    let mut candidates = three([1, 1, 1]);
    let takes = [10_u32, 20, 40];
    let mut ends: Vec<(u32, usize)> = Vec::new();
    let mut balancer = Balancer::default();
    let mut counts = [0_u32; 3];
    for tick in 0..REQUESTS {
        ends.retain(|(end, place)| {
            let open = *end > tick;
            candidates[*place].in_flight -= u32::from(!open);
            open
        });
        let place = balancer.pick(Strategy::LeastConnections, &candidates, &draw(tick, None)).expect("one");
        let spread = candidates.iter().map(|c| c.in_flight);
        assert!(candidates[place].in_flight == spread.min().expect("three"), "not the least busy one");
        candidates[place].in_flight += 1;
        ends.push((tick + takes[place], place));
        counts[place] += 1;
    }
    assert!(counts[0] > counts[1] && counts[1] > counts[2], "{counts:?}");
}

#[test]
fn weighted_turns_interleave() {
    let mut balancer = Balancer::default();
    let candidates = three([5, 1, 1]);
    let picks: Vec<usize> = (0..7)
        .map(|i| balancer.pick(Strategy::WeightedRoundRobin, &candidates, &draw(i, None)).expect("one"))
        .collect();
    assert_eq!(picks, [0, 0, 1, 0, 2, 0, 0]);
}

#[test]
fn models_asked_for_alternately_have_turns_of_their_own() {
    let [a, b, c] = ["a", "b", "c"].map(|name| candidate(name, 1));
    let sets = [[a, b], [a, c]];
    let mut balancer = Balancer::default();
    let mut seen = [[0; 2]; 2];
    for request in 0..240 {
        let set = request as usize % 2;
        seen[set][balancer.pick(Strategy::RoundRobin, &sets[set], &draw(request, None)).expect("one")] += 1;
    }
    assert_eq!(seen, [[60, 60], [60, 60]]);
}

#[test]
fn the_fastest_is_taken_and_what_was_never_measured_is_tried() {
    let mut candidates = three([1, 1, 1]);
    let mut balancer = Balancer::default();
    let mut pick =
        |candidates: &[Candidate]| balancer.pick(Strategy::LeastLatency, candidates, &draw(0, None));
    candidates[0].latency_ms = Some(200.0);
    candidates[1].latency_ms = Some(20.0);
    assert_eq!(pick(&candidates), Some(2), "never measured");
    candidates[2].latency_ms = Some(30.0);
    assert_eq!(pick(&candidates), Some(1));
    candidates[1].in_flight = 1;
    assert_eq!(pick(&candidates), Some(2), "its queue counts");
}

#[test]
fn cost_looks_at_the_price_among_those_that_are_good_enough() {
    let mut candidates = three([1, 1, 1]);
    let mut balancer = Balancer::default();
    let mut pick = |candidates: &[Candidate], quality_floor| {
        let draw = Draw { random: 0, key: None, quality_floor };
        balancer.pick(Strategy::CostOptimized, candidates, &draw)
    };
    for (candidate, (cost, quality)) in
        candidates.iter_mut().zip([(Some(1.0), 0.5), (Some(3.0), 0.9), (None, 0.9)])
    {
        (candidate.cost, candidate.quality) = (cost, quality);
    }
    assert_eq!(pick(&candidates, 0.0), Some(0));
    assert_eq!(pick(&candidates, 0.8), Some(1), "an unknown price comes last");
    assert_eq!(pick(&candidates, 1.0), Some(1), "none is good enough: the best ones count");
}

#[test]
fn a_session_stays_and_goes_elsewhere_only_when_its_provider_is_gone() {
    let candidates = three([1, 1, 1]);
    let mut balancer = Balancer::default();
    for session in 0..1000_u64 {
        let key = Some(hash(&[&session.to_le_bytes()]));
        let mut pick = |candidates: &[Candidate]| {
            balancer.pick(Strategy::StickySession, candidates, &draw(0, key)).expect("one")
        };
        let home = pick(&candidates);
        assert_eq!(pick(&candidates), home);
        let without_another: Vec<Candidate> =
            candidates.iter().enumerate().filter(|(i, _)| *i != (home + 1) % 3).map(|(_, c)| *c).collect();
        assert_eq!(without_another[pick(&without_another)].id, candidates[home].id);
    }
}

#[test]
fn the_busier_of_two_is_left_alone() {
    let mut candidates = three([1, 1, 1]);
    candidates[0].in_flight = 50;
    assert!(shares(Strategy::PowerOfTwo, &candidates)[0] < 0.01);
}

proptest! {
    #[test]
    fn every_strategy_picks_somebody_and_memory_is_bounded(
        sets in prop::collection::vec(prop::collection::vec((any::<u64>(), 0..2000_u32, 0..50_u32), 0..6), 1..40),
        random in any::<u64>(),
        key in any::<Option<u64>>(),
    ) {
        let mut balancer = Balancer::default();
        for set in sets {
            let candidates: Vec<Candidate> = set
                .into_iter()
                .map(|(id, weight, in_flight)| Candidate {
                    id, weight, in_flight, latency_ms: (id % 2 == 0).then_some(f64::from(weight)), cost: None, quality: 0.5,
                })
                .collect();
            for strategy in Strategy::ALL {
                let draw = Draw { random, key, quality_floor: 0.7 };
                let picked = balancer.pick(strategy, &candidates, &draw);
                prop_assert_eq!(picked.is_some(), !candidates.is_empty());
                prop_assert!(picked.is_none_or(|place| place < candidates.len()));
            }
        }
        prop_assert!(balancer.sets.len() <= SETS_MAX);
    }

    #[test]
    fn credits_never_run_away(weights in prop::collection::vec(1..1000_u32, 2..8), rounds in 1..500_u32) {
        let candidates: Vec<Candidate> =
            weights.iter().enumerate().map(|(i, weight)| candidate(&i.to_string(), *weight)).collect();
        let mut balancer = Balancer::default();
        for i in 0..rounds {
            let _ = balancer.pick(Strategy::WeightedRoundRobin, &candidates, &draw(i, None));
        }
        let turns = balancer.sets.values().next().expect("one set");
        let sum: i64 = weights.iter().map(|w| i64::from(*w)).sum();
        prop_assert_eq!(turns.credits.values().sum::<i64>(), 0);
        prop_assert!(turns.credits.values().all(|credit| credit.abs() <= sum));
    }
}
