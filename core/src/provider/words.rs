//! Words that several protocols of callers have in common.

use serde::Deserialize;

use super::document::{missing, wrong};
use crate::chat::{Effort, Reasoning, ToolChoice};
use crate::reply::Reply;

/// How much to think, in `field`. `xhigh` is what few models know beyond `high`.
pub(super) fn effort(field: &str, effort: &str) -> Result<Reasoning, Reply> {
    Ok(Reasoning::Effort(match effort {
        "none" => return Ok(Reasoning::Off),
        "minimal" => Effort::Minimal,
        "low" => Effort::Low,
        "medium" => Effort::Medium,
        "high" | "xhigh" => Effort::High,
        _ => return Err(wrong(field, "none, minimal, low, medium or high")),
    }))
}

/// `thinking`, as Anthropic has it.
#[derive(Deserialize)]
pub(super) struct Thinking {
    r#type: String,
    budget_tokens: Option<u64>,
}

/// How much to think. A budget says more than an effort; adaptive thinking is as much as the effort
/// allows.
pub(super) fn reasoning(
    thinking: Option<Thinking>,
    effort: Option<Reasoning>,
) -> Result<Option<Reasoning>, Reply> {
    let Some(Thinking { r#type, budget_tokens }) = thinking else { return Ok(effort) };
    Ok(Some(match (r#type.as_str(), budget_tokens) {
        ("disabled", _) => Reasoning::Off,
        ("adaptive", _) => effort.unwrap_or(Reasoning::Effort(Effort::High)),
        ("enabled", Some(tokens)) => Reasoning::Budget(tokens),
        ("enabled", None) => return Err(missing("thinking.budget_tokens")),
        _ => return Err(wrong("thinking.type", "enabled, adaptive or disabled")),
    }))
}

/// Whether tools may, must or must not be used.
pub(super) fn tool_mode(mode: &str) -> Result<ToolChoice, Reply> {
    match mode {
        "auto" => Ok(ToolChoice::Auto),
        "none" => Ok(ToolChoice::None),
        "required" => Ok(ToolChoice::Any),
        _ => Err(wrong("tool_choice", "auto, none, required or a function")),
    }
}
