//! What a passing LLM stream turned out to be: complete, failed, and how many tokens it used.
//! Nothing is changed and nothing but the current event is kept.

use serde::Deserialize;

use super::{Event, Parser, foreign};

/// Token counts as a provider reported them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(from = "Reported")]
pub struct Usage {
    /// Tokens of the prompt, cached ones included.
    pub prompt_tokens: u64,
    /// Of these, read from the provider's prompt cache.
    pub cached_tokens: u64,
    /// Tokens of the answer.
    pub completion_tokens: u64,
}

/// Usage in the words of any provider; `null` says that there is nothing to say.
#[derive(Deserialize)]
struct Reported {
    #[serde(default)]
    prompt_tokens: Option<u64>,
    #[serde(default, alias = "inputTokens")]
    input_tokens: Option<u64>,
    #[serde(default)]
    completion_tokens: Option<u64>,
    #[serde(default, alias = "outputTokens")]
    output_tokens: Option<u64>,
    #[serde(default, alias = "input_tokens_details")]
    prompt_tokens_details: Option<Details>,
    #[serde(default)]
    cache_read_input_tokens: Option<u64>,
    #[serde(default)]
    cache_creation_input_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct Details {
    #[serde(default)]
    cached_tokens: Option<u64>,
}

impl From<Reported> for Usage {
    /// OpenAI counts cached tokens among those of the prompt, Anthropic beside them.
    fn from(reported: Reported) -> Self {
        let beside = reported.cache_read_input_tokens.unwrap_or(0);
        let prompt = reported.prompt_tokens.or_else(|| {
            let written = reported.cache_creation_input_tokens.unwrap_or(0);
            Some(reported.input_tokens?.saturating_add(beside).saturating_add(written))
        });
        let among = reported.prompt_tokens_details.and_then(|details| details.cached_tokens);
        Self {
            prompt_tokens: prompt.unwrap_or(0),
            cached_tokens: among.unwrap_or(beside),
            completion_tokens: reported.completion_tokens.or(reported.output_tokens).unwrap_or(0),
        }
    }
}

impl Usage {
    /// These counts after `earlier` ones of the same stream. Anthropic's say at the start what
    /// the prompt has, and at the end what the answer has.
    pub(super) fn after(self, earlier: Option<Self>) -> Self {
        let earlier = earlier.unwrap_or_default();
        Self {
            prompt_tokens: self.prompt_tokens.max(earlier.prompt_tokens),
            cached_tokens: self.cached_tokens.max(earlier.cached_tokens),
            completion_tokens: self.completion_tokens.max(earlier.completion_tokens),
        }
    }
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// The protocol's own end was seen (`[DONE]`, `message_stop`, `response.completed`).
    pub done: bool,
    /// An error was sent inside the stream.
    pub error: bool,
    /// Last usage reported, if any.
    pub usage: Option<Usage>,
    /// Events with data.
    pub events: u64,
}

impl Outcome {
    /// Complete and without an error: the only kind of stream that may be cached.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        self.done && !self.error
    }
}

/// Watches a stream as it passes.
#[derive(Debug)]
pub struct Scanner {
    parser: Parser,
    outcome: Outcome,
    foreign: bool,
    /// The beginning of the first error's data.
    failure: Vec<u8>,
    /// The last event's data, if it is not too long.
    last: Vec<u8>,
}

/// First bytes of an error in a stream that are kept.
const FAILURE_BYTES_MAX: usize = 1024;
/// Longest last event that is understood as one, in bytes.
const LAST_BYTES_MAX: usize = 4096;

impl Default for Scanner {
    fn default() -> Self {
        Self::new()
    }
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(default)]
    error: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    usage: Option<Usage>,
}

/// Anthropic's `message_start`.
#[derive(Deserialize)]
struct Opening {
    message: Envelope,
}

/// The last event of OpenAI's Responses API.
#[derive(Deserialize)]
struct Closing {
    response: Envelope,
}

/// A chunk of OpenAI's, as far as it says that the answer is complete.
#[derive(Deserialize)]
struct LastChunk {
    choices: Vec<LastChoice>,
    usage: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct LastChoice {
    finish_reason: Option<String>,
}

impl Scanner {
    /// A scanner at the start of a stream.
    #[must_use]
    pub fn new() -> Self {
        let outcome = Outcome { done: false, error: false, usage: None, events: 0 };
        Self { parser: Parser::new(), outcome, foreign: false, failure: Vec::new(), last: Vec::new() }
    }

    /// A scanner of a provider's stream in a protocol that no caller speaks: Google's, Amazon's
    /// or Baidu's, where nothing but a field of an answer says that it was the last.
    #[must_use]
    pub fn foreign() -> Self {
        Self { foreign: true, ..Self::new() }
    }

    /// Feeds one chunk, split anywhere.
    pub fn push(&mut self, chunk: &[u8]) {
        let Self { parser, outcome, foreign, failure, last } = self;
        parser.push(chunk, |event| {
            if *foreign {
                foreign::observe(outcome, event.data);
            } else {
                observe(outcome, &event);
                last.clear();
                last.extend_from_slice(if event.data.len() <= LAST_BYTES_MAX { event.data } else { b"" });
            }
            if outcome.error && failure.is_empty() {
                failure.extend(event.data.iter().take(FAILURE_BYTES_MAX));
            }
        });
    }

    /// The beginning of the first error that was sent inside the stream; empty without one.
    #[must_use]
    pub fn failure(&self) -> &[u8] {
        &self.failure
    }

    /// Events with data so far; the first one marks the time to first token.
    #[must_use]
    pub const fn events(&self) -> u64 {
        self.outcome.events
    }

    /// Whether the answer is complete although its end was not said: some of OpenAI's protocol's
    /// servers leave `[DONE]` out. The last event has the reason to finish, or the usage after it.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        let reason = |choice: &LastChoice| choice.finish_reason.as_ref().is_some_and(|r| !r.is_empty());
        serde_json::from_slice::<LastChunk>(&self.last).is_ok_and(|chunk| match chunk.choices.as_slice() {
            [] => chunk.usage.is_some(),
            choices => choices.iter().any(reason),
        })
    }

    /// Whether the bytes seen so far end inside an event.
    #[must_use]
    pub fn is_mid_event(&self) -> bool {
        self.parser.is_mid_event()
    }

    /// What the stream was, if it ended now.
    #[must_use]
    pub fn end(&self) -> Outcome {
        let mut outcome = self.outcome;
        outcome.done &= !self.parser.is_mid_event();
        outcome
    }
}

fn observe(outcome: &mut Outcome, event: &Event<'_>) {
    let data = event.data.trim_ascii();
    let kind = kind(event);
    outcome.events += 1;
    match kind {
        b"error" | b"response.failed" => outcome.error = true,
        b"message_stop" | b"response.completed" | b"response.incomplete" => outcome.done = true,
        _ => {}
    }
    if data == b"[DONE]" {
        outcome.done = true;
        return;
    }
    if !(contains(data, b"\"error\"") || contains(data, b"\"usage\"")) {
        return;
    }
    let envelope = match kind {
        b"message_start" => serde_json::from_slice::<Opening>(data).map(|opening| opening.message),
        b"response.completed" | b"response.incomplete" => {
            serde_json::from_slice::<Closing>(data).map(|closing| closing.response)
        }
        _ => serde_json::from_slice::<Envelope>(data),
    };
    if let Ok(envelope) = envelope {
        outcome.error |= envelope.error.is_some();
        outcome.usage = envelope.usage.map(|usage| usage.after(outcome.usage)).or(outcome.usage);
    }
}

/// What an event is: its name, or the type at the beginning of its data where a server leaves names
/// out.
fn kind<'a>(event: &Event<'a>) -> &'a [u8] {
    if !event.name.is_empty() {
        return event.name;
    }
    let typed = event.data.strip_prefix(br#"{"type":""#).unwrap_or_default();
    let end = typed.iter().position(|byte| *byte == b'"').unwrap_or(0);
    typed.get(..end).unwrap_or_default()
}

/// A quick look before a parse; most events have neither an error nor usage.
fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(stream: &str) -> Outcome {
        let mut scanner = Scanner::new();
        for chunk in stream.as_bytes().chunks(7) {
            scanner.push(chunk);
        }
        scanner.end()
    }

    #[test]
    fn an_answer_may_be_complete_without_its_end() {
        let finish = r#"data: {"choices":[{"delta":{},"finish_reason":"stop"}]}"#;
        let usage = r#"data: {"choices":[],"usage":{"prompt_tokens":3}}"#;
        for (stream, finished) in [
            (format!("{finish}\n\n"), true),
            (format!("{finish}\n\n{usage}\n\n: bye\n\n"), true),
            (
                r#"data: {"choices":[{"delta":{"content":"a"},"finish_reason":""}]}"#.to_owned() + "\n\n",
                false,
            ),
            (
                r#"data: {"choices":[{"delta":{"content":"a"},"finish_reason":null}],"usage":null}"#
                    .to_owned()
                    + "\n\n",
                false,
            ),
            (format!("{finish}\n"), false),
            (format!("{finish}{}\n\n", " ".repeat(LAST_BYTES_MAX)), false),
            ("data: {\"type\":\"message_delta\"}\n\n".to_owned(), false),
        ] {
            let mut scanner = Scanner::new();
            scanner.push(stream.as_bytes());
            assert_eq!(scanner.is_finished(), finished, "{stream}");
        }
    }

    #[test]
    fn a_complete_stream_succeeds_and_its_usage_is_kept() {
        let outcome = scan(concat!(
            "data: {\"choices\":[{\"delta\":{\"content\":\"an \\\"error\\\" word\"}}],\"usage\":null}\n\n",
            "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":5,\"total_tokens\":8}}\n\n",
            "data: [DONE]\n\n",
        ));
        assert!(outcome.is_success());
        assert_eq!(outcome.usage, Some(Usage { prompt_tokens: 3, completion_tokens: 5, ..Usage::default() }));
        assert_eq!(outcome.events, 3);
    }

    #[test]
    fn a_stream_without_names_is_known_by_its_types() {
        let outcome = scan(concat!(
            "data: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":7}}}\n\n",
            "data: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":3}}\n\n",
            "data: {\"type\":\"message_stop\"}\n\n",
        ));
        assert!(outcome.is_success());
        assert_eq!(outcome.usage.map(|u| (u.prompt_tokens, u.completion_tokens)), Some((7, 3)));
        assert!(!scan("data: {\"type\":\"message_delta\",\"text\":\"message_stop\"}\n\n").done);
    }

    #[test]
    fn cached_tokens_are_part_of_the_prompt_whoever_counts() {
        let usage = |json: &str| serde_json::from_str::<Usage>(json).expect("usage");
        let openai =
            r#"{"prompt_tokens":9,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":5}}"#;
        let responses = r#"{"input_tokens":9,"output_tokens":2,"input_tokens_details":{"cached_tokens":5}}"#;
        let anthropic = r#"{"input_tokens":4,"output_tokens":2,"cache_read_input_tokens":5}"#;
        for json in [openai, responses, anthropic] {
            let wanted = Usage { prompt_tokens: 9, cached_tokens: 5, completion_tokens: 2 };
            assert_eq!(usage(json), wanted, "{json}");
        }
    }

    #[test]
    fn the_usage_of_anthropics_streams_is_put_together() {
        let outcome = scan(concat!(
            "event: message_start\ndata: {\"message\":{\"usage\":{\"input_tokens\":7,\"cache_read_input_tokens\":4,\"cache_creation_input_tokens\":1,\"output_tokens\":1}}}\n\n",
            "event: message_delta\ndata: {\"usage\":{\"input_tokens\":null,\"output_tokens\":9}}\n\n",
            "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
        ));
        assert!(outcome.is_success());
        assert_eq!(outcome.usage, Some(Usage { prompt_tokens: 12, cached_tokens: 4, completion_tokens: 9 }));
    }

    #[test]
    fn the_usage_of_a_response_is_in_its_last_event() {
        let outcome = scan(concat!(
            "event: response.created\ndata: {\"response\":{\"error\":null,\"usage\":null}}\n\n",
            "event: response.completed\ndata: {\"response\":{\"error\":null,\"usage\":{\"input_tokens\":7,\"output_tokens\":9}}}\n\n",
        ));
        assert!(outcome.is_success());
        assert_eq!(outcome.usage, Some(Usage { prompt_tokens: 7, completion_tokens: 9, cached_tokens: 0 }));
        assert!(scan("event: response.failed\ndata: {}\n\n").error);
    }

    #[test]
    fn a_cut_stream_and_an_error_event_are_not_successes() {
        assert!(!scan("data: {\"choices\":[]}\n\n").is_success());
        assert!(!scan("data: {\"choices\":[]}\n\ndata: [DONE]").is_success());
        assert!(!scan("data: {\"error\":{\"message\":\"x\"}}\n\ndata: [DONE]\n\n").is_success());
        let mut scanner = Scanner::new();
        scanner.push(b"data: {\"choices\":[]}\n\ndata: {\"error\":{\"message\":\"x\"}}\n\n");
        assert_eq!(scanner.failure(), b"{\"error\":{\"message\":\"x\"}}");
        assert!(!scan("event: error\ndata: {}\n\nevent: message_stop\ndata: {}\n\n").is_success());
        assert!(scan("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n").is_success());
    }
}
