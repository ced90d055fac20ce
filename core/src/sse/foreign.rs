//! Ends and usage in protocols that only providers speak. Their fields have different names, so
//! one reading finds whichever are there.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::scanner::{Outcome, Usage};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Found {
    error: Option<IgnoredAny>,
    #[serde(rename = "error_code")]
    error_code: Option<IgnoredAny>,
    /// Google's.
    #[serde(default)]
    candidates: Vec<Candidate>,
    prompt_feedback: Option<Feedback>,
    usage_metadata: Option<GoogleUsage>,
    /// Amazon's.
    message_stop: Option<IgnoredAny>,
    metadata: Option<Metadata>,
    /// Baidu's.
    #[serde(rename = "is_end")]
    is_end: Option<bool>,
    /// Amazon's whole answers, and Baidu's.
    usage: Option<Usage>,
    /// Amazon's embeddings.
    input_text_token_count: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Candidate {
    finish_reason: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Feedback {
    block_reason: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Metadata {
    usage: Option<Usage>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the names are Google's")]
struct GoogleUsage {
    prompt_token_count: Option<u64>,
    cached_content_token_count: Option<u64>,
    candidates_token_count: Option<u64>,
    thoughts_token_count: Option<u64>,
}

impl Found {
    fn usage(&self) -> Option<Usage> {
        let googles = self.usage_metadata.as_ref().map(|usage| Usage {
            prompt_tokens: usage.prompt_token_count.unwrap_or(0),
            cached_tokens: usage.cached_content_token_count.unwrap_or(0),
            completion_tokens: usage
                .candidates_token_count
                .unwrap_or(0)
                .saturating_add(usage.thoughts_token_count.unwrap_or(0)),
        });
        let embedded = self.input_text_token_count.map(|prompt_tokens| Usage {
            prompt_tokens,
            cached_tokens: 0,
            completion_tokens: 0,
        });
        googles.or_else(|| self.metadata.as_ref()?.usage).or(self.usage).or(embedded)
    }

    fn is_last(&self) -> bool {
        self.message_stop.is_some()
            || self.is_end == Some(true)
            || self.candidates.iter().any(|candidate| candidate.finish_reason.is_some())
            || self.prompt_feedback.as_ref().is_some_and(|feedback| feedback.block_reason.is_some())
    }
}

/// The usage that a whole answer reports.
#[must_use]
pub fn usage(body: &[u8]) -> Option<Usage> {
    serde_json::from_slice::<Found>(body).ok()?.usage()
}

/// Adds what one event says of its stream.
pub(super) fn observe(outcome: &mut Outcome, data: &[u8]) {
    outcome.events += 1;
    outcome.error |= is_exception(data);
    let Ok(found) = serde_json::from_slice::<Found>(data) else { return };
    outcome.error |= found.error.is_some() || found.error_code.is_some();
    outcome.done |= found.is_last();
    outcome.usage = found.usage().map(|usage| usage.after(outcome.usage)).or(outcome.usage);
}

/// Amazon's, as in `{"throttlingException":{...}}`.
fn is_exception(data: &[u8]) -> bool {
    let name = data.strip_prefix(b"{\"").and_then(|rest| rest.split(|byte| *byte == b'"').next());
    name.is_some_and(|name| name.ends_with(b"Exception"))
}

#[cfg(test)]
mod tests {
    use crate::sse::Scanner;

    use super::*;

    fn scan(stream: &str) -> Outcome {
        let mut scanner = Scanner::foreign();
        stream.as_bytes().chunks(5).for_each(|chunk| scanner.push(chunk));
        scanner.end()
    }

    #[test]
    fn each_protocols_end_and_usage_are_seen() {
        for (stream, prompt, completion) in [
            (
                "data: {\"candidates\":[{\"content\":{}}]}\n\ndata: {\"candidates\":[{\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":3,\"candidatesTokenCount\":4,\"thoughtsTokenCount\":1}}\n\n",
                3,
                5,
            ),
            (
                "data: {\"messageStop\":{\"stopReason\":\"end_turn\"}}\n\ndata: {\"metadata\":{\"usage\":{\"inputTokens\":3,\"outputTokens\":5}}}\n\n",
                3,
                5,
            ),
            ("data: {\"is_end\":true,\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":5}}\n\n", 3, 5),
        ] {
            let outcome = scan(stream);
            assert!(outcome.is_success(), "{stream}");
            let usage = outcome.usage.expect("usage");
            assert_eq!((usage.prompt_tokens, usage.completion_tokens), (prompt, completion), "{stream}");
        }
    }

    #[test]
    fn a_cut_stream_and_errors_are_no_successes() {
        assert!(!scan("data: {\"candidates\":[{\"content\":{}}]}\n\n").is_success());
        assert!(!scan("data: {\"contentBlockDelta\":{\"delta\":{\"text\":\"messageStop\"}}}\n\n").done);
        for error in ["{\"error\":{}}", "{\"error_code\":18}", "{\"throttlingException\":{}}"] {
            assert!(scan(&format!("data: {error}\n\n")).error, "{error}");
        }
    }
}
