//! The loop on traffic made up by the second, without filters: what is proposed, and how soon.

use tidegate_core::event::{Attribute, Attributes, Batch, ErrorEvent};
use tidegate_core::incident::cluster::Trend;
use tidegate_core::incident::enforcement::{Measure, slice};
use tidegate_core::incident::proposal::{Action, Rule, default_rules};
use tidegate_core::incident::{ErrorKind, Signature, Source, StatusClass};

use super::*;
use crate::config::policy::Mode;
use crate::policies::{Book, Limits};

const START_MS: u64 = 1_700_000_000_000;

fn settings() -> Settings {
    Settings {
        incidents: Incidents {
            mode: Mode::Enforce,
            rules: default_rules(),
            traffic_share_max: 0.5,
            changes_per_minute: 60,
            ttl_ms: 600_000,
        },
        breaker: BreakerPolicy {
            failure_threshold: 10,
            window_ms: 10_000,
            recovery_timeout_ms: 30_000,
            recovery_increment: 0.2,
        },
    }
}

/// What fails: of requests with these attributes, so many of a hundred.
type Fault<'a> = &'a dyn Fn(&Attributes) -> Option<(u16, &'static str, u64)>;

/// Knows the few errors of these tests.
#[derive(Default, Clone)]
struct Known(Arc<std::sync::Mutex<std::collections::BTreeMap<Signature, &'static str>>>);

impl Understanding for Known {
    fn cluster_of(&self, signature: Signature) -> Option<Arc<str>> {
        self.0.lock().expect("lock").get(&signature).map(|name| Arc::from(*name))
    }

    fn about(&self, cluster: &str, _now_ms: u64) -> Option<About> {
        let (kind, class) = match cluster {
            "insufficient_quota" => (ErrorKind::Quota, StatusClass::Client),
            "overloaded" => (ErrorKind::Overloaded, StatusClass::Server),
            "rate_limit" => (ErrorKind::RateLimited, StatusClass::Client),
            "context_length_exceeded" => (ErrorKind::ContextTooLong, StatusClass::Client),
            _ => (ErrorKind::UpstreamBug, StatusClass::Server),
        };
        let examples = vec![cluster.to_owned()];
        Some(About { kind, class, severity: 50.0, trend: Trend::Growing, examples })
    }
}

struct World {
    known: Known,
    learner: Learner<Known>,
    book: Book,
    now_ms: u64,
    batch: u64,
    rules: Vec<Rule>,
    /// How far the gateway's clock is ahead of the sidecar's, in milliseconds.
    skew_ms: i64,
}

impl World {
    fn new() -> Self {
        let known = Known::default();
        Self {
            learner: Learner::new(known.clone()),
            known,
            book: Book::default(),
            now_ms: START_MS,
            batch: 0,
            rules: default_rules(),
            skew_ms: 0,
        }
    }

    /// A quarter of a second of traffic: every tenant asks every model in every region `requests`
    /// times.
    fn step(&mut self, requests: u64, fault: Fault<'_>) {
        let mut batch = Batch { number: 0, events: vec![], traffic: vec![], policies: vec![] };
        for tenant in ["acme", "beta", "core", "demo"] {
            for model in ["m1", "m2", "m3"] {
                let attributes = Attributes::from([
                    (Attribute::Tenant, tenant.to_owned()),
                    (Attribute::Model, model.to_owned()),
                    (Attribute::Path, "/v1/chat/completions".to_owned()),
                    (Attribute::Provider, "openai".to_owned()),
                ]);
                self.row(&mut batch, attributes, requests, fault);
            }
        }
        self.send(batch);
    }

    fn row(&mut self, batch: &mut Batch, attributes: Attributes, requests: u64, fault: Fault<'_>) {
        let mut failures = Vec::new();
        if let Some((status, words, percent)) = fault(&attributes) {
            let class = StatusClass::of(Some(status));
            let codes = vec![words.to_owned()];
            let signature = Signature::of(class, Source::Provider, &codes, words);
            self.known.0.lock().expect("lock").insert(signature, words);
            // Fractions of a failure come due with time.
            let due = |batch: u64| batch * requests * percent / 100;
            failures.push((signature, due(self.batch + 1) - due(self.batch)));
            batch.events.push(ErrorEvent {
                number: 1,
                at_ms: self.now_ms.saturating_add_signed(self.skew_ms),
                status,
                source: Source::Provider,
                codes,
                template: words.to_owned(),
                signature,
                attributes: attributes.clone(),
            });
        }
        failures.retain(|(_, count)| *count > 0);
        batch.traffic.push(TrafficRow { attributes, requests, failures, hidden: false });
    }

    fn send(&mut self, mut batch: Batch) {
        self.batch += 1;
        batch.number = self.batch;
        self.now_ms += 250;
        let envelope = Envelope { vm: "a".into(), batch };
        self.learner.take(envelope, self.now_ms);
        let standing: Vec<Record> = self.book.records().cloned().collect();
        let only = |name: &str| match name {
            "openai" => vec!["m1".to_owned(), "m2".to_owned(), "m3".to_owned()],
            _ => Vec::new(),
        };
        let limits = Limits { traffic_share_max: 0.5, changes_per_minute: 60 };
        let mut settings = settings();
        settings.incidents.rules.clone_from(&self.rules);
        let decisions = self.learner.decide(&standing, &settings, &only, self.now_ms);
        carry_out(decisions, &mut self.book, limits, self.now_ms);
    }

    fn scopes(&self) -> Vec<Attributes> {
        self.book.records().map(|record| record.scope.clone()).collect()
    }

    fn measure(&self) -> Option<Measure> {
        self.book.records().find_map(|record| record.measure)
    }
}

fn calm(_: &Attributes) -> Option<(u16, &'static str, u64)> {
    None
}

/// Runs calm traffic, then the fault until something is done; gives the milliseconds it took.
fn until_done(world: &mut World, requests: u64, fault: Fault<'_>) -> u64 {
    (0..40).for_each(|_| world.step(requests, &calm));
    let onset_ms = world.now_ms;
    while world.scopes().is_empty() && world.now_ms < onset_ms + 10_000 {
        world.step(requests, fault);
    }
    world.now_ms - onset_ms
}

#[test]
fn a_tenant_out_of_quota_is_found_within_seconds_and_alone() {
    let mut world = World::new();
    let acme = slice(Attribute::Tenant, "acme");
    let fault =
        |a: &Attributes| (a[&Attribute::Tenant] == "acme").then_some((429, "insufficient_quota", 100));
    let ms = until_done(&mut world, 2, &fault);
    assert!(ms <= 2_000, "{ms}");
    assert_eq!(world.scopes(), [acme]);
    let record = world.book.records().next().expect("one");
    assert_eq!((record.kind, record.action, record.retry), (ErrorKind::Quota, Action::Break, false));
    assert_eq!(record.statuses, [429]);
    assert!(record.precision_low > 0.85 && record.sentence.contains("tenant=acme"), "{record:?}");
}

#[test]
fn an_overloaded_model_is_found_across_tenants() {
    let mut world = World::new();
    let fault = |a: &Attributes| (a[&Attribute::Model] == "m2").then_some((503, "overloaded", 100));
    let ms = until_done(&mut world, 2, &fault);
    assert!(ms <= 2_000, "{ms}");
    assert_eq!(world.scopes(), [slice(Attribute::Model, "m2")]);
}

#[test]
fn random_errors_in_calm_traffic_break_nothing() {
    let mut world = World::new();
    for _ in 0..480 {
        world.step(8, &|_| Some((500, "oops", 1)));
    }
    assert!(world.scopes().is_empty(), "{:?}", world.scopes());
}

#[test]
fn a_callers_own_mistakes_break_nothing() {
    let mut world = World::new();
    for _ in 0..40 {
        world
            .step(8, &|a| (a[&Attribute::Tenant] == "acme").then_some((400, "context_length_exceeded", 100)));
    }
    assert!(world.scopes().is_empty());
}

#[test]
fn an_outage_of_everything_is_broken_and_raises_an_alarm() {
    let mut world = World::new();
    until_done(&mut world, 2, &|_| Some((503, "overloaded", 100)));
    assert_eq!(world.book.records().count(), 1);
    assert!(world.book.alarms().next().is_some_and(|alarm| alarm.message.contains("100 %")));
}

#[test]
fn what_would_match_too_much_and_does_not_fail_as_a_whole_is_refused_with_an_alarm() {
    let mut world = World::new();
    (0..40).for_each(|_| world.step(2, &|_| Some((429, "rate_limit", 40))));
    assert!(world.scopes().is_empty(), "{:?}", world.scopes());
    let alarm = world.book.alarms().next().expect("an alarm");
    assert!(alarm.message.contains("max_traffic_share"), "{alarm:?}");
}

fn limited_at(percent: u64) -> impl Fn(&Attributes) -> Option<(u16, &'static str, u64)> {
    move |a| (a[&Attribute::Model] == "m1").then_some((429, "rate_limit", percent))
}

#[test]
fn a_model_that_takes_a_part_is_limited_to_it_and_let_go_when_it_is_well() {
    let mut world = World::new();
    until_done(&mut world, 4, &limited_at(50));
    let Some(Measure::Limit { rate: first }) = world.measure() else { panic!("{:?}", world.scopes()) };
    // Less traffic fails less.
    (0..20).for_each(|_| world.step(4, &limited_at(20)));
    let Some(Measure::Limit { rate }) = world.measure() else { panic!("still limited") };
    assert!(rate < first, "while it fails the rate falls: {first} to {rate}");
    (0..40).for_each(|_| world.step(4, &calm));
    let Some(Measure::Limit { rate: risen }) = world.measure() else { panic!("not yet") };
    assert!(risen > rate);
    (0..120).for_each(|_| world.step(4, &calm));
    assert_eq!(world.measure(), None);
}

#[test]
fn a_limit_that_does_not_help_is_lifted_and_not_tried_again() {
    let mut world = World::new();
    let ms = until_done(&mut world, 4, &limited_at(50));
    assert!(matches!(world.measure(), Some(Measure::Limit { .. })), "{:?}", world.scopes());
    let mut steps = 0;
    while world.measure().is_some() {
        world.step(4, &limited_at(50));
        steps += 1;
        assert!(steps <= 16, "it refuses what would succeed, {ms}");
    }
    (0..120).for_each(|_| world.step(4, &limited_at(50)));
    assert_eq!(world.measure(), None);
}

/// What the world's router sees: attempts that fail at one provider before the other answers.
fn hidden(world: &mut World, failing: u64) {
    let words = "overloaded";
    let signature = Signature::of(StatusClass::Server, Source::Provider, &[words.to_owned()], words);
    world.known.0.lock().expect("lock").insert(signature, words);
    let mut batch = Batch { number: 0, events: vec![], traffic: vec![], policies: vec![] };
    for tenant in ["acme", "beta", "core"] {
        for (provider, requests, failures) in
            [("azure", failing, vec![(signature, failing)]), ("openai", 4, vec![])]
        {
            let attributes = Attributes::from([
                (Attribute::Tenant, tenant.to_owned()),
                (Attribute::Model, "m1".to_owned()),
                (Attribute::Provider, provider.to_owned()),
            ]);
            batch.traffic.push(TrafficRow { attributes, requests, hidden: !failures.is_empty(), failures });
        }
    }
    batch.traffic.retain(|row| row.requests > 0);
    world.send(batch);
}

#[test]
fn failures_that_nobody_sees_are_the_providers_and_no_callers() {
    let mut world = World::new();
    (0..20).for_each(|_| hidden(&mut world, 0));
    (0..20).for_each(|_| hidden(&mut world, 2));
    assert_eq!(world.scopes(), [slice(Attribute::Provider, "azure")]);
    let record = world.book.records().next().expect("one");
    assert!(record.slice().is_none(), "nobody is refused for it");
    assert!(record.steer().is_some_and(|steer| steer.decides));
}

#[test]
fn a_rule_that_routes_away_finds_out_from_where() {
    let mut world = World::new();
    world.rules = vec![Rule::new("away", &[ErrorKind::Overloaded], Action::RouteAway)];
    let fault = |a: &Attributes| (a[&Attribute::Model] == "m2").then_some((503, "overloaded", 100));
    until_done(&mut world, 2, &fault);
    let scope =
        Attributes::from([(Attribute::Model, "m2".to_owned()), (Attribute::Provider, "openai".to_owned())]);
    assert_eq!(world.scopes(), [scope]);
    assert!(world.book.records().all(|record| record.slice().is_none() && record.steer().is_some()));
}

#[test]
fn clocks_of_gateways_may_be_off_by_an_hour() {
    let fault =
        |a: &Attributes| (a[&Attribute::Tenant] == "acme").then_some((429, "insufficient_quota", 100));
    let found = |skew_ms| {
        let mut world = World { skew_ms, ..World::new() };
        (until_done(&mut world, 2, &fault), world.scopes())
    };
    let right = found(0);
    assert_eq!(right.1, [slice(Attribute::Tenant, "acme")]);
    assert_eq!([found(3_600_000), found(-3_600_000)], [right.clone(), right]);
}
