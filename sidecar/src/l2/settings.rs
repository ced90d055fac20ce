//! What the operator says about the semantic cache, already validated.

use std::time::Duration;

use regex::Regex;

use super::trust::Mode;

/// The semantic cache's configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Whether prompts are compared by meaning.
    pub enabled: bool,
    /// Whether answers are shared with other gateways through Redis.
    pub shared: bool,
    /// Where prompts are compared.
    pub index: Place,
    /// Who decides whether a near answer is served.
    pub mode: Mode,
    /// Share of what may be served that is asked for again all the same; 0 to 1.
    pub audit_rate: f64,
    /// Least cosine of two prompts that may share an answer, in the mode `static`.
    pub threshold: f32,
    /// How long an answer is served.
    pub ttl: Duration,
    /// Memory of vectors, prompts and answers, in bytes.
    pub bytes_max: usize,
    /// Requests with a higher temperature pass the cache by.
    pub temperature_max: f64,
    /// Whether requests with tools, and answers that ask for them, are cached.
    pub allow_tools: bool,
    /// Whether it is asked about LLM requests that Envoy does not send to the sidecar.
    pub callout: bool,
    /// Requests and answers in which one of these is found are never stored.
    pub never_store: Vec<Pattern>,
    /// Exceptions; the first that fits counts.
    pub rules: Vec<Rule>,
}

/// Where the index lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In every gateway's memory.
    Memory,
    /// In Redis, beside what a gateway stored itself.
    Redis,
}

/// A regular expression; equal to another of the same text.
#[derive(Debug, Clone)]
pub struct Pattern(pub Regex);

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

/// An exception for some requests.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Of this tenant, if named.
    pub tenant: Option<String>,
    /// To this model, if named.
    pub model: Option<String>,
    /// To this path or one below it, if named.
    pub path: Option<String>,
    /// Whether they are cached.
    pub enabled: bool,
    /// Their own threshold.
    pub threshold: Option<f32>,
    /// Their own time.
    pub ttl: Option<Duration>,
    /// Whether tenants share answers.
    pub public: bool,
}

/// What holds for one request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Terms {
    /// Whether it is cached.
    pub enabled: bool,
    /// Least cosine.
    pub threshold: f32,
    /// How long its answer is served.
    pub ttl: Duration,
    /// Whether tenants share answers.
    pub public: bool,
}

impl Settings {
    /// What holds for a request.
    #[must_use]
    pub fn terms(&self, tenant: &str, model: &str, path: &str) -> Terms {
        let is = |wanted: &Option<String>, value: &str| wanted.as_deref().is_none_or(|w| w == value);
        let below = |wanted: &Option<String>| {
            wanted.as_deref().is_none_or(|w| {
                path.strip_prefix(w).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
        };
        let rule = self.rules.iter().find(|r| is(&r.tenant, tenant) && is(&r.model, model) && below(&r.path));
        Terms {
            enabled: rule.is_none_or(|rule| rule.enabled),
            threshold: rule.and_then(|rule| rule.threshold).unwrap_or(self.threshold),
            ttl: rule.and_then(|rule| rule.ttl).unwrap_or(self.ttl),
            public: rule.is_some_and(|rule| rule.public),
        }
    }

    /// Whether a text has something in it that must not be stored.
    #[must_use]
    pub fn forbids(&self, text: &str) -> bool {
        self.never_store.iter().any(|pattern| pattern.0.is_match(text))
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{self, Env};

    #[test]
    fn the_first_rule_that_fits_counts() {
        let yaml = "cache: {l2: {enabled: true, rules: [\
            {tenant: a, model: m, threshold: 0.99}, {tenant: a, enabled: false}, {path: /local, public: true, ttl: 1m}]}}";
        let l2 = config::parse(yaml, &Env::new()).expect("valid").l2;
        let terms = |tenant, model, path| l2.terms(tenant, model, path);
        let special = terms("a", "m", "/local/x");
        assert!(special.enabled && special.threshold > 0.98 && !special.public);
        assert!(!terms("a", "n", "/v1/x").enabled);
        let public = terms("b", "m", "/local/chat/completions");
        assert!(public.public && public.ttl.as_secs() == 60 && (public.threshold - 0.85).abs() < 1e-6);
        assert!(!terms("b", "m", "/locals").public);
    }

    #[test]
    fn secrets_are_found_by_their_patterns() {
        let yaml = r"cache: {l2: {enabled: true, never_store: ['\b\d{3}-\d{2}-\d{4}\b', 'sk-[a-z]+']}}";
        let l2 = config::parse(yaml, &Env::new()).expect("valid").l2;
        assert!(l2.forbids("my number is 123-45-6789.") && l2.forbids("sk-abc"));
        assert!(!l2.forbids("1234-56-7890"));
    }
}
