//! On real servers.

use std::time::Duration;

use prometheus_client::registry::Registry;
use redis::AsyncCommands as _;
use tidegate_e2e::harness::{RedisCluster, RedisServer};

use super::*;
use crate::config::{self, Env};
use crate::metrics;

const DEADLINE: Duration = Duration::from_secs(30);

fn start(url: &str, registry: &mut Registry) -> Redis {
    let yaml = format!("redis: {{url: '{url}', timeout: 300ms, connect_timeout: 1s}}");
    let config = config::parse(&yaml, &Env::new()).unwrap();
    Redis::start(config.redis.unwrap(), registry)
}

async fn until(redis: &Redis, fits: impl Fn(State) -> bool) {
    let mut states = redis.watch();
    timeout(DEADLINE, states.wait_for(|state| fits(*state))).await.expect("in time").expect("state");
}

async fn count(redis: &Redis, key: &'static str) -> Result<i64, CallError> {
    redis.run(|mut link| async move { link.incr(key, 1).await }).await
}

#[tokio::test]
async fn a_server_that_dies_and_returns_is_lost_and_found() {
    let mut server = RedisServer::start().await.unwrap();
    let mut registry = Registry::default();
    let redis = start(&server.url(), &mut registry);
    until(&redis, State::is_usable).await;
    assert_eq!(count(&redis, "n").await.unwrap(), 1);
    assert_eq!(count(&redis, "n").await.unwrap(), 2);

    server.kill().unwrap();
    until(&redis, |state| state == State::Down).await;
    assert!(matches!(count(&redis, "n").await, Err(CallError::Down)));

    server.restart().await.unwrap();
    until(&redis, State::is_usable).await;
    assert_eq!(count(&redis, "n").await.unwrap(), 1, "it came back empty");
    let page = metrics::page(&registry).unwrap();
    for line in ["gateway_redis_up 1", "gateway_redis_calls_total{result=\"down\"} 1"] {
        assert!(page.contains(line), "{line}\n{page}");
    }
}

#[tokio::test]
async fn a_server_that_hangs_costs_one_timeout_and_then_nothing() {
    let server = RedisServer::start().await.unwrap();
    let redis = start(&server.url(), &mut Registry::default());
    until(&redis, State::is_usable).await;
    server.pause().unwrap();
    let quick = redis.run_within(Duration::from_millis(1), |mut link| async move { link.incr("n", 1).await });
    let error: CallError = quick.await.map(|_: i64| ()).unwrap_err();
    assert!(matches!(error, CallError::TimedOut | CallError::Down), "{error}");
    until(&redis, |state| state == State::Down).await;
    assert!(matches!(count(&redis, "n").await, Err(CallError::Down)));
    server.resume().unwrap();
    until(&redis, State::is_usable).await;
    assert!(count(&redis, "n").await.is_ok());
}

#[tokio::test]
async fn more_calls_than_the_bound_are_not_tried() {
    let server = RedisServer::start().await.unwrap();
    let redis = start(&server.url(), &mut Registry::default());
    until(&redis, State::is_usable).await;
    let (release, released) = watch::channel(false);
    let calls: Vec<_> = (0..CALLS_MAX)
        .map(|_| {
            let mut released = released.clone();
            let held = redis.run(move |_| async move {
                // Only a dropped sender fails, and that releases too.
                let _ = released.wait_for(|is_released| *is_released).await;
                Ok(())
            });
            Box::pin(held)
        })
        .collect();
    let calls = futures_util::future::join_all(calls);
    let refused = async {
        let error = count(&redis, "n").await.unwrap_err();
        assert!(matches!(error, CallError::Busy), "{error}");
        release.send_replace(true);
    };
    let (outcomes, ()) = tokio::join!(calls, refused);
    assert!(outcomes.into_iter().all(|outcome| outcome.is_ok()));
    assert!(count(&redis, "n").await.is_ok());
}

#[tokio::test]
async fn a_password_is_needed_and_kept_out_of_errors() {
    let server = RedisServer::start_with(&["--requirepass", "hunter2"]).await.unwrap();
    let with = |password: &str| format!("redis://:{password}@127.0.0.1:{}", server.port());
    let redis = start(&with("hunter2"), &mut Registry::default());
    until(&redis, State::is_usable).await;
    assert!(count(&redis, "n").await.is_ok());
    let wrong = start(&with("hunter3"), &mut Registry::default());
    until(&wrong, |state| state == State::Down).await;
    assert!(!format!("{wrong:?}").contains("hunter"));
}

#[tokio::test]
async fn keys_of_all_slots_are_found_in_a_cluster_and_the_rest_outlives_a_master() {
    let mut cluster = RedisCluster::start().await.unwrap();
    let redis = start(&cluster.url(), &mut Registry::default());
    until(&redis, State::is_usable).await;
    for tag in ["{a}", "{b}", "{c}", "{d}", "{e}", "{f}"] {
        let script = redis::Script::new("redis.call('INCR', KEYS[1]) return redis.call('INCR', KEYS[2])");
        let got: i64 = redis
            .run(|mut link| async move {
                script.key(format!("{tag}x")).key(format!("{tag}x")).invoke_async(&mut link).await
            })
            .await
            .unwrap();
        assert_eq!(got, 2, "{tag}");
    }
    // Slots of the tags: a 15495, b 3300, c 7365; the first master has 0 to 5460.
    cluster.masters[0].kill().unwrap();
    for tag in ["{a}x", "{c}x"] {
        let reached = tidegate_e2e::harness::eventually("a living master answers", DEADLINE, || async {
            count(&redis, tag).await.ok()
        });
        assert!(reached.await.unwrap() > 2, "{tag}");
    }
}
