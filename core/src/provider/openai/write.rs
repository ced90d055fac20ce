//! A request to a provider.

use serde::Serialize;
use serde_json::value::RawValue;

use super::write_message::{Message, messages};
use crate::chat::{ChatRequest, Effort, OutputFormat, Reasoning, Tool, ToolChoice};
use crate::provider::{Dialect, Fit, ReasoningField, TokenLimitField, document};
use crate::reply::Reply;

/// Most stop texts that OpenAI takes.
const STOPS_MAX: usize = 4;
/// Budgets of thinking up to which an effort is called low, and medium.
const EFFORT_TOKENS: (u64, u64) = (2_048, 8_192);

#[derive(Serialize)]
struct Document<'a> {
    model: &'a str,
    messages: Vec<Message<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u64>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    stop: &'a [String],
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<StreamOptions>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<ToolDocument<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Choice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parallel_tool_calls: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    random_seed: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<f64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    logprobs: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_logprobs: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<ResponseFormat<'a>>,
    #[serde(flatten)]
    reasoning: Thinking,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ResponseFormat<'a> {
    JsonObject,
    JsonSchema { json_schema: Schema<'a> },
}

#[derive(Serialize)]
struct Schema<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    schema: &'a RawValue,
    strict: bool,
}

/// How much to think, in whichever words.
#[derive(Serialize, Default)]
struct Thinking {
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_effort: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<Switch>,
    #[serde(skip_serializing_if = "Option::is_none")]
    enable_thinking: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_budget: Option<u64>,
}

#[derive(Serialize)]
struct Switch {
    r#type: &'static str,
}

#[derive(Serialize)]
struct ToolDocument<'a> {
    r#type: &'static str,
    function: Function<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    parameters: &'a RawValue,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    strict: bool,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Choice<'a> {
    Mode(&'static str),
    Named { r#type: &'static str, function: NamedFunction<'a> },
}

#[derive(Serialize)]
struct NamedFunction<'a> {
    name: &'a str,
}

/// Writes a request.
pub fn write_request(request: &ChatRequest, dialect: &Dialect, fit: &mut Fit) -> Result<Vec<u8>, Reply> {
    fit.cannot_if(request.top_k.is_some() && !dialect.top_k, || document::unsupported("top_k"))?;
    let excess = request.stops.len() > STOPS_MAX;
    fit.cannot_if(excess, || document::wrong("stop", "at most 4 texts"))?;
    let (older, newer) = match dialect.token_limit {
        TokenLimitField::MaxTokens => (request.tokens_max, None),
        TokenLimitField::MaxCompletionTokens => (None, request.tokens_max),
    };
    let (seed, random_seed) =
        if dialect.seed == "seed" { (request.seed, None) } else { (None, request.seed) };
    Ok(document::write(&Document {
        model: &request.model,
        messages: messages(request, dialect, fit)?,
        max_tokens: older,
        max_completion_tokens: newer,
        temperature: request.temperature,
        top_p: request.top_p,
        top_k: request.top_k.filter(|_| dialect.top_k),
        stop: request.stops.get(..STOPS_MAX).unwrap_or(&request.stops),
        stream: request.stream,
        // Every other protocol's streams report usage without being asked.
        stream_options: (request.stream && dialect.stream_options)
            .then_some(StreamOptions { include_usage: true }),
        tools: request.tools.iter().map(tool).collect(),
        tool_choice: request.tool_choice.as_ref().map(choice),
        parallel_tool_calls: request.parallel_tools.filter(|_| !request.tools.is_empty()),
        user: request.user.as_deref(),
        seed,
        random_seed,
        frequency_penalty: request.frequency_penalty,
        presence_penalty: request.presence_penalty,
        logprobs: request.logprobs.is_some(),
        top_logprobs: request.logprobs.filter(|n| *n > 0),
        response_format: response_format(&request.format),
        reasoning: request.reasoning.map(|r| thinking(r, dialect.reasoning)).unwrap_or_default(),
    }))
}

fn response_format(format: &OutputFormat) -> Option<ResponseFormat<'_>> {
    Some(match format {
        OutputFormat::Text => return None,
        OutputFormat::Json => ResponseFormat::JsonObject,
        OutputFormat::Schema(schema) => ResponseFormat::JsonSchema {
            json_schema: Schema {
                name: &schema.name,
                description: schema.description.as_deref(),
                schema: &schema.schema,
                strict: schema.strict,
            },
        },
    })
}

fn thinking(reasoning: Reasoning, field: ReasoningField) -> Thinking {
    let on = reasoning != Reasoning::Off;
    match field {
        // Models that cannot think do not know the word, and those that can are asked to.
        ReasoningField::Effort if !on => Thinking::default(),
        ReasoningField::Effort => {
            Thinking { reasoning_effort: Some(effort(reasoning)), ..Thinking::default() }
        }
        ReasoningField::Thinking => {
            let r#type = if on { "enabled" } else { "disabled" };
            Thinking { thinking: Some(Switch { r#type }), ..Thinking::default() }
        }
        ReasoningField::EnableThinking => {
            let thinking_budget = match reasoning {
                Reasoning::Budget(tokens) => Some(tokens),
                Reasoning::Off | Reasoning::Effort(_) => None,
            };
            Thinking { enable_thinking: Some(on), thinking_budget, ..Thinking::default() }
        }
    }
}

const fn effort(reasoning: Reasoning) -> &'static str {
    match reasoning {
        Reasoning::Off => "none",
        Reasoning::Effort(Effort::Minimal) => "minimal",
        Reasoning::Effort(Effort::Low) => "low",
        Reasoning::Effort(Effort::Medium) => "medium",
        Reasoning::Effort(Effort::High) => "high",
        Reasoning::Budget(tokens) if tokens <= EFFORT_TOKENS.0 => "low",
        Reasoning::Budget(tokens) if tokens <= EFFORT_TOKENS.1 => "medium",
        Reasoning::Budget(_) => "high",
    }
}

fn tool(tool: &Tool) -> ToolDocument<'_> {
    let Tool { name, description, schema, strict } = tool;
    let function =
        Function { name, description: description.as_deref(), parameters: schema, strict: *strict };
    ToolDocument { r#type: "function", function }
}

fn choice(choice: &ToolChoice) -> Choice<'_> {
    match choice {
        ToolChoice::Auto => Choice::Mode("auto"),
        ToolChoice::None => Choice::Mode("none"),
        ToolChoice::Any => Choice::Mode("required"),
        ToolChoice::Named(name) => Choice::Named { r#type: "function", function: NamedFunction { name } },
    }
}
