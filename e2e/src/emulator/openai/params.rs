//! A request body read strictly: unknown parameters, wrong types and values out of range are refused.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::error::ApiError;

/// The parameters of a request.
#[derive(Debug)]
pub(super) struct Params(Map<String, Value>);

impl Params {
    /// Reads a body that may hold the parameters `known` and no others.
    pub(super) fn read(body: &[u8], known: &[&str]) -> Result<Self, ApiError> {
        let Ok(Value::Object(map)) = serde_json::from_slice::<Value>(body) else {
            return Err(ApiError::broken_json());
        };
        if let Some(unknown) = map.keys().find(|name| !known.contains(&name.as_str())) {
            return Err(ApiError::invalid(format!("Unknown parameter: '{unknown}'."))
                .param(unknown.clone())
                .code("unknown_parameter"));
        }
        Ok(Self(map))
    }

    /// A parameter, unless it is absent or null.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn required(&self, name: &str) -> Result<&Value, ApiError> {
        self.get(name).ok_or_else(|| ApiError::missing(name))
    }

    pub(super) fn model(&self) -> Result<&str, ApiError> {
        let missing = || ApiError::invalid("you must provide a model parameter");
        let model = self.get("model").ok_or_else(missing)?;
        model.as_str().ok_or_else(|| ApiError::wrong_type("model", "a string"))
    }

    pub(super) fn flag(&self, name: &str) -> Result<bool, ApiError> {
        self.get(name)
            .map_or(Ok(false), |value| value.as_bool().ok_or_else(|| ApiError::wrong_type(name, "a boolean")))
    }

    pub(super) fn whole(&self, name: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, ApiError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let number = value.as_u64().ok_or_else(|| ApiError::wrong_type(name, "an integer"))?;
        if range.contains(&number) {
            return Ok(Some(number));
        }
        Err(out_of_range(name, &value.to_string(), range.start(), range.end()))
    }

    /// Refuses a number outside its range; the emulator makes no other use of these.
    pub(super) fn check_number(&self, name: &str, range: RangeInclusive<f64>) -> Result<(), ApiError> {
        let Some(value) = self.get(name) else {
            return Ok(());
        };
        let number = value.as_f64().ok_or_else(|| ApiError::wrong_type(name, "a number"))?;
        if range.contains(&number) {
            return Ok(());
        }
        Err(out_of_range(name, &value.to_string(), range.start(), range.end()))
    }

    /// Whether a stream is asked for and whether it ends with a usage chunk.
    pub(super) fn streaming(&self) -> Result<Streaming, ApiError> {
        let stream = self.flag("stream")?;
        let Some(options) = self.get("stream_options") else {
            return Ok(if stream { Streaming::On { usage: false } } else { Streaming::Off });
        };
        if !stream {
            return Err(ApiError::invalid(
                "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
            )
            .param("stream_options"));
        }
        let options =
            options.as_object().ok_or_else(|| ApiError::wrong_type("stream_options", "an object"))?;
        let usage = options.get("include_usage").and_then(Value::as_bool).unwrap_or(false);
        Ok(Streaming::On { usage })
    }
}

/// How the answer is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Streaming {
    Off,
    On { usage: bool },
}

fn out_of_range(
    name: &str,
    value: &str,
    low: impl std::fmt::Display,
    high: impl std::fmt::Display,
) -> ApiError {
    ApiError::invalid(format!(
        "Invalid '{name}': expected a value from {low} to {high}, but got {value} instead."
    ))
    .param(name)
    .code("invalid_value")
}
