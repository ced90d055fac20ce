//! A request to a provider.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::chat::{
    ChatRequest, Document as Paper, DocumentSource, Image, Part, ResultPart, Role, Tool, ToolChoice, Turn,
};
use crate::provider::caching::CacheControl;
use crate::provider::claude::{OutputConfig, Plan, Thinking};
use crate::provider::document::{self, unsupported, wrong};
use crate::provider::fit::Fit;
use crate::reply::Reply;

/// The bound on tokens when the caller sets none: Anthropic insists on one, and every model it
/// serves can generate this many.
const TOKENS_MAX_DEFAULT: u64 = 4096;
/// Highest temperature that Anthropic takes.
const TEMPERATURE_MAX: f64 = 1.0;

#[derive(Serialize)]
struct Document<'a> {
    model: &'a str,
    max_tokens: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    system: Vec<Marked<'a>>,
    messages: Vec<Message<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u64>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    stop_sequences: &'a [String],
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stream: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<ToolDocument<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Choice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Metadata<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<Thinking>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_config: Option<OutputConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<CacheControl>,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: Vec<Marked<'a>>,
}

/// A block, and whether the prompt up to it is worth caching.
#[derive(Serialize)]
struct Marked<'a> {
    #[serde(flatten)]
    block: Block<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<CacheControl>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block<'a> {
    Text {
        text: &'a str,
    },
    Image {
        source: Source<'a>,
    },
    Document {
        source: Source<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        title: Option<&'a str>,
    },
    Thinking {
        thinking: &'a str,
        signature: &'a str,
    },
    RedactedThinking {
        data: &'a str,
    },
    ToolUse {
        id: &'a str,
        name: &'a str,
        input: &'a RawValue,
    },
    ToolResult {
        tool_use_id: &'a str,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        content: Vec<Self>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        is_error: bool,
    },
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Source<'a> {
    Base64 { media_type: &'a str, data: &'a str },
    Url { url: &'a str },
    Text { media_type: &'static str, data: &'a str },
}

#[derive(Serialize)]
struct ToolDocument<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    input_schema: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<CacheControl>,
}

#[derive(Serialize)]
struct Choice<'a> {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disable_parallel_tool_use: Option<bool>,
}

#[derive(Serialize)]
struct Metadata<'a> {
    user_id: &'a str,
}

/// Writes a request.
pub fn write_request(request: &ChatRequest, fit: &mut Fit) -> Result<Vec<u8>, Reply> {
    let hot = request.temperature.is_some_and(|t| t > TEMPERATURE_MAX);
    fit.cannot_if(hot, || wrong("temperature", "at most 1"))?;
    refuse_the_unknown(request, fit)?;
    if request.turns.is_empty() {
        return Err(wrong("messages", "a list with at least one user message"));
    }
    let Plan { thinking, output_config, tokens_max } = Plan::of(request, fit);
    let thinks = thinking.is_some();
    // A thinking model's temperature is fixed.
    let temperature = request.temperature.map(|t| t.min(TEMPERATURE_MAX)).filter(|_| !thinks);
    let mut messages = Vec::with_capacity(request.turns.len());
    for turn in &request.turns {
        messages.push(message(turn, fit)?);
    }
    messages.retain(|message| !message.content.is_empty());
    Ok(document::write(&Document {
        model: &request.model,
        max_tokens: tokens_max.unwrap_or(TOKENS_MAX_DEFAULT),
        system: system(request),
        messages,
        temperature,
        top_p: request.top_p,
        top_k: request.top_k,
        stop_sequences: &request.stops,
        stream: request.stream,
        tools: request.tools.iter().map(tool).collect(),
        tool_choice: choice(request, thinks),
        metadata: request.user.as_deref().map(|user_id| Metadata { user_id }),
        thinking,
        output_config,
        cache_control: request.cache.map(CacheControl::from),
    }))
}

/// What Anthropic has no word for; older models know no strict tools.
fn refuse_the_unknown(request: &ChatRequest, fit: &mut Fit) -> Result<(), Reply> {
    for (field, asked) in [
        ("seed", request.seed.is_some()),
        ("frequency_penalty", request.frequency_penalty.is_some()),
        ("presence_penalty", request.presence_penalty.is_some()),
        ("logprobs", request.logprobs.is_some()),
    ] {
        fit.cannot_if(asked, || unsupported(field))?;
    }
    fit.note_strict_tools(&request.tools);
    Ok(())
}

/// Anthropic refuses empty texts, which OpenAI's callers send with every tool call.
fn system(request: &ChatRequest) -> Vec<Marked<'_>> {
    let texts = request.system.iter().enumerate().filter(|(_, text)| !text.is_empty());
    let marked = texts.map(|(index, text)| Marked {
        block: Block::Text { text },
        cache_control: request.system_cache.get(&index).copied().map(CacheControl::from),
    });
    marked.collect()
}

fn message<'a>(turn: &'a Turn, fit: &mut Fit) -> Result<Message<'a>, Reply> {
    let role = match turn.role {
        Role::User => "user",
        Role::Assistant => "assistant",
    };
    let has_sound = turn.parts.iter().any(|part| matches!(part, Part::Audio(_)));
    fit.cannot_if(has_sound, || wrong("messages", "without input_audio"))?;
    let mut content: Vec<Marked<'_>> = Vec::with_capacity(turn.parts.len());
    for part in &turn.parts {
        match part {
            Part::CachePoint(ttl) => {
                // Thoughts cannot be marked, but are cached with what stands around them.
                let is_thought = |block: &Block<'_>| {
                    matches!(block, Block::Thinking { .. } | Block::RedactedThinking { .. })
                };
                if let Some(last) = content.iter_mut().rfind(|marked| !is_thought(&marked.block)) {
                    last.cache_control = Some((*ttl).into());
                }
            }
            part => content.extend(block(part).map(|block| Marked { block, cache_control: None })),
        }
    }
    Ok(Message { role, content })
}

/// Thoughts without a seal are not Anthropic's own, and it takes no others.
fn block(part: &Part) -> Option<Block<'_>> {
    Some(match part {
        Part::Text(text) if text.is_empty() => return None,
        Part::Audio(_) | Part::CachePoint(_) => return None,
        Part::Document(Paper { name, source }) => {
            let source = match source {
                DocumentSource::Base64 { media_type, data } => Source::Base64 { media_type, data },
                DocumentSource::Text(data) => Source::Text { media_type: "text/plain", data },
                DocumentSource::Url(url) => Source::Url { url },
            };
            Block::Document { source, title: name.as_deref() }
        }
        Part::Thought(thought) => match (&thought.redacted, &thought.signature) {
            (Some(data), _) => Block::RedactedThinking { data },
            (None, Some(signature)) => Block::Thinking { thinking: &thought.text, signature },
            (None, None) => return None,
        },
        Part::Text(text) => Block::Text { text },
        Part::Image(image) => Block::Image { source: source(image) },
        Part::ToolUse(tool) => Block::ToolUse { id: &tool.id, name: &tool.name, input: &tool.input },
        Part::ToolResult { id, content, failed } => {
            let content = content.iter().filter_map(|piece| match piece {
                ResultPart::Text(text) if text.is_empty() => None,
                ResultPart::Text(text) => Some(Block::Text { text }),
                ResultPart::Image(image) => Some(Block::Image { source: source(image) }),
            });
            Block::ToolResult { tool_use_id: id, content: content.collect(), is_error: *failed }
        }
    })
}

fn source(image: &Image) -> Source<'_> {
    match image {
        Image::Base64 { media_type, data } => Source::Base64 { media_type, data },
        Image::Url(url) => Source::Url { url },
    }
}

fn tool(tool: &Tool) -> ToolDocument<'_> {
    ToolDocument {
        name: &tool.name,
        description: tool.description.as_deref(),
        input_schema: &tool.schema,
        cache_control: tool.cache.map(CacheControl::from),
    }
}

/// Whether tools may be used in parallel is part of the choice here, so it makes one. A thinking
/// model cannot be forced to use one.
fn choice(request: &ChatRequest, thinks: bool) -> Option<Choice<'_>> {
    let only_one = request.parallel_tools == Some(false) && !request.tools.is_empty();
    let (r#type, name) = match &request.tool_choice {
        None if only_one => ("auto", None),
        None => return None,
        // Without tools these say nothing, and Anthropic refuses them.
        Some(ToolChoice::None | ToolChoice::Auto) if request.tools.is_empty() => return None,
        Some(ToolChoice::None) => {
            return Some(Choice { r#type: "none", name: None, disable_parallel_tool_use: None });
        }
        Some(ToolChoice::Auto) => ("auto", None),
        Some(ToolChoice::Any | ToolChoice::Named(_)) if thinks => ("auto", None),
        Some(ToolChoice::Any) => ("any", None),
        Some(ToolChoice::Named(name)) => ("tool", Some(name.as_str())),
    };
    Some(Choice { r#type, name, disable_parallel_tool_use: only_one.then_some(true) })
}
