//! From a cluster of failures and the slice that explains it to what is to be done: the
//! operator's rules, asked in their order. Where they have none, [`default_rules`] are asked.

use serde::{Deserialize, Serialize};

use super::attribution::Explanation;
use super::cluster::Trend;
use super::{ErrorKind, StatusClass};
use crate::event::Attribute;

/// Most rules of one configuration.
pub const RULES_MAX: usize = 100;
/// Share of the requests that fail in a slice from which breaking it spares nearly everyone.
pub const PRECISION_MIN: f64 = 0.85;
/// The same for a limit, which lets through what succeeds.
const LIMIT_PRECISION_MIN: f64 = 0.1;
/// Failing share of a slice that fails as a whole: refusing it refuses nobody who would succeed.
pub const OUTAGE_PRECISION: f64 = 0.95;

/// What a rule asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Watch, and report.
    Observe,
    /// Find the rate that the upstream takes, and refuse what is above it.
    Limit,
    /// Refuse, but for probes.
    Break,
    /// Send elsewhere what can go elsewhere, and refuse nothing.
    RouteAway,
    /// Tell callers of failed requests that trying again is of no use.
    Advise,
}

impl Action {
    /// Its name in files and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Limit => "limit",
            Self::Break => "break",
            Self::RouteAway => "route_away",
            Self::Advise => "advise",
        }
    }
}

/// One rule. What it does not ask for may be anything.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Its name, in explanations.
    pub name: String,
    /// Kinds of failure; empty for all.
    pub kinds: Vec<ErrorKind>,
    /// Classes of status; empty for all.
    pub classes: Vec<StatusClass>,
    /// Least severity, 0 to 100.
    pub severity_min: f64,
    /// The trend, if it matters.
    pub trend: Option<Trend>,
    /// Attributes of which the slice must name one; empty when it may be any.
    pub scope: Vec<Attribute>,
    /// What to do.
    pub action: Action,
    /// Whether it is done or only shown; `None` leaves it to `policy.mode`.
    pub enforce: Option<bool>,
    /// Least share of the slice's requests that fail, with 90 % confidence.
    pub precision_min: f64,
    /// Failures before anything is done; `None` is the breaker's threshold.
    pub failures_min: Option<u64>,
    /// How long a broken slice is left alone, in milliseconds; `None` is the breaker's.
    pub recovery_timeout_ms: Option<u64>,
    /// How long a policy lives without new failures, in milliseconds; `None` is `policy.ttl`.
    pub ttl_ms: Option<u64>,
    /// Whether refused callers are told that trying again can help.
    pub retry: bool,
}

impl Rule {
    /// A rule for these kinds that does `action`.
    #[must_use]
    pub fn new(name: &str, kinds: &[ErrorKind], action: Action) -> Self {
        Self {
            name: name.to_owned(),
            kinds: kinds.to_vec(),
            classes: Vec::new(),
            severity_min: 0.0,
            trend: None,
            scope: Vec::new(),
            action,
            enforce: None,
            precision_min: if action == Action::Limit { LIMIT_PRECISION_MIN } else { PRECISION_MIN },
            failures_min: None,
            recovery_timeout_ms: None,
            ttl_ms: None,
            retry: true,
        }
    }
}

/// What is known of a cluster when a rule is looked for.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Its kind.
    pub kind: ErrorKind,
    /// The class of its status.
    pub class: StatusClass,
    /// 0 to 100.
    pub severity: f64,
    /// Which way it goes.
    pub trend: Trend,
    /// A slice that explains it.
    pub explanation: &'a Explanation,
}

impl Facts<'_> {
    /// Whether the caller is at fault: nothing but the very caller's slice is ever broken for it.
    #[must_use]
    pub const fn is_callers_fault(&self) -> bool {
        is_callers_fault(self.kind, self.class)
    }

    fn names_a_caller(&self) -> bool {
        [Attribute::Tenant, Attribute::Key].iter().any(|a| self.explanation.scope.contains_key(a))
    }
}

/// The first rule that the facts satisfy; `failures_min` is the breaker's threshold.
#[must_use]
pub fn decide<'r>(rules: &'r [Rule], facts: &Facts<'_>, failures_min: u64) -> Option<&'r Rule> {
    rules.iter().find(|rule| satisfies(rule, facts, failures_min))
}

fn satisfies(rule: &Rule, facts: &Facts<'_>, failures_min: u64) -> bool {
    let explanation = facts.explanation;
    let asked = |attribute: &Attribute| explanation.scope.contains_key(attribute);
    let harms = matches!(rule.action, Action::Break | Action::Limit | Action::RouteAway);
    (rule.kinds.is_empty() || rule.kinds.contains(&facts.kind))
        && (rule.classes.is_empty() || rule.classes.contains(&facts.class))
        && facts.severity >= rule.severity_min
        && rule.trend.is_none_or(|trend| trend == facts.trend)
        && (rule.scope.is_empty() || rule.scope.iter().any(asked))
        && (rule.action == Action::Observe || is_sure(rule, explanation, failures_min))
        && !(harms && facts.is_callers_fault() && !facts.names_a_caller())
}

/// Whether enough fails in a slice. What closes it for everyone counts whatever dooms a request; what
/// answers one error only that one.
fn is_sure(rule: &Rule, explanation: &Explanation, failures_min: u64) -> bool {
    let (failures, share) = match rule.action {
        Action::Break | Action::RouteAway => (explanation.failing, explanation.doomed_low),
        Action::Observe | Action::Limit | Action::Advise => (explanation.failures, explanation.precision_low),
    };
    failures >= rule.failures_min.unwrap_or(failures_min) && share >= rule.precision_min
}

/// Whether an error dooms a request whatever its caller does: it counts in how many of a slice a break
/// would hit for nothing. One that is the caller's fault does not, nor one that a slower caller avoids.
#[must_use]
pub const fn dooms(kind: ErrorKind, class: StatusClass) -> bool {
    match kind {
        ErrorKind::RateLimited => false,
        kind => !is_callers_fault(kind, class),
    }
}

const fn is_callers_fault(kind: ErrorKind, class: StatusClass) -> bool {
    match kind {
        ErrorKind::NotFound => true,
        ErrorKind::Unknown => matches!(class, StatusClass::Client),
        kind => kind.is_callers_fault(),
    }
}

/// The rules of a configuration without any: what the caller can mend is only watched; what the
/// account, the provider or the network suffers from is broken where it fails as a whole; where a
/// part gets through, only what a rate was exceeded for is limited.
#[must_use]
pub fn default_rules() -> Vec<Rule> {
    use ErrorKind as K;
    let callers = [K::InvalidRequest, K::ContextTooLong, K::ContentRefused, K::NotFound];
    let accounts = [K::Quota, K::Auth];
    let providers = [K::Overloaded, K::Timeout, K::Network, K::UpstreamBug];
    vec![
        Rule::new("callers", &callers, Action::Observe),
        Rule { retry: false, ..Rule::new("accounts", &accounts, Action::Break) },
        Rule::new("providers", &providers, Action::Break),
        Rule::new("rates", &[K::RateLimited], Action::Limit),
        Rule {
            classes: vec![StatusClass::Server, StatusClass::None, StatusClass::Ok],
            ..Rule::new("unknown", &[K::Unknown], Action::Break)
        },
    ]
}

/// In which order attributes explain a kind, when they explain it equally well: accounts belong to
/// tenants and keys, capacity to models and providers.
#[must_use]
pub const fn preference(kind: ErrorKind) -> &'static [Attribute] {
    use Attribute as A;
    match kind {
        ErrorKind::Quota | ErrorKind::RateLimited => &[
            A::Tenant,
            A::Model,
            A::ProviderKey,
            A::Provider,
            A::Key,
            A::Path,
            A::Region,
            A::Route,
            A::Method,
        ],
        ErrorKind::Auth => &[
            A::ProviderKey,
            A::Tenant,
            A::Provider,
            A::Model,
            A::Key,
            A::Path,
            A::Region,
            A::Route,
            A::Method,
        ],
        ErrorKind::InvalidRequest
        | ErrorKind::ContextTooLong
        | ErrorKind::ContentRefused
        | ErrorKind::NotFound => {
            &[A::Key, A::Tenant, A::Model, A::PromptLength, A::Tools, A::Stream, A::Path, A::Method, A::Route]
        }
        ErrorKind::Overloaded
        | ErrorKind::Network
        | ErrorKind::Timeout
        | ErrorKind::UpstreamBug
        | ErrorKind::Unknown => &[
            A::Model,
            A::Region,
            A::Path,
            A::Method,
            A::Provider,
            A::Tenant,
            A::Key,
            A::ProviderKey,
            A::Route,
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Attributes;

    fn explanation(precision: f64, scope: &[(Attribute, &str)]) -> Explanation {
        Explanation {
            scope: scope.iter().map(|(a, v)| (*a, (*v).to_owned())).collect::<Attributes>(),
            precision,
            precision_low: precision - 0.05,
            recall: 1.0,
            significance: 100.0,
            doomed: precision,
            doomed_low: precision - 0.05,
            requests: 100,
            failures: (100.0 * precision) as u64,
            failing: (100.0 * precision) as u64,
            share: 0.1,
            tenants: 1,
        }
    }

    fn decided(kind: ErrorKind, class: StatusClass, e: &Explanation) -> Option<Action> {
        let facts = Facts { kind, class, severity: 50.0, trend: Trend::Steady, explanation: e };
        decide(&default_rules(), &facts, 10).map(|rule| rule.action)
    }

    #[test]
    fn the_default_rules_break_what_fails_as_a_whole_and_limit_what_half_works() {
        let whole = explanation(1.0, &[(Attribute::Tenant, "acme")]);
        let half = explanation(0.5, &[(Attribute::Model, "m")]);
        let (client, server) = (StatusClass::Client, StatusClass::Server);
        assert_eq!(decided(ErrorKind::Quota, client, &whole), Some(Action::Break));
        assert_eq!(decided(ErrorKind::Overloaded, server, &whole), Some(Action::Break));
        assert_eq!(decided(ErrorKind::Overloaded, server, &half), None, "nobody's own rate is to blame");
        assert_eq!(decided(ErrorKind::RateLimited, client, &half), Some(Action::Limit));
        assert_eq!(decided(ErrorKind::UpstreamBug, server, &half), None);
        assert_eq!(decided(ErrorKind::Unknown, server, &whole), Some(Action::Break));
        assert_eq!(decided(ErrorKind::Unknown, client, &whole), None);
        for kind in [ErrorKind::InvalidRequest, ErrorKind::ContextTooLong, ErrorKind::ContentRefused] {
            assert_eq!(decided(kind, client, &whole), Some(Action::Observe));
        }
        let noise = explanation(0.06, &[(Attribute::Model, "m")]);
        assert_eq!(decided(ErrorKind::RateLimited, client, &noise), None);
    }

    #[test]
    fn whatever_the_rules_say_a_callers_fault_breaks_only_that_caller() {
        let rules = [Rule::new("all", &[], Action::Break)];
        let holds = |attribute| {
            let explanation = explanation(1.0, &[(attribute, "x")]);
            let facts = Facts {
                kind: ErrorKind::ContextTooLong,
                class: StatusClass::Client,
                severity: 100.0,
                trend: Trend::Growing,
                explanation: &explanation,
            };
            decide(&rules, &facts, 10).is_some()
        };
        assert!(!holds(Attribute::Model));
        assert!(holds(Attribute::Key));
    }

    #[test]
    fn a_break_counts_whatever_dooms_and_a_limit_its_own_error() {
        let mut mixed = explanation(0.4, &[(Attribute::Model, "m")]);
        (mixed.doomed, mixed.doomed_low, mixed.failing) = (0.99, 0.95, 99);
        assert_eq!(decided(ErrorKind::Overloaded, StatusClass::Server, &mixed), Some(Action::Break));
        let mut rare = explanation(0.06, &[(Attribute::Model, "m")]);
        (rare.doomed, rare.doomed_low, rare.failing) = (0.99, 0.95, 99);
        assert_eq!(decided(ErrorKind::RateLimited, StatusClass::Client, &rare), None);
        assert!(!dooms(ErrorKind::RateLimited, StatusClass::Client));
        assert!(!dooms(ErrorKind::ContextTooLong, StatusClass::Client));
        assert!(
            dooms(ErrorKind::Quota, StatusClass::Client) && dooms(ErrorKind::Unknown, StatusClass::Server)
        );
    }

    #[test]
    fn every_condition_of_a_rule_counts() {
        let e = explanation(1.0, &[(Attribute::Tenant, "acme")]);
        let facts = Facts {
            kind: ErrorKind::Quota,
            class: StatusClass::Client,
            severity: 50.0,
            trend: Trend::Steady,
            explanation: &e,
        };
        let base = Rule::new("r", &[ErrorKind::Quota], Action::Break);
        let holds = |rule: Rule| decide(&[rule], &facts, 10).is_some();
        assert!(holds(base.clone()));
        assert!(!holds(Rule { kinds: vec![ErrorKind::Auth], ..base.clone() }));
        assert!(!holds(Rule { classes: vec![StatusClass::Server], ..base.clone() }));
        assert!(!holds(Rule { severity_min: 60.0, ..base.clone() }));
        assert!(!holds(Rule { trend: Some(Trend::Growing), ..base.clone() }));
        assert!(!holds(Rule { scope: vec![Attribute::Model], ..base.clone() }));
        assert!(!holds(Rule { failures_min: Some(101), ..base.clone() }));
        assert!(!holds(Rule { precision_min: 0.99, ..base }));
    }
}
