//! `cache`: the exact cache inside Envoy, and the semantic one in the sidecar.

use std::time::Duration;

use serde::Deserialize;
use tidegate_core::cache::slots::SET_BYTES;
use tidegate_core::policy::{L1_BYTES_MAX, L1Admission, L1Policy};

use super::breaker::millis;
use super::value::{ByteSize, Span};
use super::{Check, Problems, cache_l2};
use crate::l2::Settings as L2Settings;

/// Highest sampling temperature that any provider takes.
const TEMPERATURE_MAX: f64 = 2.0;

/// The section as it may be written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Document {
    l1: Option<L1Document>,
    l2: Option<cache_l2::Document>,
    backend: Option<Backend>,
}

/// Where the sidecar's answers are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Backend {
    /// In the process.
    #[default]
    Memory,
    /// In the process, and in Redis for the other gateways and the next start.
    Redis,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct L1Document {
    enabled: Option<bool>,
    max_bytes: Option<ByteSize>,
    ttl: Option<Span>,
    max_temperature: Option<f64>,
    allow_tools: Option<bool>,
    admission: Option<L1Admission>,
}

/// Checks the section; `has_redis` says whether there is a Redis to share answers through.
pub fn validate(document: Document, has_redis: bool, check: &mut Check<'_>) -> (L1Policy, L2Settings) {
    let Document { l1, l2, backend } = document;
    let shared = backend == Some(Backend::Redis);
    if shared && !has_redis {
        let what = "is redis, but there is no section `redis`; add `redis: {url: redis://127.0.0.1:6379}`";
        check.problems.add("cache.backend", what);
    }
    (exact(l1.unwrap_or_default(), &mut check.problems), cache_l2::validate(l2, shared, check))
}

fn exact(document: L1Document, problems: &mut Problems) -> L1Policy {
    let L1Document { enabled, max_bytes, ttl, max_temperature, allow_tools, admission } = document;
    L1Policy {
        enabled: enabled.unwrap_or(true),
        bytes_max: problems.within(
            "cache.l1.max_bytes",
            max_bytes.map_or(64 << 20, |size| size.0),
            SET_BYTES..=L1_BYTES_MAX,
            " bytes",
        ),
        ttl_ms: problems.within(
            "cache.l1.ttl",
            millis(ttl.map_or(Duration::from_secs(300), |span| span.0)),
            1..=2_592_000_000,
            " milliseconds (1ms to 720h)",
        ),
        temperature_max: temperature("cache.l1.max_temperature", max_temperature, problems),
        allow_tools: allow_tools.unwrap_or(false),
        admission: admission.unwrap_or_default(),
        generation: 0,
    }
}

/// Up to which temperature answers are cached.
pub(super) fn temperature(path: &str, value: Option<f64>, problems: &mut Problems) -> f64 {
    problems.within(path, value.unwrap_or(1.0), 0.0..=TEMPERATURE_MAX, "")
}
