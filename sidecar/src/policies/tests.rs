use tidegate_core::event::{Attribute, Attributes, PolicyNote};
use tidegate_core::incident::ErrorKind;
use tidegate_core::incident::attribution::Explanation;
use tidegate_core::incident::enforcement::{POLICIES_MAX, slice};
use tidegate_core::incident::proposal::Action;
use tidegate_core::policy::BreakerPolicy;

use super::*;
use crate::config::policy::Mode;

const LIMITS: Limits = Limits { traffic_share_max: 0.5, changes_per_minute: 10 };
const BREAKER: BreakerPolicy = BreakerPolicy {
    failure_threshold: 10,
    window_ms: 10_000,
    recovery_timeout_ms: 30_000,
    recovery_increment: 0.2,
};

fn proposal(scope: Attributes) -> Proposal {
    Proposal {
        cluster_id: "c1".into(),
        kind: ErrorKind::Quota,
        rule: "accounts".into(),
        action: Action::Break,
        measure: Some(break_by(&BREAKER, None)),
        mode: Mode::Enforce,
        members: vec![scope.clone()],
        explanation: Explanation {
            scope,
            precision: 1.0,
            precision_low: 0.9,
            recall: 1.0,
            significance: 50.0,
            doomed: 1.0,
            doomed_low: 0.9,
            requests: 20,
            failures: 20,
            failing: 20,
            share: 0.2,
            tenants: 1,
        },
        statuses: vec![429],
        examples: vec!["You exceeded your quota".into()],
        ttl_ms: 600_000,
        retry: false,
    }
}

fn tenant(name: &str) -> Attributes {
    slice(Attribute::Tenant, name)
}

fn note(id: &str, phase: u8, probes_ok: u64) -> PolicyNote {
    PolicyNote { id: id.to_owned(), refused: 3, probes_ok, probes_failed: 0, phase }
}

#[test]
fn a_policy_stands_is_renewed_and_ends_when_its_slice_recovers() {
    let mut book = Book::default();
    assert!(book.propose(proposal(tenant("acme")), LIMITS, 0));
    assert!(!book.propose(proposal(tenant("acme")), LIMITS, 1_000), "it stands already");
    assert!(book.propose(proposal(tenant("acme")), LIMITS, 400_000), "its time is prolonged");
    let id = book.records().next().expect("one").id.clone();
    assert!(!book.expire(900_000));
    assert!(book.note(&note(&id, 1, 1), 3_000).is_none());
    assert_eq!(book.get(&id).expect("stands").refused, 3);
    assert!(book.note(&note(&id, 0, 5), 4_000).is_some());
    let cluster = proposal(tenant("acme")).cluster_id;
    let story: Vec<(What, u64)> = book.timeline(&cluster).iter().map(|m| (m.event, m.at_ms)).collect();
    let told = [(What::Attributed, 0), (What::PolicyMade, 0), (What::PolicyState, 3_000)];
    assert_eq!(story[..3], told);
    assert_eq!(story[3..], [(What::PolicyEnded, 4_000)]);
    assert_eq!((book.records().count(), book.slices().len()), (0, 0));
}

#[test]
fn a_wider_slice_takes_the_place_of_narrower_ones_of_its_cluster() {
    let mut book = Book::default();
    let mut both = tenant("acme");
    both.insert(Attribute::Model, "m".into());
    book.propose(proposal(both), LIMITS, 0);
    book.propose(proposal(slice(Attribute::Model, "m")), LIMITS, 1);
    let scopes: Vec<Attributes> = book.records().map(|r| r.scope.clone()).collect();
    assert_eq!(scopes, [slice(Attribute::Model, "m")]);
    let mut narrower = tenant("beta");
    narrower.insert(Attribute::Model, "m".into());
    book.propose(proposal(narrower), LIMITS, 2);
    assert_eq!(book.records().count(), 1, "it is within what stands");
}

#[test]
fn the_caps_hold_and_raise_alarms() {
    let mut book = Book::default();
    let mut broad = proposal(tenant("a"));
    (broad.explanation.share, broad.explanation.doomed) = (0.9, 0.9);
    assert!(!book.propose(broad.clone(), LIMITS, 0));
    assert!(!book.propose(broad, LIMITS, 1));
    assert_eq!(book.alarms().count(), 1, "the same alarm once");
    for i in 0..20 {
        book.propose(proposal(tenant(&format!("t{i}"))), LIMITS, 10);
    }
    assert_eq!(book.records().count(), 10, "changes_per_minute");
    for minute in 1..=POLICIES_MAX as u64 {
        for i in 0..10 {
            book.propose(proposal(tenant(&format!("t{minute}-{i}"))), LIMITS, minute * 60_001);
        }
    }
    assert_eq!(book.records().count(), POLICIES_MAX);
}

#[test]
fn operators_pin_silence_edit_and_make_their_own() {
    let mut book = Book::default();
    book.propose(proposal(tenant("acme")), LIMITS, 0);
    let id = book.records().next().expect("one").id.clone();
    let mut edit = |json: &str, id: &str| {
        let edit: Edit = serde_json::from_str(json).expect("an edit");
        book.edit(id, edit, &BREAKER, "ops", 10)
    };
    let pinned = edit(r#"{"pinned": true, "mode": "shadow"}"#, &id).expect("valid");
    assert!(pinned.pinned && pinned.slice().is_some_and(|slice| !slice.enforce && slice.renewal == 1));
    assert!(edit(r#"{"silenced": true}"#, &id).expect("valid").slice().is_none());
    let own = edit(r#"{"scope": {"tenant": "x"}, "action": "limit", "rate": 5}"#, "own").expect("valid");
    assert_eq!((own.created_by.as_str(), own.cluster_id.as_str()), ("ops", "manual"));
    for (json, id, error) in [
        (r#"{"pinned": true}"#, "nobody", "there is no policy"),
        (r#"{"scope": {}, "action": "break"}"#, "all", "max_traffic_share"),
        (r#"{"scope": {"tenant": "x"}, "action": "limit"}"#, "l", "rate"),
        (r#"{"scope": {"tenant": "x"}, "action": "limit", "rate": -1}"#, "l", "rate"),
        (r#"{"scope": {"provider": "x"}, "action": "break"}"#, "l", "provider"),
        (r#"{"scope": {"tenant": "x"}, "action": "break"}"#, "bad id", "id"),
        (r#"{"ttl_ms": 0}"#, "own", "ttl_ms"),
    ] {
        let refused = edit(json, id).expect_err(json).to_string();
        assert!(refused.contains(error), "{json}: {refused}");
    }
    assert!(!book.expire(u64::MAX) || book.get(&id).is_some(), "a pinned policy does not end");
    assert!(!book.propose(proposal(tenant("acme")), LIMITS, 20), "nor is a silenced one made again");
}

#[test]
fn a_record_survives_the_store() {
    let mut book = Book::default();
    book.propose(proposal(tenant("acme")), LIMITS, 0);
    let records: Vec<Record> = book.records().cloned().collect();
    assert_eq!(book.take_changed().len(), 1);
    let json = serde_json::to_vec(&records).expect("serialises");
    let kept: Vec<Record> = serde_json::from_slice(&json).expect("reads");
    assert_eq!(Book::new(kept).slices(), book.slices());
}
