//! `logging`: what the sidecar writes to standard error.

use serde::Deserialize;

/// The section as it may be written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Document {
    format: Option<Format>,
    level: Option<Level>,
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// The least important line that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Something failed.
    Error,
    /// Something is wrong, the gateway goes on.
    Warn,
    /// Starts, stops, reloads.
    Info,
    /// Each request.
    Debug,
    /// Everything.
    Trace,
}

/// The validated section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Logging {
    /// How a line looks.
    pub format: Format,
    /// The least important line that is written.
    pub level: Level,
}

/// Fills in the defaults; every value that can be written is valid.
#[must_use]
pub fn validate(document: Document) -> Logging {
    let Document { format, level } = document;
    Logging { format: format.unwrap_or(Format::Json), level: level.unwrap_or(Level::Info) }
}
