//! `cache_control`: where a prompt is worth caching.

use serde_json::Value;

use super::error::ApiError;
use super::params::{Params, only};

/// Most places that may be marked.
const MARKS_MAX: usize = 4;
/// Where marks may stand, beside the request itself.
const PLACES: [&str; 3] = ["system", "messages", "tools"];

/// Whether anything of the prompt is to be cached.
pub(super) fn is_wanted(params: &Params) -> Result<bool, ApiError> {
    let mut marks = 0;
    if let Some(mark) = params.get("cache_control") {
        check(mark, "cache_control.")?;
        marks += 1;
    }
    for place in PLACES {
        if let Some(value) = params.get(place) {
            marks += count(value, &format!("{place}."))?;
        }
    }
    if marks > MARKS_MAX {
        return Err(ApiError::invalid(format!(
            "A maximum of {MARKS_MAX} blocks with cache_control may be provided. Found {marks}."
        )));
    }
    Ok(marks > 0)
}

/// The marks in a value, each checked. Inputs and schemas are the tools' business.
fn count(value: &Value, path: &str) -> Result<usize, ApiError> {
    let mut marks = 0;
    match value {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                marks += count(item, &format!("{path}{index}."))?;
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                match name.as_str() {
                    "cache_control" => {
                        check(member, &format!("{path}cache_control."))?;
                        marks += 1;
                    }
                    "content" => marks += count(member, &format!("{path}content."))?,
                    _ => {}
                }
            }
        }
        _ => {}
    }
    Ok(marks)
}

fn check(mark: &Value, path: &str) -> Result<(), ApiError> {
    let mark = mark.as_object().ok_or_else(|| ApiError::wrong_type(path, "an object"))?;
    only(mark, &["type", "ttl"], path)?;
    if mark.get("type").is_none_or(|kind| kind != "ephemeral") {
        return Err(ApiError::wrong_type(&format!("{path}type"), "'ephemeral'"));
    }
    match mark.get("ttl").map(Value::as_str) {
        None | Some(Some("5m" | "1h")) => Ok(()),
        Some(_) => Err(ApiError::wrong_type(&format!("{path}ttl"), "'5m' or '1h'")),
    }
}
