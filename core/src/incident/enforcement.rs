//! The part of the policy document that limits or breaks slices of the traffic.

use serde::{Deserialize, Serialize};

use crate::event::{Attribute, Attributes, VALUE_BYTES_MAX};
use crate::wire::is_name;

/// Most policies in force at once.
pub const POLICIES_MAX: usize = 1000;
/// Most conditions that one scope joins.
pub const CONDITIONS_MAX: usize = 3;
/// Most scopes of one policy: alternatives, such as all models of one provider.
pub const SCOPES_MAX: usize = 64;
/// Longest sentence that a refusal quotes, in bytes.
pub const SENTENCE_BYTES_MAX: usize = 600;
/// Most statuses by which one incident shows.
pub const STATUSES_MAX: usize = 16;
/// Longest time that a policy lives without renewal, in milliseconds.
pub const TTL_MS_MAX: u64 = 7 * 86_400_000;

/// What is done with the requests of a slice.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Measure {
    /// Refuse all but probes, until probes succeed; see [`super::gate`].
    Break {
        /// How long nothing is admitted, in milliseconds.
        recovery_timeout_ms: u64,
        /// Share of the slice admitted at each step of the recovery, and added at the next.
        recovery_increment: f64,
        /// Successes that pass a step.
        successes_per_step: u32,
    },
    /// Refuse everything for as long as the policy lives: nothing that passes well would be a reason to
    /// open what was not closed for what fails.
    Close,
    /// Admit so many requests and refuse the rest.
    Limit {
        /// Requests per second.
        rate: f64,
    },
    /// Admit everything, and tell callers of failed requests that trying again is of no use.
    Advise,
}

/// One measure against one slice, as filters read it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlicePolicy {
    /// Names it; a policy that was lifted and comes again has another.
    pub id: String,
    /// The cluster of errors that it answers.
    pub cluster: String,
    /// Which requests: those of any of these slices. An empty slice is all traffic.
    pub scopes: Vec<Attributes>,
    /// What is done.
    pub measure: Measure,
    /// False counts what would be refused, and refuses nothing.
    pub enforce: bool,
    /// Statuses by which the failure shows; a probe that ends so has failed.
    pub statuses: Vec<u16>,
    /// What is going on, for whoever is refused.
    pub sentence: String,
    /// Whether trying again later can help.
    pub retry: bool,
    /// How long it lives from when a filter first sees this renewal, in milliseconds. A duration,
    /// because clocks of machines differ.
    pub ttl_ms: u64,
    /// Rises when its life is prolonged.
    pub renewal: u32,
}

impl SlicePolicy {
    /// Checks every range.
    ///
    /// # Errors
    /// The field out of range, and what it must be.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        let refuse = |field, problem: &str| Err((field, problem.to_owned()));
        if !is_name(&self.id) {
            return refuse("id", "must be 1 to 64 of A-Z a-z 0-9 . _ -");
        }
        if !is_name(&self.cluster) {
            return refuse("cluster", "must be 1 to 64 of A-Z a-z 0-9 . _ -");
        }
        if !(1..=SCOPES_MAX).contains(&self.scopes.len()) {
            return Err(("scopes", format!("must be 1 to {SCOPES_MAX} slices")));
        }
        for scope in &self.scopes {
            check_scope(scope).map_err(|problem| ("scopes", problem))?;
        }
        if self.statuses.len() > STATUSES_MAX {
            return Err(("statuses", format!("must be at most {STATUSES_MAX}")));
        }
        if self.sentence.len() > SENTENCE_BYTES_MAX {
            return Err(("sentence", format!("must be at most {SENTENCE_BYTES_MAX} bytes")));
        }
        if !(1..=TTL_MS_MAX).contains(&self.ttl_ms) {
            return Err(("ttl_ms", format!("must be 1 to {TTL_MS_MAX}")));
        }
        self.measure.validate()
    }
}

/// Checks one slice: at most [`CONDITIONS_MAX`] conditions that are known when a request enters.
///
/// # Errors
/// What it must be.
pub fn check_scope(scope: &Attributes) -> Result<(), String> {
    if scope.len() > CONDITIONS_MAX {
        return Err(format!("must join at most {CONDITIONS_MAX} attributes"));
    }
    for (attribute, value) in scope {
        if value.is_empty() || value.len() > VALUE_BYTES_MAX {
            return Err(format!("{}: must be 1 to {VALUE_BYTES_MAX} bytes", attribute.name()));
        }
    }
    Ok(())
}

impl Measure {
    /// Whether it refuses a whole slice.
    #[must_use]
    pub const fn closes(&self) -> bool {
        matches!(self, Self::Break { .. } | Self::Close)
    }

    fn validate(&self) -> Result<(), (&'static str, String)> {
        match self {
            Self::Break { recovery_timeout_ms, recovery_increment, successes_per_step } => {
                if !(1..=3_600_000).contains(recovery_timeout_ms) {
                    return Err(("recovery_timeout_ms", "must be 1 to 3600000".to_owned()));
                }
                if !(*recovery_increment > 0.0 && *recovery_increment <= 1.0) {
                    return Err(("recovery_increment", "must be above 0 and at most 1".to_owned()));
                }
                if !(1..=1_000_000).contains(successes_per_step) {
                    return Err(("successes_per_step", "must be 1 to 1000000".to_owned()));
                }
                Ok(())
            }
            Self::Limit { rate } if !(*rate > 0.0 && *rate <= crate::policy::RATE_MAX) => {
                Err(("rate", format!("must be above 0 and at most {}", crate::policy::RATE_MAX)))
            }
            Self::Close | Self::Limit { .. } | Self::Advise => Ok(()),
        }
    }

    /// Its name in documents and metrics.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Break { .. } => "break",
            Self::Close => "close",
            Self::Limit { .. } => "limit",
            Self::Advise => "advise",
        }
    }
}

/// A slice in words: `tenant=acme and model=m`, or `all traffic`.
#[must_use]
pub fn describe(scope: &Attributes) -> String {
    if scope.is_empty() {
        return "all traffic".to_owned();
    }
    let parts: Vec<String> = scope.iter().map(|(a, value)| format!("{}={value}", a.name())).collect();
    parts.join(" and ")
}

/// Whether a request with these values lies in the slice.
#[must_use]
pub fn contains(scope: &Attributes, values: &Attributes) -> bool {
    scope.iter().all(|(attribute, wanted)| values.get(attribute) == Some(wanted))
}

/// A slice of all requests with one value of one attribute.
#[must_use]
pub fn slice(attribute: Attribute, value: &str) -> Attributes {
    Attributes::from([(attribute, value.to_owned())])
}
