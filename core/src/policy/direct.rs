//! LLM requests that Envoy sends to a server of the operator's own, not to the sidecar.

use serde::{Deserialize, Serialize};

use super::{Invalid, refuse};
use crate::chat::RequestView;

/// Most prefixes.
pub const PREFIXES_MAX: usize = 256;
/// Longest that a request can be made to wait for a look-up, in milliseconds.
pub const CALLOUT_MS_MAX: u64 = 120_000;

/// What the filter does for them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectPolicy {
    /// Paths below which such a server answers, without a final slash; empty for all paths that
    /// nothing else takes.
    pub prefixes: Vec<String>,
    /// How the semantic cache is asked for them; `None` if it is not.
    pub callout: Option<CalloutPolicy>,
}

/// How the filter asks the semantic cache.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CalloutPolicy {
    /// How long a request waits for the look-up, in milliseconds; then it goes on.
    pub deadline_ms: u64,
    /// Requests that ask for a higher sampling temperature are not looked up.
    pub temperature_max: f64,
    /// Whether requests that offer tools are looked up.
    pub allow_tools: bool,
    /// Whether the sidecar looks for what must never be stored: then nothing is that it has not seen.
    pub has_secrets: bool,
}

impl CalloutPolicy {
    /// Whether the semantic cache may know an answer to this request.
    #[must_use]
    pub fn takes(&self, request: &RequestView<'_>) -> bool {
        request.temperature.is_none_or(|t| t <= self.temperature_max)
            && (self.allow_tools || !request.has_tools)
    }
}

impl DirectPolicy {
    pub(super) fn validate(&self) -> Result<(), Invalid> {
        if self.prefixes.len() > PREFIXES_MAX {
            refuse("direct.prefixes", format!("has more than {PREFIXES_MAX}"))?;
        }
        if self.prefixes.iter().any(|prefix| prefix.ends_with('/')) {
            refuse("direct.prefixes", "must not end with a slash")?;
        }
        let Some(callout) = &self.callout else { return Ok(()) };
        if !(1..=CALLOUT_MS_MAX).contains(&callout.deadline_ms) {
            refuse("direct.callout.deadline_ms", format!("must be 1 to {CALLOUT_MS_MAX}"))?;
        }
        if !callout.temperature_max.is_finite() || callout.temperature_max < 0.0 {
            refuse("direct.callout.temperature_max", "must be 0 or more")?;
        }
        Ok(())
    }
}
