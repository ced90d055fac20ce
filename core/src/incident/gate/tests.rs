use proptest::prelude::*;

use super::*;

const BREAK: Measure =
    Measure::Break { recovery_timeout_ms: 30_000, recovery_increment: 0.2, successes_per_step: 2 };
const MS: u64 = 1_000_000;

fn is_refused(passage: Passage) -> bool {
    matches!(passage, Passage::Refuse { .. })
}

/// The gate after `requests` of a slice, one every `apart_ms`, each of which fails if `fails` says
/// so; with how many of the failing were refused, how many of the good, and when it ended.
fn played(
    gate: &mut Gate,
    (mut now, apart_ms): (u64, u64),
    requests: u64,
    fails: impl Fn(u64) -> bool,
) -> (u64, u64, u64) {
    let (mut doomed, mut killed) = (0, 0);
    for number in 0..requests {
        match gate.admit(&BREAK, now * MS) {
            Passage::Refuse { .. } if fails(number) => doomed += 1,
            Passage::Refuse { .. } => killed += 1,
            Passage::Canary | Passage::Probe => gate.probed(!fails(number), now * MS, &BREAK, now * MS),
            Passage::Pass => {}
        }
        now += apart_ms;
    }
    (doomed, killed, now)
}

#[test]
fn it_refuses_until_the_time_is_over_and_then_lets_a_few_through() {
    let mut gate = Gate::new(&BREAK, 1_000 * MS);
    assert_eq!(gate.admit(&BREAK, 1_000 * MS), Passage::Refuse { retry_ms: 30_000, waits: false });
    assert_eq!(gate.admit(&BREAK, 30_999 * MS), Passage::Refuse { retry_ms: 1, waits: false });
    let probes = (0..100).filter(|_| !is_refused(gate.admit(&BREAK, 31_000 * MS))).count();
    assert_eq!(probes, PROBES as usize);
    gate.probed(false, 31_000 * MS, &BREAK, 32_000 * MS);
    assert_eq!(gate.admit(&BREAK, 32_001 * MS), Passage::Refuse { retry_ms: 29_999, waits: false });
}

#[test]
fn it_fades_by_steps_and_ends() {
    let mut gate = Gate::new(&BREAK, 0);
    let now = 30_000 * MS;
    for _ in 0..PROBES {
        assert_eq!(gate.admit(&BREAK, now), Passage::Canary);
    }
    for _ in 0..PROBES {
        gate.probed(true, now, &BREAK, now);
    }
    let mut shares = Vec::new();
    while gate.phase() != GatePhase::Watching {
        let mut trial = gate;
        shares.push((0..100).filter(|_| trial.admit(&BREAK, now) == Passage::Probe).count());
        gate.probed(true, now, &BREAK, now);
        gate.probed(true, now, &BREAK, now);
    }
    assert_eq!(shares, [20, 40, 60, 80, 100]);
    assert_eq!(gate.admit(&BREAK, now), Passage::Probe, "everything passes, and is watched");
    assert_eq!(gate.admit(&BREAK, now + 30_000 * MS), Passage::Pass);
    assert_eq!(gate.phase(), GatePhase::Passed);
}

#[test]
fn a_relapse_closes_it_at_once_and_a_stray_failure_does_not() {
    let mut gate = Gate { state: State::Watching { since_ms: 0, tally: Tally { good: 13, bad: 0, run: 0 } } };
    for _ in 0..10 {
        gate.probed(false, MS, &BREAK, MS);
        (0..20).for_each(|_| gate.probed(true, MS, &BREAK, MS));
    }
    assert_eq!(gate.phase(), GatePhase::Watching);
    (0..3).for_each(|_| gate.probed(false, MS, &BREAK, MS));
    assert_eq!(gate.phase(), GatePhase::Open);
}

#[test]
fn canaries_find_a_slice_well_early() {
    let mut gate = Gate::new(&BREAK, 0);
    let (doomed, _, now) = played(&mut gate, (1, 10), 480, |_| true);
    assert_eq!(doomed, 480 - 480 / u64::from(CANARY_EVERY), "one of so many goes through");
    let (_, killed, _) = played(&mut gate, (now, 10), 200, |_| false);
    assert!(killed <= u64::from(CANARY_EVERY) + 8, "{killed}");
    assert_eq!(gate.phase(), GatePhase::Watching);
}

#[test]
fn canaries_that_take_long_do_not_hold_up_later_ones_and_are_no_news_after_them() {
    let mut gate = Gate::new(&BREAK, 0);
    let canaries = |gate: &mut Gate, now| {
        (0..10 * CANARY_EVERY).filter(|_| gate.admit(&BREAK, now) == Passage::Canary).count()
    };
    assert_eq!(canaries(&mut gate, 1_000 * MS), PROBES as usize, "no more at a time");
    gate.probed(false, 1_000 * MS, &BREAK, 3_000 * MS);
    assert_eq!(canaries(&mut gate, 3_000 * MS), 1);
    gate.probed(true, 3_000 * MS, &BREAK, 3_001 * MS);
    assert_eq!(gate.phase(), GatePhase::HalfOpen);
    gate.probed(false, 1_000 * MS, &BREAK, 3_002 * MS);
    assert_eq!(gate.phase(), GatePhase::HalfOpen, "that one was sent before");

    let mut gate = Gate::new(&BREAK, 0);
    canaries(&mut gate, 1_000 * MS);
    gate.probed(false, 2_000 * MS, &BREAK, 2_001 * MS);
    gate.probed(true, 1_000 * MS, &BREAK, 2_002 * MS);
    assert_eq!(gate.phase(), GatePhase::Open, "a later one has failed");
}

#[test]
fn probes_that_fail_make_room_for_others() {
    let mut gate = Gate::new(&BREAK, 0);
    let (_, _, now) = played(&mut gate, (1, 10), 81, |_| true);
    gate.join(now * MS);
    gate.probed(true, now * MS, &BREAK, (now + 1) * MS);
    for round in 0..2 {
        let probes = (0..9).filter(|_| gate.admit(&BREAK, (now + 2) * MS) == Passage::Canary).count();
        assert_eq!(probes, PROBES as usize, "round {round}");
        (0..probes).for_each(|_| gate.probed(false, (now + 2) * MS, &BREAK, (now + 3) * MS));
    }
    assert_eq!(gate.phase(), GatePhase::HalfOpen, "one has succeeded");
    gate.probed(false, (now + 4) * MS, &BREAK, (now + 5) * MS);
    assert_eq!(gate.phase(), GatePhase::Open, "that many are no chance");
}

#[test]
fn a_refusal_waits_for_a_canary_that_is_near_and_for_no_other() {
    let mut gate = Gate::new(&BREAK, 0);
    let (_, _, now) = played(&mut gate, (1, 10), 81, |_| true);
    assert_eq!(gate.admit(&BREAK, now * MS), Passage::Refuse { retry_ms: 29_189, waits: true });
    let again = |gate: &mut Gate, at: u64| gate.ask_again(&BREAK, now * MS, at * MS);
    assert!(matches!(again(&mut gate, now + 100), Passage::Refuse { waits: true, .. }));
    assert!(matches!(again(&mut gate, now + 501), Passage::Refuse { waits: false, .. }), "it is overdue");
    gate.probed(false, (now - 1) * MS, &BREAK, (now + 1) * MS);
    assert!(matches!(again(&mut gate, now + 100), Passage::Refuse { waits: true, .. }), "sent before it");
    gate.probed(false, (now + 50) * MS, &BREAK, (now + 60) * MS);
    assert!(matches!(again(&mut gate, now + 100), Passage::Refuse { waits: false, .. }));

    let mut slow = Gate::new(&BREAK, 0);
    let (doomed, _, _) = played(&mut slow, (1, 200), 48, |_| true);
    assert_eq!(doomed, 46, "more of little");
    assert!(matches!(slow.admit(&BREAK, 9_900 * MS), Passage::Refuse { waits: false, .. }));
}

#[test]
fn whoever_waits_is_let_go_when_the_slice_is_well() {
    let mut gate = Gate::new(&BREAK, 0);
    let (_, _, now) = played(&mut gate, (1, 10), 81, |_| true);
    let waiting: Vec<u64> = (0..20).map(|i| now + 10 * i).collect();
    assert!(waiting.iter().all(|at| is_refused(gate.admit(&BREAK, at * MS))));
    gate.join((now + 200) * MS);
    gate.probed(true, (now + 200) * MS, &BREAK, (now + 210) * MS);
    let (mut left, mut at) = (waiting, now + 210);
    while !left.is_empty() && at < now + WAIT_MS {
        let passes = |since: &u64, gate: &mut Gate| !is_refused(gate.ask_again(&BREAK, since * MS, at * MS));
        let passed: Vec<bool> = left.iter().map(|since| passes(since, &mut gate)).collect();
        let mut passed_iter = passed.iter();
        left.retain(|_| passed_iter.next() == Some(&false));
        passed.iter().filter(|passed| **passed).for_each(|_| gate.probed(true, at * MS, &BREAK, at * MS));
        at += 100;
    }
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_canary_of_another_slice_does_not_make_those_who_wait_impatient() {
    let mut gate = Gate::new(&BREAK, 0);
    // 20 requests a second: a canary every two seconds.
    let (_, _, now) = played(&mut gate, (1, 50), 81, |_| true);
    for ms in (now..now + 200).step_by(50) {
        assert!(is_refused(gate.admit(&BREAK, ms * MS)));
    }
    // Two that come at once say nothing about how much traffic there is.
    gate.join((now + 200) * MS);
    assert!(is_refused(gate.admit(&BREAK, (now + 201) * MS)));
    gate.join((now + 202) * MS);
    gate.probed(false, (now + 202) * MS, &BREAK, (now + 210) * MS);
    let since = now + 250;
    assert!(matches!(gate.admit(&BREAK, since * MS), Passage::Refuse { waits: true, .. }));
    let asked = gate.ask_again(&BREAK, since * MS, (since + 1_900) * MS);
    assert!(matches!(asked, Passage::Refuse { waits: true, .. }), "the next one is still to come: {asked:?}");
}

#[test]
fn slices_that_overlap_do_not_keep_each_others_canaries_back() {
    let (mut one, mut two) = (Gate::new(&BREAK, 0), Gate::new(&BREAK, 0));
    let mut sent = 0;
    for ms in 1..=960u64 {
        // Half of the requests are in the second slice too.
        match (one.admit(&BREAK, ms * MS), ms % 2 == 0) {
            (Passage::Canary, true) => {
                two.join(ms * MS);
                sent += 1;
                for gate in [&mut one, &mut two] {
                    gate.probed(ms > 480, ms * MS, &BREAK, ms * MS);
                }
            }
            (Passage::Canary, false) => one.withdraw_probe(),
            _ => {}
        }
    }
    assert!(sent > 5);
    assert!([one, two].iter().all(|gate| gate.phase() != GatePhase::Open), "{one:?} {two:?}");
}

#[test]
fn a_slice_of_which_a_part_fails_is_not_kept_closed() {
    let mut gate = Gate::new(&BREAK, 0);
    let (_, killed, _) = played(&mut gate, (1, 25), 1_000, |number| number % 2 == 0);
    assert!(killed < 60, "{killed} of 500");
}

#[test]
fn a_slice_that_flaps_costs_few() {
    let mut gate = Gate::new(&BREAK, 0);
    let (doomed, killed, _) = played(&mut gate, (1, 25), 1_920, |number| number / 240 % 2 == 0);
    assert!(doomed >= 960 * 92 / 100, "{doomed} of 960");
    assert!(killed <= 4 * 48, "{killed}: each time until the next canary, without waiting");
}

#[test]
fn a_probe_whose_client_left_is_sent_again_and_lost_ones_do_not_block_for_ever() {
    let mut gate = Gate::new(&BREAK, 0);
    for _ in 0..PROBES {
        assert_eq!(gate.admit(&BREAK, 30_000 * MS), Passage::Canary);
    }
    gate.withdraw_probe();
    assert_eq!(gate.admit(&BREAK, 30_000 * MS), Passage::Canary);
    assert!(is_refused(gate.admit(&BREAK, 31_000 * MS)));
    assert_eq!(gate.admit(&BREAK, (30_000 + PROBES_LOST_MS) * MS), Passage::Canary);
}

#[test]
fn a_limit_admits_its_rate() {
    for rate in [0.5, 7.0, 400.0] {
        let measure = Measure::Limit { rate };
        let mut gate = Gate::new(&measure, 0);
        let start = 1_000_000 * MS;
        let seconds = 20u64;
        let admitted = (0..seconds * 1000)
            .filter(|ms| gate.admit(&measure, start + ms * MS) == Passage::Pass)
            .count() as f64;
        let expected = rate * seconds as f64;
        assert!((admitted - expected).abs() <= 1.0 + 0.1 * rate, "{rate}: {admitted}");
    }
}

#[test]
fn waiting_as_told_gets_in() {
    let measure = Measure::Limit { rate: 2.0 };
    let mut gate = Gate::new(&measure, 0);
    assert_eq!(gate.admit(&measure, MS), Passage::Pass);
    let Passage::Refuse { retry_ms, .. } = gate.admit(&measure, 2 * MS) else { panic!("refused") };
    assert_eq!(gate.admit(&measure, (2 + retry_ms) * MS), Passage::Pass);
}

proptest! {
    #[test]
    fn a_broken_slice_always_comes_back_to_a_probe(
        events in prop::collection::vec((0u8..6, 0u64..40_000), 0..100)
    ) {
        let (mut gate, mut now) = (Gate::new(&BREAK, 0), 0u64);
        for (event, gap) in events {
            now += gap;
            match event {
                0 => { gate.admit(&BREAK, now * MS); }
                1 => gate.probed(false, now.saturating_sub(gap) * MS, &BREAK, now * MS),
                2 => gate.probed(true, now * MS, &BREAK, now * MS),
                3 => gate.join(now * MS),
                4 => { gate.ask_again(&BREAK, now.saturating_sub(gap) * MS, now * MS); }
                _ => gate.withdraw_probe(),
            }
            prop_assert_eq!(Gate::decode(&gate.encode()), Some(gate));
        }
        let later = (now + PROBES_LOST_MS) * MS;
        let passages: Vec<Passage> = (0..6).map(|_| gate.admit(&BREAK, later)).collect();
        prop_assert!(passages.iter().any(|passage| !is_refused(*passage)));
    }

    /// However it fails and recovers: of a slice that always fails, no more than the canaries and
    /// the probes get through; of one that is well, no more than a canary's distance is refused.
    #[test]
    fn an_outage_of_any_length_leaks_little_and_ends_soon(outage in 24u64..3_000, apart_ms in 1u64..100) {
        let mut gate = Gate::new(&BREAK, 0);
        let (doomed, _, now) = played(&mut gate, (1, apart_ms), outage, |_| true);
        let timeouts = 1 + outage * apart_ms / 30_000;
        prop_assert!(outage - doomed <= outage / u64::from(CANARY_EVERY_SLOW) + timeouts, "{}", outage - doomed);
        let (_, killed, _) = played(&mut gate, (now, apart_ms), 100, |_| false);
        prop_assert!(killed <= u64::from(CANARY_EVERY) + 8, "{killed}");
    }
}
