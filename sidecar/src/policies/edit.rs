//! What operators change in policies, and policies of their own.

use serde::Deserialize;
use tidegate_core::event::Attributes;
use tidegate_core::incident::ErrorKind;
use tidegate_core::incident::enforcement::{
    Measure, POLICIES_MAX, SENTENCE_BYTES_MAX, check_scope, describe,
};
use tidegate_core::incident::proposal::Action;
use tidegate_core::policy::BreakerPolicy;

use super::record::Record;
use crate::config::policy::Mode;

/// An operator's own policy answers no cluster.
const MANUAL: &str = "manual";

/// Why a change was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BookError {
    /// There is no policy of that name.
    Unknown,
    /// A field is wrong: its name, and what it must be.
    Invalid(&'static str, String),
    /// The slice takes in too much of the traffic.
    TooBroad,
    /// There are as many policies as there may be.
    Full,
}

impl std::fmt::Display for BookError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unknown => f.write_str("there is no policy of that id; GET /admin/policies lists them"),
            Self::Invalid(field, problem) => write!(f, "{field}: {problem}"),
            Self::TooBroad => f.write_str(
                "scope: would match all traffic, which is more than policy.max_traffic_share; name the \
                 tenant, model or path that is meant",
            ),
            Self::Full => write!(f, "there are {POLICIES_MAX} policies already; delete some first"),
        }
    }
}

/// What an operator changes; absent fields stay. On a name that does not exist it makes a policy.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Edit {
    /// Keep it as it is.
    pub pinned: Option<bool>,
    /// Do not carry it out, and do not propose it again.
    pub silenced: Option<bool>,
    /// Whether it is carried out.
    pub mode: Option<Mode>,
    /// The slice.
    pub scope: Option<Attributes>,
    /// What is done.
    pub action: Option<Action>,
    /// Requests per second of a limit.
    pub rate: Option<f64>,
    /// How long a broken slice is left alone, in milliseconds.
    pub recovery_timeout_ms: Option<u64>,
    /// How long it lives, in milliseconds.
    pub ttl_ms: Option<u64>,
    /// What refused callers read.
    pub sentence: Option<String>,
    /// Whether they are told that trying again can help.
    pub retry: Option<bool>,
}

/// An operator's own policy, before the rest of the edit is laid on it.
pub(super) fn manual(id: &str, edit: &Edit, by: &str, now_ms: u64) -> Result<Record, BookError> {
    let (Some(scope), Some(action)) = (&edit.scope, edit.action) else {
        return Err(BookError::Unknown);
    };
    if !tidegate_core::wire::is_name(id) {
        return Err(BookError::Invalid("id", "must be 1 to 64 of A-Z a-z 0-9 . _ -".to_owned()));
    }
    let ttl_ms = edit.ttl_ms.unwrap_or(3_600_000);
    let cluster = MANUAL.to_owned();
    Ok(Record {
        sentence: format!("An operator has closed requests with {} for now.", describe(scope)),
        created_by: by.to_owned(),
        ..Record::begun(id.to_owned(), cluster, ErrorKind::Unknown, action, (now_ms, ttl_ms))
    })
}

/// Lays a change on a record; one that `is_new` begins with it.
pub(super) fn apply(
    record: &mut Record,
    edit: Edit,
    breaker: &BreakerPolicy,
    is_new: bool,
    now_ms: u64,
) -> Result<(), BookError> {
    let Edit { pinned, silenced, mode, scope, action, rate, recovery_timeout_ms, ttl_ms, sentence, retry } =
        edit;
    let is_moved = scope.is_some() || action.is_some_and(|action| action != record.action);
    record.action = action.unwrap_or(record.action);
    if let Some(scope) = scope {
        check_scope(&scope).map_err(|problem| BookError::Invalid("scope", problem))?;
        if scope.is_empty() {
            return Err(BookError::TooBroad);
        }
        record.scope = scope;
    }
    if is_moved {
        record.members = members(record.action, &record.scope)?;
    }
    if action.is_some() || rate.is_some() || recovery_timeout_ms.is_some() {
        record.measure = measure(record, rate, recovery_timeout_ms, breaker)?;
    }
    if let Some(ttl_ms) = ttl_ms {
        record.ttl_ms = ttl_ms;
        record.renew(now_ms);
    }
    if let Some(sentence) = sentence {
        if sentence.len() > SENTENCE_BYTES_MAX {
            let problem = format!("must be at most {SENTENCE_BYTES_MAX} bytes");
            return Err(BookError::Invalid("sentence", problem));
        }
        record.sentence = sentence;
    }
    record.mode = mode.unwrap_or(record.mode);
    record.pinned = pinned.unwrap_or(record.pinned);
    record.silenced = silenced.unwrap_or(record.silenced);
    record.retry = retry.unwrap_or(record.retry);
    if !is_new {
        record.renewal = record.renewal.wrapping_add(1);
    }
    Ok(())
}

/// The slice in terms that filters know; none for what the router carries out.
fn members(action: Action, scope: &Attributes) -> Result<Vec<Attributes>, BookError> {
    let of_provider = scope.keys().find(|attribute| attribute.is_of_provider());
    match (action, of_provider) {
        (Action::RouteAway, None) => {
            let problem = "must name the provider or the provider_key to pass by".to_owned();
            Err(BookError::Invalid("scope", problem))
        }
        (Action::RouteAway, Some(_)) => Ok(Vec::new()),
        (_, None) => Ok(vec![scope.clone()]),
        (_, Some(attribute)) => {
            let name = attribute.name();
            let problem = format!("{name} is not known when a request enters; name models, or route_away");
            Err(BookError::Invalid("scope", problem))
        }
    }
}

fn measure(
    record: &Record,
    rate: Option<f64>,
    recovery_timeout_ms: Option<u64>,
    breaker: &BreakerPolicy,
) -> Result<Option<Measure>, BookError> {
    Ok(match (record.action, record.measure) {
        (Action::Observe, _) => None,
        (Action::Advise, _) => Some(Measure::Advise),
        (Action::Limit, standing) => {
            let rate = rate.or(match standing {
                Some(Measure::Limit { rate }) => Some(rate),
                _ => None,
            });
            let rate = rate.ok_or_else(|| {
                BookError::Invalid("rate", "is missing; give requests per second".to_owned())
            })?;
            Some(Measure::Limit { rate })
        }
        // What answers no failures has none to wait for the end of, unless it is told how.
        (Action::Break | Action::RouteAway, _)
            if record.cluster_id == MANUAL && recovery_timeout_ms.is_none() =>
        {
            Some(Measure::Close)
        }
        (Action::Break | Action::RouteAway, _) => Some(break_by(breaker, recovery_timeout_ms)),
    })
}

/// A break with the breaker's settings.
#[must_use]
pub fn break_by(breaker: &BreakerPolicy, recovery_timeout_ms: Option<u64>) -> Measure {
    let successes = (f64::from(breaker.failure_threshold) * breaker.recovery_increment).ceil();
    Measure::Break {
        recovery_timeout_ms: recovery_timeout_ms.unwrap_or(breaker.recovery_timeout_ms),
        recovery_increment: breaker.recovery_increment,
        successes_per_step: (successes as u32).max(1),
    }
}
