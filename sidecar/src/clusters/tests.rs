use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use tidegate_core::incident::cluster::{ClusterId, Partition};
use tidegate_core::incident::{ErrorKind, ErrorText, Signature, Source, StatusClass};

use super::{Engine, Observation, Settings, Tally, Tried};
use crate::bus::Lane;
use crate::config::{Env, parse};
use crate::embedding::Embedder;
use crate::store::Store;

const PROVIDER: Partition = Partition { class: StatusClass::Client, source: Source::Provider };

struct Bed {
    folder: tempfile::TempDir,
}

impl Bed {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("folder") }
    }

    fn store(&self) -> Arc<Store> {
        Arc::new(Store::open(&self.folder.path().join("store.redb")).expect("store"))
    }

    fn engine(&self) -> Arc<Engine> {
        Self::engine_on(self.store())
    }

    /// Several on one store stand for sidecars that share theirs.
    fn engine_on(store: Arc<Store>) -> Arc<Engine> {
        let config = parse("embedding: {enabled: false}", &Env::default()).expect("config");
        let mut registry = Registry::default();
        let embedder = Arc::new(Embedder::start(config.embedding, &mut registry));
        let settings = Settings { recluster_interval: Duration::from_secs(1), ..config.clustering };
        Engine::start(settings, embedder, store, &mut registry).expect("starts")
    }
}

fn error(message: &str, status: u16) -> Observation {
    let text = ErrorText::read(message);
    let template = text.template();
    let signature = Signature::of(PROVIDER.class, PROVIDER.source, &text.codes, &template);
    Observation { partition: PROVIDER, status: Some(status), codes: text.codes, template, signature }
}

fn tried(message: &str, status: Option<u16>, learn: bool) -> Tried {
    Tried { provider: Some("openai".to_owned()), status, message: message.to_owned(), learn }
}

async fn learn(engine: &Engine, error: &Observation, failures: u64, now_ms: u64) -> ClusterId {
    learn_by(engine, None, error, failures, now_ms).await
}

async fn learn_by(
    engine: &Engine,
    lane: Option<&Lane>,
    error: &Observation,
    failures: u64,
    now_ms: u64,
) -> ClusterId {
    let ids = engine.learn(std::slice::from_ref(error), now_ms).await;
    let failures = [(error.signature, failures)];
    let tally = Tally { tenant: Some("acme"), provider: Some("openai"), requests: 1000, failures: &failures };
    assert_eq!(engine.tally(&[tally], lane, now_ms), 0);
    ids.into_iter().next().expect("an id for each")
}

fn members(engine: &Engine) -> u64 {
    engine.list(10).iter().map(|view| view.members).sum()
}

fn fleet_members(engine: &Engine) -> u64 {
    engine.list_fleet(10).expect("read").iter().map(|view| view.members).sum()
}

#[tokio::test]
async fn what_was_kept_of_a_lane_goes_with_it_and_what_was_not_comes_again() {
    let bed = Bed::new();
    let store = bed.store();
    let (one, two) = (Bed::engine_on(store.clone()), Bed::engine_on(store));
    let (lane, error) = (Lane::from("g/t/0"), error("invalid x-api-key", 401));
    let mut seen = one.take_over(&lane, 1).expect("taken");
    assert!(seen.take("vm", 1));
    learn_by(&one, Some(&lane), &error, 5, 1).await;
    let kept = BTreeMap::from([(lane.clone(), seen)]);
    assert!(one.keep_lanes(&kept).expect("kept").lost.is_empty());
    assert_eq!((members(&one), members(&two)), (5, 0));
    assert_eq!((fleet_members(&one), fleet_members(&two)), (5, 5), "any sidecar shows all");

    // Taken, but not kept when it dies: batch 2 comes again.
    learn_by(&one, Some(&lane), &error, 3, 2).await;
    let mut seen = two.take_over(&lane, 3).expect("taken over");
    assert!(!seen.take("vm", 1) && seen.take("vm", 2));
    // Its words are known to the new one.
    assert_eq!(two.tally(&[tally(&[(error.signature, 3)])], Some(&lane), 3), 0);
    assert_eq!(members(&two), 8);

    // The first was only slow, and finds that the lane is another's.
    assert_eq!(one.keep_lanes(&kept).expect("asked").lost, std::slice::from_ref(&lane));
    one.let_go(&lane);
    assert_eq!(members(&one), 0);
    assert!(two.keep_lanes(&BTreeMap::from([(lane.clone(), seen)])).expect("kept").lost.is_empty());
    assert_eq!((fleet_members(&one), fleet_members(&two)), (8, 8));
}

#[tokio::test]
async fn what_waits_for_its_words_goes_with_the_lane_and_other_counts_stay() {
    let bed = Bed::new();
    let engine = bed.engine();
    let (lane, error) = (Lane::from("g/t/0"), error("invalid x-api-key", 401));
    let seen = engine.take_over(&lane, 1).expect("taken");
    engine.tally(&[tally(&[(error.signature, 4)])], Some(&lane), 1);
    assert!(engine.keep_lanes(&BTreeMap::from([(lane.clone(), seen)])).expect("kept").lost.is_empty());
    engine.let_go(&lane);
    engine.take_over(&lane, 2).expect("taken");
    let id = learn(&engine, &error, 1, 3).await;
    assert_eq!(engine.show(id.as_str(), 3).expect("shown").members, 5);
    engine.let_go(&lane);
    assert_eq!(engine.show(id.as_str(), 3).expect("shown").members, 1, "what came by no lane stays");
}

fn tally(failures: &[(Signature, u64)]) -> Tally<'_> {
    Tally { tenant: None, provider: None, requests: 10, failures }
}

#[tokio::test]
async fn errors_of_one_meaning_are_one_cluster_with_kind_and_figures() {
    let bed = Bed::new();
    let engine = bed.engine();
    let first = error("Rate limit reached for gpt-4o on requests per min. Limit: 3 / min.", 429);
    let again = error("Rate limit reached for gpt-5 on requests per min. Limit: 60 / min.", 429);
    let other = error("The model `gpt-9` does not exist or you do not have access to it.", 404);
    assert_eq!(first.signature, again.signature);
    let id = learn(&engine, &first, 40, 1000).await;
    assert_eq!(learn(&engine, &again, 2, 2000).await, id);
    assert_ne!(learn(&engine, &other, 1, 2000).await, id);
    assert_eq!(engine.cluster_of(first.signature), Some(id.clone()));

    let view = engine.show(id.as_str(), 2000).expect("shown");
    assert_eq!((view.kind, view.members, view.tenants), (ErrorKind::RateLimited, 42, 1));
    assert_eq!(view.providers, ["openai"]);
    assert!(view.severity > 0.0 && view.share > 0.0 && view.score > 0.5, "{view:?}");
    assert!(view.title.starts_with("Rate limit reached for <model>"), "{}", view.title);
    assert_eq!(engine.list(2000).len(), 2);
}

#[tokio::test]
async fn failures_that_come_before_their_words_are_counted_with_them() {
    let bed = Bed::new();
    let engine = bed.engine();
    let error = error("invalid x-api-key", 401);
    let failures = [(error.signature, 7)];
    let tally = Tally { tenant: None, provider: None, requests: 10, failures: &failures };
    assert_eq!(engine.tally(&[tally], None, 1), 0);
    assert_eq!(engine.list(1).len(), 0);
    let id = learn(&engine, &error, 1, 2).await;
    assert_eq!(engine.show(id.as_str(), 2).expect("shown").members, 8);
}

#[tokio::test]
async fn clusters_keep_their_names_over_a_restart() {
    let bed = Bed::new();
    let (known, words) = (error("invalid x-api-key", 401), error("flux capacitor <id> lost its charge", 418));
    let before = {
        let engine = bed.engine();
        let ids = (learn(&engine, &known, 3, 1).await, learn(&engine, &words, 1, 2).await);
        engine.checkpoint().expect("kept");
        ids
    };
    let engine = bed.engine();
    assert_eq!(engine.list(3).len(), 2);
    let after = (learn(&engine, &known, 1, 3).await, learn(&engine, &words, 1, 4).await);
    assert_eq!(before, after);
    assert_eq!(engine.show(before.0.as_str(), 4).expect("kept").members, 4);
}

#[tokio::test]
async fn a_message_that_is_tried_changes_nothing_unless_it_is_learnt() {
    let bed = Bed::new();
    let engine = bed.engine();
    let message = "Your credit balance is too low to access the Anthropic API.";
    let verdicts = engine.classify(vec![tried(message, Some(400), false)], 1).await;
    assert_eq!(verdicts[0].kind, ErrorKind::Quota);
    assert_eq!((verdicts[0].cluster_id.clone(), engine.list(1).len()), (None, 0));

    let learnt = engine.classify(vec![tried(message, None, true)], 1).await;
    assert!(learnt[0].cluster_id.is_some());
    let now =
        engine.classify(vec![tried("credit balance is too low; purchase credits", None, false)], 1).await;
    assert_eq!(now[0].cluster_id, learnt[0].cluster_id);
    assert_eq!(engine.list(1)[0].members, 1);
}

#[tokio::test]
async fn a_tried_message_finds_the_cluster_of_the_real_errors() {
    let bed = Bed::new();
    let engine = bed.engine();
    let id = learn(&engine, &error("invalid x-api-key", 401), 1, 1).await;
    let verdicts =
        engine.classify(vec![tried("Incorrect API key provided: sk-abc123def", None, false)], 1).await;
    assert_eq!(verdicts[0].cluster_id, Some(id));
}

#[tokio::test]
async fn words_that_are_not_known_are_unknown_and_the_status_helps() {
    let bed = Bed::new();
    let engine = bed.engine();
    let list = vec![
        tried("zq xk vw", None, true),
        tried("zq xk vw", Some(429), false),
        tried("zq xk vw", Some(500), false),
    ];
    let kinds: Vec<_> = engine.classify(list, 1).await.into_iter().map(|verdict| verdict.kind).collect();
    assert_eq!(kinds, [ErrorKind::Unknown, ErrorKind::RateLimited, ErrorKind::UpstreamBug]);
}

#[tokio::test]
async fn a_list_sees_its_templates_as_they_are_in_the_end() {
    let bed = Bed::new();
    let engine = bed.engine();
    let list = ["alice", "bob", "carol"]
        .map(|name| tried(&format!("quux: cannot frobnicate the widget of {name}"), None, true));
    let verdicts = engine.classify(list.into(), 1).await;
    assert!(
        verdicts.iter().all(|v| v.template == "quux: cannot frobnicate the widget of <*>"),
        "{verdicts:?}"
    );
    assert!(verdicts.iter().all(|v| v.cluster_id == verdicts[0].cluster_id));
}
