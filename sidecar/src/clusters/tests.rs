use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use tidegate_core::incident::cluster::{ClusterId, Partition};
use tidegate_core::incident::{ErrorKind, ErrorText, Signature, Source, StatusClass};

use super::{Engine, Observation, Settings, Tally, Tried};
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

    fn engine(&self) -> Arc<Engine> {
        let store = Arc::new(Store::open(&self.folder.path().join("store.redb")).expect("store"));
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
    let ids = engine.learn(std::slice::from_ref(error), now_ms).await;
    let failures = [(error.signature, failures)];
    let tally = Tally { tenant: Some("acme"), provider: Some("openai"), requests: 1000, failures: &failures };
    assert_eq!(engine.tally(&[tally], now_ms), 0);
    ids.into_iter().next().expect("an id for each")
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
async fn failures_of_signatures_that_were_not_learnt_are_handed_back() {
    let bed = Bed::new();
    let engine = bed.engine();
    let failures = [(Signature(1), 7)];
    let tally = Tally { tenant: None, provider: None, requests: 10, failures: &failures };
    assert_eq!(engine.tally(&[tally], 1), 7);
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
