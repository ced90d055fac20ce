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

fn explained(rows: &[(Attributes, u64, u64)]) -> Vec<Explanation> {
    let rows: Vec<Observed<'_>> = rows
        .iter()
        .map(|(attributes, requests, failures)| Observed {
            attributes,
            requests: *requests,
            failures: *failures,
            others: 0,
            hidden: false,
        })
        .collect();
    explain(&rows, PREFERENCE)
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
    let row = Observed { attributes: &seen, requests: 12, failures: 12, others: 0, hidden: false };
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
        Observed { attributes: &attributes, requests: 40, failures: 20, others: 20, hidden: false },
        Observed { attributes: &calm, requests: 40, failures: 0, others: 20, hidden: false },
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
