//! Structured output where a provider knows none: the schema goes as a tool that the model must
//! use, and the tool's input comes back as the answer's text.

use crate::chat::{ChatAnswer, ChatRequest, Finish, OutputFormat, Reasoning, StreamEvent, Tool, ToolChoice};
use crate::reply::Reply;

use super::Fit;
use super::document::unsupported;

/// What the model is told where only "some JSON" is asked for.
const JSON_INSTRUCTION: &str =
    "Answer with one JSON object and nothing else: no text around it and no code fence.";
const DESCRIPTION: &str = "Gives the answer. Use it to answer; its input is what the user reads.";

/// Puts the format that `request` asks for into words that every provider has. Gives the name of
/// the tool that stands for a schema.
///
/// # Errors
/// A schema together with thinking: providers do not let a thinking model be forced to use a tool.
pub fn as_tool(request: &mut ChatRequest, fit: &mut Fit) -> Result<Option<String>, Reply> {
    let schema = match std::mem::take(&mut request.format) {
        OutputFormat::Text => return Ok(None),
        OutputFormat::Json => {
            request.system.push(JSON_INSTRUCTION.to_owned());
            return Ok(None);
        }
        OutputFormat::Schema(schema) => schema,
    };
    if request.reasoning.is_some_and(|r| r != Reasoning::Off) {
        fit.cannot(unsupported("reasoning_effort"))?;
        request.reasoning = None;
    }
    let name = free_name(schema.name, &request.tools);
    let has_tools = !request.tools.is_empty() && request.tool_choice != Some(ToolChoice::None);
    if !has_tools {
        request.tools.clear();
    }
    request.tools.push(Tool {
        name: name.clone(),
        description: Some(schema.description.unwrap_or_else(|| DESCRIPTION.to_owned())),
        schema: schema.schema,
        strict: false,
    });
    request.tool_choice = match request.tool_choice.take() {
        Some(ToolChoice::Named(tool)) if has_tools => Some(ToolChoice::Named(tool)),
        _ if has_tools => Some(ToolChoice::Any),
        _ => Some(ToolChoice::Named(name.clone())),
    };
    Ok(Some(name))
}

fn free_name(mut name: String, tools: &[Tool]) -> String {
    while tools.iter().any(|tool| tool.name == name) {
        name.push('_');
    }
    name
}

/// Makes the use of `tool` the answer's text.
pub fn restore(tool: Option<&str>, answer: &mut ChatAnswer) {
    let Some(tool) = tool else { return };
    let Some(at) = answer.tool_uses.iter().position(|used| used.name == tool) else { return };
    answer.text = answer.tool_uses.remove(at).input.get().to_owned();
    if answer.tool_uses.is_empty() && answer.finish == Finish::ToolUse {
        answer.finish = Finish::Stop;
    }
}

/// The same for a stream.
#[derive(Debug, Default)]
pub struct Restore {
    tool: Option<String>,
    /// The provider's number of the use that is the answer.
    open: Option<u64>,
    others: bool,
}

impl Restore {
    /// Looks out for uses of `tool`.
    pub const fn new(tool: Option<String>) -> Self {
        Self { tool, open: None, others: false }
    }

    /// The event as the caller is to see it; none for what is only about the tool. Text beside
    /// the tool would make the answer something else than JSON.
    pub fn event(&mut self, event: StreamEvent) -> Option<StreamEvent> {
        let Some(tool) = &self.tool else { return Some(event) };
        match event {
            StreamEvent::ToolStart { index, name, .. } if name == *tool => {
                self.open = Some(index);
                None
            }
            StreamEvent::ToolStart { .. } => {
                self.others = true;
                Some(event)
            }
            StreamEvent::ToolInput { index, json } if self.open == Some(index) => {
                Some(StreamEvent::Text(json))
            }
            StreamEvent::Text(_) => None,
            StreamEvent::Finish(Finish::ToolUse) if self.open.is_some() && !self.others => {
                Some(StreamEvent::Finish(Finish::Stop))
            }
            other => Some(other),
        }
    }
}
