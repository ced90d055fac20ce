use std::sync::Arc;

use prometheus_client::registry::Registry;
use tidegate_core::event::BreakerChange;

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn report(vm: &str, hits: u64) -> Report {
    let mut duration_buckets = vec![0; BUCKETS];
    duration_buckets[0] = hits;
    duration_buckets[BUCKETS - 1] = 1;
    Report {
        batch: None,
        vm: vm.into(),
        revision: "r1".into(),
        counters: BTreeMap::from([
            (Counter::L1Hit.name().to_owned(), hits),
            ("of.a.later.version".to_owned(), 9),
        ]),
        duration_buckets,
        duration_sum_ms: 2500,
        breakers: Vec::new(),
    }
}

fn page(stats: &Arc<FilterStats>) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(stats.clone()));
    crate::metrics::page(&registry).expect("encodes")
}

#[test]
fn differences_are_added_once_however_often_reports_come() {
    let stats = Arc::new(FilterStats::new(MINUTE));
    let now = Instant::now();
    for (vm, hits) in [("a", 2), ("a", 5), ("a", 5), ("a", 3), ("b", 10), ("a", 6)] {
        stats.record(report(vm, hits), now).expect("taken");
    }
    let page = page(&stats);
    for line in [
        r#"gateway_cache_requests_total{layer="l1",result="hit"} 16"#,
        r#"gateway_requests_total{class="llm",outcome="forwarded"} 0"#,
        r#"gateway_request_duration_seconds_bucket{le="0.001"} 16"#,
        r#"gateway_request_duration_seconds_bucket{le="+Inf"} 18"#,
        "gateway_request_duration_seconds_count 18",
        "gateway_request_duration_seconds_sum 5.0",
        "gateway_rate_limit_contended_total 0",
        "gateway_filter_vms 2",
    ] {
        assert!(page.contains(line), "{line} is not in\n{page}");
    }
    assert_eq!(stats.vms(now).len(), 2);
}

#[test]
fn the_number_of_vms_is_bounded_and_the_longest_silent_goes_first() {
    let stats = FilterStats::new(MINUTE);
    let start = Instant::now();
    for i in 0..=VMS_MAX {
        let at = start + Duration::from_millis(i as u64);
        stats.record(report(&format!("vm{i}"), 1), at).expect("taken");
    }
    let vms = stats.vms(start);
    assert_eq!(vms.len(), VMS_MAX);
    assert!(vms.iter().all(|vm| vm.vm != "vm0"));
}

#[test]
fn a_silent_vm_is_not_shown_but_its_numbers_count_once() {
    let stats = Arc::new(FilterStats::new(MINUTE));
    let start = Instant::now();
    stats.record(report("idle", 5), start).expect("taken");
    let later = start + 10 * MINUTE;
    assert!(stats.vms(later).is_empty());
    stats.record(report("idle", 6), later).expect("taken");
    assert_eq!(stats.vms(later).len(), 1);
    assert!(page(&stats).contains(r#"gateway_cache_requests_total{layer="l1",result="hit"} 6"#));
}

#[test]
fn a_route_shows_its_worst_breaker() {
    let stats = Arc::new(FilterStats::new(MINUTE));
    let change = |id, route: &str, state| BreakerChange { id, route: route.into(), state };
    let mut first = report("a", 0);
    first.breakers = vec![change(1, "chat", 0), change(2, "chat", 2), change(3, "shop", 1)];
    stats.record(first, Instant::now()).expect("taken");
    let shown = page(&stats);
    assert!(shown.contains(r#"gateway_circuit_breaker_state{route="chat"} 2"#), "{shown}");
    let mut second = report("b", 0);
    second.breakers = vec![change(2, "chat", 0)];
    stats.record(second, Instant::now()).expect("taken");
    let shown = page(&stats);
    assert!(shown.contains(r#"gateway_circuit_breaker_state{route="chat"} 0"#), "{shown}");
    assert!(shown.contains(r#"gateway_circuit_breaker_state{route="shop"} 1"#), "{shown}");
}

#[test]
fn a_report_out_of_bounds_changes_nothing() {
    type Spoil = fn(&mut Report);
    let stats = FilterStats::new(MINUTE);
    let spoilt: [(ReportError, Spoil); 4] = [
        (ReportError::Name, |r| r.vm = "a b".into()),
        (ReportError::Shape, |r| r.duration_buckets.clear()),
        (ReportError::TooLarge, |r| r.counters = (0..=COUNTERS_MAX).map(|i| (i.to_string(), 1)).collect()),
        (ReportError::Shape, |r| {
            r.breakers = vec![BreakerChange { id: 1, route: "x".into(), state: 3 }];
        }),
    ];
    for (error, spoil) in spoilt {
        let mut report = report("a", 1);
        spoil(&mut report);
        assert_eq!(stats.record(report, Instant::now()), Err(error));
    }
    assert!(stats.vms(Instant::now()).is_empty());
}

#[test]
fn every_counter_has_a_family_that_is_shown() {
    for counter in Counter::ALL {
        let (family, labels) = place(*counter);
        assert!(FAMILIES.iter().any(|(name, _)| *name == family), "{family}");
        assert!(labels.len() <= 2);
    }
}
