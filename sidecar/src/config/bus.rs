//! `bus`: how what filters observe reaches whoever learns from it.

use serde::Deserialize;

use super::Problems;
use super::kafka::{self, KafkaSettings};

/// Batches that may wait.
const CAPACITY: u32 = 1024;

/// The section as it may be written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Document {
    r#type: Option<Kind>,
    capacity: Option<u32>,
}

/// Which bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Within this process.
    Local,
    /// Over Kafka, shared by sidecars.
    Kafka,
}

/// The validated section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bus {
    /// Where the bus is Kafka's.
    pub kafka: Option<KafkaSettings>,
    /// Batches that may wait; more are not taken until some are done.
    pub capacity: u32,
}

/// Checks the section.
pub fn validate(document: Document, kafka: Option<kafka::Document>, problems: &mut Problems) -> Bus {
    let Document { r#type, capacity } = document;
    let is_shared = r#type == Some(Kind::Kafka);
    if is_shared && kafka.is_none() {
        problems.add("kafka", "is missing; with bus.type kafka, add `kafka: {brokers: [127.0.0.1:9092]}`");
    }
    // The section is checked even where it is not used, so that a file is right once and for all.
    let kafka = kafka.and_then(|document| kafka::validate(document, problems)).filter(|_| is_shared);
    Bus {
        kafka,
        capacity: problems.within("bus.capacity", capacity.unwrap_or(CAPACITY), 1..=1_000_000, " batches"),
    }
}
