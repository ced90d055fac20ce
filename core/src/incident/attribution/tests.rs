use proptest::prelude::*;

use super::*;
use crate::incident::ErrorKind;
use crate::incident::proposal::preference;

const PREFERENCE: &[Attribute] = &[
    Attribute::Tenant,
    Attribute::Model,
    Attribute::Provider,
    Attribute::Region,
    Attribute::Path,
    Attribute::Method,
    Attribute::Key,
];

fn of(pairs: &[(Attribute, &str)]) -> Attributes {
    pairs.iter().map(|(a, v)| (*a, (*v).to_owned())).collect()
}

/// Traffic over all combinations, `requests` each, of which those fail that `fails` says.
fn traffic(requests: u64, mut fails: impl FnMut(&Attributes) -> u64) -> Vec<(Attributes, u64, u64)> {
    let mut rows = Vec::new();
    for tenant in ["acme", "beta", "core", "demo"] {
        for model in ["m1", "m2", "m3"] {
            for region in ["eu", "us"] {
                let attributes = of(&[
                    (Attribute::Tenant, tenant),
                    (Attribute::Model, model),
                    (Attribute::Region, region),
                    (Attribute::Path, "/v1/chat/completions"),
                    (Attribute::Method, "POST"),
                ]);
                let failures = fails(&attributes).min(requests);
                rows.push((attributes, requests, failures));
            }
        }
    }
    rows
}

fn seen(rows: &[(Attributes, u64, u64)]) -> Vec<Observed<'_>> {
    rows.iter()
        .map(|(attributes, requests, failures)| Observed {
            attributes,
            requests: *requests,
            failures: *failures,
            others: 0,
            akin: 0,
            hidden: false,
        })
        .collect()
}

fn explained(rows: &[(Attributes, u64, u64)]) -> Vec<Explanation> {
    explain(&seen(rows), PREFERENCE)
}

#[test]
fn one_tenant_one_model_and_a_conjunction_are_found() {
    for scope in [
        of(&[(Attribute::Tenant, "acme")]),
        of(&[(Attribute::Model, "m2")]),
        of(&[(Attribute::Region, "eu")]),
        of(&[(Attribute::Model, "m2"), (Attribute::Region, "eu")]),
        of(&[(Attribute::Tenant, "core"), (Attribute::Model, "m3"), (Attribute::Region, "us")]),
    ] {
        let rows = traffic(20, |attributes| if contains(&scope, attributes) { 20 } else { 0 });
        let found = explained(&rows);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].scope, scope);
        assert!((found[0].recall - 1.0).abs() < 1e-9 && (found[0].precision - 1.0).abs() < 1e-9);
        assert!(found[0].precision_low > 0.85);
    }
}

#[test]
fn two_slices_of_one_cluster_are_told_apart() {
    let slices = [of(&[(Attribute::Tenant, "acme")]), of(&[(Attribute::Model, "m3")])];
    let rows = traffic(30, |attributes| if slices.iter().any(|s| contains(s, attributes)) { 30 } else { 0 });
    let found: Vec<Attributes> = explained(&rows).into_iter().map(|e| e.scope).collect();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(slices.iter().all(|slice| found.contains(slice)), "{found:?}");
}

#[test]
fn random_errors_have_no_slice_that_fails() {
    let rows = traffic(100, |attributes| u64::from(attributes[&Attribute::Tenant] != "beta") * 2);
    assert!(explained(&rows).iter().all(|e| e.precision_low < 0.1));
}

#[test]
fn an_outage_of_everything_is_all_traffic_as_far_as_it_was_seen() {
    let found = explained(&traffic(5, |_| 5));
    // Paths and methods were all the same, so nothing is known of others.
    assert_eq!(found[0].scope, of(&[(Attribute::Path, "/v1/chat/completions"), (Attribute::Method, "POST")]));
    assert_eq!(found[0].tenants, 4);
}

#[test]
fn without_contrast_nothing_is_assumed_about_what_was_not_seen() {
    let seen = of(&[
        (Attribute::Tenant, "demo"),
        (Attribute::Model, "m1"),
        (Attribute::Path, "/v1/x"),
        (Attribute::Method, "POST"),
        (Attribute::Route, "chat"),
    ]);
    let row = Observed { attributes: &seen, requests: 12, failures: 12, others: 0, akin: 0, hidden: false };
    for preference in [preference(ErrorKind::UpstreamBug), preference(ErrorKind::Quota)] {
        let found = explain(&[row], preference);
        let scope = &found[0].scope;
        assert_eq!(scope.get(&Attribute::Model).map(String::as_str), Some("m1"), "{scope:?}");
        assert_eq!(scope.get(&Attribute::Tenant).map(String::as_str), Some("demo"), "{scope:?}");
    }
}

#[test]
fn a_flood_of_one_tenants_failing_requests_breaks_nobody_else() {
    // 10,000 crafted failures on m1, against a handful of good requests of others.
    let rows = traffic(4, |_| 0).into_iter().map(|(attributes, requests, _)| {
        let is_attack = contains(&of(&[(Attribute::Tenant, "acme"), (Attribute::Model, "m1")]), &attributes);
        if is_attack { (attributes, 10_000, 10_000) } else { (attributes, requests, 0) }
    });
    let found = explained(&rows.collect::<Vec<_>>());
    assert!(found.iter().all(|e| e.scope.get(&Attribute::Tenant).is_some_and(|t| t == "acme")), "{found:?}");
}

#[test]
fn colluding_tenants_break_themselves_only() {
    let rows = traffic(5, |_| 0).into_iter().map(|(attributes, requests, _)| {
        let colludes = ["acme", "beta"].contains(&attributes[&Attribute::Tenant].as_str());
        let is_attack = colludes && attributes[&Attribute::Model] == "m1";
        if is_attack { (attributes, 3_000, 3_000) } else { (attributes, requests, 0) }
    });
    for explanation in explained(&rows.collect::<Vec<_>>()) {
        let tenant = explanation.scope.get(&Attribute::Tenant).map(String::as_str);
        assert!(matches!(tenant, Some("acme" | "beta")), "{explanation:?}");
    }
}

#[test]
fn failures_of_another_cluster_do_not_dilute() {
    let attributes = of(&[(Attribute::Tenant, "acme"), (Attribute::Model, "m1")]);
    let calm = of(&[(Attribute::Tenant, "beta"), (Attribute::Model, "m1")]);
    let rows = [
        Observed { attributes: &attributes, requests: 40, failures: 20, others: 20, akin: 0, hidden: false },
        Observed { attributes: &calm, requests: 40, failures: 0, others: 20, akin: 0, hidden: false },
    ];
    let found = explain(&rows, PREFERENCE);
    assert_eq!(found[0].scope, of(&[(Attribute::Tenant, "acme")]));
    assert!((found[0].precision - 1.0).abs() < 1e-9);
}

/// Two providers, of which `a` fails for `model` before `b` answers: nobody sees it.
fn mended(model: &str) -> Vec<(Attributes, u64, u64, bool)> {
    let mut rows = Vec::new();
    for tenant in ["acme", "beta", "core"] {
        for asked in ["m1", "m2"] {
            let of_provider = |name: &str| {
                of(&[(Attribute::Tenant, tenant), (Attribute::Model, asked), (Attribute::Provider, name)])
            };
            let fails = asked == model;
            rows.push((of_provider("a"), 20, if fails { 20 } else { 0 }, fails));
            rows.push((of_provider("b"), if fails { 40 } else { 20 }, 0, false));
        }
    }
    rows
}

fn observed(rows: &[(Attributes, u64, u64, bool)]) -> Vec<Observed<'_>> {
    rows.iter()
        .map(|(attributes, requests, failures, hidden)| Observed {
            attributes,
            requests: *requests,
            failures: *failures,
            others: 0,
            akin: 0,
            hidden: *hidden,
        })
        .collect()
}

#[test]
fn attempts_that_nobody_saw_are_a_providers_and_no_models_or_tenants() {
    let rows = mended("m1");
    let rows = observed(&rows);
    let found = explain(&rows, PREFERENCE);
    assert_eq!(found[0].scope, of(&[(Attribute::Model, "m1"), (Attribute::Provider, "a")]), "{found:?}");
    assert_eq!((found[0].requests, found[0].failures, found[0].tenants), (60, 60, 3));
    let model = Explanation::of(&rows, of(&[(Attribute::Model, "m1")]));
    assert_eq!((model.requests, model.failures), (120, 0), "everybody was answered");
}

#[test]
fn the_bounds_are_those_of_the_literature() {
    // Wilson's interval: for 10 of 10 the bound is n / (n + z^2).
    assert!((wilson_low(10, 10) - 10.0 / (10.0 + 1.2816 * 1.2816)).abs() < 1e-9);
    assert!(wilson_low(0, 10).abs() < 1e-9 && wilson_low(0, 0).abs() < 1e-9);
    // 110 of 200 against 90 of 200: G^2 = 2 * sum of k ln(k / expected).
    let expected: f64 = 2.0 * (110.0 * (110.0f64 / 100.0).ln() + 90.0 * (90.0f64 / 100.0).ln()) * 2.0;
    assert!((log_likelihood_ratio(110, 200, 200, 400) - expected).abs() < 1e-6);
}

proptest! {
    /// Whatever is hidden: a slice that names no provider is judged by what callers saw alone.
    #[test]
    fn hidden_attempts_change_no_slice_without_a_provider(
        failing in prop::collection::vec(0u64..=10, 24),
        hidden in 0u64..1_000,
    ) {
        let mut failing = failing.into_iter();
        let mut rows: Vec<(Attributes, u64, u64, bool)> = traffic(10, |_| failing.next().unwrap_or(0))
            .into_iter()
            .map(|(attributes, requests, failures)| (attributes, requests, failures, false))
            .collect();
        let measured = |rows: &[(Attributes, u64, u64, bool)]| {
            [Attribute::Tenant, Attribute::Model, Attribute::Region].map(|attribute| {
                let scope = of(&[(attribute, &rows[0].0[&attribute])]);
                Explanation::of(&observed(rows), scope)
            })
        };
        let before = measured(&rows);
        let mut attributes = rows[0].0.clone();
        attributes.insert(Attribute::Provider, "a".to_owned());
        rows.push((attributes, hidden, hidden, true));
        prop_assert_eq!(before, measured(&rows));
    }

    #[test]
    fn explanations_are_consistent(failing in prop::collection::vec(0u64..=10, 24)) {
        let mut failing = failing.into_iter();
        let rows = traffic(10, |_| failing.next().unwrap_or(0));
        let found = explained(&rows);
        prop_assert!(found.len() <= EXPLANATIONS_MAX);
        for e in &found {
            prop_assert!(e.scope.len() <= CONDITIONS_MAX);
            prop_assert!(e.failures <= e.requests && e.precision_low <= e.precision);
            prop_assert!((0.0..=1.0).contains(&e.recall) && (0.0..=1.0).contains(&e.share));
        }
        prop_assert!(found.iter().map(|e| e.recall).sum::<f64>() <= 1.0 + 1e-9);
    }
}

fn before(requests: u64, failures: u64) -> Vec<(Attributes, u64, u64)> {
    vec![(of(&[(Attribute::Tenant, "acme")]), requests, failures)]
}

#[test]
fn a_run_of_failures_within_a_partial_one_has_to_be_longer_than_at_an_onset() {
    let explanation = |failures| {
        let rows = [(of(&[(Attribute::Tenant, "acme")]), failures, failures)];
        Explanation::of(&seen(&rows), of(&[(Attribute::Tenant, "acme")]))
    };
    let told = |failures, requests_before, failures_before| {
        let rows = before(requests_before, failures_before);
        is_told_apart(&explanation(failures), &seen(&rows), 10)
    };
    assert!(told(10, 60, 0) && told(10, 0, 0) && told(10, 60, 6), "it has just begun");
    assert!(!told(10, 60, 36) && !told(29, 60, 36), "more than half failed before: it may be luck");
    assert!(told(30, 60, 36), "thirty in a row are none");
    assert!(told(10, 20, 20), "it failed before as it does now");
}

proptest! {
    /// Ten failures in a row come about by luck where a part fails: no break for them, while most of
    /// what would be refused may succeed.
    #[test]
    fn luck_in_a_partial_failure_is_not_broken_for(seed in 0u64..64, percent in 25u64..60) {
        let mut state = seed * 2 + 1;
        let mut fails = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            u64::from((state >> 33) % 100 < percent)
        };
        let outcomes: Vec<u64> = (0..4_000).map(|_| fails()).collect();
        let scope = of(&[(Attribute::Tenant, "acme")]);
        for end in (160..outcomes.len()).step_by(10) {
            for length in [10, 20, 40] {
                let sum = |range: std::ops::Range<usize>| outcomes[range].iter().sum::<u64>();
                let rows = before(length as u64, sum(end - length..end));
                let explanation = Explanation::of(&seen(&rows), scope.clone());
                let earlier = before(120, sum(end - length - 120..end - length));
                let is_broken = explanation.failing >= 10
                    && explanation.doomed_low >= 0.85
                    && is_told_apart(&explanation, &seen(&earlier), 10);
                prop_assert!(!is_broken, "{explanation:?}");
            }
        }
    }
}

#[test]
fn half_of_the_traffic_is_not_taken_for_more_by_the_luck_of_the_count() {
    let rows = [(of(&[(Attribute::Model, "m1")]), 2_410, 0), (of(&[(Attribute::Model, "m2")]), 2_390, 0)];
    let share = |scope| share_of_traffic(&seen(&rows), &scope);
    assert!((0.48..0.5).contains(&share(of(&[(Attribute::Model, "m1")]))));
    assert!(share(Attributes::new()) > 0.99);
}

/// Requests of four tenants for one model: of each, how many, and how many of them fail with this error
/// and with another that is nobody's own fault.
fn mixed(counts: [(u64, u64, u64); 4]) -> Explanation {
    let attributes =
        ["acme", "beta", "core", "demo"].map(|t| of(&[(Attribute::Tenant, t), (Attribute::Model, "m")]));
    let row = |(attributes, (requests, failures, akin))| Observed {
        attributes,
        requests,
        failures,
        others: akin,
        akin,
        hidden: false,
    };
    let rows: Vec<Observed<'_>> = attributes.iter().zip(counts).map(row).collect();
    Explanation::of(&rows, of(&[(Attribute::Model, "m")]))
}

#[test]
fn what_fails_in_several_ways_is_doomed_as_a_whole() {
    let found = mixed([(30, 10, 19); 4]);
    assert!((0.9..0.92).contains(&found.precision), "of those that could show this error: {found:?}");
    assert!((0.96..0.97).contains(&found.doomed) && found.failing == 116, "{found:?}");
    let half = mixed([(30, 5, 10); 4]);
    assert!((0.49..0.51).contains(&half.doomed), "half would succeed: {half:?}");
}

#[test]
fn one_tenants_other_troubles_do_not_make_a_shared_slice_doomed() {
    let found = mixed([(1_000, 2, 990), (30, 6, 0), (30, 6, 0), (30, 6, 0)]);
    assert!(found.doomed < 0.5, "{found:?}");
}
