//! Gateways that share their semantic cache through a real Redis, with a real model.

use std::time::Duration;

use serde_json::{Value, json};
use tidegate_e2e::harness::{
    Answer, Client, Gateway, RedisServer, chat, content, embedding_files, eventually, stream,
    streamed_content,
};

const DEADLINE: Duration = Duration::from_secs(30);
const STORED: &str = "How do I reset my password?";
const SIMILAR: &str = "How can I reset my password?";

async fn gateway(redis: &RedisServer) -> Gateway {
    gateway_with(redis, "enabled: true").await
}

/// One whose index lies in Redis.
async fn indexed(redis: &RedisServer) -> Gateway {
    gateway_with(redis, "index: redis").await
}

async fn gateway_with(redis: &RedisServer, l2: &str) -> Gateway {
    let files = embedding_files().unwrap();
    let config = format!(
        "  api_keys:
    - {{name: other, key: other-key-0123456789, tenant: other}}
redis: {{url: '{}', timeout: 1s, connect_timeout: 1s}}
embedding: {{deadline: 10s}}
cache: {{backend: redis, l2: {{{l2}}}}}
",
        redis.url()
    );
    let builder = Gateway::builder().add_config(&config);
    builder.env("TIDEGATE_MODELS", files.models).env("ORT_DYLIB_PATH", files.library).start().await.unwrap()
}

async fn ask(gateway: &Gateway, body: String) -> Answer {
    let answer = gateway.ask(&Client::new(), body).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer
}

fn layer(answer: &Answer) -> Option<&str> {
    answer.header("x-gateway-cache-layer")
}

/// Waits until a look-up says that this prompt would be answered from `layer`, or from none.
async fn until_found(gateway: &Gateway, prompt: &str, layer: Option<&str>) -> Value {
    let (admin, url) = (gateway.admin(), gateway.url("/v1/cache/lookup?tenant=demo"));
    let probe = || async {
        let found = admin.post_json(&url, chat(prompt)).await.ok()?.json();
        (found["layer"] == json!(layer)).then_some(found)
    };
    eventually(&format!("{prompt:?} is in {layer:?}"), DEADLINE, probe).await.unwrap()
}

async fn until_redis_is(gateway: &Gateway, state: &str) {
    let url = gateway.url("/health/detailed");
    let probe = || async {
        let page = Client::new().get(&url).await.ok()?.json();
        (page["components"]["redis"]["state"] == state).then_some(())
    };
    eventually(&format!("redis is {state}"), DEADLINE, probe).await.unwrap();
}

#[tokio::test]
async fn what_one_gateway_was_answered_another_serves_also_after_a_restart() {
    let redis = RedisServer::start().await.unwrap();
    let (one, mut other) = (gateway(&redis).await, gateway(&redis).await);
    let first = ask(&one, chat(STORED)).await;
    assert_eq!(first.header("x-gateway-cache"), Some("miss"));

    until_found(&other, STORED, Some("redis")).await;
    let same = ask(&other, chat(STORED)).await;
    assert_eq!((layer(&same), same.header("x-gateway-cache")), (Some("redis"), Some("hit")));
    assert_eq!(same.body, first.body);
    assert_eq!(same.header("x-gateway-cache-similarity"), Some("1.0000"));
    assert_eq!(same.header("x-gateway-provider"), Some("openai"));
    let streamed = ask(&other, stream(STORED)).await;
    assert_eq!(layer(&streamed), Some("redis"), "one answer for both deliveries");
    assert_eq!(streamed_content(&streamed), content(&first));
    until_found(&other, SIMILAR, Some("semantic")).await;
    assert_eq!(layer(&ask(&other, chat(SIMILAR)).await), Some("semantic"));

    let stranger = Client::new().with_key("other-key-0123456789");
    let elsewhere = other.ask(&stranger, chat(STORED)).await.unwrap();
    assert_eq!((layer(&elsewhere), elsewhere.header("x-gateway-cache")), (None, Some("miss")));

    other.kill_sidecar().unwrap();
    other.restart_sidecar().unwrap();
    other.wait_until_ready().await.unwrap();
    until_found(&other, "How could I reset my password?", Some("semantic")).await;
    assert_eq!(other.emulator.stats().requests_total, 1, "only for the other tenant");

    let entry = json!({"entry": same.header("x-gateway-cache-entry").unwrap()}).to_string();
    let taken = other.admin().post_json(&other.url("/v1/cache/feedback"), entry).await.unwrap();
    assert_eq!(taken.status, 200, "{}", taken.text());
    until_found(&one, SIMILAR, None).await;
    until_found(&one, STORED, None).await;
}

#[tokio::test]
async fn a_gateway_goes_on_without_redis_and_shares_again_when_it_is_back() {
    let mut redis = RedisServer::start().await.unwrap();
    let (one, other) = (gateway(&redis).await, gateway(&redis).await);
    ask(&one, chat(STORED)).await;
    until_found(&other, SIMILAR, Some("semantic")).await;

    redis.kill().unwrap();
    until_redis_is(&one, "down").await;
    until_redis_is(&other, "down").await;
    assert_eq!(layer(&ask(&other, chat(SIMILAR)).await), Some("semantic"), "from memory");
    assert_eq!(ask(&one, chat("Where is my order?")).await.header("x-gateway-cache"), Some("miss"));
    until_found(&one, "Where's my order?", Some("semantic")).await;
    let url = one.url("/metrics");
    let page = one.admin().get(&url).await.unwrap().text();
    assert!(page.contains("gateway_redis_cache_lookups_total{result=\"down\"}"), "{page}");

    redis.restart().await.unwrap();
    until_redis_is(&one, "up").await;
    until_found(&other, "Where's my order?", Some("semantic")).await;
}

/// What `/metrics` says of this line; 0 while it is not there.
async fn count(gateway: &Gateway, line: &str) -> u64 {
    let page = gateway.admin().get(&gateway.url("/metrics")).await.unwrap().text();
    page.lines().find_map(|l| l.strip_prefix(line)?.trim().parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn an_index_in_redis_serves_what_no_memory_holds() {
    let redis = RedisServer::start_8().await.unwrap();
    let (one, mut other) = (indexed(&redis).await, indexed(&redis).await);
    ask(&one, chat(STORED)).await;
    until_found(&other, SIMILAR, Some("semantic")).await;
    let hit = ask(&other, chat(SIMILAR)).await;
    assert_eq!((layer(&hit), hit.header("x-gateway-provider")), (Some("semantic"), Some("openai")));
    let similarity: f64 = hit.header("x-gateway-cache-similarity").unwrap().parse().unwrap();
    assert!((0.9..1.0).contains(&similarity), "{similarity}");
    assert_eq!(layer(&ask(&other, chat("How do I reset my printer?")).await), None);

    other.kill_sidecar().unwrap();
    other.restart_sidecar().unwrap();
    other.wait_until_ready().await.unwrap();
    until_found(&other, SIMILAR, Some("semantic")).await;
    let page = other.admin().get(&other.url("/admin/cache")).await.unwrap().json();
    assert_eq!(page["entries"], 0, "nothing was loaded: {page}");
    let stranger = Client::new().with_key("other-key-0123456789");
    assert_eq!(layer(&other.ask(&stranger, chat(SIMILAR)).await.unwrap()), None, "another tenant's");

    let purge = json!({"tenant": "demo"}).to_string();
    let purged = one.admin().post_json(&one.url("/admin/cache/purge"), purge).await.unwrap();
    assert_eq!(purged.status, 200, "{}", purged.text());
    until_found(&other, SIMILAR, None).await;
}

#[tokio::test]
async fn what_expired_leaves_the_index_in_redis_when_a_search_comes_upon_it() {
    let redis = RedisServer::start_8().await.unwrap();
    let one = indexed(&redis).await;
    ask(&one, chat(STORED)).await;
    let key = async || {
        let keys = redis.command(&["--raw", "KEYS", "tidegate:cache:*:n:*"]).await.ok()?;
        (!keys.is_empty()).then_some(keys)
    };
    let key = eventually("the prompt is in the index", DEADLINE, key).await.unwrap();
    let answers = redis.command(&["--raw", "KEYS", "tidegate:cache:*:a:*"]).await.unwrap();
    redis.command(&["DEL", &answers]).await.unwrap();
    let other = indexed(&redis).await;
    until_found(&other, SIMILAR, None).await;
    let is_gone = async || (redis.command(&["--raw", "EXISTS", &key]).await.ok()? == "0").then_some(());
    eventually("the index has forgotten it", DEADLINE, is_gone).await.unwrap();
}

#[tokio::test]
async fn a_redis_without_vector_sets_leaves_the_index_in_memory() {
    let redis = RedisServer::start().await.unwrap();
    let one = indexed(&redis).await;
    ask(&one, chat(STORED)).await;
    until_found(&one, STORED, Some("redis")).await;
    assert_eq!(layer(&ask(&one, chat(SIMILAR)).await), Some("semantic"), "from memory");
    let unindexed = async || {
        (count(&one, "gateway_redis_cache_writes_total{result=\"unindexed\"}").await > 0).then_some(())
    };
    eventually("it is counted", DEADLINE, unindexed).await.unwrap();
    assert_eq!(layer(&ask(&one, chat("Where is my parcel?")).await), None);
    assert!(count(&one, "gateway_redis_cache_searches_total{result=\"error\"}").await > 0);
}
