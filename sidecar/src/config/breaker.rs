//! `breaker`: when a failing route is left alone, and how it comes back.

use std::time::Duration;

use serde::Deserialize;
use tidegate_core::policy::BreakerPolicy;

use super::Problems;
use super::value::Span;

/// The section as it may be written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Document {
    failure_threshold: Option<u32>,
    window: Option<Span>,
    recovery_timeout: Option<Span>,
    recovery_increment: Option<f64>,
}

/// Checks the section.
pub fn validate(document: Document, problems: &mut Problems) -> BreakerPolicy {
    let Document { failure_threshold, window, recovery_timeout, recovery_increment } = document;
    BreakerPolicy {
        failure_threshold: problems.within(
            "breaker.failure_threshold",
            failure_threshold.unwrap_or(10),
            1..=1_000_000,
            " failures",
        ),
        window_ms: problems.within(
            "breaker.window",
            millis(window.map_or(Duration::from_secs(10), |span| span.0)),
            100..=600_000,
            " milliseconds (100ms to 10m)",
        ),
        recovery_timeout_ms: problems.within(
            "breaker.recovery_timeout",
            millis(recovery_timeout.map_or(Duration::from_secs(30), |span| span.0)),
            1..=3_600_000,
            " milliseconds (1ms to 1h)",
        ),
        recovery_increment: problems.within(
            "breaker.recovery_increment",
            recovery_increment.unwrap_or(0.2),
            0.01..=1.0,
            " of the traffic",
        ),
    }
}

/// Whole milliseconds, saturating.
pub(super) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
