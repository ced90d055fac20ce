//! Words that OpenAI's two protocols for chats have in common.

use super::document::wrong;
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

/// Whether tools may, must or must not be used.
pub(super) fn tool_mode(mode: &str) -> Result<ToolChoice, Reply> {
    match mode {
        "auto" => Ok(ToolChoice::Auto),
        "none" => Ok(ToolChoice::None),
        "required" => Ok(ToolChoice::Any),
        _ => Err(wrong("tool_choice", "auto, none, required or a function")),
    }
}
