//! Several caches on one real Redis, with a real model.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use serde_json::json;
use tidegate_core::cache::Kind;
use tidegate_core::cache::control::RequestControl;
use tidegate_core::route::Protocol;
use tidegate_core::wire::Identity;
use tidegate_e2e::harness::{RedisCluster, RedisServer, embedding_files, eventually};
use tokio::time::Instant;

use super::super::{Answer, Asked, Hit, Layer, Looked, Name, Request, Selection, SemanticCache};
use super::keys::{self, Space};
use crate::config::{self, Env};
use crate::embedding::Embedder;
use crate::metrics;
use crate::redis::{Redis, State};

const DEADLINE: Duration = Duration::from_secs(30);
const STORED: &str = "How do I reset my password?";
const SIMILAR: &str = "How can I reset my password?";

/// One gateway's cache.
struct Member {
    cache: Arc<SemanticCache>,
    embedder: Arc<Embedder>,
    redis: Redis,
    registry: Registry,
}

impl Member {
    async fn start(url: &str) -> Self {
        Self::start_with(url, "").await
    }

    /// With `embedding` among the embedding model's settings.
    async fn start_with(url: &str, embedding: &str) -> Self {
        let files = embedding_files().unwrap();
        let env = Env::from([
            ("TIDEGATE_MODELS".to_owned(), files.models.display().to_string()),
            ("ORT_DYLIB_PATH".to_owned(), files.library.display().to_string()),
        ]);
        let yaml = format!(
            "{{redis: {{url: '{url}', timeout: 1s, connect_timeout: 1s}}, \
             embedding: {{deadline: 10s {embedding}}}, cache: {{backend: redis, l2: {{enabled: true}}}}}}"
        );
        let config = config::parse(&yaml, &env).unwrap();
        let mut registry = Registry::default();
        let redis = Redis::start(config.redis.unwrap(), &mut registry);
        let embedder = Arc::new(Embedder::start(config.embedding.clone(), &mut registry));
        let cache = SemanticCache::new(config.l2, embedder.clone(), &config.embedding, &mut registry);
        let cache = cache.share(redis.clone(), None, &mut registry).unwrap();
        let member = Self { cache, embedder, redis, registry };
        eventually("the model is there", DEADLINE, || async { member.embedder.model().ok() }).await.unwrap();
        member
    }

    fn asked(&self, tenant: &str, prompt: &str) -> Asked {
        let identity = Identity::anonymous(tenant);
        let body = json!({"model": "m", "messages": [{"role": "user", "content": prompt}]}).to_string();
        let path = "/v1/chat/completions";
        let (control, protocol) = (RequestControl::FREE, Protocol::OpenAi);
        let request =
            Request { identity: &identity, path, pin: "", protocol, control, body: body.as_bytes() };
        self.cache.plan(request).expect("a chat")
    }

    async fn store(&self, tenant: &str, prompt: &str, answer: &str) -> Name {
        let asked = self.asked(tenant, prompt);
        let body = json!({
            "id": "c", "object": "chat.completion", "model": "m", "created": 1,
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": answer}}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        });
        let body = body.to_string();
        let answer = Answer { kind: Kind::Json, body: body.as_bytes(), provider: "p", model: "m" };
        self.cache.store(&asked, answer).await;
        asked.name
    }

    async fn find(&self, tenant: &str, prompt: &str) -> Option<Hit> {
        let mut asked = self.asked(tenant, prompt);
        match self.cache.judge(&mut asked, Instant::now() + DEADLINE).await {
            Looked::Hit(hit) => Some(hit),
            Looked::Miss { .. } => None,
        }
    }

    async fn until_found(&self, tenant: &str, prompt: &str) -> Hit {
        eventually(&format!("{prompt:?} is found"), DEADLINE, || self.find(tenant, prompt)).await.unwrap()
    }

    async fn until_gone(&self, tenant: &str, prompt: &str) {
        let gone = || async { self.find(tenant, prompt).await.is_none().then_some(()) };
        eventually(&format!("{prompt:?} is gone"), DEADLINE, gone).await.unwrap();
    }

    async fn until_counted(&self, line: &str) {
        let counted = || async { metrics::page(&self.registry).unwrap().contains(line).then_some(()) };
        eventually(line, DEADLINE, counted).await.unwrap();
    }

    fn space(&self) -> Space {
        self.cache.space().unwrap()
    }
}

fn is_semantic(hit: &Hit) -> bool {
    matches!(hit.layer, Layer::Semantic(_))
}

async fn one_learns_and_the_others_serve(url: &str) {
    let (one, other) = (Member::start(url).await, Member::start(url).await);
    let name = one.store("t", STORED, "On the login page.").await;
    let exact = || async { other.find("t", STORED).await.filter(|hit| hit.layer == Layer::Redis) };
    let exact = eventually("the same words are found in Redis", DEADLINE, exact).await.unwrap();
    assert_eq!(exact.entry.name, name);
    let similar = other.until_found("t", SIMILAR).await;
    assert!(is_semantic(&similar) && similar.similarity < 1.0, "{similar:?}");
    assert_eq!(similar.entry.name, name);
    for prompt in [STORED, SIMILAR] {
        assert!(other.find("another", prompt).await.is_none(), "another tenant");
    }

    one.store("t", STORED, "Ask the help desk.").await;
    let fresh =
        || async { other.find("t", SIMILAR).await.filter(|hit| hit.entry.body != similar.entry.body) };
    eventually("the fresh answer takes the old one's place", DEADLINE, fresh).await.unwrap();

    let late = Member::start(url).await;
    assert!(is_semantic(&late.until_found("t", SIMILAR).await), "what was there at the start");
    assert!(late.cache.take_back(name).await, "by a gateway that did not store it");
    for member in [&one, &other, &late] {
        member.until_gone("t", STORED).await;
        member.until_gone("t", SIMILAR).await;
    }
    assert!(!other.cache.take_back(Name::of(&[1; 32])).await);
    one.store("t", STORED, "Ask the help desk.").await;
    other.until_found("t", SIMILAR).await;

    one.store("u", STORED, "Of another tenant.").await;
    other.until_found("u", SIMILAR).await;
    let of_t = Selection { tenant: Some("t".to_owned()), ..Selection::default() };
    other.cache.purge(&of_t);
    for member in [&one, &other, &late] {
        member.until_gone("t", STORED).await;
        member.until_gone("t", SIMILAR).await;
    }
    let young = Member::start(url).await;
    young.until_found("u", SIMILAR).await;
    assert!(young.find("t", STORED).await.is_none() && young.find("t", SIMILAR).await.is_none());
}

#[tokio::test]
async fn what_one_gateway_learns_the_others_serve() {
    let server = RedisServer::start().await.unwrap();
    one_learns_and_the_others_serve(&server.url()).await;
}

#[tokio::test]
async fn in_a_cluster_too() {
    let cluster = RedisCluster::start().await.unwrap();
    one_learns_and_the_others_serve(&cluster.url()).await;
}

#[tokio::test]
async fn while_redis_is_away_each_goes_on_alone_and_nothing_purged_comes_back() {
    let server = RedisServer::start().await.unwrap();
    let (one, other) = (Member::start(&server.url()).await, Member::start(&server.url()).await);
    one.store("t", STORED, "On the login page.").await;
    other.until_found("t", SIMILAR).await;

    // Hanging, so that it still has everything afterwards.
    server.pause().unwrap();
    for member in [&one, &other] {
        let down = async || (member.redis.state() == State::Down).then_some(());
        eventually("it is missed", DEADLINE, down).await.unwrap();
    }
    assert!(is_semantic(&one.find("t", STORED).await.unwrap()), "from memory");
    other.store("t", "What does it cost?", "Nothing.").await;
    assert!(is_semantic(&other.find("t", "What does it cost?").await.unwrap()));
    one.cache.purge(&Selection { prefix: Some("How".to_owned()), ..Selection::default() });
    assert!(one.find("t", STORED).await.is_none());

    server.resume().unwrap();
    one.until_found("t", "What does it cost?").await;
    other.until_gone("t", STORED).await;
    other.until_gone("t", SIMILAR).await;
    assert!(one.find("t", STORED).await.is_none() && one.find("t", SIMILAR).await.is_none());
}

#[tokio::test]
async fn what_is_damaged_or_of_another_model_is_passed_over_and_counted() {
    let server = RedisServer::start().await.unwrap();
    let one = Member::start(&server.url()).await;
    let (name, space) = (one.store("t", STORED, "On the login page.").await, one.space());
    let second = one.store("t", "How do I cancel my subscription?", "Nothing.").await;
    let third = one.store("t", "Where is my order?", "On its way.").await;
    one.until_counted("gateway_redis_cache_writes_total{result=\"stored\"} 3").await;
    assert!(one.find("t", "How can I cancel my subscription?").await.is_some());
    for (key, end) in [(keys::answer(name), "100"), (keys::vector(space, second), "500")] {
        let cut = [
            "EVAL",
            "redis.call('SET', KEYS[1], redis.call('GETRANGE', KEYS[1], 0, ARGV[1]))",
            "1",
            &key,
            end,
        ];
        server.command(&cut).await.unwrap();
    }
    let young = Member::start(&server.url()).await;
    young.until_found("t", "Where's my order?").await;
    young.until_counted("gateway_redis_cache_loads_total{result=\"corrupt\"} 2").await;
    assert!(young.find("t", STORED).await.is_none(), "cut");
    young.until_counted("gateway_redis_cache_lookups_total{result=\"corrupt\"} 1").await;
    assert!(young.find("t", "How can I cancel my subscription?").await.is_none(), "without its vector");

    let changed = Member::start_with(&server.url(), ", prefix: 'query: '").await;
    assert_ne!(changed.space(), space);
    let same = changed.until_found("t", "Where is my order?").await;
    assert_eq!((same.layer, same.entry.name), (Layer::Redis, third), "the same words need no vector");
    assert!(changed.find("t", "Where's my order?").await.is_none(), "its vector is another model's");
    changed.store("t", "Where is my order?", "Still on its way.").await;
    assert!(is_semantic(&changed.until_found("t", "Where's my order?").await));
}

#[tokio::test]
async fn an_answer_that_was_said_to_be_wrong_is_not_served_so_far_away_again_by_anybody() {
    let server = RedisServer::start().await.unwrap();
    let (one, other) = (Member::start(&server.url()).await, Member::start(&server.url()).await);
    let name = one.store("t", STORED, "On the login page.").await;
    other.until_found("t", SIMILAR).await;
    let mut asked = other.asked("t", SIMILAR);
    assert!(matches!(other.cache.look_up(&mut asked).await, Looked::Hit(_)), "served");

    assert!(one.cache.take_back(name).await, "said elsewhere");
    other.until_gone("t", SIMILAR).await;
    one.store("t", STORED, "On the login page.").await;
    other.until_found("t", STORED).await;
    for member in [&one, &other] {
        let refused = || async {
            let mut asked = member.asked("t", SIMILAR);
            let looked = member.cache.judge(&mut asked, Instant::now() + DEADLINE).await;
            matches!(looked, Looked::Miss { reason: "feedback", .. }).then_some(())
        };
        eventually("it is remembered", DEADLINE, refused).await.unwrap();
    }
}

#[tokio::test]
async fn a_full_redis_is_counted_and_gone_without() {
    let server =
        RedisServer::start_with(&["--maxmemory", "1kb", "--maxmemory-policy", "noeviction"]).await.unwrap();
    let one = Member::start(&server.url()).await;
    one.store("t", STORED, "On the login page.").await;
    one.until_counted("gateway_redis_cache_writes_total{result=\"full\"} 1").await;
    assert!(is_semantic(&one.find("t", SIMILAR).await.unwrap()));
    server.command(&["CONFIG", "SET", "maxmemory", "0"]).await.unwrap();
    one.store("t", "What does it cost?", "Nothing.").await;
    one.until_counted("gateway_redis_cache_writes_total{result=\"stored\"} 1").await;
}
