//! Sidecars that share Kafka and etcd: they count together, one takes over from another, and a broker
//! that is slow, restarted or emptied costs no event.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate_e2e::emulator::{Fault, FaultMatch};
use tidegate_e2e::harness::{Client, EtcdCluster, Gateway, KafkaBroker, chat, eventually};

/// Longer than the session timeout of a consumer, on a busy machine.
const DEADLINE: Duration = Duration::from_secs(90);
const ERRORS: u64 = 30;
const CONFIG: &str = "\
providers:
  - {{openai}}
    models: [gpt-4o]
auth:
  api_keys:
    - {name: acme, key: sk-key-of-acme-0123456789, tenant: acme}
    - {name: beta, key: sk-key-of-beta-0123456789, tenant: beta}
";
const ACME: &str = "sk-key-of-acme-0123456789";
const BETA: &str = "sk-key-of-beta-0123456789";

/// What a caller did wrong: no policy comes of it, so every request is counted as it is.
fn fault() -> Fault {
    let error = json!({
        "message": "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens.",
        "type": "invalid_request_error", "param": "messages", "code": "context_length_exceeded",
    });
    let body = Some(json!({ "error": error }));
    Fault { status: Some(400), body, matches: FaultMatch::default(), ..Fault::default() }
}

async fn gateway(broker: &KafkaBroker, extra: &str) -> Gateway {
    let bus = format!("bus: {{type: kafka}}\nkafka: {{brokers: [\"{}\"]}}\n", broker.address());
    let config = format!("{CONFIG}{bus}{extra}");
    let gateway = Gateway::builder().config_yaml(&config).workers(1).start().await.unwrap();
    gateway.emulator.arm(fault()).unwrap();
    gateway
}

async fn fail(gateway: &Gateway, marker: &str) {
    let client = Client::new().with_key(ACME);
    for number in 0..ERRORS {
        let answer = gateway.ask(&client, chat(&format!("{marker} {number}"))).await.unwrap();
        assert_eq!(answer.status, 400, "{}", answer.text());
    }
}

async fn clusters(gateway: &Gateway) -> Option<Value> {
    Some(gateway.admin().get(&gateway.url("/admin/clusters")).await.ok()?.json())
}

async fn counted(gateway: &Gateway) -> Option<u64> {
    let clusters = clusters(gateway).await?;
    Some(clusters["data"].as_array()?.iter().filter_map(|cluster| cluster["members"].as_u64()).sum())
}

/// Waits until `gateway` shows so many errors; more are never right.
async fn shows(gateway: &Gateway, errors: u64) {
    let shown = eventually(&format!("{errors} errors are counted"), DEADLINE, || async {
        counted(gateway).await.filter(|counted| *counted >= errors)
    })
    .await;
    let shown = match shown {
        Ok(shown) => shown,
        Err(error) => panic!("{error}: {:?}", clusters(gateway).await),
    };
    assert_eq!(shown, errors, "counted more than once");
}

async fn metric(gateway: &Gateway, name: &str) -> u64 {
    let page = gateway.admin().get(&gateway.url("/metrics")).await.unwrap().text();
    let line = page.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
}

/// Batches that the sidecar has taken from Kafka.
async fn taken(gateway: &Gateway) -> u64 {
    metric(gateway, "gateway_bus_messages_total{result=\"taken\"}").await
}

/// Partitions that the sidecar learns from.
async fn lanes(gateway: &Gateway) -> u64 {
    metric(gateway, "gateway_bus_lanes ").await
}

/// Has errors happen at `asked` until one of the two sidecars alone takes them, which it does once the
/// group has shared its work out; gives whether that is `asked`, and how many errors it took.
async fn worker_is(asked: &Gateway, other: &Gateway, before: u64) -> (bool, u64) {
    let mut errors = before;
    eventually("one sidecar takes a service's batches", DEADLINE, || {
        errors += ERRORS;
        let errors = errors;
        async move {
            let taken_before = (taken(asked).await, taken(other).await);
            fail(asked, &format!("round {errors}")).await;
            shows(asked, errors).await;
            let (mine, others) = (taken(asked).await - taken_before.0, taken(other).await - taken_before.1);
            (mine == 0 || others == 0).then_some((mine > 0, errors))
        }
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn a_sidecar_that_dies_hands_over_and_nothing_is_lost_or_counted_twice() {
    let (broker, etcd) = (KafkaBroker::start().await.unwrap(), EtcdCluster::start(1).await.unwrap());
    let store = format!("store: {{type: etcd}}\netcd: {{endpoints: {}, timeout: 10s}}\n", etcd.endpoints());
    let (one, two) = (gateway(&broker, &store).await, gateway(&broker, &store).await);
    fail(&one, "first").await;
    fail(&two, "first").await;
    shows(&one, 2 * ERRORS).await;
    shows(&two, 2 * ERRORS).await;

    let (is_one, mut errors) = worker_is(&one, &two, 2 * ERRORS).await;
    let (mut worker, mut standby) = if is_one { (one, two) } else { (two, one) };
    worker.kill_sidecar().unwrap();
    fail(&standby, "second").await;
    errors += ERRORS;
    shows(&standby, errors).await;

    worker.restart_sidecar().unwrap();
    worker.wait_until_ready().await.unwrap();
    shows(&worker, errors).await;
    // A stop in good order hands over too, once the group has shared its work out anew: the broker of
    // these tests forgets a group of which a member leaves while it does.
    eventually("the sidecar that came back has lanes", DEADLINE, || async {
        (lanes(&worker).await > 0 && lanes(&standby).await > 0).then_some(())
    })
    .await
    .unwrap();
    fail(&standby, "third").await;
    errors += ERRORS;
    shows(&standby, errors).await;
    standby.stop_sidecar_gracefully().await.unwrap();
    fail(&worker, "third").await;
    errors += ERRORS;
    shows(&worker, errors).await;
}

#[tokio::test]
async fn what_one_sidecar_finds_holds_at_every_gateway_while_etcd_loses_its_leader() {
    let (broker, mut etcd) = (KafkaBroker::start().await.unwrap(), EtcdCluster::start(3).await.unwrap());
    let store = format!("store: {{type: etcd}}\netcd: {{endpoints: {}, timeout: 10s}}\n", etcd.endpoints());
    let (one, two) = (gateway(&broker, &store).await, gateway(&broker, &store).await);
    let error = json!({
        "message": "You exceeded your current quota, please check your plan and billing details.",
        "type": "insufficient_quota", "param": null, "code": "insufficient_quota",
    });
    for gateway in [&one, &two] {
        gateway.emulator.disarm_all();
        let body = Some(json!({ "error": error }));
        let matches = FaultMatch { contains: Some("of acme".to_owned()), ..FaultMatch::default() };
        gateway.emulator.arm(Fault { status: Some(429), body, matches, ..Fault::default() }).unwrap();
    }
    let leader = etcd.leader().await.unwrap();
    etcd.kill(leader).unwrap();
    let (acme, beta) = (Client::new().with_key(ACME), Client::new().with_key(BETA));
    let mut number = 0;
    let mut ask = async |gateway: &Gateway| {
        number += 1;
        let answer = gateway.ask(&beta, chat(&format!("of beta {number}"))).await.unwrap();
        assert_eq!(answer.status, 200, "a bystander: {}", answer.text());
        let answer = gateway.ask(&acme, chat(&format!("of acme {number}"))).await.unwrap();
        answer.header("x-gateway-policy").map(str::to_owned)
    };
    let due = Instant::now() + DEADLINE;
    let mut found = (None, None);
    while found.0.is_none() || found.1.is_none() {
        assert!(Instant::now() < due, "it is not refused at both: {found:?}");
        found = (ask(&one).await.or(found.0), ask(&two).await.or(found.1));
    }
    assert_eq!(found.0, found.1, "one policy, made once");
}

#[tokio::test]
async fn a_slow_broker_costs_no_event() {
    let broker = KafkaBroker::start_slow().await.unwrap();
    let gateway = gateway(&broker, "").await;
    fail(&gateway, "quick").await;
    shows(&gateway, ERRORS).await;
    broker.delay(Duration::from_secs(2));
    fail(&gateway, "slow").await;
    shows(&gateway, 2 * ERRORS).await;
}

/// Waits until the sidecar says of the bus what `state` says.
async fn bus_is(gateway: &Gateway, state: &str) {
    eventually(&format!("the bus is {state}"), DEADLINE, || async {
        let health = gateway.admin().get(&gateway.url("/health/detailed")).await.ok()?.json();
        (health["components"]["bus"]["state"] == state).then_some(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_broker_that_is_restarted_in_mid_stream_costs_no_event_and_doubles_none() {
    let broker = KafkaBroker::start_slow().await.unwrap();
    let gateway = gateway(&broker, "").await;
    fail(&gateway, "before").await;
    shows(&gateway, ERRORS).await;
    // In mid-stream: some of these are on their way when the broker goes.
    fail(&gateway, "as it goes").await;
    broker.cut();
    fail(&gateway, "while it is away").await;
    bus_is(&gateway, "down").await;
    broker.mend();
    fail(&gateway, "after").await;
    shows(&gateway, 4 * ERRORS).await;
    bus_is(&gateway, "up").await;
}

#[tokio::test]
async fn a_broker_that_comes_back_with_nothing_costs_no_event_that_was_counted_or_comes_later() {
    let mut broker = KafkaBroker::start().await.unwrap();
    let gateway = gateway(&broker, "").await;
    fail(&gateway, "before").await;
    shows(&gateway, ERRORS).await;
    broker.kill().unwrap();
    fail(&gateway, "while it is away").await;
    bus_is(&gateway, "down").await;
    broker.restart().await.unwrap();
    fail(&gateway, "after").await;
    shows(&gateway, 3 * ERRORS).await;
    // The same, too quickly to be noticed by anything but the connections.
    broker.kill().unwrap();
    broker.restart().await.unwrap();
    fail(&gateway, "after the second").await;
    shows(&gateway, 4 * ERRORS).await;
}
