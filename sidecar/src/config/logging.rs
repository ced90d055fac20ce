//! `logging`: what the sidecar writes to standard error, and Envoy of requests to standard output.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

/// The section as it may be written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Document {
    format: Option<Format>,
    level: Option<Level>,
    access: Option<Access>,
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

/// Which requests Envoy writes to its access log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// None.
    Off,
    /// Those that were refused, failed or were cut.
    Errors,
    /// Every one.
    All,
}

struct AccessVisitor;

impl Visitor<'_> for AccessVisitor {
    type Value = Access;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("true, false or `errors`")
    }

    fn visit_bool<E: Error>(self, on: bool) -> Result<Access, E> {
        Ok(if on { Access::All } else { Access::Off })
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Access, E> {
        match text {
            "errors" => Ok(Access::Errors),
            _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
        }
    }
}

impl<'de> Deserialize<'de> for Access {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AccessVisitor)
    }
}

/// The validated section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Logging {
    /// How a line looks.
    pub format: Format,
    /// The least important line that is written.
    pub level: Level,
    /// Envoy's access log.
    pub access: Access,
}

/// Fills in the defaults; every value that can be written is valid.
#[must_use]
pub fn validate(document: Document) -> Logging {
    let Document { format, level, access } = document;
    Logging {
        format: format.unwrap_or(Format::Json),
        level: level.unwrap_or(Level::Info),
        access: access.unwrap_or(Access::Off),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Env, parse};
    use super::Access;

    #[test]
    fn the_access_log_is_off_for_all_or_for_errors() {
        for (yaml, access) in [
            ("", Access::Off),
            ("logging: {access: false}", Access::Off),
            ("logging: {access: true}", Access::All),
            ("logging: {access: errors}", Access::Errors),
        ] {
            assert_eq!(parse(yaml, &Env::new()).expect(yaml).logging.access, access);
        }
        let problems = parse("logging: {access: some}", &Env::new()).expect_err("refused").to_string();
        assert!(
            problems.contains("logging.access") && problems.contains("true, false or `errors`"),
            "{problems}"
        );
    }
}
