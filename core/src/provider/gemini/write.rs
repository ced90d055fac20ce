//! A request to a provider.

use serde::Serialize;
use serde_json::value::RawValue;

use super::content::{Content, Piece, contents};
use crate::chat::{ChatRequest, Effort, OutputFormat, Reasoning, Tool, ToolChoice};
use crate::provider::document::{self, unsupported, wrong};
use crate::provider::fit::Fit;
use crate::reply::Reply;

/// Most stop texts that Gemini takes.
const STOPS_MAX: usize = 5;
/// Tokens of thinking for an effort, as Google's own OpenAI-compatible API has them.
const BUDGETS: [u64; 3] = [1_024, 8_192, 24_576];
/// Models that are told in words how much to think.
const LEVEL_MODELS: &str = "gemini-3";

/// Models that give several answers at once (`candidateCount`). Those before and after refuse that
/// ("Multiple candidates is not enabled for this model"), and so do those that draw.
const SEVERAL_MODELS: &str = "gemini-2";
const DRAWING_MODELS: &str = "image";

/// Whether a model gives several answers to one request.
pub fn gives_several(model: &str) -> bool {
    model.contains(SEVERAL_MODELS) && !model.contains(DRAWING_MODELS)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    contents: Vec<Content<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_instruction: Option<Content<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tools<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_config: Option<ToolConfig<'a>>,
    generation_config: GenerationConfig<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Tools<'a> {
    function_declarations: Vec<Declaration<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Declaration<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    parameters_json_schema: &'a RawValue,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToolConfig<'a> {
    function_calling_config: CallingConfig<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CallingConfig<'a> {
    mode: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed_function_names: Option<[&'a str; 1]>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GenerationConfig<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    candidate_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_output_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u64>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    stop_sequences: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<f64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    response_logprobs: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_mime_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_json_schema: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_config: Option<ThinkingConfig>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ThinkingConfig {
    include_thoughts: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_budget: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_level: Option<&'static str>,
}

/// Writes a request; the model and whether it is a stream stand in its address.
pub fn write_request(request: &ChatRequest, fit: &mut Fit) -> Result<Vec<u8>, Reply> {
    let one_tool = request.parallel_tools == Some(false) && !request.tools.is_empty();
    fit.cannot_if(one_tool, || wrong("parallel_tool_calls", "left out"))?;
    let excess = request.stops.len() > STOPS_MAX;
    fit.cannot_if(excess, || wrong("stop", "at most 5 texts"))?;
    fit.cannot_if(request.seed.is_some_and(|s| i32::try_from(s).is_err()), || unsupported("seed"))?;
    fit.note_strict_tools(&request.tools);
    let contents = contents(request);
    if contents.is_empty() {
        return Err(wrong("messages", "a list with at least one user message"));
    }
    let system: Vec<_> =
        request.system.iter().filter(|text| !text.is_empty()).map(|text| Piece::Text(text)).collect();
    let declarations: Vec<_> = request.tools.iter().map(declaration).collect();
    Ok(document::write(&Document {
        contents,
        system_instruction: (!system.is_empty()).then_some(Content { role: None, parts: system }),
        tools: (!declarations.is_empty())
            .then_some(Tools { function_declarations: declarations })
            .into_iter()
            .collect(),
        tool_config: request.tool_choice.as_ref().filter(|_| !request.tools.is_empty()).map(tool_config),
        generation_config: generation_config(request),
    }))
}

fn generation_config(request: &ChatRequest) -> GenerationConfig<'_> {
    let (response_mime_type, response_json_schema) = match &request.format {
        OutputFormat::Text => (None, None),
        OutputFormat::Json => (Some("application/json"), None),
        OutputFormat::Schema(schema) => (Some("application/json"), Some(&*schema.schema)),
    };
    GenerationConfig {
        candidate_count: (request.alternatives > 0).then(|| request.alternatives + 1),
        max_output_tokens: request.tokens_max,
        temperature: request.temperature,
        top_p: request.top_p,
        top_k: request.top_k,
        stop_sequences: request.stops.get(..STOPS_MAX).unwrap_or(&request.stops),
        seed: request.seed.filter(|seed| i32::try_from(*seed).is_ok()),
        frequency_penalty: request.frequency_penalty,
        presence_penalty: request.presence_penalty,
        response_logprobs: request.logprobs.is_some(),
        logprobs: request.logprobs.filter(|n| *n > 0),
        response_mime_type,
        response_json_schema,
        thinking_config: request.reasoning.map(|r| thinking(r, &request.model)),
    }
}

fn thinking(reasoning: Reasoning, model: &str) -> ThinkingConfig {
    let [low, medium, high] = BUDGETS;
    let (budget, level) = match reasoning {
        Reasoning::Off => (0, "minimal"),
        Reasoning::Budget(tokens) => (tokens, if tokens <= low { "low" } else { "high" }),
        Reasoning::Effort(Effort::Minimal) => (low, "minimal"),
        Reasoning::Effort(Effort::Low) => (low, "low"),
        Reasoning::Effort(Effort::Medium) => (medium, "medium"),
        Reasoning::Effort(Effort::High) => (high, "high"),
    };
    let by_level = model.contains(LEVEL_MODELS);
    ThinkingConfig {
        include_thoughts: reasoning != Reasoning::Off,
        thinking_budget: (!by_level).then_some(budget),
        thinking_level: by_level.then_some(level),
    }
}

fn declaration(tool: &Tool) -> Declaration<'_> {
    Declaration {
        name: &tool.name,
        description: tool.description.as_deref(),
        parameters_json_schema: &tool.schema,
    }
}

fn tool_config(choice: &ToolChoice) -> ToolConfig<'_> {
    let (mode, allowed_function_names) = match choice {
        ToolChoice::Auto => ("AUTO", None),
        ToolChoice::None => ("NONE", None),
        ToolChoice::Any => ("ANY", None),
        ToolChoice::Named(name) => ("ANY", Some([name.as_str()])),
    };
    ToolConfig { function_calling_config: CallingConfig { mode, allowed_function_names } }
}
