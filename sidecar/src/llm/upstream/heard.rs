//! What an answer says beside itself, for routing: it travels among the response's extensions,
//! because callers are not told of the operator's limits.

use std::time::{SystemTime, UNIX_EPOCH};

use http::HeaderMap;
use tidegate_core::routing::{FaultKind, RateSignals, classify, is_about_model};

/// Bytes of a refusal's body that are looked at.
const BODY_BYTES_MAX: usize = 16 << 10;

/// What a refusal of `stream_options` names: the field, or what is in it.
const STREAM_OPTIONS: [&str; 2] = ["stream_options", "include_usage"];

/// What a provider said about limits, and what kind its refusal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// Limits and waits.
    pub signals: RateSignals,
    /// The kind of the refusal; `None` for an answer.
    pub fault: Option<FaultKind>,
    /// Whether that says nothing about the provider's other models.
    pub of_model: bool,
    /// Whether it does not know `stream_options`.
    pub refuses_stream_options: bool,
}

impl Heard {
    /// From an answer.
    #[must_use]
    pub fn in_answer(headers: &HeaderMap) -> Self {
        let signals = signals(headers, "");
        Self { signals, fault: None, of_model: false, refuses_stream_options: false }
    }

    /// From a refusal.
    #[must_use]
    pub fn in_refusal(status: u16, headers: &HeaderMap, body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body.get(..BODY_BYTES_MAX).unwrap_or(body));
        Self {
            signals: signals(headers, &text),
            fault: Some(classify(status, &text)),
            of_model: is_about_model(status, &text),
            refuses_stream_options: matches!(status, 400 | 422)
                && STREAM_OPTIONS.iter().any(|word| text.contains(word)),
        }
    }
}

fn signals(headers: &HeaderMap, body: &str) -> RateSignals {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let unix_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    let readable = headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    RateSignals::read(readable, body, unix_ms)
}
