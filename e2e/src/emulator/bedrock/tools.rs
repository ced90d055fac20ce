//! `toolConfig`: the tools that a request offers, and which of them may be used.

use serde_json::Value;

use super::error::ApiError;
use crate::emulator::script::Choice;
use crate::emulator::strict::{Mistake, Object};

/// Longest name of a tool.
const NAME_CHARS_MAX: usize = 64;

/// The tools' names and the choice among them.
pub(super) fn read(config: &Object<'_>) -> Result<(Vec<String>, Choice), ApiError> {
    let tools = config.list("tools")?;
    if tools.is_empty() {
        let why = "must have length greater than or equal to 1";
        return Err(Mistake::value(&config.at("tools"), why).into());
    }
    let name = |(index, tool)| name(tool, &format!("toolConfig.tools.{index}"));
    let names: Vec<String> = tools.iter().enumerate().map(name).collect::<Result<_, _>>()?;
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

fn name(tool: &Value, path: &str) -> Result<String, ApiError> {
    let tool = Object::read(tool, path, &["toolSpec", "cachePoint", "systemTool"])?;
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
