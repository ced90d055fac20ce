//! How Anthropic's models are told to think, which its own API and Amazon's write alike.
//! <https://docs.anthropic.com/en/docs/build-with-claude/extended-thinking>,
//! <https://docs.anthropic.com/en/docs/build-with-claude/adaptive-thinking>

use serde::Serialize;

use super::fit::Fit;
use crate::chat::{ChatRequest, Effort, Part, Reasoning, Role};

/// Tokens of thinking for an effort of low, medium and high; the first is the least there may be.
const BUDGETS: [u64; 3] = [1_024, 4_096, 16_384];
/// Tokens of the answer beside those of thinking, where the caller sets no bound.
const ANSWER_TOKENS: u64 = 4_096;
/// The first version whose models find out for themselves how much to think, and refuse a budget.
const ADAPTIVE_SINCE: (u32, u32) = (4, 7);
/// Numbers above are dates and no versions.
const VERSION_MAX: u32 = 99;

/// `thinking` of a request.
#[derive(Debug, Serialize, Clone, Copy)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Thinking {
    /// At most so many tokens.
    Enabled { budget_tokens: u64 },
    /// As much as the model finds right; its thoughts are told in summary.
    Adaptive { display: &'static str },
}

/// `output_config` of a request.
#[derive(Debug, Serialize, Clone, Copy)]
pub(super) struct OutputConfig {
    effort: &'static str,
}

/// How a model is to think.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Plan {
    /// Whether it does.
    pub(super) thinking: Option<Thinking>,
    /// How hard it tries, where it decides for itself.
    pub(super) output_config: Option<OutputConfig>,
    /// The bound on tokens with that, if there is one: a caller's own holds for thinking and answer
    /// together, as at OpenAI.
    pub(super) tokens_max: Option<u64>,
}

impl Plan {
    /// The plan for one of Anthropic's models. What cannot be had is noted in `fit`.
    pub(super) fn of(request: &ChatRequest, fit: &mut Fit) -> Self {
        let [low, medium, high] = BUDGETS;
        let without = Self { tokens_max: request.tokens_max, ..Self::default() };
        let wanted = match request.reasoning {
            None | Some(Reasoning::Off) => return without,
            Some(Reasoning::Budget(tokens)) => tokens,
            Some(Reasoning::Effort(Effort::Minimal | Effort::Low)) => low,
            Some(Reasoning::Effort(Effort::Medium)) => medium,
            Some(Reasoning::Effort(Effort::High)) => high,
        };
        let tokens_max = request.tokens_max.unwrap_or_else(|| wanted.saturating_add(ANSWER_TOKENS));
        // Anthropic wants the budget below the bound.
        let budget_tokens = wanted.min(tokens_max.saturating_sub(1));
        let plan = Self { tokens_max: Some(tokens_max), ..Self::default() };
        if budget_tokens < low {
            return plan;
        }
        if version(&request.model).is_some_and(|version| version >= ADAPTIVE_SINCE) {
            let effort = match wanted {
                tokens if tokens <= low => "low",
                tokens if tokens <= medium => "medium",
                _ => "high",
            };
            let thinking = Some(Thinking::Adaptive { display: "summarized" });
            return Self { thinking, output_config: Some(OutputConfig { effort }), ..plan };
        }
        if has_lost_its_thought(request) {
            fit.note("reasoning_effort".to_owned());
            return without;
        }
        Self { thinking: Some(Thinking::Enabled { budget_tokens }), ..plan }
    }
}

/// The version in a name such as `claude-opus-4-8`, `anthropic.claude-sonnet-4-5-20250929-v1:0` or
/// `claude-opus-4.7`; none in older ones, where it stands before the family.
fn version(model: &str) -> Option<(u32, u32)> {
    let (_, name) = model.split_once("claude-")?;
    let mut words = name.split(['-', '.', '@', ':']);
    words.next().filter(|family| family.chars().all(|c| c.is_ascii_alphabetic()))?;
    let mut number = || words.next()?.parse().ok().filter(|number| *number <= VERSION_MAX);
    Some((number()?, number().unwrap_or(0)))
}

/// Whether a model is in the middle of using tools, and the thought that led to them is not there
/// with its seal, as callers of other protocols often leave it: the API refuses to think on then.
fn has_lost_its_thought(request: &ChatRequest) -> bool {
    let is_question = |part: &Part| !matches!(part, Part::ToolResult { .. });
    let asked =
        request.turns.iter().rposition(|turn| turn.role == Role::User && turn.parts.iter().all(is_question));
    let since = asked.map_or(0, |place| place + 1);
    let mut parts = request.turns.iter().skip(since).flat_map(|turn| &turn.parts);
    let is_sealed = |part: &Part| matches!(part, Part::Thought(thought) if thought.signature.is_some() || thought.redacted.is_some());
    parts.clone().any(|part| matches!(part, Part::ToolUse(_))) && !parts.any(is_sealed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_told_from_dates() {
        for (model, wanted) in [
            ("claude-opus-4-7", Some((4, 7))),
            ("claude-opus-4.8", Some((4, 8))),
            ("claude-sonnet-5", Some((5, 0))),
            ("claude-sonnet-4-20250514", Some((4, 0))),
            ("claude-sonnet-4-5@20250929", Some((4, 5))),
            ("us.anthropic.claude-opus-4-8-20260601-v1:0", Some((4, 8))),
            ("claude-3-7-sonnet-20250219", None),
            ("claude-opus", None),
            ("my-model", None),
            ("claude-", None),
        ] {
            assert_eq!(version(model), wanted, "{model}");
        }
    }
}
