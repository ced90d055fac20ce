//! Sections that configuration files in the field have, and that later versions put in force. They
//! are read as strictly as the others, so that a file is right once and for all; but having no
//! effect yet, they are named at every start and check, never passed over in silence.

use serde::Deserialize;

use super::Problems;

/// `kafka`: the bus of error events.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kafka {
    brokers: Vec<String>,
    #[serde(default = "topic_default")]
    topic: String,
}

fn topic_default() -> String {
    "error-events".to_owned()
}

/// Checks the sections, and names those that are there.
pub fn validate(kafka: Option<Kafka>, problems: &mut Problems) -> Vec<&'static str> {
    let mut present = Vec::new();
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
