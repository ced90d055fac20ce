//! A request to a provider.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::chat::{ChatRequest, OutputFormat, Part, ResultPart, Role, Tool, ToolChoice, ToolUse, Turn};
use crate::provider::document::{self, unsupported, wrong};
use crate::provider::fit::Fit;
use crate::reply::Reply;

/// Most stop texts that ERNIE takes.
const STOPS_MAX: usize = 4;
/// Highest temperature; 0 is not taken, and this is what stands for it.
const TEMPERATURE: (f64, f64) = (0.01, 1.0);

#[derive(Serialize)]
struct Document<'a> {
    messages: Vec<Message<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    system: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_output_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    stop: &'a [String],
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stream: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    functions: Vec<Function<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Choice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<&'a str>,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_call: Option<Call<'a>>,
}

#[derive(Serialize)]
struct Call<'a> {
    name: &'a str,
    arguments: &'a str,
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    description: &'a str,
    parameters: &'a RawValue,
}

#[derive(Serialize)]
struct Choice<'a> {
    r#type: &'static str,
    function: Named<'a>,
}

#[derive(Serialize)]
struct Named<'a> {
    name: &'a str,
}

/// Writes a request; the model stands in its address.
pub fn write_request(request: &ChatRequest, fit: &mut Fit) -> Result<Vec<u8>, Reply> {
    refuse_the_unknown(request, fit)?;
    let mut messages = Vec::with_capacity(request.turns.len());
    for turn in &request.turns {
        match turn.role {
            Role::User => user(turn, request, &mut messages, fit)?,
            Role::Assistant => assistant(turn, &mut messages, fit)?,
        }
    }
    if messages.is_empty() {
        return Err(wrong("messages", "a list with at least one user message"));
    }
    let (coldest, hottest) = TEMPERATURE;
    let system = request.system.join("\n");
    let functions = match request.tool_choice {
        Some(ToolChoice::None) => Vec::new(),
        _ => request.tools.iter().map(function).collect(),
    };
    Ok(document::write(&Document {
        messages,
        system: Some(system).filter(|text| !text.is_empty()),
        max_output_tokens: request.tokens_max,
        temperature: request.temperature.map(|t| t.clamp(coldest, hottest)),
        top_p: request.top_p,
        stop: request.stops.get(..STOPS_MAX).unwrap_or(&request.stops),
        stream: request.stream,
        functions,
        tool_choice: match &request.tool_choice {
            Some(ToolChoice::Named(name)) => Some(Choice { r#type: "function", function: Named { name } }),
            _ => None,
        },
        response_format: matches!(request.format, OutputFormat::Json).then_some("json_object"),
        user_id: request.user.as_deref(),
    }))
}

fn refuse_the_unknown(request: &ChatRequest, fit: &mut Fit) -> Result<(), Reply> {
    let hot = request.temperature.is_some_and(|t| t > TEMPERATURE.1);
    fit.cannot_if(hot, || wrong("temperature", "at most 1"))?;
    fit.cannot_if(request.stops.len() > STOPS_MAX, || wrong("stop", "at most 4 texts"))?;
    let forced = request.tool_choice == Some(ToolChoice::Any);
    fit.cannot_if(forced, || wrong("tool_choice", "auto, none or a function"))?;
    for (field, asked) in [
        ("seed", request.seed.is_some()),
        ("frequency_penalty", request.frequency_penalty.is_some()),
        ("presence_penalty", request.presence_penalty.is_some()),
        ("logprobs", request.logprobs.is_some()),
        ("top_k", request.top_k.is_some()),
        ("reasoning_effort", request.reasoning.is_some()),
    ] {
        fit.cannot_if(asked, || unsupported(field))?;
    }
    fit.note_strict_tools(&request.tools);
    Ok(())
}

/// What a function gave is a message of its own, by the function's name.
fn user<'a>(
    turn: &'a Turn,
    request: &'a ChatRequest,
    messages: &mut Vec<Message<'a>>,
    fit: &mut Fit,
) -> Result<(), Reply> {
    let mut said = Vec::new();
    for part in &turn.parts {
        match part {
            Part::Text(text) => said.push(text.as_str()),
            Part::ToolResult { id, content, .. } => {
                let name = Some(called(request, id).map_or(id.as_str(), |tool| tool.name.as_str()));
                let content = result(content, fit)?;
                messages.push(Message { role: "function", content, name, function_call: None });
            }
            _ => fit.cannot(wrong("messages", "text only"))?,
        }
    }
    if !said.is_empty() {
        messages.push(Message { role: "user", content: said.join("\n"), name: None, function_call: None });
    }
    Ok(())
}

fn called<'a>(request: &'a ChatRequest, id: &str) -> Option<&'a ToolUse> {
    request.turns.iter().flat_map(|turn| &turn.parts).find_map(|part| match part {
        Part::ToolUse(tool) if tool.id == id => Some(tool),
        _ => None,
    })
}

fn result(content: &[ResultPart], fit: &mut Fit) -> Result<String, Reply> {
    let mut texts = Vec::with_capacity(content.len());
    for piece in content {
        match piece {
            ResultPart::Text(text) => texts.push(text.as_str()),
            ResultPart::Image(_) => fit.cannot(wrong("messages", "text only"))?,
        }
    }
    Ok(texts.join("\n"))
}

/// ERNIE calls one function at a time.
fn assistant<'a>(turn: &'a Turn, messages: &mut Vec<Message<'a>>, fit: &mut Fit) -> Result<(), Reply> {
    let mut said = String::new();
    let mut call = None;
    for part in &turn.parts {
        match part {
            Part::Text(text) => said.push_str(text),
            Part::ToolUse(tool) if call.is_none() => {
                call = Some(Call { name: &tool.name, arguments: tool.input.get() });
            }
            Part::ToolUse(_) => fit.cannot(wrong("messages", "with one tool call at a time"))?,
            _ => {}
        }
    }
    messages.push(Message { role: "assistant", content: said, name: None, function_call: call });
    Ok(())
}

fn function(tool: &Tool) -> Function<'_> {
    // A description is obligatory here.
    let description = tool.description.as_deref().filter(|text| !text.is_empty()).unwrap_or(&tool.name);
    Function { name: &tool.name, description, parameters: &tool.schema }
}
