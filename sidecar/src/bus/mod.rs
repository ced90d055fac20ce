//! How what filters observe reaches whoever learns from it. Delivery is at least once: a batch is
//! acknowledged only after what was learnt from it is kept, and batches are numbered in their VM,
//! so that one that comes twice changes nothing.
//!
//! Where sidecars share a bus, it has lanes, and each lane is one sidecar's at a time.

mod delivery;
mod kafka;
mod local;

use std::future::Future;
use std::sync::Arc;

use prometheus_client::registry::Registry;
use rdkafka::error::KafkaError;

use serde::{Deserialize, Serialize};
use tidegate_core::event::Batch;

pub use delivery::Delivery;
use kafka::{KafkaBus, KafkaSource, kafka};
use local::{LocalBus, LocalSource, local};

use crate::config::bus::Bus as Settings;

/// A batch and the VM it comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// The VM's random name.
    pub vm: String,
    /// What it observed.
    pub batch: Batch,
}

/// A part of a shared bus that is one sidecar's at a time: a partition of a topic, with its group.
pub type Lane = Arc<str>;

/// What comes from a bus.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// A batch, and the lane that it came by, where the bus has lanes.
    Batch(Option<Lane>, Envelope),
    /// These lanes are this sidecar's now, and no others.
    Assigned(Vec<Lane>),
    /// These are not any more. What was taken from them and not acknowledged, another sidecar hears
    /// again.
    Revoked(Vec<Lane>),
}

/// The bus takes no more until some of what waits is done; the sender is to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// Where batches are put.
pub trait EventBus: Send + Sync {
    /// Puts a batch on the bus; the next of its VM is to come when it has arrived there.
    ///
    /// # Errors
    /// [`Full`]; the batch is not on the bus then.
    fn publish(&self, envelope: Envelope) -> Result<Delivery, Full>;
}

/// Where batches are taken from.
pub trait EventSource: Send {
    /// What comes next; `None` when the bus has ended.
    fn next(&mut self) -> impl Future<Output = Option<Heard>> + Send;
    /// Confirms all batches taken so far: they need not come again after a restart.
    fn acknowledge(&mut self) -> impl Future<Output = ()> + Send;
    /// Whether the bus has lanes.
    fn has_lanes(&self) -> bool;
    /// Has everything come again that was not acknowledged, to whomever its lane belongs then.
    fn start_over(&mut self);
    /// Takes leave at the end of the process. Blocks while the bus does not answer.
    fn leave(self);
}

/// The configured bus.
#[derive(Debug, Clone)]
pub enum Bus {
    /// Within this process.
    Local(LocalBus),
    /// Over Kafka.
    Kafka(KafkaBus),
}

impl Bus {
    /// Whether batches get through; `None` where nothing can be in the way.
    #[must_use]
    pub fn is_up(&self) -> Option<bool> {
        match self {
            Self::Local(_) => None,
            Self::Kafka(bus) => Some(bus.is_up()),
        }
    }
}

impl EventBus for Bus {
    fn publish(&self, envelope: Envelope) -> Result<Delivery, Full> {
        match self {
            Self::Local(bus) => bus.publish(envelope),
            Self::Kafka(bus) => bus.publish(envelope),
        }
    }
}

/// The other end of the configured bus.
#[derive(Debug)]
pub enum Source {
    /// Within this process.
    Local(LocalSource),
    /// Over Kafka.
    Kafka(Box<KafkaSource>),
}

impl EventSource for Source {
    async fn next(&mut self) -> Option<Heard> {
        match self {
            Self::Local(source) => source.next().await,
            Self::Kafka(source) => source.next().await,
        }
    }

    async fn acknowledge(&mut self) {
        match self {
            Self::Local(source) => source.acknowledge().await,
            Self::Kafka(source) => source.acknowledge().await,
        }
    }

    fn has_lanes(&self) -> bool {
        match self {
            Self::Local(source) => source.has_lanes(),
            Self::Kafka(source) => source.has_lanes(),
        }
    }

    fn start_over(&mut self) {
        match self {
            Self::Local(source) => source.start_over(),
            Self::Kafka(source) => source.start_over(),
        }
    }

    fn leave(self) {
        match self {
            Self::Local(source) => source.leave(),
            Self::Kafka(source) => source.leave(),
        }
    }
}

/// Both ends of the configured bus.
///
/// # Errors
/// librdkafka refuses a setting.
pub fn open(settings: &Settings, registry: &mut Registry) -> Result<(Bus, Source), KafkaError> {
    let Some(kafka_settings) = &settings.kafka else {
        let (bus, source) = local(settings.capacity as usize);
        return Ok((Bus::Local(bus), Source::Local(source)));
    };
    let (bus, source) = kafka(kafka_settings, settings.capacity, registry)?;
    Ok((Bus::Kafka(bus), Source::Kafka(Box::new(source))))
}
