//! `policy`: what is done about incidents. Rules stand in the section or in a file of their own.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_core::event::Attribute;
use tidegate_core::incident::cluster::Trend;
use tidegate_core::incident::proposal::{Action, RULES_MAX, Rule, default_rules};
use tidegate_core::incident::{ErrorKind, StatusClass};

use super::value::Span;
use super::{Check, Problems};

/// Largest share of the traffic that one policy may match, if not nearly all of it fails.
const TRAFFIC_SHARE_MAX: f64 = 0.5;
/// Policies that may be made in a minute.
const CHANGES_PER_MINUTE: u32 = 60;
/// How long a policy lives without new failures.
const TTL_S: u64 = 600;
/// Largest file of rules, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The section as it may be written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Document {
    mode: Option<Mode>,
    rules: Option<Vec<Option<RuleDocument>>>,
    rules_path: Option<String>,
    max_traffic_share: Option<f64>,
    changes_per_minute: Option<u32>,
    ttl: Option<Span>,
}

/// Whether policies are carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Everything is computed and shown, and nothing is refused.
    Shadow,
    /// Policies are carried out.
    Enforce,
}

/// A rule as it may be written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RuleDocument {
    name: Option<String>,
    kinds: Option<Vec<ErrorKind>>,
    classes: Option<Vec<StatusClass>>,
    min_severity: Option<f64>,
    trend: Option<Trend>,
    scope: Option<Vec<Attribute>>,
    action: Option<Action>,
    mode: Option<Mode>,
    min_precision: Option<f64>,
    min_failures: Option<u64>,
    recovery_timeout: Option<Span>,
    ttl: Option<Span>,
    retry: Option<bool>,
}

/// The file that `rules_path` names.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RulesFile {
    rules: Vec<Option<RuleDocument>>,
}

/// The validated section.
#[derive(Debug, Clone, PartialEq)]
pub struct Incidents {
    /// Whether policies are carried out, unless their rule says otherwise.
    pub mode: Mode,
    /// The rules, in their order.
    pub rules: Vec<Rule>,
    /// Largest share of the traffic that one policy may match.
    pub traffic_share_max: f64,
    /// Policies that may be made in a minute.
    pub changes_per_minute: u32,
    /// How long a policy lives without new failures, in milliseconds.
    pub ttl_ms: u64,
}

/// Checks the section.
pub fn validate(document: Document, check: &mut Check<'_>) -> Incidents {
    let Document { mode, rules, rules_path, max_traffic_share, changes_per_minute, ttl } = document;
    let rules = match (rules, rules_path) {
        (Some(_), Some(_)) => {
            check.problems.add("policy.rules_path", "stands beside policy.rules; give one of them");
            Vec::new()
        }
        (Some(rules), None) => rules_of("policy.rules", rules, check),
        (None, Some(path)) => read(&path, check),
        (None, None) => default_rules(),
    };
    Incidents {
        mode: mode.unwrap_or(Mode::Enforce),
        rules,
        traffic_share_max: check.problems.within(
            "policy.max_traffic_share",
            max_traffic_share.unwrap_or(TRAFFIC_SHARE_MAX),
            0.001..=1.0,
            " of the traffic",
        ),
        changes_per_minute: check.problems.within(
            "policy.changes_per_minute",
            changes_per_minute.unwrap_or(CHANGES_PER_MINUTE),
            1..=10_000,
            " policies",
        ),
        ttl_ms: time(
            "policy.ttl",
            Some(ttl.unwrap_or(Span(Duration::from_secs(TTL_S)))),
            &mut check.problems,
        )
        .unwrap_or(TTL_S * 1000),
    }
}

fn read(path: &str, check: &mut Check<'_>) -> Vec<Rule> {
    let path = PathBuf::from(check.expanded("policy.rules_path", path));
    let shown = path.display();
    let fail = |what: String, check: &mut Check<'_>| {
        check.problems.add("policy.rules_path", what);
        Vec::new()
    };
    match std::fs::metadata(&path) {
        Ok(meta) if meta.len() > FILE_BYTES_MAX => {
            return fail(format!("{shown} is larger than {FILE_BYTES_MAX} bytes"), check);
        }
        Ok(_) => {}
        Err(error) => return fail(format!("cannot read {shown}: {error}"), check),
    }
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => return fail(format!("cannot read {shown}: {error}"), check),
    };
    let tree = match serde_norway::from_str::<serde_norway::Value>(&text) {
        Ok(tree) => tree,
        Err(error) => return fail(format!("{shown} is not YAML: {error}"), check),
    };
    match serde_path_to_error::deserialize::<_, RulesFile>(&tree) {
        Ok(file) => rules_of("policy.rules_path: rules", file.rules, check),
        Err(error) => fail(format!("{shown}: {}: {}", error.path(), error.inner()), check),
    }
}

fn rules_of(path: &str, rules: Vec<Option<RuleDocument>>, check: &mut Check<'_>) -> Vec<Rule> {
    let items = check.items(path, Some(rules), RULES_MAX);
    items.into_iter().filter_map(|(path, rule)| rule.validate(&path, check)).collect()
}

impl RuleDocument {
    fn validate(self, path: &str, check: &mut Check<'_>) -> Option<Rule> {
        let Self {
            name,
            kinds,
            classes,
            min_severity,
            trend,
            scope,
            action,
            mode,
            min_precision,
            min_failures,
            recovery_timeout,
            ttl,
            retry,
        } = self;
        let at = |field: &str| format!("{path}.{field}");
        let name = check
            .problems
            .required(&at("name"), name, "`name: quota`")
            .map(|name| check.name(&at("name"), name));
        let problems = &mut check.problems;
        let action = problems.required(&at("action"), action, "`action: break`");
        let mut rule = Rule::new(&name?, &kinds.unwrap_or_default(), action?);
        rule.classes = classes.unwrap_or_default();
        rule.severity_min =
            problems.within(&at("min_severity"), min_severity.unwrap_or(0.0), 0.0..=100.0, "");
        rule.trend = trend;
        rule.scope = scope.unwrap_or_default();
        rule.enforce = mode.map(|mode| mode == Mode::Enforce);
        rule.precision_min =
            problems.within(&at("min_precision"), min_precision.unwrap_or(rule.precision_min), 0.0..=1.0, "");
        rule.failures_min =
            min_failures.map(|n| problems.within(&at("min_failures"), n, 1..=1_000_000, " failures"));
        rule.recovery_timeout_ms = time(&at("recovery_timeout"), recovery_timeout, problems);
        rule.ttl_ms = time(&at("ttl"), ttl, problems);
        rule.retry = retry.unwrap_or(true);
        Some(rule)
    }
}

fn time(path: &str, span: Option<Span>, problems: &mut Problems) -> Option<u64> {
    let ms = u64::try_from(span?.0.as_millis()).unwrap_or(u64::MAX);
    Some(problems.within(path, ms, 1..=86_400_000, " milliseconds (1ms to 24h)"))
}

#[cfg(test)]
mod tests {
    use super::super::{Env, parse};
    use super::*;

    fn incidents(yaml: &str) -> Result<Incidents, String> {
        parse(yaml, &Env::new()).map(|config| config.incidents).map_err(|problems| problems.to_string())
    }

    #[test]
    fn without_a_section_the_default_rules_are_enforced() {
        let incidents = incidents("").expect("valid");
        assert_eq!((incidents.mode, incidents.rules), (Mode::Enforce, default_rules()));
    }

    #[test]
    fn a_rule_takes_everything_it_may_ask_for() {
        let incidents = incidents(
            "policy: {mode: shadow, ttl: 1m, rules: [{name: q, kinds: [quota, auth], classes: [4xx], \
             min_severity: 30, trend: growing, scope: [tenant], action: break, mode: enforce, \
             min_precision: 0.9, min_failures: 5, recovery_timeout: 5s, ttl: 2m, retry: false}]}",
        )
        .expect("valid");
        let rule = &incidents.rules[0];
        assert_eq!((incidents.mode, incidents.ttl_ms), (Mode::Shadow, 60_000));
        assert_eq!((rule.enforce, rule.failures_min), (Some(true), Some(5)));
        assert_eq!((rule.recovery_timeout_ms, rule.ttl_ms, rule.retry), (Some(5_000), Some(120_000), false));
    }

    #[test]
    fn mistakes_are_named_by_their_path() {
        for (yaml, path) in [
            ("policy: {mode: maybe}", "policy.mode"),
            ("policy: {rules: [{name: a}]}", "policy.rules[0].action"),
            ("policy: {rules: [{action: break}]}", "policy.rules[0].name"),
            ("policy: {rules: [{name: a, action: explode}]}", "policy.rules[0].action"),
            (
                "policy: {rules: [{name: a, action: break, min_precision: 2}]}",
                "policy.rules[0].min_precision",
            ),
            ("policy: {rules: [{name: a, action: break, kinds: [bad]}]}", "policy.rules[0].kinds[0]"),
            ("policy: {max_traffic_share: 0}", "policy.max_traffic_share"),
            ("policy: {rules: [], rules_path: x}", "policy.rules_path"),
            ("policy: {rules_path: /does/not/exist.yaml}", "policy.rules_path"),
        ] {
            let problems = incidents(yaml).expect_err(yaml);
            assert!(problems.starts_with(path), "{yaml}: {problems}");
        }
    }

    #[test]
    fn the_shipped_rules_are_the_default_ones() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/policy-rules.yaml");
        let incidents = incidents(&format!("policy: {{rules_path: {path}}}")).expect("valid");
        assert_eq!(incidents.rules, default_rules());
    }
}
