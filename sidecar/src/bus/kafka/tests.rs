use rdkafka::Message as _;
use rdkafka::consumer::{CommitMode, Consumer as _, StreamConsumer};
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use tidegate_core::event::Batch;
use tidegate_e2e::harness::KafkaBroker;

use super::*;
use crate::bus::{EventSource as _, Heard};

const DEADLINE: Duration = Duration::from_secs(60);
/// How often a broker is killed.
const ROUNDS: usize = 6;

fn envelope(number: u64) -> Envelope {
    let batch = Batch { number, events: vec![], traffic: vec![], policies: vec![] };
    Envelope { vm: "a".into(), batch }
}

fn settings(brokers: &str, topic: &str) -> KafkaSettings {
    KafkaSettings {
        brokers: vec![brokers.to_owned()],
        topic: topic.to_owned(),
        group: "learners".to_owned(),
        service: "tidegate".to_owned(),
    }
}

fn open(brokers: &str, topic: &str, capacity: u32) -> (KafkaBus, KafkaSource) {
    kafka(&settings(brokers, topic), capacity, &mut Registry::default()).expect("settings are known")
}

async fn heard(source: &mut KafkaSource) -> Heard {
    let heard = tokio::time::timeout(DEADLINE, source.next()).await.expect("comes in time");
    heard.expect("goes on")
}

async fn next(source: &mut KafkaSource) -> u64 {
    loop {
        if let Heard::Batch(lane, envelope) = heard(source).await {
            assert_eq!(lane.as_deref(), Some("learners/e/0"));
            return envelope.batch.number;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_acknowledged_comes_again_and_what_is_no_batch_is_put_aside() {
    let cluster = MockCluster::new(1).expect("a cluster");
    cluster.create_topic("e", 1, 1).expect("a topic");
    cluster.create_topic("e-dead", 1, 1).expect("a topic");
    let brokers = cluster.bootstrap_servers();
    let (bus, mut source) = open(&brokers, "e", 100);
    bus.publish(envelope(1)).expect("room");
    assert_eq!(next(&mut source).await, 1);
    source.acknowledge().await;
    let poison: BaseRecord<'_, str, [u8], Arrival> = BaseRecord::with_opaque_to("e", Delivery::new().0);
    bus.producer().expect("one").send(poison.key("tidegate").payload(b"\xffnot a batch")).expect("room");
    bus.publish(envelope(2)).expect("room");
    bus.publish(envelope(3)).expect("room");
    assert_eq!([next(&mut source).await, next(&mut source).await], [2, 3]);
    // Acknowledged before the process ends, but not what was taken after it.
    source.consumer.commit_consumer_state(CommitMode::Sync).expect("commits");
    bus.publish(envelope(4)).expect("room");
    assert_eq!(next(&mut source).await, 4);
    drop(source);

    let (_, mut again) = open(&brokers, "e", 100);
    assert_eq!(next(&mut again).await, 4, "2 and 3 were acknowledged, 4 was not");
    let dead: StreamConsumer = ClientConfig::new()
        .set("bootstrap.servers", &brokers)
        .set("group.id", "undertaker")
        .set("auto.offset.reset", "earliest")
        .create()
        .expect("a consumer");
    dead.subscribe(&["e-dead"]).expect("subscribes");
    let buried = tokio::time::timeout(DEADLINE, dead.recv()).await.expect("in time").expect("a message");
    assert_eq!(buried.payload(), Some(&b"\xffnot a batch"[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn while_no_broker_answers_batches_wait_within_the_bound_and_arrive_after() {
    let cluster = MockCluster::new(1).expect("a cluster");
    cluster.create_topic("e", 1, 1).expect("a topic");
    cluster.broker_down(1).expect("goes down");
    let (bus, mut source) = open(&cluster.bootstrap_servers(), "e", 5);
    let taken = (1..=20).filter(|number| bus.publish(envelope(*number)).is_ok()).count();
    assert_eq!(taken, 5, "the bound holds, and the sender knows what was not taken");
    assert!(!bus.is_up());
    cluster.broker_up(1).expect("comes back");
    for number in 1..=5 {
        assert_eq!(next(&mut source).await, number);
    }
    assert!(bus.is_up());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_confirmed_once_a_broker_has_it_and_sent_once_however_often_it_comes() {
    let cluster = MockCluster::new(1).expect("a cluster");
    cluster.create_topic("e", 1, 1).expect("a topic");
    cluster.broker_down(1).expect("goes down");
    let (bus, mut source) = open(&cluster.bootstrap_servers(), "e", 100);
    for _ in 0..3 {
        let delivery = bus.publish(envelope(1)).expect("room");
        assert!(!delivery.arrives(Duration::from_millis(10)).await);
    }
    cluster.broker_up(1).expect("comes back");
    assert_eq!(next(&mut source).await, 1);
    assert!(bus.publish(envelope(1)).expect("known").arrives(DEADLINE).await);
    assert!(bus.publish(envelope(2)).expect("room").arrives(DEADLINE).await);
    assert_eq!(next(&mut source).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_is_one_sidecars_and_goes_to_the_next_with_what_was_not_acknowledged() {
    let cluster = MockCluster::new(1).expect("a cluster");
    cluster.create_topic("e", 1, 1).expect("a topic");
    let brokers = cluster.bootstrap_servers();
    let (bus, mut one) = open(&brokers, "e", 100);
    bus.publish(envelope(1)).expect("room");
    assert_eq!(heard(&mut one).await, Heard::Assigned(vec!["learners/e/0".into()]));
    assert_eq!(next(&mut one).await, 1);
    one.consumer.commit_consumer_state(CommitMode::Sync).expect("commits");
    bus.publish(envelope(2)).expect("room");
    assert_eq!(next(&mut one).await, 2);
    drop(one);
    let (_, mut two) = open(&brokers, "e", 100);
    assert_eq!(heard(&mut two).await, Heard::Assigned(vec!["learners/e/0".into()]));
    assert_eq!(next(&mut two).await, 2);
    two.start_over();
    assert_eq!(next(&mut two).await, 2, "what was not acknowledged comes again");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_broker_refuses_is_sent_again() {
    let cluster = MockCluster::new(1).expect("a cluster");
    cluster.create_topic("e", 1, 1).expect("a topic");
    let errors = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_MSG];
    cluster.request_errors(RDKafkaApiKey::Produce, &errors);
    let (bus, mut source) = open(&cluster.bootstrap_servers(), "e", 5);
    bus.publish(envelope(1)).expect("room");
    assert_eq!(next(&mut source).await, 1);
}

/// Batches of one worker until one of them is heard; gives its number.
async fn gets_through(bus: &KafkaBus, source: &mut KafkaSource, from: u64) -> u64 {
    let due = tokio::time::Instant::now() + DEADLINE;
    let mut number = from;
    loop {
        assert!(tokio::time::Instant::now() < due, "no batch gets through");
        number += 1;
        // What is not taken is sent again under another number, as a filter would.
        let _ = bus.publish(envelope(number));
        // Whoever waits may give up sooner than a broker answers.
        let moment = tokio::time::timeout(Duration::from_millis(5), source.next()).await;
        if let Ok(Some(Heard::Batch(_, heard))) = moment
            && heard.batch.number > from
        {
            return number;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_comes_back_with_nothing_at_any_moment_ends_nothing() {
    let mut broker = KafkaBroker::start().await.expect("a broker");
    let (bus, mut source) = open(&broker.address(), "e", 100);
    let mut number = gets_through(&bus, &mut source, 0).await;
    // Killed while it works, and then as soon as the group has shared out, or a little later.
    for moment in 0..ROUNDS {
        broker.kill().expect("was there");
        broker.restart().await.expect("is there again");
        while !matches!(heard(&mut source).await, Heard::Assigned(_)) {}
        for _ in 0..moment % 3 {
            number = gets_through(&bus, &mut source, number).await;
        }
    }
    gets_through(&bus, &mut source, number).await;
}
