//! `kafka`: the bus of a fleet, in force with `bus.type: kafka`.

use serde::Deserialize;

use super::Problems;

/// Most brokers named; the others are learnt from them.
const BROKERS_MAX: usize = 64;

/// The section as it may be written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Document {
    brokers: Option<Vec<String>>,
    topic: Option<String>,
    group: Option<String>,
    service: Option<String>,
}

/// The validated section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaSettings {
    /// Addresses, host:port.
    pub brokers: Vec<String>,
    /// The topic of batches; what cannot be read goes to the same name with `-dead`.
    pub topic: String,
    /// The consumer group: sidecars with the same one share the work.
    pub group: String,
    /// The key of batches: what is learnt about one service is learnt by one sidecar.
    pub service: String,
}

/// Checks the section.
pub fn validate(document: Document, problems: &mut Problems) -> Option<KafkaSettings> {
    let Document { brokers, topic, group, service } = document;
    let brokers = problems.required("kafka.brokers", brokers, "`brokers: [127.0.0.1:9092]`")?;
    let is_address = |text: &String| {
        text.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty() && !host.contains(['/', ',']) && port.parse::<u16>().is_ok_and(|port| port > 0)
        })
    };
    if !(1..=BROKERS_MAX).contains(&brokers.len()) || !brokers.iter().all(is_address) {
        problems
            .add("kafka.brokers", format!("must be a list of 1 to {BROKERS_MAX} addresses, each host:port"));
    }
    let mut name = |path: &str, name: Option<String>, default: &str| {
        let name = name.unwrap_or_else(|| default.to_owned());
        if !tidegate_core::wire::is_name(&name) {
            problems.add(path, "must be 1 to 64 of A-Z a-z 0-9 . _ -");
        }
        name
    };
    let topic = name("kafka.topic", topic, "error-events");
    let group = name("kafka.group", group, "tidegate");
    let service = name("kafka.service", service, "tidegate");
    Some(KafkaSettings { brokers, topic, group, service })
}
