//! The tools that a request offers, and which of them may be used.

use serde_json::Value;

use super::error::ApiError;
use super::params::{Params, only};
use crate::emulator::script::Choice;

/// The tools' names, and which of them may be used.
pub(super) fn offered(params: &Params) -> Result<(Vec<String>, Choice), ApiError> {
    let names = names(params)?;
    let Some(choice) = params.get("tool_choice") else { return Ok((names, Choice::Auto)) };
    let object = choice.as_object().ok_or_else(|| ApiError::wrong_type("tool_choice", "an object"))?;
    only(object, &["type", "name", "disable_parallel_tool_use"], "tool_choice.")?;
    if names.is_empty() {
        return Err(ApiError::invalid("tool_choice: may only be specified while providing tools."));
    }
    let name = object.get("name").and_then(Value::as_str);
    let choice = match (object.get("type").and_then(Value::as_str), name) {
        (Some("auto"), None) => Choice::Auto,
        (Some("none"), None) => Choice::Never,
        (Some("any"), None) => Choice::Any,
        (Some("tool"), Some(name)) if names.iter().any(|n| n == name) => Choice::Named(name.to_owned()),
        (Some("tool"), Some(name)) => {
            return Err(ApiError::invalid(format!("tool_choice: Tool '{name}' not found in provided tools")));
        }
        _ => {
            return Err(ApiError::invalid(
                "tool_choice.type: Input tag does not match any of the expected tags",
            ));
        }
    };
    Ok((names, choice))
}

fn names(params: &Params) -> Result<Vec<String>, ApiError> {
    let Some(tools) = params.get("tools") else { return Ok(Vec::new()) };
    let tools = tools.as_array().ok_or_else(|| ApiError::wrong_type("tools", "a valid list"))?;
    let name = |(index, tool): (usize, &Value)| {
        let path = format!("tools.{index}.");
        let object = tool.as_object().ok_or_else(|| ApiError::wrong_type(&path, "an object"))?;
        only(object, &["type", "name", "description", "input_schema", "cache_control"], &path)?;
        if tool["input_schema"]["type"] != "object" {
            return Err(ApiError::wrong_type(&format!("{path}input_schema.type"), "'object'"));
        }
        let name = tool["name"].as_str().ok_or_else(|| ApiError::missing(&format!("{path}name")))?;
        Ok(name.to_owned())
    };
    tools.iter().enumerate().map(name).collect()
}
