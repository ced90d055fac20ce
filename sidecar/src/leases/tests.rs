//! One suite on every backend, and the script held against the arithmetic it must do.

use std::time::Duration;

use tempfile::TempDir;
use tidegate_core::limit::Rate;
use tidegate_core::limit::lease::Pool;
use tidegate_core::wire::leases::LeaseGrant;
use tidegate_e2e::harness::{RedisCluster, RedisServer};
use tokio::time::timeout;

use super::*;
use crate::config::{self, Env};
use crate::keys::unix_ms;

const SECOND_NS: u64 = 1_000_000_000;

fn store() -> (TempDir, Arc<Store>) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store.redb")).unwrap();
    (folder, Arc::new(store))
}

async fn on_redis(url: &str) -> (Redis, Leases) {
    let config = config::parse(&format!("redis: {{url: '{url}', timeout: 500ms}}"), &Env::new()).unwrap();
    let mut registry = Registry::default();
    let redis = Redis::start(config.redis.unwrap(), &mut registry);
    let mut states = redis.watch();
    let up = timeout(Duration::from_secs(30), states.wait_for(|state| state.is_usable()));
    up.await.expect("in time").expect("state");
    // Unlinked at once; the open file stays usable.
    let (_folder, store) = store();
    (redis.clone(), Leases::start(Some(redis), store, &mut registry).unwrap())
}

fn ask(pool: u64, ask: u64, back: u64) -> LeaseAsk {
    // Slow enough that no token comes back while the test runs.
    LeaseAsk { pool, interval_ns: 3600 * SECOND_NS, burst: 100, ask, back }
}

async fn lease(leases: &Leases, gateway: u64, asks: Vec<LeaseAsk>) -> LeaseAnswer {
    leases.exchange(&LeaseRequest { gateway, asks }, unix_ms() * 1_000_000).await.expect("well formed")
}

async fn tokens(leases: &Leases, gateway: u64, asks: Vec<LeaseAsk>) -> Vec<u64> {
    let answer = lease(leases, gateway, asks).await;
    assert!(answer.is_leased);
    answer.grants.iter().map(|grant: &LeaseGrant| grant.tokens).collect()
}

async fn contract(leases: &Leases) {
    assert_eq!(lease(leases, 1, vec![]).await.gateways, 1, "being there is enough to count");
    assert_eq!(tokens(leases, 1, vec![ask(1, 30, 0), ask(2, 500, 0)]).await, [30, 100]);
    assert_eq!(tokens(leases, 2, vec![ask(1, 100, 0), ask(2, 1, 0)]).await, [35, 0], "half of what is there");
    assert_eq!(tokens(leases, 1, vec![ask(1, 0, 30), ask(2, 1, 9)]).await, [0, 1]);
    assert_eq!(tokens(leases, 2, vec![ask(1, 100, 0)]).await, [33]);
    let last = lease(leases, 2, vec![ask(3, 1, u64::from(u32::MAX))]).await;
    assert_eq!(last.gateways, 2);
    let [grant] = last.grants.as_slice() else { panic!("{last:?}") };
    assert_eq!((grant.pool, grant.tokens), (3, 1));
    assert!(grant.full_in_ns.abs_diff(3600 * SECOND_NS) < 60 * SECOND_NS, "{grant:?}");
    let bad = [
        vec![ask(1, 1, 0), ask(1, 1, 0)],
        vec![LeaseAsk { interval_ns: 0, ..ask(1, 1, 0) }],
        vec![LeaseAsk { burst: u64::MAX, ..ask(1, 1, 0) }],
        vec![ask(1, u64::MAX, 0)],
        (0..=ASKS_MAX as u64).map(|pool| ask(pool, 1, 0)).collect(),
    ];
    for asks in bad {
        assert_eq!(leases.exchange(&LeaseRequest { gateway: 1, asks }, 0).await, Err(Malformed));
    }
    let most: Vec<_> = (1000..1000 + ASKS_MAX as u64).map(|pool| ask(pool, 2, 0)).collect();
    assert!(tokens(leases, 1, most).await.iter().all(|tokens| *tokens == 2));
}

#[tokio::test]
async fn in_memory() {
    let (_folder, store) = store();
    let leases = Leases::start(None, store, &mut Registry::default()).unwrap();
    contract(&leases).await;
    assert_eq!(leases.status(), None);
}

#[tokio::test]
async fn in_one_redis_and_again_after_it_was_away() {
    let mut server = RedisServer::start().await.unwrap();
    let (redis, leases) = on_redis(&server.url()).await;
    contract(&leases).await;
    assert_eq!(leases.status(), Some(Status { state: "leased", gateways: 2 }));
    server.kill().unwrap();
    let away = lease(&leases, 1, vec![ask(1, 1, 0)]).await;
    assert_eq!(away, LeaseAnswer { is_leased: false, gateways: 2, grants: Vec::new() });
    assert_eq!(leases.status(), Some(Status { state: "alone", gateways: 2 }));
    let mut states = redis.watch();
    timeout(Duration::from_secs(30), states.wait_for(|state| !state.is_usable())).await.unwrap().unwrap();
    server.restart().await.unwrap();
    timeout(Duration::from_secs(30), states.wait_for(|state| state.is_usable())).await.unwrap().unwrap();
    assert_eq!(tokens(&leases, 1, vec![ask(1, 60, 0)]).await, [60], "it knows nothing, so all is there");
}

#[tokio::test]
async fn a_gateway_that_starts_while_redis_is_away_remembers_the_others() {
    let mut server = RedisServer::start().await.unwrap();
    let (redis, _) = on_redis(&server.url()).await;
    let (_folder, store) = store();
    let start = || Leases::start(Some(redis.clone()), store.clone(), &mut Registry::default()).unwrap();
    let leases = start();
    for gateway in 1..=3 {
        lease(&leases, gateway, vec![]).await;
    }
    server.kill().unwrap();
    let kept = tidegate_e2e::harness::eventually("it is kept", Duration::from_secs(30), || async {
        store.get::<u32>(GATEWAYS).unwrap().filter(|gateways| *gateways == 3)
    });
    kept.await.unwrap();
    let away = lease(&start(), 1, vec![]).await;
    assert_eq!((away.is_leased, away.gateways), (false, 3));
}

#[tokio::test]
async fn in_a_cluster() {
    let cluster = RedisCluster::start().await.unwrap();
    let (_redis, leases) = on_redis(&cluster.url()).await;
    contract(&leases).await;
}

#[tokio::test]
async fn one_call_of_many_pools_is_one_operation() {
    let server = RedisServer::start().await.unwrap();
    let (_redis, leases) = on_redis(&server.url()).await;
    let calls = || async { server.command(&["INFO", "commandstats"]).await.unwrap() };
    let evals = |page: &str| {
        let line = page.lines().find(|line| line.starts_with("cmdstat_evalsha:")).unwrap_or_default();
        line.split(['=', ',']).nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0)
    };
    // The first call loads the script.
    lease(&leases, 1, vec![]).await;
    let before = evals(&calls().await);
    lease(&leases, 1, (0..ASKS_MAX as u64).map(|pool| ask(pool, 1, 0)).collect()).await;
    assert_eq!(evals(&calls().await) - before, 1);
    let keys = server.command(&["DBSIZE"]).await.unwrap();
    assert!(keys.contains(&(ASKS_MAX + 1).to_string()), "{keys}");
}

/// The same random exchanges through the script and through [`Pool`], at rates so slow that the
/// clocks do not matter.
#[tokio::test]
async fn the_script_does_the_arithmetic_of_the_pool() {
    use proptest::prelude::*;
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::{Config, TestRunner};

    let server = RedisServer::start().await.unwrap();
    let (_redis, leases) = on_redis(&server.url()).await;
    let step = (1_u64..4, 0_u64..60, 0_u64..20);
    let runs = (1_u64..200, prop::collection::vec(step, 1..40));
    let mut runner = TestRunner::new(Config::default());
    for index in 0..25 {
        let (burst, steps) = runs.new_tree(&mut runner).unwrap().current();
        let (mut pool, number) = (Pool::default(), 10_000 + index);
        let rate = Rate::from_parts(3600 * SECOND_NS, burst);
        for (gateway, wanted, back) in steps {
            let now_ns = unix_ms() * 1_000_000;
            let expected = pool.exchange(gateway, wanted, back, now_ns, rate);
            let asks = vec![LeaseAsk { burst, ..ask(number, wanted, back) }];
            let got = lease(&leases, gateway, asks).await;
            assert_eq!(got.grants[0].tokens, expected.tokens, "burst {burst}, gateway {gateway}");
        }
    }
}
