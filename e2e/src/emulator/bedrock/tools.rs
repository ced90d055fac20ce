//! `toolConfig`: the tools that a request offers, and which of them may be used.

use super::error::ApiError;
use crate::emulator::script::Choice;
use crate::emulator::strict::{Mistake, Object};

/// Longest name of a tool.
const NAME_CHARS_MAX: usize = 64;
/// Members of a cache point.
pub(super) const CACHE_POINT: [&str; 2] = ["type", "ttl"];

/// The tools' names and the choice among them.
pub(super) fn read(config: &Object<'_>) -> Result<(Vec<String>, Choice), ApiError> {
    let tools = config.list("tools")?;
    if tools.is_empty() {
        let why = "must have length greater than or equal to 1";
        return Err(Mistake::value(&config.at("tools"), why).into());
    }
    let mut names = Vec::with_capacity(tools.len());
    for (index, tool) in tools.iter().enumerate() {
        let path = format!("toolConfig.tools.{index}");
        let tool = Object::read(tool, &path, &["toolSpec", "cachePoint", "systemTool"])?;
        match tool.object("cachePoint", &CACHE_POINT)? {
            Some(point) => check_cache_point(&point)?,
            None => names.push(name(&tool, &path)?),
        }
    }
    let Some(choice) = config.object("toolChoice", &["auto", "any", "tool"])? else {
        return Ok((names, Choice::Auto));
    };
    let choice = match choice.object("tool", &["name"])? {
        Some(tool) => {
            let name = tool.text("name")?.to_owned();
            if !names.contains(&name) {
                return Err(ApiError::invalid(
                    "The tool in toolChoice is not among the tools of toolConfig.",
                ));
            }
            Choice::Named(name)
        }
        None if choice.get("any").is_some() => Choice::Any,
        None if choice.get("auto").is_some() => Choice::Auto,
        None => return Err(ApiError::invalid("toolConfig.toolChoice must set exactly one key.")),
    };
    Ok((names, choice))
}

/// Where a prompt is worth caching.
pub(super) fn check_cache_point(point: &Object<'_>) -> Result<(), ApiError> {
    if point.text("type")? != "default" {
        let why = "must satisfy enum value set: [default]";
        return Err(Mistake::value(&point.at("type"), why).into());
    }
    if point.optional_text("ttl")?.is_some_and(|ttl| !matches!(ttl, "5m" | "1h")) {
        let why = "must satisfy enum value set: [5m, 1h]";
        return Err(Mistake::value(&point.at("ttl"), why).into());
    }
    Ok(())
}

fn name(tool: &Object<'_>, path: &str) -> Result<String, ApiError> {
    let spec = tool.object("toolSpec", &["name", "description", "inputSchema", "strict"])?;
    let spec = spec.ok_or_else(|| ApiError::invalid(format!("{path} must set exactly one key.")))?;
    let name = spec.text("name")?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.chars().all(allowed) {
        let why = "must satisfy regular expression pattern: [a-zA-Z0-9_-]+";
        return Err(Mistake::value(&spec.at("name"), why).into());
    }
    if spec.optional_text("description")?.is_some_and(str::is_empty) {
        let why = "must have length greater than or equal to 1";
        return Err(Mistake::value(&spec.at("description"), why).into());
    }
    let schema = spec.object("inputSchema", &["json"])?;
    let is_object = schema.and_then(|schema| schema.get("json")).is_some_and(|json| json["type"] == "object");
    if is_object {
        return Ok(name.to_owned());
    }
    Err(ApiError::invalid(format!(
        "The value at {path}.toolSpec.inputSchema.json.type must be one of the following: object."
    )))
}
