//! One limit for three gateways, through a real Redis and real Envoys. Bounds are loose, because
//! the machine is busy with other tests; `tidegate-bench --fleet` has the figures.

use std::time::Duration;

use serde_json::json;
use tidegate_e2e::emulator::Fault;
use tidegate_e2e::harness::{
    Client, DelayedLink, Fleet, Gateway, RedisCluster, RedisServer, StreamingAnswer, Tally, eventually,
};

const RATE: u32 = 60;
const TIMES: u32 = 5;
const PHASE: Duration = Duration::from_secs(4);
/// Commands of Redis that one gateway may cost in a second, those inside of scripts included.
const COMMANDS_PER_SECOND_MAX: u64 = 50;

/// R·t + B.
fn allowed(seconds: u64) -> u64 {
    u64::from(RATE) * (seconds + 1)
}

fn assert_about(tally: Tally, allowed: u64) {
    assert_eq!(tally.failed, 0, "{tally:?}");
    assert!(tally.refused > allowed, "{tally:?}: no overload");
    assert!(tally.admitted <= allowed * 110 / 100, "{tally:?}: {allowed} allowed");
    assert!(tally.admitted >= allowed * 80 / 100, "{tally:?}: {allowed} allowed");
}

#[tokio::test]
async fn three_gateways_admit_what_one_would_and_no_request_fails_without_redis() {
    let mut redis = RedisServer::start().await.unwrap();
    let fleet = Fleet::start(3, RATE, &redis.url()).await.unwrap();
    let commands = redis.info("total_commands_processed").await.unwrap();
    let mut tally = fleet.overload(TIMES, PHASE).await;
    let commands = redis.info("total_commands_processed").await.unwrap() - commands;
    assert!(commands <= 3 * PHASE.as_secs() * COMMANDS_PER_SECOND_MAX, "{commands} commands");
    assert_about(tally, allowed(4));

    redis.kill().unwrap();
    fleet.wait_until("alone", 3).await.unwrap();
    tally += fleet.overload(TIMES, PHASE).await;
    redis.restart().await.unwrap();
    fleet.wait_until("leased", 3).await.unwrap();
    tally += fleet.overload(TIMES, PHASE).await;
    assert_eq!(tally.failed, 0, "{tally:?}");
    // Between the phases there was time for another burst each.
    assert!(tally.admitted <= (allowed(12) + 2 * u64::from(RATE)) * 110 / 100, "{tally:?}");
    assert!(tally.admitted >= allowed(12) * 80 / 100, "{tally:?}");
}

#[tokio::test]
async fn a_cluster_does_as_well() {
    let cluster = RedisCluster::start().await.unwrap();
    let fleet = Fleet::start(2, RATE, &cluster.url()).await.unwrap();
    assert_about(fleet.overload(TIMES, PHASE).await, allowed(4));
}

#[tokio::test]
async fn a_redis_that_takes_half_a_second_delays_nobody() {
    let redis = RedisServer::start().await.unwrap();
    let link = DelayedLink::to(redis.port()).await.unwrap();
    let fleet = Fleet::start(2, RATE, &format!("redis://127.0.0.1:{}", link.port())).await.unwrap();
    link.set(Duration::from_millis(500));
    let tally = fleet.overload(TIMES, PHASE).await;
    assert_eq!(tally.failed, 0, "{tally:?}");
    assert!(tally.refused > allowed(4), "{tally:?}: no overload");
    assert!(tally.admitted <= allowed(4) * 125 / 100, "{tally:?}");
    assert!(tally.admitted >= allowed(4) * 60 / 100, "{tally:?}");
}

#[tokio::test]
async fn a_gateway_that_dies_leaves_its_part_to_the_others() {
    let redis = RedisServer::start().await.unwrap();
    let mut fleet = Fleet::start(2, RATE, &redis.url()).await.unwrap();
    let together = fleet.overload(TIMES, PHASE).await;
    assert_about(together, allowed(4));
    drop(fleet.gateways.pop());
    fleet.wait_until("leased", 1).await.unwrap();
    let alone = fleet.overload(TIMES, PHASE).await;
    assert_about(alone, allowed(4));
}

const IN_FLIGHT: &str = "\
providers:
  - {{openai}}
    models: [gpt-4o]
auth:
  anonymous: {enabled: true, tenant: demo}
redis: {url: '@REDIS@', timeout: 1s, connect_timeout: 1s}
limiter:
  rules:
    - {tenant: demo, concurrency: 4, scope: fleet}
";

/// Opens a stream that does not end by itself; `None` if too many are open already.
async fn open(gateway: &Gateway) -> Option<StreamingAnswer> {
    let question =
        json!({"model": "gpt-4o", "stream": true, "messages": [{"role": "user", "content": "hi"}]});
    let stream = gateway.open_chat(&Client::new(), question.to_string()).await.unwrap();
    match stream.status().as_u16() {
        200 => Some(stream),
        429 => None,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn requests_at_a_time_are_divided_and_who_dies_leaves_its_part_to_the_others() {
    let mut redis = RedisServer::start().await.unwrap();
    let config = IN_FLIGHT.replace("@REDIS@", &redis.url());
    let mut fleet = Fleet::start_with(&config, 2, RATE).await.unwrap();
    let mut streams = Vec::new();
    for gateway in &fleet.gateways {
        gateway.emulator.arm(Fault { stall_after_chunks: Some(1), ..Fault::default() }).unwrap();
        let deadline = Duration::from_secs(10);
        let third = eventually("its part of four is two", deadline, || async {
            let held = [open(gateway).await?, open(gateway).await?];
            open(gateway).await.is_none().then_some(held)
        });
        streams.push(third.await.unwrap());
    }
    // Redis is not needed for that.
    redis.kill().unwrap();
    fleet.wait_until("alone", 2).await.unwrap();
    for gateway in &fleet.gateways {
        assert!(open(gateway).await.is_none());
    }
    redis.restart().await.unwrap();
    drop(fleet.gateways.pop());
    fleet.wait_until("leased", 1).await.unwrap();
    let deadline = Duration::from_secs(10);
    let more = eventually("all four are the survivor's", deadline, || async {
        let held = [open(&fleet.gateways[0]).await?, open(&fleet.gateways[0]).await?];
        open(&fleet.gateways[0]).await.is_none().then_some(held)
    });
    drop(more.await.unwrap());
}
