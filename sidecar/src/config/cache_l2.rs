//! `cache.l2`: the semantic cache.

use std::time::Duration;

use regex::Regex;
use serde::Deserialize;
use tidegate_core::cache::semantic::ErrorBound;

use super::cache::temperature;
use super::value::{ByteSize, Span};
use super::{Check, Problems};
use crate::l2::Mode;
use crate::l2::settings::{Pattern, Place, Rule, Settings};

/// Least threshold: below it prompts have no more in common than their language.
const THRESHOLD_MIN: f64 = 0.5;
/// Share of wrong answers that the mode `verified` keeps to unless told otherwise.
const ERROR_BOUND_DEFAULT: f64 = 0.02;
/// Share of the hits that the mode `verified` asks for again unless told otherwise.
const AUDIT_RATE_VERIFIED: f64 = 0.02;
/// Most memory, in bytes.
const BYTES_MAX: u64 = 64 << 30;
/// Longest time, in milliseconds: 30 days.
const TTL_MS_MAX: u64 = 2_592_000_000;
/// Most patterns and most rules.
const LIST_MAX: usize = 64;
/// Longest pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 1024;

/// The section as it may be written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Document {
    enabled: Option<bool>,
    index: Option<PlaceName>,
    threshold: Option<f64>,
    mode: Option<ModeName>,
    error_bound: Option<f64>,
    audit_rate: Option<f64>,
    ttl: Option<Span>,
    max_bytes: Option<ByteSize>,
    max_temperature: Option<f64>,
    allow_tools: Option<bool>,
    never_store: Option<Vec<Option<String>>>,
    rules: Option<Vec<Option<RuleDocument>>>,
    callout: Option<bool>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ModeName {
    Static,
    Verified,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum PlaceName {
    Memory,
    Redis,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RuleDocument {
    tenant: Option<String>,
    model: Option<String>,
    path: Option<String>,
    enabled: Option<bool>,
    threshold: Option<f64>,
    ttl: Option<Span>,
    public: Option<bool>,
}

/// Checks the section; without it there is no semantic cache. `shared` says whether answers are
/// shared through Redis.
pub fn validate(document: Option<Document>, shared: bool, check: &mut Check<'_>) -> Settings {
    let is_there = document.is_some();
    let Document {
        enabled,
        index,
        threshold: least,
        mode,
        error_bound,
        audit_rate,
        ttl: time,
        max_bytes,
        max_temperature,
        allow_tools,
        never_store,
        rules,
        callout,
    } = document.unwrap_or_default();
    let bytes = max_bytes.map_or(256 << 20, |size| size.0);
    let bytes = check.problems.within("cache.l2.max_bytes", bytes, 1 << 20..=BYTES_MAX, " bytes");
    let mode = mode_of(mode, error_bound, check);
    let audit_rate = audit_rate.unwrap_or(match mode {
        Mode::Static => 0.0,
        Mode::Verified(_) => AUDIT_RATE_VERIFIED,
    });
    Settings {
        enabled: is_there && enabled.unwrap_or(true),
        shared,
        index: place(index, shared, &mut check.problems),
        mode,
        audit_rate: check.problems.within(
            "cache.l2.audit_rate",
            audit_rate,
            0.0..=1.0,
            ", a share of the hits",
        ),
        threshold: threshold("cache.l2.threshold", least.unwrap_or(0.85), &mut check.problems),
        ttl: ttl(
            "cache.l2.ttl",
            time.map_or(Duration::from_secs(86_400), |span| span.0),
            &mut check.problems,
        ),
        bytes_max: usize::try_from(bytes).unwrap_or(usize::MAX),
        temperature_max: temperature("cache.l2.max_temperature", max_temperature, &mut check.problems),
        allow_tools: allow_tools.unwrap_or(false),
        callout: callout.unwrap_or(false),
        never_store: patterns(never_store, check),
        rules: check
            .items("cache.l2.rules", rules, LIST_MAX)
            .into_iter()
            .map(|(path, document)| rule(&path, document, check))
            .collect(),
    }
}

fn place(name: Option<PlaceName>, shared: bool, problems: &mut Problems) -> Place {
    match name {
        None | Some(PlaceName::Memory) => Place::Memory,
        Some(PlaceName::Redis) => {
            if !shared {
                let what = "is redis, but answers are not shared; add `backend: redis` to `cache`";
                problems.add("cache.l2.index", what);
            }
            Place::Redis
        }
    }
}

fn mode_of(mode: Option<ModeName>, error_bound: Option<f64>, check: &mut Check<'_>) -> Mode {
    let bound = error_bound.unwrap_or(ERROR_BOUND_DEFAULT);
    let Some(bound) = ErrorBound::new(bound) else {
        let what = format!("is {bound}; must be above 0 and at most 0.5, the share of wrong answers");
        check.problems.add("cache.l2.error_bound", what);
        return Mode::Static;
    };
    match mode.unwrap_or(ModeName::Static) {
        ModeName::Static => Mode::Static,
        ModeName::Verified => Mode::Verified(bound),
    }
}

fn threshold(path: &str, value: f64, problems: &mut Problems) -> f32 {
    // Cosines are known to four digits.
    problems.within(path, value, THRESHOLD_MIN..=1.0, "") as f32
}

fn ttl(path: &str, value: Duration, problems: &mut Problems) -> Duration {
    let ms = super::breaker::millis(value);
    Duration::from_millis(problems.within(path, ms, 1..=TTL_MS_MAX, " milliseconds (1ms to 720h)"))
}

fn patterns(list: Option<Vec<Option<String>>>, check: &mut Check<'_>) -> Vec<Pattern> {
    let mut patterns = Vec::new();
    for (path, text) in check.items("cache.l2.never_store", list, LIST_MAX) {
        match Regex::new(&text) {
            _ if text.is_empty() || text.len() > PATTERN_BYTES_MAX => {
                check.problems.add(path, format!("must be 1 to {PATTERN_BYTES_MAX} bytes"));
            }
            Ok(regex) => patterns.push(Pattern(regex)),
            Err(error) => check.problems.add(path, format!("is no regular expression: {error}")),
        }
    }
    patterns
}

fn rule(path: &str, document: RuleDocument, check: &mut Check<'_>) -> Rule {
    let RuleDocument { tenant, model, path: below, enabled, threshold: least, ttl: time, public } = document;
    if tenant.is_none() && model.is_none() && below.is_none() {
        check.problems.add(path, "fits every request; name a tenant, a model or a path");
    }
    if public == Some(true) && tenant.is_some() {
        check.problems.add(format!("{path}.public"), "shares answers among tenants; remove `tenant`");
    }
    if below.as_deref().is_some_and(|below| !below.starts_with('/') || below.ends_with('/')) {
        check.problems.add(format!("{path}.path"), "must be a path such as /v1/chat/completions or /local");
    }
    Rule {
        tenant: tenant.map(|tenant| check.name(&format!("{path}.tenant"), tenant)),
        model,
        path: below,
        enabled: enabled.unwrap_or(true),
        threshold: least.map(|value| threshold(&format!("{path}.threshold"), value, &mut check.problems)),
        ttl: time.map(|span| ttl(&format!("{path}.ttl"), span.0, &mut check.problems)),
        public: public.unwrap_or(false),
    }
}
