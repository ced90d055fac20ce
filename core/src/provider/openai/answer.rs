//! Whole answers.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::write_message::Call;
use crate::chat::{ChatAnswer, Finish, Thought, TokenUsage, ToolUse};
use crate::provider::Malformed;
use crate::provider::document::{self, Piece, TextOr};

#[derive(Deserialize)]
struct Found {
    id: Option<String>,
    model: Option<String>,
    choices: Vec<FoundChoice>,
    usage: Option<UsageFound>,
}

#[derive(Deserialize)]
struct FoundChoice {
    #[serde(default)]
    message: FoundMessage,
    /// Of the older completions.
    text: Option<String>,
    finish_reason: Option<String>,
    logprobs: Option<Box<RawValue>>,
}

#[derive(Deserialize, Default)]
struct FoundMessage {
    content: Option<TextOr<Piece>>,
    refusal: Option<String>,
    /// As DeepSeek, vLLM and most others name it.
    reasoning_content: Option<String>,
    /// As Groq, OpenRouter and Ollama name it.
    reasoning: Option<String>,
    tool_calls: Option<Vec<FoundCall>>,
    /// As it was before there could be several.
    function_call: Option<FoundFunction>,
}

#[derive(Deserialize)]
struct FoundCall {
    id: Option<String>,
    function: FoundFunction,
}

#[derive(Deserialize)]
struct FoundFunction {
    name: String,
    arguments: Option<Box<RawValue>>,
}

/// Arguments as text; some servers send the object itself.
pub(super) fn arguments(found: &RawValue) -> Option<String> {
    match found.get().as_bytes().first()? {
        b'"' => serde_json::from_str(found.get()).ok(),
        b'{' => Some(found.get().to_owned()),
        _ => None,
    }
}

/// Usage as reported.
#[derive(Deserialize)]
pub(super) struct UsageFound {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    prompt_tokens_details: Option<Details>,
    completion_tokens_details: Option<CompletionDetails>,
}

#[derive(Deserialize)]
struct Details {
    cached_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct CompletionDetails {
    reasoning_tokens: Option<u64>,
}

impl From<UsageFound> for TokenUsage {
    fn from(found: UsageFound) -> Self {
        Self {
            input: found.prompt_tokens.unwrap_or(0),
            cache_read: found.prompt_tokens_details.and_then(|d| d.cached_tokens).unwrap_or(0),
            cache_write: 0,
            output: found.completion_tokens.unwrap_or(0),
            reasoning: found.completion_tokens_details.and_then(|d| d.reasoning_tokens).unwrap_or(0),
        }
    }
}

/// Why an answer ended, in words that all protocols have.
pub(super) fn finish(reason: &str) -> Finish {
    match reason {
        "length" => Finish::Length,
        "tool_calls" | "function_call" => Finish::ToolUse,
        "content_filter" => Finish::Refusal,
        _ => Finish::Stop,
    }
}

/// `finish_reason`.
pub(super) const fn reason(finish: &Finish) -> &'static str {
    match finish {
        Finish::Stop | Finish::StopText(_) => "stop",
        Finish::Length => "length",
        Finish::ToolUse => "tool_calls",
        Finish::Refusal => "content_filter",
    }
}

/// Reads an answer: its first choice, as one was asked for. Some servers end an answer that
/// calls tools with `stop`.
pub fn read_answer(body: &[u8]) -> Result<ChatAnswer, Malformed> {
    let found: Found = serde_json::from_slice(body).map_err(|_| Malformed)?;
    let choice = found.choices.into_iter().next().ok_or(Malformed)?;
    let older = choice.message.function_call.map(|function| FoundCall { id: None, function });
    let calls = choice.message.tool_calls.unwrap_or_default().into_iter().chain(older).enumerate();
    let tool_uses = calls.map(tool_use).collect::<Result<Vec<_>, _>>()?;
    let finish = match finish(choice.finish_reason.as_deref().unwrap_or_default()) {
        Finish::Stop if !tool_uses.is_empty() => Finish::ToolUse,
        Finish::Stop if choice.message.refusal.is_some() => Finish::Refusal,
        finish => finish,
    };
    let (text, inner) = choice.message.content.map(TextOr::joined).unzip();
    let told = choice.message.reasoning_content.or(choice.message.reasoning);
    Ok(ChatAnswer {
        id: found.id.unwrap_or_default(),
        model: found.model.unwrap_or_default(),
        text: text.or(choice.message.refusal).or(choice.text).unwrap_or_default(),
        thoughts: thought(told.or(inner)),
        tool_uses,
        finish,
        usage: found.usage.map(TokenUsage::from).unwrap_or_default(),
        logprobs: choice.logprobs.filter(|l| l.get() != "null"),
    })
}

fn thought(text: Option<String>) -> Vec<Thought> {
    let text = text.filter(|text| !text.is_empty());
    text.map(|text| Thought { text, ..Thought::default() }).into_iter().collect()
}

/// A call without an id gets its place as one: callers need some name for it.
fn tool_use((index, call): (usize, FoundCall)) -> Result<ToolUse, Malformed> {
    let FoundFunction { name, arguments: found } = call.function;
    let text = found.map_or(Some(String::new()), |found| arguments(&found)).ok_or(Malformed)?;
    let id = call.id.filter(|id| !id.is_empty()).unwrap_or_else(|| format!("call_{index}"));
    let input = document::object(&text).ok_or(Malformed)?;
    Ok(ToolUse { id, name, input, signature: None })
}

#[derive(Serialize)]
struct Completion<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: Vec<Choice<'a>>,
    usage: UsageWritten,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: u32,
    message: Message<'a>,
    logprobs: Option<&'a RawValue>,
    finish_reason: &'static str,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: Option<&'a str>,
    refusal: Option<()>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    thinking_blocks: Vec<ThinkingBlock<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Call<'a>>,
}

/// A thought with its seal, in the form that LiteLLM's callers know.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum ThinkingBlock<'a> {
    Thinking { thinking: &'a str, signature: &'a str },
    RedactedThinking { data: &'a str },
}

fn thinking_block(thought: &Thought) -> Option<ThinkingBlock<'_>> {
    match (&thought.redacted, &thought.signature) {
        (Some(data), _) => Some(ThinkingBlock::RedactedThinking { data }),
        (None, Some(signature)) => Some(ThinkingBlock::Thinking { thinking: &thought.text, signature }),
        (None, None) => None,
    }
}

/// Usage as written.
#[derive(Serialize)]
pub(super) struct UsageWritten {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: DetailsWritten,
    #[serde(skip_serializing_if = "Option::is_none")]
    completion_tokens_details: Option<CompletionDetailsWritten>,
}

#[derive(Serialize)]
struct CompletionDetailsWritten {
    reasoning_tokens: u64,
}

#[derive(Serialize)]
struct DetailsWritten {
    cached_tokens: u64,
}

impl From<TokenUsage> for UsageWritten {
    fn from(usage: TokenUsage) -> Self {
        Self {
            prompt_tokens: usage.input,
            completion_tokens: usage.output,
            total_tokens: usage.input.saturating_add(usage.output),
            prompt_tokens_details: DetailsWritten { cached_tokens: usage.cache_read },
            completion_tokens_details: (usage.reasoning > 0)
                .then_some(CompletionDetailsWritten { reasoning_tokens: usage.reasoning }),
        }
    }
}

/// Writes answers as the choices of one.
pub fn write_answers(answers: &[ChatAnswer], created: u64) -> Vec<u8> {
    let (id, model) = answers.first().map_or(("", ""), |first| (&first.id, &first.model));
    let usage = answers.iter().map(|answer| answer.usage).sum::<TokenUsage>();
    document::write(&Completion {
        id,
        object: "chat.completion",
        created,
        model,
        choices: (0..).zip(answers).map(choice).collect(),
        usage: usage.into(),
    })
}

fn choice((index, answer): (u32, &ChatAnswer)) -> Choice<'_> {
    let tool_calls: Vec<_> = answer.tool_uses.iter().map(Call::from).collect();
    let content = Some(answer.text.as_str()).filter(|text| !text.is_empty() || tool_calls.is_empty());
    let thoughts: String = answer.thoughts.iter().map(|thought| thought.text.as_str()).collect();
    let message = Message {
        role: "assistant",
        content,
        refusal: None,
        reasoning_content: Some(thoughts).filter(|text| !text.is_empty()),
        thinking_blocks: answer.thoughts.iter().filter_map(thinking_block).collect(),
        tool_calls,
    };
    Choice { index, message, logprobs: answer.logprobs.as_deref(), finish_reason: reason(&answer.finish) }
}
