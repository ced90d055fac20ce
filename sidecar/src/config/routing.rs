//! `routing`: which provider answers, and what happens when it does not. The same document is
//! the body of `PUT /v1/routing/config`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde::de::IgnoredAny;
use tidegate_core::policy::BreakerPolicy;
use tidegate_core::routing::{Backoff, FaultKind, Strategy};

use super::Problems;
use super::breaker::millis;
use super::value::Span;
use crate::llm::routing::{Fallback, HealthCheck, Hedging, Retries, RoutingSettings, Target};

/// Most models with targets of their own.
const MODELS_MAX: usize = 1024;
/// Most targets of one model or fallback.
const TARGETS_MAX: usize = 16;
/// Most fallbacks.
const FALLBACKS_MAX: usize = 256;
/// Longest name of a model or target, in bytes.
const NAME_BYTES_MAX: usize = 256;
/// Most attempts of one request.
const ATTEMPTS_MAX: u32 = 10;
/// Most kinds of failures of one fallback; there are no more.
const KINDS_MAX: usize = FaultKind::ALL.len();

/// The section as it may be written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Document {
    strategy: Option<String>,
    enabled: Option<bool>,
    aliases: Option<BTreeMap<String, OneOrMany>>,
    fallbacks: Option<Vec<FallbackDocument>>,
    quality: Option<BTreeMap<String, f64>>,
    quality_floor: Option<f64>,
    retries: Option<RetriesDocument>,
    hedging: Option<HedgingDocument>,
    health_check: Option<HealthCheckDocument>,
    outlier: Option<OutlierDocument>,
    slow_start: Option<Span>,
    concurrency_max: Option<u32>,
    allow_link_local: Option<bool>,
}

/// One target, or several in the order in which they are tried.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a target such as `azure/gpt-4o`, or a list of targets")]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a target, or a mapping with `to` and optionally `model` and `on`")]
enum FallbackDocument {
    Target(String),
    Rule(RuleDocument),
    Other(IgnoredAny),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleDocument {
    model: Option<String>,
    to: OneOrMany,
    on: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RetriesDocument {
    attempts: Option<u32>,
    base: Option<Span>,
    max: Option<Span>,
    budget: Option<f64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct HedgingDocument {
    enabled: Option<bool>,
    budget: Option<f64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct HealthCheckDocument {
    enabled: Option<bool>,
    interval: Option<Span>,
    timeout: Option<Span>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct OutlierDocument {
    failures: Option<u32>,
    window: Option<Span>,
    ejection: Option<Span>,
}

/// Checks the section at `path`.
pub fn validate(path: &str, document: Document, problems: &mut Problems) -> RoutingSettings {
    let Document {
        strategy,
        enabled,
        aliases,
        fallbacks,
        quality,
        quality_floor,
        retries,
        hedging,
        health_check,
        outlier,
        slow_start,
        concurrency_max,
        allow_link_local,
    } = document;
    let default = RoutingSettings::default();
    let at = |field: &str| format!("{path}.{field}");
    RoutingSettings {
        strategy: strategy.map_or(default.strategy, |name| strategy_of(&at("strategy"), &name, problems)),
        enabled: enabled.unwrap_or(default.enabled),
        models: aliases_of(&at("aliases"), aliases.unwrap_or_default(), problems),
        fallbacks: fallbacks_of(&at("fallbacks"), fallbacks.unwrap_or_default(), problems),
        quality_floor: share(&at("quality_floor"), quality_floor, default.quality_floor, problems),
        quality: qualities(&at("quality"), quality.unwrap_or_default(), problems),
        retries: retries_of(&at("retries"), retries.unwrap_or_default(), &default.retries, problems),
        hedging: hedging_of(&at("hedging"), hedging.unwrap_or_default(), &default.hedging, problems),
        health_check: health_check_of(&at("health_check"), health_check.unwrap_or_default(), problems),
        outlier: outlier_of(&at("outlier"), outlier.unwrap_or_default(), &default.outlier, problems),
        slow_start: Duration::from_millis(span(
            &at("slow_start"),
            slow_start,
            millis(default.slow_start),
            0..=3_600_000,
            problems,
        )),
        concurrency_max: problems.within(
            &at("concurrency_max"),
            concurrency_max.unwrap_or(default.concurrency_max),
            1..=100_000,
            " requests in flight",
        ),
        allow_link_local: allow_link_local.unwrap_or(default.allow_link_local),
    }
}

fn strategy_of(path: &str, name: &str, problems: &mut Problems) -> Strategy {
    Strategy::from_name(name).unwrap_or_else(|| {
        let known = Strategy::ALL.map(Strategy::as_str).join(", ");
        problems.add(path, format!("is not a strategy; use one of {known}"));
        Strategy::WeightedRoundRobin
    })
}

fn name_of(path: &str, name: String, problems: &mut Problems) -> Option<String> {
    let usable = !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.chars().any(char::is_control);
    if !usable {
        problems.add(path, format!("must be a name of 1 to {NAME_BYTES_MAX} bytes"));
    }
    usable.then_some(name)
}

fn targets_of(path: &str, targets: OneOrMany, problems: &mut Problems) -> Vec<Target> {
    let list = match targets {
        OneOrMany::One(target) => vec![target],
        OneOrMany::Many(list) => list,
    };
    if list.is_empty() || list.len() > TARGETS_MAX {
        problems
            .add(path, format!("must have 1 to {TARGETS_MAX} targets, such as [azure/gpt-4o, gpt-4o-mini]"));
    }
    let named = |(index, name)| name_of(&format!("{path}[{index}]"), name, problems).map(Target);
    list.into_iter().take(TARGETS_MAX).enumerate().filter_map(named).collect()
}

fn aliases_of(
    path: &str,
    aliases: BTreeMap<String, OneOrMany>,
    problems: &mut Problems,
) -> BTreeMap<String, Vec<Target>> {
    if aliases.len() > MODELS_MAX {
        problems.add(path, format!("has {} models; at most {MODELS_MAX} are allowed", aliases.len()));
    }
    let mut models = BTreeMap::new();
    for (model, targets) in aliases.into_iter().take(MODELS_MAX) {
        let at = format!("{path}.{model}");
        if let Some(model) = name_of(&at, model, problems) {
            models.insert(model, targets_of(&at, targets, problems));
        }
    }
    models
}

fn fallbacks_of(path: &str, list: Vec<FallbackDocument>, problems: &mut Problems) -> Vec<Fallback> {
    if list.len() > FALLBACKS_MAX {
        problems.add(path, format!("has {} items; at most {FALLBACKS_MAX} are allowed", list.len()));
    }
    let mut fallbacks = Vec::new();
    for (index, document) in list.into_iter().take(FALLBACKS_MAX).enumerate() {
        let at = format!("{path}[{index}]");
        let RuleDocument { model, to, on } = match document {
            FallbackDocument::Target(target) => {
                RuleDocument { model: None, to: OneOrMany::One(target), on: None }
            }
            FallbackDocument::Rule(rule) => rule,
            FallbackDocument::Other(_) => {
                let what = "must be a target, or a mapping with `to` and optionally `model` and `on`";
                problems.add(at, what);
                continue;
            }
        };
        let model = model.filter(|name| name != "*");
        fallbacks.push(Fallback {
            model: model.and_then(|name| name_of(&format!("{at}.model"), name, problems)),
            to: targets_of(&format!("{at}.to"), to, problems),
            on: kinds_of(&format!("{at}.on"), on, problems),
        });
    }
    fallbacks
}

/// Left out, it means every failure that another provider may not have.
fn kinds_of(path: &str, names: Option<Vec<String>>, problems: &mut Problems) -> Vec<FaultKind> {
    let Some(names) = names else {
        return FaultKind::ALL.into_iter().filter(|kind| kind.may_succeed_elsewhere()).collect();
    };
    let mut kinds = Vec::new();
    for (index, name) in names.iter().take(KINDS_MAX).enumerate() {
        match FaultKind::ALL.into_iter().find(|kind| kind.as_str() == name) {
            Some(kind) => kinds.push(kind),
            None => {
                let known = FaultKind::ALL.map(FaultKind::as_str).join(", ");
                problems
                    .add(format!("{path}[{index}]"), format!("is not a kind of failure; use one of {known}"));
            }
        }
    }
    kinds
}

fn qualities(path: &str, list: BTreeMap<String, f64>, problems: &mut Problems) -> BTreeMap<String, f64> {
    if list.len() > MODELS_MAX {
        problems.add(path, format!("has {} providers; at most {MODELS_MAX} are allowed", list.len()));
    }
    let mut qualities = BTreeMap::new();
    for (name, quality) in list.into_iter().take(MODELS_MAX) {
        let quality = problems.within(&format!("{path}.{name}"), quality, 0.0..=1.0, "");
        qualities.insert(name, quality);
    }
    qualities
}

fn share(path: &str, value: Option<f64>, default: f64, problems: &mut Problems) -> f64 {
    problems.within(path, value.unwrap_or(default), 0.0..=1.0, "")
}

fn span(
    path: &str,
    span: Option<Span>,
    default_ms: u64,
    range: std::ops::RangeInclusive<u64>,
    problems: &mut Problems,
) -> u64 {
    problems.within(path, span.map_or(default_ms, |span| millis(span.0)), range, " milliseconds")
}

fn retries_of(path: &str, document: RetriesDocument, default: &Retries, problems: &mut Problems) -> Retries {
    let RetriesDocument { attempts, base, max, budget } = document;
    let attempts = attempts.unwrap_or(default.attempts);
    let backoff = default.backoff;
    let base_ms = span(&format!("{path}.base"), base, backoff.base_ms, 1..=60_000, problems);
    Retries {
        attempts: problems.within(&format!("{path}.attempts"), attempts, 1..=ATTEMPTS_MAX, " attempts"),
        backoff: Backoff {
            base_ms,
            max_ms: span(
                &format!("{path}.max"),
                max,
                backoff.max_ms.max(base_ms),
                base_ms..=600_000,
                problems,
            ),
        },
        budget: share(&format!("{path}.budget"), budget, default.budget, problems),
    }
}

fn hedging_of(path: &str, document: HedgingDocument, default: &Hedging, problems: &mut Problems) -> Hedging {
    let HedgingDocument { enabled, budget } = document;
    Hedging {
        enabled: enabled.unwrap_or(default.enabled),
        budget: share(&format!("{path}.budget"), budget, default.budget, problems),
    }
}

fn health_check_of(
    path: &str,
    document: HealthCheckDocument,
    problems: &mut Problems,
) -> Option<HealthCheck> {
    let HealthCheckDocument { enabled, interval, timeout } = document;
    let interval_ms = span(&format!("{path}.interval"), interval, 30_000, 100..=3_600_000, problems);
    let timeout_ms = span(&format!("{path}.timeout"), timeout, 5_000, 1..=60_000, problems);
    enabled.unwrap_or(true).then_some(HealthCheck {
        interval: Duration::from_millis(interval_ms),
        timeout: Duration::from_millis(timeout_ms),
    })
}

fn outlier_of(
    path: &str,
    document: OutlierDocument,
    default: &BreakerPolicy,
    problems: &mut Problems,
) -> BreakerPolicy {
    let OutlierDocument { failures, window, ejection } = document;
    let failures = failures.unwrap_or(default.failure_threshold);
    BreakerPolicy {
        failure_threshold: problems.within(&format!("{path}.failures"), failures, 1..=1_000_000, " failures"),
        window_ms: span(&format!("{path}.window"), window, default.window_ms, 100..=600_000, problems),
        recovery_timeout_ms: span(
            &format!("{path}.ejection"),
            ejection,
            default.recovery_timeout_ms,
            1..=3_600_000,
            problems,
        ),
        recovery_increment: default.recovery_increment,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> (RoutingSettings, String) {
        let document: Document = serde_norway::from_str(yaml).expect("a document");
        let mut problems = Problems::default();
        let settings = validate("routing", document, &mut problems);
        (settings, problems.to_string())
    }

    #[test]
    fn an_empty_section_has_the_defaults() {
        assert_eq!(read("{}"), (RoutingSettings::default(), String::new()));
    }

    #[test]
    fn everything_can_be_said() {
        let (settings, problems) = read(
            "strategy: least_latency
enabled: false
aliases: {fast: gpt-4o-mini, gpt-4o: [azure/gpt-4o, claude/claude-sonnet-4-5]}
fallbacks:
  - gpt-4o-mini
  - {model: gpt-4o, to: [gpt-4.1], on: [context_length]}
quality: {azure: 0.9}
quality_floor: 0.5
retries: {attempts: 2, base: 50ms, max: 1s, budget: 0.1}
hedging: {enabled: true, budget: 0.02}
health_check: {enabled: false}
outlier: {failures: 3, window: 5s, ejection: 20s}
slow_start: 0s
concurrency_max: 7
",
        );
        assert_eq!(problems, "");
        assert_eq!((settings.strategy, settings.enabled), (Strategy::LeastLatency, false));
        assert_eq!(settings.models["gpt-4o"].len(), 2);
        assert_eq!(settings.models["fast"], [Target("gpt-4o-mini".to_owned())]);
        assert_eq!(settings.fallbacks[0].model, None);
        assert!(settings.fallbacks[0].on.contains(&FaultKind::Server));
        assert!(!settings.fallbacks[0].on.contains(&FaultKind::ContentPolicy));
        assert_eq!(settings.fallbacks[1].on, [FaultKind::ContextLength]);
        assert_eq!(settings.retries.backoff, Backoff { base_ms: 50, max_ms: 1_000 });
        assert_eq!(settings.health_check, None);
        assert_eq!(settings.outlier.recovery_timeout_ms, 20_000);
        assert_eq!((settings.slow_start, settings.concurrency_max), (Duration::ZERO, 7));
    }

    #[test]
    fn mistakes_are_named_with_their_path() {
        for (yaml, wanted) in [
            ("strategy: fastest", "routing.strategy: is not a strategy; use one of round_robin, "),
            ("aliases: {fast: []}", "routing.aliases.fast: must have 1 to 16 targets"),
            (
                "fallbacks: [{model: a, to: b, on: [rain]}]",
                "routing.fallbacks[0].on[0]: is not a kind of failure",
            ),
            ("fallbacks: [{model: a}]", "routing.fallbacks[0]: must be a target, or a mapping with `to`"),
            ("retries: {attempts: 0}", "routing.retries.attempts: is 0; must be 1 to 10 attempts"),
            ("retries: {base: 5s, max: 1s}", "routing.retries.max: is 1000; must be 5000 to"),
            ("quality_floor: 2", "routing.quality_floor: is 2; must be 0 to 1"),
            ("hedging: {budget: .nan}", "routing.hedging.budget: is NaN"),
            ("health_check: {interval: 1ms}", "routing.health_check.interval: is 1; must be 100 to"),
        ] {
            let (_, problems) = read(yaml);
            assert!(problems.starts_with(wanted), "{yaml}: {problems}");
        }
    }
}
