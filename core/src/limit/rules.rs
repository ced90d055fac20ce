//! Which limits a request must pass.
//!
//! Rules with the same attributes form a level: `tenant: acme` and `tenant: "*"` are about the
//! same buckets, those of tenants, and the one that says more about the request counts, for each
//! kind of limit by itself. Levels do not replace each other: all of them must pass.

use std::collections::BTreeMap;

use super::name::tag_at;
use super::{Attribute, BucketName, Rate, Shape, Subject};
use crate::address::ClientAddress;
use crate::policy::{EACH, Limits, Rule, Scope, Selector};

const MINUTE_NS: u64 = 60_000_000_000;
const DAY_NS: u64 = 24 * 60 * MINUTE_NS;

/// What a bucket counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Requests per second.
    Requests,
    /// LLM tokens per minute.
    Minute,
    /// LLM tokens per day.
    Day,
}

impl Kind {
    /// Its key in the configuration.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Requests => "requests_per_second",
            Self::Minute => "tokens_per_minute",
            Self::Day => "tokens_per_day",
        }
    }
}

/// A rate, and who shares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shared {
    /// The rate.
    pub rate: Rate,
    /// The workers of one gateway, or the fleet.
    pub scope: Scope,
}

/// Requests at a time, and who shares them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AtATime {
    most: u32,
    scope: Scope,
}

impl AtATime {
    /// How many one of so many gateways admits: of a limit of the fleet an equal part, at least 1.
    #[must_use]
    pub fn here(self, gateways: u32) -> u32 {
        match self.scope {
            Scope::Gateway => self.most,
            Scope::Fleet => (self.most / gateways.max(1)).max(1),
        }
    }
}

/// What one level asks of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// What the requests of the bucket have in common.
    pub shape: Shape,
    tag: u64,
    /// Requests per second.
    pub requests: Option<Shared>,
    /// LLM tokens per minute.
    pub minute: Option<Shared>,
    /// LLM tokens per day.
    pub day: Option<Shared>,
    /// Requests at a time.
    pub concurrency: Option<AtATime>,
}

impl Level {
    /// [`BucketName::tag`] of the bucket of a request from `ip`.
    #[must_use]
    pub fn tag(&self, ip: Option<ClientAddress>) -> u64 {
        tag_at(self.tag, ip.filter(|_| self.shape.has(Attribute::Ip)))
    }

    /// Its buckets, by what they count.
    pub fn rates(&self) -> impl Iterator<Item = (Kind, Shared)> + use<> {
        let kinds = [(Kind::Requests, self.requests), (Kind::Minute, self.minute), (Kind::Day, self.day)];
        kinds.into_iter().filter_map(|(kind, shared)| Some((kind, shared?)))
    }

    /// Whether there is something to reserve when the size of a request is known.
    #[must_use]
    pub const fn limits_tokens(&self) -> bool {
        self.minute.is_some() || self.day.is_some()
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Terms {
    requests: Option<Shared>,
    minute: Option<Shared>,
    day: Option<Shared>,
    concurrency: Option<AtATime>,
}

impl Terms {
    fn of(rule: &Rule) -> Self {
        let shared = |rate| Shared { rate, scope: rule.scope };
        Self {
            requests: rule.requests.map(|policy| shared(Rate::new(policy))),
            minute: rule.tokens_per_minute.map(|amount| shared(Rate::quota(amount, MINUTE_NS))),
            day: rule.tokens_per_day.map(|amount| shared(Rate::quota(amount, DAY_NS))),
            concurrency: rule.concurrency.map(|most| AtATime { most, scope: rule.scope }),
        }
    }

    fn or(self, wider: Self) -> Self {
        Self {
            requests: self.requests.or(wider.requests),
            minute: self.minute.or(wider.minute),
            day: self.day.or(wider.day),
            concurrency: self.concurrency.or(wider.concurrency),
        }
    }
}

/// The rules of a shape that name the same attributes by value and the others by [`EACH`].
#[derive(Debug)]
struct Group {
    shape: Shape,
    exact: Vec<Attribute>,
    by_values: BTreeMap<Vec<String>, Terms>,
}

impl Group {
    fn find(&self, subject: &Subject<'_>) -> Option<Terms> {
        let value = |attribute: &Attribute| match attribute {
            Attribute::Ip => subject.ip.map(|ip| ip.to_string()),
            _ => subject.text(*attribute).map(str::to_owned),
        };
        let values: Option<Vec<String>> = self.exact.iter().map(value).collect();
        self.by_values.get(&values?).copied()
    }
}

/// All rules, ready to be asked.
#[derive(Debug, Default)]
pub struct RuleSet {
    /// Narrow shapes first; within one the rules that say more first.
    groups: Vec<Group>,
}

impl RuleSet {
    /// Prepares validated rules.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        let mut groups: Vec<Group> = Vec::new();
        for rule in &limits.rules {
            let shape = Shape::of(&rule.select);
            let exact = exact(&rule.select);
            let values = exact.iter().filter_map(|a| rule.select.get(*a).map(str::to_owned)).collect();
            let at = groups.iter().position(|g| g.shape == shape && g.exact == exact);
            let at = at.unwrap_or_else(|| {
                groups.push(Group { shape, exact, by_values: BTreeMap::new() });
                groups.len() - 1
            });
            if let Some(group) = groups.get_mut(at) {
                let terms = group.by_values.entry(values).or_default();
                *terms = terms.or(Terms::of(rule));
            }
        }
        groups.sort_by_key(|g| (std::cmp::Reverse((g.shape.len(), g.shape, g.exact.len())), g.exact.clone()));
        Self { groups }
    }

    /// Whether any rule tells requests apart by `attribute`.
    #[must_use]
    pub fn knows(&self, attribute: Attribute) -> bool {
        self.groups.iter().any(|group| group.shape.has(attribute))
    }

    /// Whether any rule names a value of `attribute`, so that the levels of a request depend on it.
    #[must_use]
    pub fn names(&self, attribute: Attribute) -> bool {
        self.groups.iter().any(|group| group.exact.contains(&attribute))
    }

    /// The levels that `subject` must pass, the narrowest first.
    #[must_use]
    pub fn levels(&self, subject: &Subject<'_>) -> Vec<Level> {
        let mut levels: Vec<Level> = Vec::new();
        for same in self.groups.chunk_by(|a, b| a.shape == b.shape) {
            let Some(shape) = same.first().map(|group| group.shape).filter(|s| subject.has(*s)) else {
                continue;
            };
            let found = same.iter().filter_map(|group| group.find(subject)).reduce(Terms::or);
            let Some(Terms { requests, minute, day, concurrency }) = found else { continue };
            let tag = BucketName::of(shape, subject).tag_without_ip();
            levels.push(Level { shape, tag, requests, minute, day, concurrency });
        }
        levels
    }
}

fn exact(selector: &Selector) -> Vec<Attribute> {
    let named = |a: &Attribute| selector.get(*a).is_some_and(|value| value != EACH);
    Attribute::ALL.into_iter().filter(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::BucketPolicy;

    fn rule(selector: &[(&str, &str)], rate: f64) -> Rule {
        let json: serde_json::Map<_, _> =
            selector.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
        let select = serde_json::from_value(json.into()).expect("a selector");
        Rule::of_requests(select, BucketPolicy { rate, burst: 1 })
    }

    fn rates(set: &RuleSet, subject: &Subject<'_>) -> Vec<(String, Rate)> {
        let levels = set.levels(subject);
        let name = |level: &Level| BucketName::of(level.shape, subject).to_string();
        levels.iter().map(|l| (name(l), l.requests.expect("a rate").rate)).collect()
    }

    fn rate(rate: f64) -> Rate {
        Rate::new(BucketPolicy { rate, burst: 1 })
    }

    #[test]
    fn every_level_counts_and_within_one_the_rule_that_says_most() {
        let limits = Limits {
            rules: vec![
                rule(&[], 1.0),
                rule(&[("tenant", "*")], 2.0),
                rule(&[("tenant", "acme")], 3.0),
                rule(&[("tenant", "*"), ("model", "gpt-4o")], 4.0),
                rule(&[("tenant", "acme"), ("model", "*")], 5.0),
                rule(&[("key", "k1")], 6.0),
                rule(&[("ip", "192.0.2.7")], 7.0),
            ],
            ..Limits::default()
        };
        let set = RuleSet::new(&limits);
        let mut subject = Subject { tenant: "acme", route: "r", ..Subject::default() };
        let named = |list: &[(&str, f64)]| -> Vec<_> {
            list.iter().map(|(name, r)| ((*name).to_owned(), rate(*r))).collect()
        };
        assert_eq!(rates(&set, &subject), named(&[("tenant:acme", 3.0), ("global", 1.0)]));
        subject = Subject { tenant: "other", key: Some("k1"), model: Some("gpt-4o"), ..subject };
        subject.ip = "192.0.2.7".parse().ok();
        assert_eq!(
            rates(&set, &subject),
            named(&[
                ("tenant:other,model:gpt-4o", 4.0),
                ("ip:192.0.2.7", 7.0),
                ("key:k1", 6.0),
                ("tenant:other", 2.0),
                ("global", 1.0)
            ])
        );
        assert!(set.names(Attribute::Ip) && !set.knows(Attribute::Route));
    }

    #[test]
    fn each_kind_of_limit_is_looked_for_by_itself() {
        let mut each = rule(&[("tenant", "*")], 2.0);
        each.tokens_per_minute = Some(600);
        let mut acme = rule(&[("tenant", "acme")], 3.0);
        acme.scope = Scope::Fleet;
        let at_a_time = Rule { requests: None, concurrency: Some(4), scope: Scope::Gateway, ..acme.clone() };
        let set = RuleSet::new(&Limits { rules: vec![each, acme, at_a_time], ..Limits::default() });
        let levels = set.levels(&Subject { tenant: "acme", ..Subject::default() });
        let [level] = levels.as_slice() else { panic!("one level") };
        assert_eq!(level.requests, Some(Shared { rate: rate(3.0), scope: Scope::Fleet }));
        let minute = Shared { rate: Rate::quota(600, MINUTE_NS), scope: Scope::Gateway };
        assert_eq!((level.minute, level.day), (Some(minute), None));
        assert_eq!(level.concurrency, Some(AtATime { most: 4, scope: Scope::Gateway }));
    }

    #[test]
    fn gateways_together_admit_no_more_than_the_fleet_may() {
        for (most, gateways, here) in [(9, 0, 9), (9, 1, 9), (9, 3, 3), (10, 3, 3), (2, 3, 1)] {
            assert_eq!(AtATime { most, scope: Scope::Fleet }.here(gateways), here);
            assert_eq!(AtATime { most, scope: Scope::Gateway }.here(gateways), most);
        }
    }

    #[test]
    fn a_level_finds_the_bucket_that_its_name_says() {
        let set = RuleSet::new(&Limits {
            rules: vec![rule(&[("tenant", "*"), ("ip", "*")], 1.0)],
            ..Limits::default()
        });
        let name: BucketName = "tenant:acme,ip:192.0.2.7".parse().expect("a name");
        let subject = name.subject();
        let levels = set.levels(&subject);
        assert_eq!(levels.iter().map(|l| l.tag(subject.ip)).collect::<Vec<_>>(), [name.tag()]);
        assert!(set.levels(&Subject { ip: None, ..subject }).is_empty());
    }
}
