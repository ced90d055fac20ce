//! Sections that configuration files in the field have, and that later versions put in force. They
//! are read as strictly as the others, so that a file is right once and for all; but having no
//! effect yet, they are named at every start and check, never passed over in silence.

use serde::Deserialize;

use super::Problems;

/// `sampler`: which error events are passed on for learning.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sampler {
    #[serde(default = "sampling_rate_default")]
    sampling_rate: f64,
    #[serde(default = "buffer_size_default")]
    buffer_size: u32,
}

/// `kafka`: the bus of error events.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kafka {
    brokers: Vec<String>,
    #[serde(default = "topic_default")]
    topic: String,
}

const fn sampling_rate_default() -> f64 {
    0.05
}

const fn buffer_size_default() -> u32 {
    1000
}

fn topic_default() -> String {
    "error-events".to_owned()
}

/// Checks the sections, and names those that are there.
pub fn validate(
    sampler: Option<Sampler>,
    kafka: Option<Kafka>,
    problems: &mut Problems,
) -> Vec<&'static str> {
    let mut present = Vec::new();
    if let Some(Sampler { sampling_rate, buffer_size }) = sampler {
        present.push("sampler");
        problems.within("sampler.sampling_rate", sampling_rate, 0.0..=1.0, " of the errors");
        problems.within("sampler.buffer_size", buffer_size, 1..=1_000_000, " events");
    }
    if let Some(Kafka { brokers, topic }) = kafka {
        present.push("kafka");
        addresses("kafka.brokers", &brokers, problems);
        if topic.is_empty() {
            problems.add("kafka.topic", "is empty; name the topic, such as error-events");
        }
    }
    present
}

fn addresses(path: &str, list: &[String], problems: &mut Problems) {
    if list.is_empty() || list.iter().any(|address| !address.contains(':')) {
        problems.add(path, "must be a list of addresses, each host:port");
    }
}
