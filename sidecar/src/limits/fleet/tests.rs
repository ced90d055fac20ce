//! The script and the ledger over a real Redis.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use tempfile::TempDir;
use tidegate_core::usage::Month;
use tidegate_e2e::harness::{RedisCluster, RedisServer};
use tokio::time::timeout;

use super::super::{Account, Ledger};
use super::*;
use crate::config::{self, Env};
use crate::keys::unix_ms;
use crate::redis::Redis;
use crate::store::Store;

const SOON: Duration = Duration::from_secs(30);

async fn connect(url: &str) -> Redis {
    let config = config::parse(&format!("redis: {{url: '{url}', timeout: 500ms}}"), &Env::new()).unwrap();
    let redis = Redis::start(config.redis.unwrap(), &mut Registry::default());
    until(&redis, true).await;
    redis
}

async fn until(redis: &Redis, is_usable: bool) {
    let mut states = redis.watch();
    let changed = timeout(SOON, states.wait_for(|state| state.is_usable() == is_usable)).await;
    changed.expect("in time").expect("state");
}

fn ledger(name: &str) -> (TempDir, Ledger) {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(&folder.path().join("state.redb")).unwrap());
    (folder, Ledger::start(store).unwrap().shared(name.to_owned(), unix_ms()))
}

fn spend(ledger: &Ledger, month: Month, tenant: &str, nano: u64) {
    let account = Account { tenant: tenant.into(), key: None, provider: "p".into(), model: "m".into() };
    let used = Totals { requests: 1, prompt_tokens: 7, cost_nano_usd: nano, ..Totals::default() };
    ledger.record(month, account, &used);
}

async fn contract(redis: &Redis) {
    let month = Month::of_ms(unix_ms());
    let ((_x, x), (_y, y)) = (ledger("x"), ledger("y"));
    spend(&x, month, "a", 5);
    spend(&y, month, "a", 70);
    spend(&y, month, "b", 900);
    for gateway in [&x, &y, &x] {
        tell(gateway, redis).await;
        tell(gateway, redis).await;
    }
    for gateway in [&x, &y] {
        assert_eq!((gateway.spent(month, "a"), gateway.spent(month, "b")), (75, 900));
        assert_eq!(gateway.is_fleet_heard(), Some(true));
    }
    assert_eq!((x.spent_here(month, "a"), y.spent_here(month, "a")), (5, 70));
    let view = x.fleet_view(month).expect("kept");
    assert_eq!((view.gateways, view.tenants["a"].requests, view.tenants["b"].prompt_tokens), (2, 2, 7));
    let fetched = fetch(redis, month).await.expect("there");
    assert_eq!((fetched.gateways, fetched.tenants), (view.gateways, view.tenants));
}

#[tokio::test]
async fn gateways_hear_each_other_and_what_redis_lost_they_tell_again() {
    let mut server = RedisServer::start().await.unwrap();
    let redis = connect(&server.url()).await;
    contract(&redis).await;

    let month = Month::of_ms(unix_ms());
    let ((_v, v), (_w, w)) = (ledger("v"), ledger("w"));
    spend(&v, month, "c", 1);
    tell(&v, &redis).await;
    tell(&w, &redis).await;
    assert_eq!(w.spent(month, "c"), 1);
    server.kill().unwrap();
    until(&redis, false).await;
    spend(&w, month, "c", 20);
    tell(&w, &redis).await;
    assert_eq!((w.spent(month, "c"), w.is_fleet_heard()), (21, Some(false)), "the last that was known");
    server.restart().await.unwrap();
    until(&redis, true).await;
    // `w` remembers what `v`, which is gone, had told.
    drop(v);
    tell(&w, &redis).await;
    let (_u, u) = ledger("u");
    tell(&u, &redis).await;
    assert_eq!((u.spent(month, "c"), u.spent(month, "b")), (21, 900));
    let ttl: u64 =
        server.command(&["TTL", &format!("{{tidegate:usage}}:{month}")]).await.unwrap().parse().unwrap();
    assert!(ttl > 399 * 86_400, "{ttl}");
}

#[tokio::test]
async fn in_a_cluster() {
    let cluster = RedisCluster::start().await.unwrap();
    contract(&connect(&cluster.url()).await).await;
}

#[tokio::test]
async fn a_gateway_that_crashed_hears_from_the_others_what_it_lost() {
    let server = RedisServer::start().await.unwrap();
    let redis = connect(&server.url()).await;
    let month = Month::of_ms(unix_ms());
    let (_before, before) = ledger("x");
    spend(&before, month, "a", 5);
    tell(&before, &redis).await;
    let (_after, after) = ledger("x");
    tell(&after, &redis).await;
    assert_eq!((after.spent(month, "a"), after.spent_here(month, "a")), (5, 5));
    spend(&after, month, "a", 1);
    tell(&after, &redis).await;
    assert_eq!(fetch(&redis, month).await.expect("there").tenants["a"].cost_nano_usd, 6);
}

#[tokio::test]
async fn many_rows_come_in_pages_and_few_calls() {
    const TENANTS: u64 = 3_500;
    let server = RedisServer::start().await.unwrap();
    let redis = connect(&server.url()).await;
    let month = Month::of_ms(unix_ms());
    let ((_x, x), (_y, y)) = (ledger("x"), ledger("y"));
    (0..TENANTS).for_each(|tenant| spend(&x, month, &format!("t{tenant}"), 1));
    tell(&x, &redis).await;
    tell(&y, &redis).await;
    assert_eq!(y.fleet_view(month).expect("kept").tenants.len() as u64, TENANTS);
    // A second in which all was quiet, and one in which every tenant used something.
    let commands = || async { server.info("total_commands_processed").await.unwrap() };
    let before = commands().await;
    tell(&y, &redis).await;
    let quiet = commands().await - before;
    assert!(quiet <= 4, "{quiet} commands");
    (0..500).for_each(|tenant| spend(&y, month, &format!("t{tenant}"), 1));
    let before = commands().await;
    tell(&y, &redis).await;
    let busy = commands().await - before;
    assert!(busy <= 10, "{busy} commands");
}
