//! The bus over Kafka: sidecars of a fleet share the work, and one that dies hands over.
//!
//! Batches go to one topic with the service as their key, so that one consumer of the group hears
//! everything about a service. Offsets are committed only when what was learnt is kept. What cannot
//! be read goes to the topic `<topic>-dead`, as it came, and the rest goes on.

mod source;
#[cfg(test)]
mod tests;
mod watch;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::registry::Registry;
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, Producer as _, PurgeConfig, ThreadedProducer};

pub use self::source::KafkaSource;
use self::watch::{Refused, Watch};
use super::delivery::{Arrival, Delivery, Underway};
use super::{Envelope, EventBus, Full};
use crate::config::kafka::KafkaSettings;

/// Largest batch, in bytes; a report of a filter is smaller.
const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// Longest that the end of a producer waits for batches on their way.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
/// First wait before a client connects again, in milliseconds: longer than it takes to replace it.
const RECONNECT_MS: u64 = 1_000;

/// Where batches are put.
#[derive(Clone)]
pub struct KafkaBus {
    /// None from the loss of all brokers until one has the topic.
    producer: Arc<Mutex<Option<Arc<ThreadedProducer<Watch>>>>>,
    config: Arc<ClientConfig>,
    topic: Arc<str>,
    service: Arc<str>,
    watch: Watch,
    underway: Underway,
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
        self.watch.is_up()
    }

    fn send(&self, topic: &str, payload: &[u8], arrival: Arrival) -> Result<(), KafkaError> {
        let Some(producer) = self.producer() else {
            return Err(KafkaError::MessageProduction(RDKafkaErrorCode::AllBrokersDown));
        };
        let record = BaseRecord::with_opaque_to(topic, arrival).key(&*self.service).payload(payload);
        producer.send(record).map_err(|(error, _)| error)
    }

    fn producer(&self) -> Option<Arc<ThreadedProducer<Watch>>> {
        self.producer.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A producer that has lost its brokers sends no more: it knows partitions to which a broker that
    /// comes back with nothing may take messages without keeping them. What it has not delivered is
    /// sent again by the next one.
    fn pause(&self) {
        let old = self.producer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(old) = old else { return };
        // Its end may wait for a broker.
        std::thread::spawn(move || {
            old.purge(PurgeConfig::default().queue().inflight());
            drop(old.flush(FLUSH_TIMEOUT));
        });
    }

    /// Goes on with a new producer, once there is a topic.
    fn resume(&self) {
        let mut producer = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        if producer.is_none() {
            match self.config.create_with_context(self.watch.clone()) {
                Ok(new) => *producer = Some(Arc::new(new)),
                Err(error) => tracing::warn!(%error, "kafka"),
            }
        }
    }

    /// Puts aside what is no batch, so that it is neither lost nor in the way.
    fn bury(&self, payload: &[u8], reason: &str) {
        self.watch.count("dead");
        tracing::warn!(
            bytes = payload.len(),
            reason,
            "a message that is no batch went to the dead-letter topic"
        );
        let (arrival, _) = Delivery::new();
        if let Err(error) = self.send(&format!("{}-dead", self.topic), payload, arrival) {
            tracing::warn!(%error, "the dead-letter topic takes no more");
        }
    }

    /// Sends what a broker did not take. A batch may overtake others so; it is known by its number.
    fn send_again(&self) {
        for refused in self.watch.take_again() {
            let Refused { topic, payload, arrival } = &refused;
            if self.send(topic, payload, Arrival::clone(arrival)).is_err() {
                self.watch.put_again(refused);
            }
        }
    }
}

impl EventBus for KafkaBus {
    fn publish(&self, envelope: Envelope) -> Result<Delivery, Full> {
        self.underway.or_send(&envelope.vm, envelope.batch.number, || {
            let payload = match serde_json::to_vec(&envelope) {
                Ok(payload) if payload.len() <= MESSAGE_BYTES_MAX => payload,
                _ => {
                    self.watch.count("unfit");
                    return Ok(Delivery::ARRIVED);
                }
            };
            let (arrival, delivery) = Delivery::new();
            self.send(&self.topic, &payload, arrival).map(|()| delivery).map_err(|error| {
                tracing::debug!(%error, "kafka takes no more");
                Full
            })
        })
    }
}

impl Drop for KafkaBus {
    fn drop(&mut self) {
        if Arc::strong_count(&self.producer) == 1
            && self.is_up()
            && let Some(producer) = self.producer()
        {
            // Filters send again what is still on its way, once somebody is there to take it; a broker that
            // answers has it sooner.
            drop(producer.flush(FLUSH_TIMEOUT));
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
    let watch = Watch::new(settings.brokers.len(), registry);
    let mut common = ClientConfig::new();
    common
        .set("bootstrap.servers", settings.brokers.join(","))
        .set("client.id", "tidegate")
        .set_log_level(RDKafkaLogLevel::Info)
        .set("reconnect.backoff.ms", RECONNECT_MS.to_string());
    let mut config = common.clone();
    config
        // Batches are numbered, so one that comes twice, or a little late, does no harm.
        .set("acks", "all")
        .set("max.in.flight", "1")
        .set("compression.type", "none")
        .set("linger.ms", "20")
        .set("message.timeout.ms", "0")
        .set("message.max.bytes", MESSAGE_BYTES_MAX.to_string())
        .set("queue.buffering.max.messages", capacity.to_string());
    let producer = config.create_with_context(watch.clone())?;
    let bus = KafkaBus {
        producer: Arc::new(Mutex::new(Some(Arc::new(producer)))),
        config: Arc::new(config),
        topic: settings.topic.as_str().into(),
        service: settings.service.as_str().into(),
        watch,
        underway: Underway::default(),
    };
    let source = KafkaSource::new(&common, settings, bus.clone())?;
    Ok((bus, source))
}
