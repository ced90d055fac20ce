//! A request body read strictly: unknown fields, wrong types and values out of range are refused.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::error::ApiError;

/// The fields of a request.
#[derive(Debug)]
pub(super) struct Params(Map<String, Value>);

impl Params {
    /// Reads a body that may hold the fields `known` and no others.
    pub(super) fn read(body: &[u8], known: &[&str]) -> Result<Self, ApiError> {
        let Ok(Value::Object(map)) = serde_json::from_slice::<Value>(body) else {
            return Err(ApiError::invalid("The request body is not valid JSON"));
        };
        only(&map, known, "")?;
        Ok(Self(map))
    }

    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    pub(super) fn required(&self, name: &str) -> Result<&Value, ApiError> {
        self.get(name).ok_or_else(|| ApiError::missing(name))
    }

    pub(super) fn text(&self, name: &str) -> Result<&str, ApiError> {
        self.required(name)?.as_str().ok_or_else(|| ApiError::wrong_type(name, "a valid string"))
    }

    pub(super) fn flag(&self, name: &str) -> Result<bool, ApiError> {
        let wrong = || ApiError::wrong_type(name, "a valid boolean");
        self.get(name).map_or(Ok(false), |value| value.as_bool().ok_or_else(wrong))
    }

    pub(super) fn whole(&self, name: &str) -> Result<u64, ApiError> {
        let number = self.required(name)?.as_u64();
        let number = number.ok_or_else(|| ApiError::wrong_type(name, "a valid integer"))?;
        if number == 0 { Err(ApiError::wrong_type(name, "greater than or equal to 1")) } else { Ok(number) }
    }

    pub(super) fn check_number(&self, name: &str, range: RangeInclusive<f64>) -> Result<(), ApiError> {
        let Some(value) = self.get(name) else { return Ok(()) };
        match value.as_f64() {
            Some(number) if range.contains(&number) => Ok(()),
            Some(_) => Err(ApiError::invalid(format!("{name}: range: {}..{}", range.start(), range.end()))),
            None => Err(ApiError::wrong_type(name, "a valid number")),
        }
    }

    pub(super) fn texts(&self, name: &str) -> Result<Vec<&str>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(Vec::new()) };
        let list = value.as_array().ok_or_else(|| ApiError::wrong_type(name, "a valid list"))?;
        let is_text = |value: &Value| value.as_str().is_some_and(|text| !text.trim().is_empty());
        if !list.iter().all(is_text) {
            return Err(ApiError::wrong_type(name, "a list of texts that are not white space"));
        }
        Ok(list.iter().filter_map(Value::as_str).collect())
    }
}

/// Refuses any field but the `known` ones; `path` is where the object stands.
pub(super) fn only(object: &Map<String, Value>, known: &[&str], path: &str) -> Result<(), ApiError> {
    match object.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(ApiError::invalid(format!("{path}{name}: Extra inputs are not permitted"))),
        None => Ok(()),
    }
}
