//! What librdkafka tells on its own threads: whether a broker can be reached, what became of
//! messages, and which partitions are this process's.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::ProducerContext;
use rdkafka::statistics::{Broker, Statistics};
use rdkafka::{ClientContext, Message as _, TopicPartitionList};
use tokio::sync::Notify;

use crate::bus::delivery::Arrival;
use crate::bus::{Heard, Lane};

/// Most lanes of one topic that are told of.
const LANES_MAX: usize = 1024;
/// What librdkafka's log calls a connection that breaks.
const BROKEN: &str = "FAIL";
/// Most messages that wait to be sent again.
const AGAIN_MAX: usize = 1024;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByResult {
    result: &'static str,
}

/// A message that a broker did not take.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    pub(super) arrival: Arrival,
}

/// What became of messages, and whether a broker can be reached.
#[derive(Debug, Clone, Default)]
pub(super) struct Watch {
    messages: Family<ByResult, Counter>,
    up: Gauge,
    lanes: Gauge,
    is_up: Arc<AtomicBool>,
    again: Arc<Mutex<VecDeque<Refused>>>,
    /// Brokers of the cluster, as far as they are known.
    brokers: Arc<AtomicUsize>,
}

impl Watch {
    pub(super) fn new(brokers: usize, registry: &mut Registry) -> Self {
        let watch = Self { brokers: Arc::new(brokers.into()), ..Self::default() };
        let messages = watch.messages.clone();
        registry.register("gateway_bus_messages", "Batches on Kafka, by what became of them", messages);
        let up = watch.up.clone();
        registry.register("gateway_bus_up", "1 while a broker of Kafka can be reached", up);
        let lanes = watch.lanes.clone();
        registry.register("gateway_bus_lanes", "Partitions that this sidecar learns from", lanes);
        watch
    }

    pub(super) fn is_up(&self) -> bool {
        self.is_up.load(Ordering::Relaxed)
    }

    pub(super) fn count(&self, result: &'static str) {
        self.messages.get_or_create(&ByResult { result }).inc();
    }

    /// Whether `error` says that no broker is left.
    pub(super) fn is_loss(&self, error: &KafkaError) -> bool {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AllBrokersDown) => true,
            Some(RDKafkaErrorCode::BrokerTransportFailure) => self.has_one_broker(),
            _ => false,
        }
    }

    /// Whether there is one broker, so that its loss is everything's.
    pub(super) fn has_one_broker(&self) -> bool {
        self.brokers.load(Ordering::Relaxed) <= 1
    }

    pub(super) fn set_up(&self, is_up: bool) {
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

    pub(super) fn set_lanes(&self, lanes: usize) {
        self.lanes.set(i64::try_from(lanes).unwrap_or(i64::MAX));
    }

    /// Keeps a message to be sent again.
    pub(super) fn put_again(&self, refused: Refused) {
        let mut again = lock(&self.again);
        if again.len() < AGAIN_MAX {
            again.push_back(refused);
        } else {
            self.count("lost");
        }
    }

    /// What is to be sent again.
    pub(super) fn take_again(&self) -> VecDeque<Refused> {
        std::mem::take(&mut lock(&self.again))
    }
}

impl ClientContext for Watch {
    fn error(&self, error: KafkaError, reason: &str) {
        if self.is_loss(&error) {
            self.set_up(false);
        }
        tracing::debug!(%error, reason, "kafka");
    }
}

impl ProducerContext for Watch {
    type DeliveryOpaque = Arrival;

    fn delivery(&self, result: &DeliveryResult<'_>, arrival: Arrival) {
        match result {
            Ok(_) => {
                self.set_up(true);
                self.count("published");
                arrival.send_replace(true);
            }
            Err((error, message)) => {
                tracing::debug!(%error, "a batch was not taken by Kafka; it is sent again");
                let payload = message.payload().unwrap_or_default().to_vec();
                self.put_again(Refused { topic: message.topic().to_owned(), payload, arrival });
            }
        }
    }
}

/// The consumer's side: which lanes come and go.
#[derive(Debug, Clone)]
pub(super) struct Assignments {
    pub(super) watch: Watch,
    group: Arc<str>,
    moves: Arc<Mutex<VecDeque<Heard>>>,
    /// A connection has broken.
    broken: Arc<Notify>,
    /// A consumer that is on its way out says nothing more.
    is_muted: Arc<AtomicBool>,
}

impl Assignments {
    pub(super) fn new(watch: Watch, group: &str) -> Self {
        Self {
            watch,
            group: group.into(),
            moves: Arc::default(),
            broken: Arc::default(),
            is_muted: Arc::default(),
        }
    }

    /// The lane of a partition.
    pub(super) fn lane(&self, topic: &str, partition: i32) -> Lane {
        format!("{}/{topic}/{partition}", self.group).into()
    }

    /// The next move of lanes.
    pub(super) fn next(&self) -> Option<Heard> {
        lock(&self.moves).pop_front()
    }

    /// Waits until a connection breaks, or returns at once if one has since the last call.
    pub(super) async fn has_broken(&self) {
        self.broken.notified().await;
    }

    pub(super) fn mute(&self) {
        self.is_muted.store(true, Ordering::Relaxed);
    }

    fn lanes(&self, list: &TopicPartitionList) -> Vec<Lane> {
        let lane = |element: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| {
            self.lane(element.topic(), element.partition())
        };
        list.elements().iter().take(LANES_MAX).map(lane).collect()
    }

    fn tell(&self, moved: Heard) {
        if !self.is_muted.load(Ordering::Relaxed) {
            self.watch.set_lanes(if let Heard::Assigned(lanes) = &moved { lanes.len() } else { 0 });
            lock(&self.moves).push_back(moved);
        }
    }
}

impl ClientContext for Assignments {
    /// librdkafka tells of a connection that breaks here alone.
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(facility, message, "kafka");
        if facility == BROKEN {
            self.broken.notify_one();
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.watch.error(error, reason);
    }

    fn stats(&self, statistics: Statistics) {
        let is_reached =
            |broker: &Broker| broker.source != "internal" && matches!(broker.state.as_str(), "UP" | "UPDATE");
        if !self.is_muted.load(Ordering::Relaxed) {
            let is_node = |broker: &&Broker| broker.nodeid >= 0 && broker.source != "logical";
            let nodes = statistics.brokers.values().filter(is_node).count();
            self.watch.brokers.fetch_max(nodes, Ordering::Relaxed);
            self.watch.set_up(statistics.brokers.values().any(is_reached));
        }
    }
}

impl ConsumerContext for Assignments {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(list) => self.tell(Heard::Assigned(self.lanes(list))),
            Rebalance::Revoke(list) => self.tell(Heard::Revoked(self.lanes(list))),
            Rebalance::Error(error) => tracing::warn!(%error, "the consumer group could not share its work"),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
