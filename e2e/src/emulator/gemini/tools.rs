//! The functions that a request offers, and which of them may be called.

use serde_json::Value;

use super::error::ApiError;
use crate::emulator::script::Choice;
use crate::emulator::strict::{Mistake, Object};

const TOOL_FIELDS: [&str; 5] =
    ["functionDeclarations", "googleSearch", "codeExecution", "urlContext", "googleMaps"];
const FUNCTION_FIELDS: [&str; 7] = [
    "name",
    "description",
    "behavior",
    "parameters",
    "parametersJsonSchema",
    "response",
    "responseJsonSchema",
];
/// Longest name of a function.
const NAME_CHARS_MAX: usize = 64;

/// The functions' names and the choice among them.
pub(super) fn read(request: &Object<'_>) -> Result<(Vec<String>, Choice), ApiError> {
    let mut names = Vec::new();
    for (index, tool) in request.list("tools")?.iter().enumerate() {
        let path = format!("tools[{index}]");
        let tool = Object::read(tool, &path, &TOOL_FIELDS)?;
        for (at, function) in tool.list("functionDeclarations")?.iter().enumerate() {
            names.push(name(function, &format!("{path}.functionDeclarations[{at}]"))?);
        }
    }
    let choice = match request.object("toolConfig", &["functionCallingConfig", "retrievalConfig"])? {
        Some(config) => choice(&config, &names)?,
        None => Choice::Auto,
    };
    Ok((names, choice))
}

fn name(function: &Value, path: &str) -> Result<String, ApiError> {
    let function = Object::read(function, path, &FUNCTION_FIELDS)?;
    let name = function.text("name")?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | ':');
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts_well || !name.chars().all(allowed) || name.len() > NAME_CHARS_MAX {
        let why = "Invalid function name. Must start with a letter or an underscore. Must be alphameric (a-z, A-Z, \
                   0-9), underscores (_), dots (.), colons (:), or dashes (-), with a maximum length of 64.";
        return Err(Mistake::value(&function.at("name"), why).into());
    }
    if function.get("parameters").is_some() && function.get("parametersJsonSchema").is_some() {
        let why = "only one of parameters and parameters_json_schema may be set";
        return Err(Mistake::value(path, why).into());
    }
    Ok(name.to_owned())
}

fn choice(config: &Object<'_>, names: &[String]) -> Result<Choice, ApiError> {
    let Some(calling) = config.object("functionCallingConfig", &["mode", "allowedFunctionNames"])? else {
        return Ok(Choice::Auto);
    };
    let allowed = calling.texts("allowedFunctionNames", usize::MAX)?;
    let mode = calling.optional_text("mode")?.unwrap_or("AUTO");
    if !allowed.is_empty() && mode != "ANY" {
        return Err(ApiError::invalid(
            "Function calling config: allowed_function_names may only be set when mode is ANY.",
        ));
    }
    if let Some(unknown) = allowed.iter().find(|name| !names.iter().any(|known| known == *name)) {
        return Err(ApiError::invalid(format!(
            "Function calling config: {unknown} is not in function_declarations."
        )));
    }
    match mode {
        "AUTO" => Ok(Choice::Auto),
        "NONE" => Ok(Choice::Never),
        "ANY" if names.is_empty() => {
            Err(ApiError::invalid("Function calling config is set without function_declarations."))
        }
        "ANY" => Ok(allowed.first().map_or(Choice::Any, |name| Choice::Named((*name).to_owned()))),
        _ => Err(Mistake::value(&calling.at("mode"), "is not a mode").into()),
    }
}
