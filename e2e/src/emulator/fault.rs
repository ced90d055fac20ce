//! Faults: what a test or a person asks the emulator to do instead of answering well.

use std::collections::BTreeMap;
use std::fmt;

use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The longest delay a fault may ask for.
pub const DELAY_MS_MAX: u64 = 600_000;

/// One fault. Every field is optional, but it must ask for at least one effect.
///
/// A "chunk" is one SSE event of a stream, or one 64-byte slice of a JSON answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fault {
    /// Wait this long before the response headers, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// Answer with this status (200 to 599) and `body`, or with the provider's usual error body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Refuse for this reason, in the provider's own words, status and headers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
    /// Response headers to add or replace.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The body to send: a string goes out byte for byte, anything else as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
    /// Reset the TCP connection (RST) instead of answering, or where `truncate_after_chunks` says.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub reset: bool,
    /// Close the connection after this many chunks, without ending the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truncate_after_chunks: Option<usize>,
    /// After this many chunks of a stream, send an error event and end the stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_in_stream_after_chunks: Option<usize>,
    /// After this many chunks send nothing more and keep the connection open, until
    /// `POST /__release`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stall_after_chunks: Option<usize>,
    /// Wait this long before each chunk, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chunk_delay_ms: Option<u64>,
    /// Send the headers at once and wait this long before the first chunk, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_chunk_delay_ms: Option<u64>,
    /// Send the chunk with this number twice; the first is 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duplicate_chunk: Option<usize>,
    /// Send the chunk with this number after the one that follows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap_chunk: Option<usize>,
    /// Which part of the matching requests it hits, evenly: above 0 and at most 1, which it is when
    /// absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// How many matching requests it hits before it is spent; for ever when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// Which requests it hits; all of them when empty.
    #[serde(rename = "match")]
    pub matches: FaultMatch,
}

/// Why a provider refuses; each says it in its own way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// Too many requests for now: 429 with that provider's headers or details, or a code in a 200.
    RateLimit,
    /// The account is used up, whatever the status.
    Quota,
    /// The provider has too much to do.
    Overloaded,
    /// The request is longer than the model's context.
    ContextLength,
}

/// The requests that a [`Fault`] hits. Every field that is set must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FaultMatch {
    /// The `model` of the request body, exactly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The end of the request path, such as `/chat/completions`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The HTTP method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Text that stands somewhere in the request body: whatever the test has put there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    /// The end of the API key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// What a fault is chosen by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) model: Option<&'a str>,
    pub(super) key: &'a str,
    pub(super) body: &'a [u8],
}

/// Why a fault was refused; the text names the field and what it accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultError(pub(super) String);

impl fmt::Display for FaultError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for FaultError {}

impl Fault {
    /// Reads a fault from JSON and checks it.
    ///
    /// # Errors
    /// The JSON is broken, has a field that does not exist, or asks for something impossible.
    pub fn from_json(json: &[u8]) -> Result<Self, FaultError> {
        let fault: Self = serde_json::from_slice(json).map_err(|e| FaultError(e.to_string()))?;
        fault.check()?;
        Ok(fault)
    }

    /// Whether the body must be sent chunk by chunk to carry the fault out.
    pub(super) fn paces_body(&self) -> bool {
        self.chunk_delay_ms.is_some()
            || self.first_chunk_delay_ms.is_some()
            || self.duplicate_chunk.is_some()
            || self.swap_chunk.is_some()
            || self.truncate_after_chunks.is_some()
            || self.error_in_stream_after_chunks.is_some()
            || self.stall_after_chunks.is_some()
    }

    pub(super) fn check(&self) -> Result<(), FaultError> {
        let refuse = |why: &str| Err(FaultError(why.to_owned()));
        let effects = self.delay_ms.is_some()
            || self.status.is_some()
            || self.refusal.is_some()
            || !self.headers.is_empty()
            || self.body.is_some()
            || self.reset
            || self.paces_body();
        if !effects {
            return refuse("the fault has no effect: set delay_ms, status, body, reset or another");
        }
        if self.status.is_some_and(|s| !(200..=599).contains(&s)) {
            return refuse("status: must be from 200 to 599");
        }
        if self.share.is_some_and(|share| !(share > 0.0 && share <= 1.0)) {
            return refuse("share: must be above 0 and at most 1");
        }
        if self.times == Some(0) {
            return refuse("times: must be at least 1; leave it out for ever");
        }
        if self.refusal.is_some() && (self.status.is_some() || self.body.is_some()) {
            return refuse("refusal: leave status and body out, they are the provider's own");
        }
        for (name, ms) in [
            ("delay_ms", self.delay_ms),
            ("chunk_delay_ms", self.chunk_delay_ms),
            ("first_chunk_delay_ms", self.first_chunk_delay_ms),
        ] {
            if ms.is_some_and(|ms| ms > DELAY_MS_MAX) {
                return refuse(&format!("{name}: must be at most {DELAY_MS_MAX}"));
            }
        }
        let ends = [self.truncate_after_chunks, self.error_in_stream_after_chunks, self.stall_after_chunks];
        if ends.iter().flatten().count() > 1 {
            return refuse(
                "set only one of truncate_after_chunks, error_in_stream_after_chunks, stall_after_chunks",
            );
        }
        for (name, value) in &self.headers {
            if HeaderName::try_from(name.as_str()).is_err() {
                return refuse(&format!("headers: `{name}` is not a header name"));
            }
            if HeaderValue::try_from(value.as_str()).is_err() {
                return refuse(&format!("headers.{name}: not a header value"));
            }
        }
        Ok(())
    }

    pub(super) fn hits(&self, asked: &Asked<'_>) -> bool {
        let FaultMatch { model, path, method, contains, key } = &self.matches;
        path.as_deref().is_none_or(|end| asked.path.ends_with(end))
            && model.as_deref().is_none_or(|model| asked.model == Some(model))
            && method.as_deref().is_none_or(|method| asked.method == method)
            && key.as_deref().is_none_or(|end| asked.key.ends_with(end))
            && contains.as_deref().is_none_or(|text| has(asked.body, text.as_bytes()))
    }
}

fn has(body: &[u8], text: &[u8]) -> bool {
    !text.is_empty() && body.windows(text.len()).any(|window| window == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_strict() {
        let cases = [
            (r#"{"delay":5}"#, "unknown field `delay`"),
            ("{}", "no effect"),
            (r#"{"status":99}"#, "status: must be from 200 to 599"),
            (r#"{"reset":true,"times":0}"#, "times: must be at least 1"),
            (r#"{"reset":true,"share":0}"#, "share: must be above 0"),
            (r#"{"delay_ms":600001}"#, "delay_ms: must be at most"),
            (r#"{"refusal":"quota","status":400}"#, "refusal: leave status"),
            (r#"{"refusal":"mood"}"#, "unknown variant `mood`"),
            (r#"{"truncate_after_chunks":1,"stall_after_chunks":1}"#, "only one of"),
            (r#"{"headers":{"a b":"c"}}"#, "not a header name"),
        ];
        for (json, wanted) in cases {
            let error = Fault::from_json(json.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(wanted), "{json}: {error}");
        }
    }
}
