//! `bus`: how what filters observe reaches whoever learns from it.

use serde::Deserialize;

use super::Problems;

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
}

/// The validated section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bus {
    /// Which bus.
    pub kind: Kind,
    /// Batches that may wait; more are not taken until some are done.
    pub capacity: u32,
}

/// Checks the section.
pub fn validate(document: Document, problems: &mut Problems) -> Bus {
    let Document { r#type, capacity } = document;
    Bus {
        kind: r#type.unwrap_or(Kind::Local),
        capacity: problems.within("bus.capacity", capacity.unwrap_or(CAPACITY), 1..=1_000_000, " batches"),
    }
}
