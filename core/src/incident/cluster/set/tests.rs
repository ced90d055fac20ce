use proptest::prelude::*;

use super::*;
use crate::incident::cluster::{Breadth, Severity, Trend};
use crate::incident::{Source, StatusClass};

const SETTINGS: Settings = Settings { clusters_max: 8, threshold: 0.6, idle_ms: 60_000 };
const PROVIDER: Partition = Partition { class: StatusClass::Server, source: Source::Provider };

fn learn(clusters: &mut Clusters, meaning: Option<&str>, template: &str, now_ms: u64) -> ClusterId {
    learn_in(clusters, PROVIDER, meaning, template, now_ms)
}

fn learn_in(
    set: &mut Clusters,
    partition: Partition,
    meaning: Option<&str>,
    template: &str,
    now_ms: u64,
) -> ClusterId {
    let vector = Vector::of(template, None);
    let kind = if meaning.is_some() { ErrorKind::Timeout } else { ErrorKind::Unknown };
    let point = Point { partition, meaning, kind, score: 0.8, template, vector: &vector };
    let id = set.learn(&point, now_ms, &SETTINGS);
    set.count(&id, template, 1, now_ms);
    id
}

#[test]
fn meaning_goes_before_words_and_words_decide_without_one() {
    let mut set = Clusters::default();
    let a = learn(&mut set, Some("timeout"), "request timed out", 0);
    assert_eq!(a, learn(&mut set, Some("timeout"), "the deadline has passed", 1));
    let b = learn(&mut set, None, "disk quota of volume <id> is used up", 2);
    assert_eq!(b, learn(&mut set, None, "disk quota of volume <path> is used up", 3));
    let c = learn(&mut set, None, "segment <num> was corrupt", 4);
    assert_eq!(set.iter().count(), 3);
    assert!(a != b && b != c);
}

#[test]
fn partitions_are_never_mixed_but_a_tried_message_finds_all() {
    let mut set = Clusters::default();
    let a = learn(&mut set, Some("timeout"), "timed out", 0);
    let other = Partition { class: StatusClass::Client, source: Source::Provider };
    let b = learn_in(&mut set, other, Some("timeout"), "timed out", 0);
    learn_in(&mut set, other, Some("timeout"), "timed out", 0);
    assert_ne!(a, b);
    let vector = Vector::of("x", None);
    let tried = Point {
        partition: Partition::TRIED,
        meaning: Some("timeout"),
        kind: ErrorKind::Timeout,
        score: 0.9,
        template: "x",
        vector: &vector,
    };
    assert_eq!(set.find(&tried, &SETTINGS), None);
    assert_eq!(set.find_anywhere(&tried, &SETTINGS), Some(b));
}

#[test]
fn names_are_the_same_in_another_run() {
    let run = || {
        let mut set = Clusters::default();
        (learn(&mut set, Some("timeout"), "a b", 7), learn(&mut set, None, "c d", 9))
    };
    assert_eq!(run(), run());
}

#[test]
fn what_has_become_alike_is_merged_under_the_older_name() {
    let mut set = Clusters::default();
    let old = learn(&mut set, None, "volume <id> cannot be mounted on host alpha", 0);
    let new = learn(&mut set, None, "no more space for segments", 10);
    assert_ne!(old, new);
    // The second drifts to where the first is.
    let drifted = "volume <id> cannot be mounted on host beta";
    let cluster = set.by_id.get_mut(&new).unwrap();
    cluster.centroid = Vector::of(drifted, None);
    cluster.templates = vec![Member { template: drifted.to_owned(), count: 1 }];
    let changes = set.recluster(20, &SETTINGS);
    assert_eq!(changes, [Change::Merged(new.clone(), old.clone())]);
    assert!(set.get(&new).is_none());
    assert_eq!(set.get(&old).unwrap().members, 2);
}

#[test]
fn what_has_become_two_is_split_and_stays_so() {
    let mut set = Clusters::default();
    let id = learn(&mut set, None, "volume <id> cannot be mounted", 0);
    for (template, count) in
        [("volume <id> cannot be mounted", 60), ("payment of <money> was declined by bank", 40)]
    {
        set.count(&id, template, count, 0);
    }
    let changes = set.recluster(1, &SETTINGS);
    let [Change::Split(from, new)] = changes.as_slice() else { panic!("{changes:?}") };
    assert_eq!(from, &id);
    assert_eq!(set.get(&id).unwrap().title(), "volume <id> cannot be mounted");
    assert_eq!(set.get(new).unwrap().title(), "payment of <money> was declined by bank");
    assert_eq!(set.recluster(2, &SETTINGS), []);
}

#[test]
fn clusters_end_when_they_are_idle_and_give_way_when_there_are_too_many() {
    let mut set = Clusters::default();
    let words = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"];
    for (at, word) in (0..).zip(words) {
        learn(&mut set, None, word, at);
    }
    assert_eq!(set.iter().count(), SETTINGS.clusters_max);
    assert!(set.iter().all(|c| c.title() != "alpha" && c.title() != "beta"));
    let changes = set.recluster(SETTINGS.idle_ms + 100, &SETTINGS);
    assert_eq!(changes.len(), SETTINGS.clusters_max);
    assert_eq!(set.iter().count(), 0);
}

#[test]
fn severity_rises_with_what_is_hit_and_fades() {
    let mut set = Clusters::default();
    let id = learn(&mut set, Some("timeout"), "timed out", 0);
    (0..30).for_each(|s| set.count(&id, "timed out", 20, s * 1000));
    let cluster = set.get(&id).unwrap();
    let few = cluster.severity(Breadth { share: 0.01, tenants: 1 }, 30_000);
    let many = cluster.severity(Breadth { share: 0.6, tenants: 12 }, 30_000);
    assert!(few > 20.0 && many > few + 20.0 && many <= 100.0, "{few} {many}");
    assert_eq!(Severity::of(many), Severity::Critical);
    assert_eq!(cluster.activity.trend(30_000), Trend::Growing);
    assert!(cluster.severity(Breadth { share: 0.6, tenants: 12 }, 300_000) < 1.0);
}

#[test]
fn what_others_counted_is_added_and_what_goes_to_others_is_taken_off() {
    let (mut mine, mut theirs) = (Clusters::default(), Clusters::default());
    let id = learn(&mut theirs, None, "volume <id> cannot be mounted", 5);
    theirs.count(&id, "volume <id> cannot be mounted", 7, 5);
    let mut kept = theirs.get(&id).unwrap().clone();
    let counted = kept.members;
    kept.centroid = Vector { words: Vec::new(), embedding: None };
    mine.adopt(kept, 10);
    assert_eq!(mine.get(&id).unwrap().members, counted);
    assert_eq!(learn(&mut mine, None, "volume <id> cannot be mounted", 10), id, "its place is known again");
    mine.adopt(theirs.get(&id).unwrap().clone(), 10);
    let both = mine.get(&id).unwrap();
    assert!(both.members >= 2 * counted && both.first_seen_ms == 5);
    let all = both.members;
    mine.give_up(&id, counted);
    assert_eq!(mine.get(&id).unwrap().members, all - counted);
    mine.give_up(&id, all);
    assert!(mine.get(&id).is_none());
}

proptest! {
    #[test]
    fn any_stream_stays_within_its_bounds(
        errors in prop::collection::vec((prop::option::of("[a-c]"), "[a-z]{1,6}( [a-z]{1,6}){0,4}", 0_u64..1000), 1..120)
    ) {
        let mut set = Clusters::default();
        let mut now = 0;
        for (meaning, template, step) in errors {
            now += step;
            let id = learn(&mut set, meaning.as_deref(), &template, now);
            prop_assert!(set.get(&id).is_some());
            prop_assert!(set.iter().count() <= SETTINGS.clusters_max);
            set.recluster(now, &SETTINGS);
            prop_assert!(set.iter().count() <= SETTINGS.clusters_max);
            prop_assert!(set.iter().all(|c| !c.templates.is_empty() && c.templates.len() <= TEMPLATES_MAX && c.members > 0));
        }
    }
}
