//! The bus over Kafka: sidecars of a fleet share the work, and one that dies hands over.
//!
//! Batches go to one topic with the service as their key, so that one consumer of the group hears
//! everything about a service. Offsets are committed only when what was learnt is kept. What cannot
//! be read goes to the topic `<topic>-dead`, as it came, and the rest goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use rdkafka::consumer::{CommitMode, Consumer as _, ConsumerContext, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, ClientContext, Message as _};

use super::{Envelope, EventBus, EventSource, Full};
use crate::config::kafka::KafkaSettings;

/// Largest batch, in bytes; a report of a filter is smaller.
const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// Wait after an error of the consumer; librdkafka connects again by itself.
const ERROR_PAUSE: Duration = Duration::from_millis(250);
/// How long a consumer may be silent before its share goes to the others, in milliseconds.
const SESSION_TIMEOUT_MS: u64 = 10_000;
/// How often topics are looked up, in milliseconds.
const METADATA_REFRESH_MS: u64 = 2_000;
/// Longest that the end of the process waits for batches on their way.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByResult {
    result: &'static str,
}

/// What became of messages, and whether a broker can be reached.
#[derive(Debug, Clone, Default)]
struct Watch {
    messages: Family<ByResult, Counter>,
    up: Gauge,
    is_up: Arc<AtomicBool>,
    /// With one broker, its loss is everything's.
    has_one_broker: bool,
}

impl Watch {
    fn count(&self, result: &'static str) {
        self.messages.get_or_create(&ByResult { result }).inc();
    }

    fn hear(&self, error: &KafkaError) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AllBrokersDown) => self.set_up(false),
            Some(RDKafkaErrorCode::BrokerTransportFailure) if self.has_one_broker => self.set_up(false),
            _ => {}
        }
    }

    fn set_up(&self, is_up: bool) {
        if self.is_up.swap(is_up, Ordering::Relaxed) != is_up {
            self.up.set(i64::from(is_up));
            match is_up {
                true => tracing::info!("Kafka can be reached"),
                false => tracing::warn!(
                    "Kafka cannot be reached; batches wait, and filters keep what does not fit"
                ),
            }
        }
    }
}

impl ClientContext for Watch {
    fn error(&self, error: KafkaError, reason: &str) {
        self.hear(&error);
        tracing::debug!(%error, reason, "kafka");
    }
}

impl ConsumerContext for Watch {}

impl ProducerContext for Watch {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => {
                self.set_up(true);
                self.count("published");
            }
            Err((error, _)) => {
                tracing::warn!(%error, "a batch was not taken by Kafka");
                self.count("lost");
            }
        }
    }
}

/// Where batches are put.
#[derive(Clone)]
pub struct KafkaBus {
    producer: Arc<ThreadedProducer<Watch>>,
    topic: Arc<str>,
    service: Arc<str>,
    watch: Watch,
}

impl std::fmt::Debug for KafkaBus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaBus").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl KafkaBus {
    /// Whether a broker can be reached.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.watch.is_up.load(Ordering::Relaxed)
    }
}

impl EventBus for KafkaBus {
    fn publish(&self, envelope: Envelope) -> Result<(), Full> {
        let payload = match serde_json::to_vec(&envelope) {
            Ok(payload) if payload.len() <= MESSAGE_BYTES_MAX => payload,
            _ => {
                self.watch.count("unfit");
                return Ok(());
            }
        };
        let record = BaseRecord::to(&self.topic).key(&*self.service).payload(&payload);
        self.producer.send(record).map_err(|(error, _)| {
            tracing::debug!(%error, "kafka takes no more");
            Full
        })
    }
}

impl Drop for KafkaBus {
    fn drop(&mut self) {
        if Arc::strong_count(&self.producer) == 1 && self.is_up() {
            // What is still on its way then, filters have been told is taken; two seconds are enough
            // for a broker that answers.
            drop(self.producer.flush(FLUSH_TIMEOUT));
        }
    }
}

/// Where batches are taken from.
pub struct KafkaSource {
    consumer: StreamConsumer<Watch>,
    dead: KafkaBus,
    has_taken: bool,
}

impl std::fmt::Debug for KafkaSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KafkaSource")
    }
}

impl KafkaSource {
    /// Puts aside what is no batch, so that it is neither lost nor in the way.
    fn bury(&self, payload: &[u8], reason: &str) {
        self.dead.watch.count("dead");
        tracing::warn!(
            bytes = payload.len(),
            reason,
            "a message that is no batch went to the dead-letter topic"
        );
        let topic = format!("{}-dead", self.dead.topic);
        let record = BaseRecord::to(&topic).key(&*self.dead.service).payload(payload);
        if let Err((error, _)) = self.dead.producer.send(record) {
            tracing::warn!(%error, "the dead-letter topic takes no more");
        }
    }
}

impl EventSource for KafkaSource {
    async fn next(&mut self) -> Option<Envelope> {
        loop {
            let message = match self.consumer.recv().await {
                Ok(message) => message,
                Err(error) => {
                    self.dead.watch.hear(&error);
                    tracing::debug!(%error, "kafka");
                    tokio::time::sleep(ERROR_PAUSE).await;
                    continue;
                }
            };
            self.dead.watch.set_up(true);
            // Committed with the next acknowledgement.
            if let Err(error) = self.consumer.store_offset_from_message(&message) {
                // The partition went to another consumer, who will hear it too.
                tracing::debug!(%error, "kafka");
            }
            self.has_taken = true;
            let payload = message.payload().unwrap_or_default();
            match serde_json::from_slice(payload) {
                Ok(envelope) => {
                    self.dead.watch.count("taken");
                    return Some(envelope);
                }
                Err(error) => self.bury(payload, &error.to_string()),
            }
        }
    }

    async fn acknowledge(&mut self) {
        if std::mem::take(&mut self.has_taken)
            && let Err(error) = self.consumer.commit_consumer_state(CommitMode::Async)
        {
            tracing::debug!(%error, "kafka");
        }
    }
}

/// A bus on which `capacity` batches may wait for a broker. It works once one can be reached.
///
/// # Errors
/// librdkafka refuses a setting.
pub fn kafka(
    settings: &KafkaSettings,
    capacity: u32,
    registry: &mut Registry,
) -> Result<(KafkaBus, KafkaSource), KafkaError> {
    let watch = Watch { has_one_broker: settings.brokers.len() == 1, ..Watch::default() };
    registry.register(
        "gateway_bus_messages",
        "Batches on Kafka, by what became of them",
        watch.messages.clone(),
    );
    registry.register("gateway_bus_up", "1 while a broker of Kafka can be reached", watch.up.clone());
    let mut common = ClientConfig::new();
    common.set("bootstrap.servers", settings.brokers.join(",")).set("client.id", "tidegate");
    let producer = common
        .clone()
        // Batches are numbered, so one that comes twice does no harm; one that comes late would.
        .set("acks", "all")
        .set("max.in.flight", "1")
        .set("compression.type", "none")
        .set("linger.ms", "20")
        .set("message.timeout.ms", "0")
        .set("message.max.bytes", MESSAGE_BYTES_MAX.to_string())
        .set("queue.buffering.max.messages", capacity.to_string())
        .create_with_context(watch.clone())?;
    let bus = KafkaBus {
        producer: Arc::new(producer),
        topic: settings.topic.as_str().into(),
        service: settings.service.as_str().into(),
        watch: watch.clone(),
    };
    let consumer: StreamConsumer<Watch> = common
        .set("group.id", &settings.group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "earliest")
        .set("allow.auto.create.topics", "true")
        // How soon a topic that was made, or moved, is noticed.
        .set("topic.metadata.refresh.interval.ms", METADATA_REFRESH_MS.to_string())
        .set("session.timeout.ms", SESSION_TIMEOUT_MS.to_string())
        .create_with_context(watch)?;
    consumer.subscribe(&[&settings.topic])?;
    Ok((bus.clone(), KafkaSource { consumer, dead: bus, has_taken: false }))
}

#[cfg(test)]
mod tests {
    use rdkafka::mocking::MockCluster;
    use tidegate_core::event::Batch;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(60);

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

    async fn next(source: &mut KafkaSource) -> u64 {
        let envelope = tokio::time::timeout(DEADLINE, source.next()).await.expect("comes in time");
        envelope.expect("goes on").batch.number
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
        let poison = BaseRecord::<str, [u8]>::to("e").key("tidegate").payload(b"\xffnot a batch");
        bus.producer.send(poison).expect("room");
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
}
