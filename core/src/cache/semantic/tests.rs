//! The judgement as a whole.

use proptest::prelude::*;

use super::guard::Mismatch;
use super::*;

fn candidate(similarity: f32, answer: u64) -> Candidate {
    Candidate { similarity, answer, guard: Ok(()) }
}

/// Uniform numbers that repeat (splitmix64).
fn draws(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed;
    move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[test]
fn the_guard_picks_the_candidate_and_names_the_reason() {
    assert_eq!(Evidence::weigh(&[]), Err(Reason::Empty));
    let forbidden = Candidate { guard: Err(Mismatch::Number), ..candidate(0.98, 1) };
    assert_eq!(Evidence::weigh(&[forbidden]), Err(Reason::Guard(Mismatch::Number)));
    let evidence = Evidence::weigh(&[forbidden, candidate(0.9, 2)]).expect("one passes");
    assert_eq!((evidence.chosen(), evidence.similarity()), (1, 0.9));
}

#[test]
fn the_threshold_is_served_from_on() {
    let threshold = Threshold { similarity: 0.85, audit_share: 0.1 };
    let at = |similarity: f32, draw: f64| {
        threshold.decide(&Evidence::weigh(&[candidate(similarity, 1)]).expect("passes"), draw)
    };
    assert_eq!(at(0.8499, 0.5), Decision::Explore(Reason::Far));
    assert!(matches!(at(0.85, 0.5), Decision::Serve { audit: false, .. }));
    assert!(matches!(at(0.85, 0.05), Decision::Serve { audit: true, .. }));
}

/// A world in which a match is right with a probability that rises with the cosine.
fn live(bound: f64, seed: u64, prompts: usize) -> (usize, usize) {
    let mut draw = draws(seed);
    let mut verifier = Verifier::new(ErrorBound::new(bound).expect("in range"), 0.05);
    let mut records = vec![Record::default(); 50];
    let (mut served, mut wrong) = (0, 0);
    for _ in 0..prompts {
        let similarity = 0.6 + 0.4 * draw();
        let entry = (draw() * 50.0) as usize;
        // Every entry has a threshold of its own.
        let own = 0.75 + 0.15 * (entry as f64 / 50.0);
        let right = draw() < 1.0 / (1.0 + (-60.0 * (similarity - own)).exp());
        let evidence = Evidence::weigh(&[candidate(similarity as f32, 1)]).expect("passes");
        match verifier.decide(&evidence, &records[entry], draw()) {
            Decision::Serve { audit, .. } => {
                served += 1;
                wrong += usize::from(!right);
                if audit {
                    verifier.learn(&evidence, &mut records[entry], right);
                }
            }
            Decision::Explore(_) => {
                verifier.learn(&evidence, &mut records[entry], right);
            }
        }
    }
    (served, wrong)
}

#[test]
fn the_bound_holds_and_much_is_served() {
    for (bound, share_min) in [(0.05, 0.1), (0.02, 0.05)] {
        let (served, wrong) = live(bound, 1, 4000);
        assert!(served as f64 / 4e3 > share_min, "bound {bound}: only {served} served");
        assert!(wrong as f64 <= bound * served as f64, "bound {bound}: {wrong} of {served} wrong");
    }
}

#[test]
fn nothing_is_served_before_enough_was_seen_nor_where_all_is_wrong() {
    let mut verifier = Verifier::new(ErrorBound::new(0.02).expect("in range"), 0.0);
    let evidence = Evidence::weigh(&[candidate(0.99, 1)]).expect("passes");
    let mut record = Record::default();
    for _ in 0..OBSERVATIONS_MIN - 1 {
        verifier.learn(&evidence, &mut record, true);
        assert_eq!(verifier.decide(&evidence, &record, 0.5), Decision::Explore(Reason::Unsure));
    }
    let mut liar = Verifier::new(ErrorBound::new(0.02).expect("in range"), 0.0);
    for _ in 0..1000 {
        liar.learn(&evidence, &mut record, false);
    }
    assert_eq!(liar.decide(&evidence, &record, 0.5), Decision::Explore(Reason::Unsure));
    assert_eq!(liar.least_confidence(), None);
}

#[test]
fn an_entry_that_was_wrong_is_trusted_less_than_others() {
    let mut verifier = Verifier::new(ErrorBound::new(0.05).expect("in range"), 0.0);
    let near = Evidence::weigh(&[candidate(0.97, 1)]).expect("passes");
    let far = Evidence::weigh(&[candidate(0.6, 1)]).expect("passes");
    let mut others = Record::default();
    for _ in 0..300 {
        verifier.learn(&near, &mut others, true);
        verifier.learn(&far, &mut others, false);
    }
    let mut bad = Record::default();
    let confidence = |verifier: &Verifier, record: &Record| match verifier.decide(&near, record, 0.5) {
        Decision::Serve { confidence, .. } => confidence,
        Decision::Explore(_) => 0.0,
    };
    let before = confidence(&verifier, &bad);
    for _ in 0..4 {
        verifier.learn(&near, &mut bad, false);
    }
    assert!(before > 0.9 && confidence(&verifier, &bad) < before);
    assert_eq!(bad.tried(), 4);
}

#[test]
fn audits_have_wilson_intervals_and_a_bound_on_keys() {
    let audit = Audit { checked: 100, wrong: 2 };
    let error = audit.error().expect("some were checked");
    // 2 of 100: R's binom::binom.confint(2, 100, methods = "wilson").
    assert!((error.low - 0.005_502).abs() < 1e-5 && (error.high - 0.070_012).abs() < 1e-5, "{error:?}");
    assert_eq!(Audit::default().error(), None);
    let mut table = AuditTable::default();
    for key in 0..1000 {
        table.add(key, key % 10 != 0);
    }
    assert_eq!((table.iter().count(), table.total()), (256, Audit { checked: 1000, wrong: 100 }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn what_was_learned_survives_as_bytes(seed in any::<u64>(), count in 0_usize..2500) {
        let mut draw = draws(seed);
        let bound = ErrorBound::new(0.02).expect("in range");
        let mut verifier = Verifier::new(bound, 0.1);
        let mut record = Record::default();
        for _ in 0..count {
            let similarity = draw() as f32;
            let evidence = Evidence::weigh(&[candidate(similarity, 1), candidate(similarity / 2.0, 2)]).expect("passes");
            verifier.learn(&evidence, &mut record, draw() < f64::from(similarity));
        }
        let bytes = verifier.encode();
        prop_assert!(bytes.len() <= 1 + OBSERVATIONS_MAX * 11);
        let read = Verifier::decode(&bytes, bound, 0.1).expect("own bytes");
        prop_assert_eq!(read.observations(), verifier.observations());
        prop_assert_eq!(read.encode(), bytes.clone());
        prop_assert_eq!(Record::decode(record.encode()), record);
        prop_assert!(Verifier::decode(&bytes[..bytes.len().saturating_sub(1)], bound, 0.1).is_none() || bytes.len() == 1);
    }

    #[test]
    fn any_bytes_decode_to_something_harmless(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let bound = ErrorBound::new(0.02).expect("in range");
        if let Some(verifier) = Verifier::decode(&bytes, bound, 0.0) {
            let evidence = Evidence::weigh(&[candidate(0.9, 1)]).expect("passes");
            let decision = verifier.decide(&evidence, &Record::default(), 0.5);
            prop_assert!(verifier.observations() >= OBSERVATIONS_MIN || matches!(decision, Decision::Explore(_)));
        }
    }
}
