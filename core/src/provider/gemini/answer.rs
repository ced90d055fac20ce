//! Whole answers, and what a stream's chunks have in common with them.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::partial::PartialArg;
use crate::chat::{ChatAnswer, Finish, Thought, TokenUsage, ToolUse};
use crate::provider::{Malformed, document};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Found<'a> {
    #[serde(default)]
    pub(super) candidates: Vec<Candidate>,
    pub(super) prompt_feedback: Option<Feedback>,
    pub(super) usage_metadata: Option<Usage>,
    /// Repeated in each piece of a stream, and wanted once: borrowed where it can be.
    #[serde(borrow)]
    pub(super) model_version: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) response_id: Option<Cow<'a, str>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub(super) struct Candidate {
    /// Its number among several; left out where it is 0.
    #[serde(default)]
    pub(super) index: u32,
    #[serde(default)]
    pub(super) content: Option<FoundContent>,
    pub(super) finish_reason: Option<String>,
    pub(super) logprobs_result: Option<Logprobs>,
}

#[derive(Deserialize)]
pub(super) struct FoundContent {
    #[serde(default)]
    pub(super) parts: Vec<FoundPart>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FoundPart {
    pub(super) text: Option<String>,
    #[serde(default)]
    pub(super) thought: bool,
    pub(super) thought_signature: Option<String>,
    pub(super) function_call: Option<FoundCall>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FoundCall {
    pub(super) id: Option<String>,
    /// Absent from later pieces of a call.
    pub(super) name: Option<String>,
    args: Option<Box<RawValue>>,
    #[serde(default)]
    pub(super) partial_args: Vec<PartialArg>,
    #[serde(default)]
    pub(super) will_continue: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Feedback {
    block_reason: Option<String>,
}

#[derive(Debug, Deserialize, Clone, Copy)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the names are Google's")]
pub(super) struct Usage {
    prompt_token_count: Option<u64>,
    tool_use_prompt_token_count: Option<u64>,
    cached_content_token_count: Option<u64>,
    candidates_token_count: Option<u64>,
    thoughts_token_count: Option<u64>,
}

/// Google counts thoughts beside the answer, and cached tokens among the prompt's.
impl From<Usage> for TokenUsage {
    fn from(usage: Usage) -> Self {
        let input = usage.prompt_token_count.unwrap_or(0);
        let reasoning = usage.thoughts_token_count.unwrap_or(0);
        Self {
            input: input.saturating_add(usage.tool_use_prompt_token_count.unwrap_or(0)),
            cache_read: usage.cached_content_token_count.unwrap_or(0),
            cache_write: 0,
            output: usage.candidates_token_count.unwrap_or(0).saturating_add(reasoning),
            reasoning,
        }
    }
}

impl Found<'_> {
    /// Why the prompt was not answered at all, if it was not.
    pub(super) fn is_blocked(&self) -> bool {
        self.prompt_feedback.as_ref().is_some_and(|feedback| feedback.block_reason.is_some())
    }
}

impl FoundCall {
    /// The use of a tool. Most models give no id, and callers need one that no other turn has.
    pub(super) fn tool_use(
        self,
        index: u64,
        signature: Option<String>,
        exchange: &str,
    ) -> Result<ToolUse, Malformed> {
        let id = self.id.filter(|id| !id.is_empty()).unwrap_or_else(|| call_id(exchange, index));
        let input = match self.args {
            Some(args) if args.get().starts_with('{') => args,
            Some(_) => return Err(Malformed),
            None => document::object("").ok_or(Malformed)?,
        };
        Ok(ToolUse { id, name: self.name.ok_or(Malformed)?, input, signature })
    }
}

pub(super) fn call_id(exchange: &str, index: u64) -> String {
    let part: String = exchange.chars().filter(char::is_ascii_alphanumeric).take(24).collect();
    format!("call_{part}_{index}")
}

/// Why an answer ended, in words that all protocols have.
pub(super) fn finish(reason: &str, has_tools: bool) -> Finish {
    match reason {
        "MAX_TOKENS" => Finish::Length,
        "SAFETY"
        | "RECITATION"
        | "BLOCKLIST"
        | "PROHIBITED_CONTENT"
        | "SPII"
        | "LANGUAGE"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "IMAGE_RECITATION" => Finish::Refusal,
        _ if has_tools => Finish::ToolUse,
        _ => Finish::Stop,
    }
}

/// Reads the answers in one: a candidate for each that was asked for. Google counts what they used
/// together, which the first one tells.
pub fn read_answers(request_id: &str, body: &[u8]) -> Result<Vec<ChatAnswer>, Malformed> {
    let found: Found<'_> = serde_json::from_slice(body).map_err(|_| Malformed)?;
    let blocked = found.is_blocked();
    let Found { mut candidates, usage_metadata, model_version, response_id, .. } = found;
    if blocked && candidates.is_empty() {
        candidates.push(Candidate::default());
    }
    candidates.sort_by_key(|candidate| candidate.index);
    let first = ChatAnswer {
        id: response_id.map(Cow::into_owned).unwrap_or_default(),
        model: model_version.map(Cow::into_owned).unwrap_or_default(),
        text: String::new(),
        thoughts: Vec::new(),
        tool_uses: Vec::new(),
        finish: if blocked { Finish::Refusal } else { Finish::Stop },
        usage: usage_metadata.map(TokenUsage::from).unwrap_or_default(),
        logprobs: None,
    };
    let mut usages = std::iter::once(first.usage);
    let answers = candidates.into_iter().map(|candidate| {
        let answer = ChatAnswer { usage: usages.next().unwrap_or_default(), ..first.clone() };
        candidate.complete(answer, request_id)
    });
    let answers = answers.collect::<Result<Vec<_>, _>>()?;
    if answers.is_empty() { Err(Malformed) } else { Ok(answers) }
}

impl Candidate {
    /// The answer with what this candidate says; one that was refused stays so.
    fn complete(self, answer: ChatAnswer, exchange: &str) -> Result<ChatAnswer, Malformed> {
        let (mut text, mut thoughts, mut tool_uses) = (String::new(), String::new(), Vec::new());
        for part in self.content.into_iter().flat_map(|content| content.parts) {
            match (part.function_call, part.text) {
                (Some(call), _) => {
                    let index = tool_uses.len() as u64;
                    tool_uses.push(call.tool_use(index, part.thought_signature, exchange)?);
                }
                (None, Some(piece)) if part.thought => thoughts.push_str(&piece),
                (None, Some(piece)) => text.push_str(&piece),
                (None, None) => {}
            }
        }
        let finish = match answer.finish {
            Finish::Refusal => Finish::Refusal,
            _ => finish(self.finish_reason.as_deref().unwrap_or_default(), !tool_uses.is_empty()),
        };
        let thought = Some(thoughts).filter(|text| !text.is_empty());
        let thoughts = thought.map(|text| Thought { text, ..Thought::default() }).into_iter().collect();
        let logprobs = self.logprobs_result.and_then(Logprobs::openais);
        Ok(ChatAnswer { text, thoughts, tool_uses, finish, logprobs, ..answer })
    }
}

/// Log probabilities as Google gives them: for each step the token chosen, and the likeliest.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Logprobs {
    #[serde(default)]
    chosen_candidates: Vec<Chosen>,
    #[serde(default)]
    top_candidates: Vec<Top>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Chosen {
    #[serde(default)]
    token: String,
    #[serde(default)]
    log_probability: f64,
}

#[derive(Deserialize)]
struct Top {
    #[serde(default)]
    candidates: Vec<Chosen>,
}

#[derive(Serialize)]
struct Written<'a> {
    content: Vec<Step<'a>>,
    refusal: Option<()>,
}

#[derive(Serialize)]
struct Step<'a> {
    #[serde(flatten)]
    token: Token<'a>,
    top_logprobs: Vec<Token<'a>>,
}

#[derive(Serialize)]
struct Token<'a> {
    token: &'a str,
    logprob: f64,
    bytes: &'a [u8],
}

impl<'a> From<&'a Chosen> for Token<'a> {
    fn from(chosen: &'a Chosen) -> Self {
        Self { token: &chosen.token, logprob: chosen.log_probability, bytes: chosen.token.as_bytes() }
    }
}

impl Logprobs {
    /// The same in OpenAI's form.
    pub(super) fn openais(self) -> Option<Box<RawValue>> {
        let steps = self.chosen_candidates.iter().enumerate().map(|(index, chosen)| Step {
            token: chosen.into(),
            top_logprobs: self
                .top_candidates
                .get(index)
                .map(|top| top.candidates.iter().map(Token::from).collect())
                .unwrap_or_default(),
        });
        serde_json::value::to_raw_value(&Written { content: steps.collect(), refusal: None }).ok()
    }
}
