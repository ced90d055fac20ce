//! All policies, and the rules of making, changing and ending them. Nothing here waits: what has
//! changed is kept and published by whoever holds the book.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};
use tidegate_core::event::{Attributes, PolicyNote};
use tidegate_core::incident::ErrorKind;
use tidegate_core::incident::attribution::Explanation;
use tidegate_core::incident::enforcement::{
    Measure, POLICIES_MAX, SENTENCE_BYTES_MAX, SlicePolicy, check_scope, contains, describe,
};
use tidegate_core::incident::proposal::{Action, OUTAGE_PRECISION};
use tidegate_core::policy::BreakerPolicy;

use super::record::{Proposal, Record};
use super::timeline::{Moment, Timelines, What};
use crate::config::policy::Mode;
use crate::keys::random::hex;

/// Alarms that are shown; the oldest gives way.
const ALARMS_MAX: usize = 100;
/// An operator's own policy answers no cluster.
const MANUAL: &str = "manual";
/// A renewal is published when this part of a policy's life is over, so that a storm of failures
/// does not make a storm of documents.
const RENEW_AFTER: u64 = 4;

/// Something that an operator should look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// The cluster.
    pub cluster_id: String,
    /// What.
    pub message: String,
}

/// Bounds on what the learning loop may do by itself.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Largest share of the traffic that one policy may match, if not nearly all of it fails.
    pub traffic_share_max: f64,
    /// Policies that may be made in a minute.
    pub changes_per_minute: u32,
}

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

/// All policies.
#[derive(Debug, Default)]
pub struct Book {
    records: BTreeMap<String, Record>,
    alarms: VecDeque<Alarm>,
    made_ms: VecDeque<u64>,
    /// Records that differ from what is stored.
    changed: BTreeSet<String>,
    timelines: Timelines,
}

impl Book {
    /// The policies that were kept.
    #[must_use]
    pub fn new(records: Vec<Record>) -> Self {
        Self { records: records.into_iter().map(|r| (r.id.clone(), r)).collect(), ..Self::default() }
    }

    /// All policies, by name.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.values()
    }

    /// One policy.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Record> {
        self.records.get(id)
    }

    /// The alarms, oldest first.
    pub fn alarms(&self) -> impl Iterator<Item = &Alarm> {
        self.alarms.iter()
    }

    /// The policies as filters read them.
    #[must_use]
    pub fn slices(&self) -> Vec<SlicePolicy> {
        self.records.values().filter_map(Record::slice).take(POLICIES_MAX).collect()
    }

    /// Puts what other gateways have made of the policies in the place of what is here, except for
    /// changes of this one's own that are still to be stored.
    pub fn take_over(&mut self, records: Vec<Record>) {
        let Self { records: own, changed, .. } = self;
        own.retain(|id, _| changed.contains(id));
        let of_others = records.into_iter().filter(|record| !changed.contains(&record.id));
        own.extend(of_others.map(|record| (record.id.clone(), record)));
    }

    /// Takes the names of records that have to be stored or removed from the store.
    pub fn take_changed(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.changed)
    }

    /// Raises an alarm, unless the last one of that cluster says the same.
    pub fn alarm(&mut self, cluster_id: &str, message: String, now_ms: u64) {
        let last = self.alarms.iter().rev().find(|alarm| alarm.cluster_id == cluster_id);
        if last.is_some_and(|alarm| alarm.message == message) {
            return;
        }
        tracing::warn!(cluster = cluster_id, message, "incident alarm");
        if self.alarms.len() >= ALARMS_MAX {
            self.alarms.pop_front();
        }
        self.timelines.tell(cluster_id, now_ms, What::Alarm, message.clone(), None);
        self.alarms.push_back(Alarm { at_ms: now_ms, cluster_id: cluster_id.to_owned(), message });
    }

    /// What became of a cluster's incident, in its order.
    #[must_use]
    pub fn timeline(&self, cluster_id: &str) -> Vec<Moment> {
        self.timelines.of(cluster_id)
    }

    /// Tells that a cluster's incident has become worse.
    pub fn grew(&mut self, cluster_id: &str, text: String, now_ms: u64) {
        self.timelines.tell(cluster_id, now_ms, What::Grew, text, None);
    }

    fn tell(&mut self, record: &Record, event: What, text: String, now_ms: u64) {
        self.timelines.tell(&record.cluster_id, now_ms, event, text, Some(&record.id));
    }

    /// Makes a policy of a proposal, or renews the one that stands already. True when filters
    /// have to hear of it.
    pub fn propose(&mut self, proposal: Proposal, limits: Limits, now_ms: u64) -> bool {
        let scope = &proposal.explanation.scope;
        let covers = |r: &&mut Record| r.cluster_id == proposal.cluster_id && contains(&r.scope, scope);
        if let Some(standing) = self.records.values_mut().find(covers) {
            let is_due =
                standing.expires_ms.saturating_sub(now_ms) < standing.ttl_ms - standing.ttl_ms / RENEW_AFTER;
            if standing.is_learned() && is_due {
                standing.renew(now_ms);
                self.changed.insert(standing.id.clone());
                return true;
            }
            return false;
        }
        if !self.may_make(&proposal, limits, now_ms) {
            return false;
        }
        // A wider slice of the same cluster takes the place of narrower ones.
        let narrower: Vec<String> = self
            .records
            .values()
            .filter(|r| r.cluster_id == proposal.cluster_id && r.is_learned() && contains(scope, &r.scope))
            .map(|r| r.id.clone())
            .collect();
        for id in narrower {
            if let Some(record) = self.remove(&id) {
                self.tell(&record, What::PolicyEnded, "a wider one takes its place".to_owned(), now_ms);
            }
        }
        let id = name(&proposal.cluster_id, scope, now_ms);
        self.made_ms.push_back(now_ms);
        tracing::info!(
            policy = %id,
            cluster = %proposal.cluster_id,
            kind = %proposal.kind,
            action = proposal.action.name(),
            scope = describe(scope),
            "policy made"
        );
        let attributed = attributed(&proposal.explanation);
        let record = Record::accepted(id, proposal, now_ms);
        self.timelines.tell(&record.cluster_id, now_ms, What::Attributed, attributed, None);
        self.tell(&record, What::PolicyMade, made(&record), now_ms);
        self.insert(record);
        true
    }

    fn may_make(&mut self, proposal: &Proposal, limits: Limits, now_ms: u64) -> bool {
        let explanation = &proposal.explanation;
        let slice = describe(&explanation.scope);
        // What is carried out by the router refuses nothing.
        if explanation.share > limits.traffic_share_max && !proposal.members.is_empty() {
            let percent = (explanation.share * 100.0).round();
            if explanation.doomed < OUTAGE_PRECISION {
                let most = limits.traffic_share_max * 100.0;
                let message = format!(
                    "a policy on {slice} was refused: it would match {percent:.0} % of the traffic, and \
                     policy.max_traffic_share is {most:.0} %"
                );
                self.alarm(&proposal.cluster_id, message, now_ms);
                return false;
            }
            let message = format!("{slice} fails as a whole, which is {percent:.0} % of the traffic");
            self.alarm(&proposal.cluster_id, message, now_ms);
        }
        while self.made_ms.front().is_some_and(|made| made.saturating_add(60_000) <= now_ms) {
            self.made_ms.pop_front();
        }
        if self.made_ms.len() >= limits.changes_per_minute as usize || self.records.len() >= POLICIES_MAX {
            let message = format!(
                "no policy was made on {slice}: {} were made within a minute (policy.changes_per_minute), \
                 and {} of {POLICIES_MAX} stand",
                self.made_ms.len(),
                self.records.len()
            );
            self.alarm(&proposal.cluster_id, message, now_ms);
            return false;
        }
        true
    }

    /// Notes what filters did; true when a policy has ended by it.
    pub fn note(&mut self, note: &PolicyNote, now_ms: u64) -> Option<Record> {
        let record = self.records.get_mut(&note.id)?;
        record.refused = record.refused.saturating_add(note.refused);
        record.probes_ok = record.probes_ok.saturating_add(note.probes_ok);
        record.probes_failed = record.probes_failed.saturating_add(note.probes_failed);
        let has_passed = note.phase == 0 && matches!(record.measure, Some(Measure::Break { .. }));
        record.state = match note.phase {
            0 => "passed",
            1 => "half_open",
            2 => "open",
            4 => "watching",
            _ => "limiting",
        }
        .to_owned();
        let (ends, told) = (has_passed && record.is_learned(), record.clone());
        if ends {
            tracing::info!(policy = %note.id, "the slice has recovered; its policy ends");
            let text = format!("the slice has recovered; {} requests were refused", told.refused);
            self.tell(&told, What::PolicyEnded, text, now_ms);
            return self.remove(&note.id);
        }
        self.tell(&told, What::PolicyState, told.state.clone(), now_ms);
        None
    }

    /// Sets the rate of a limit.
    pub fn set_rate(&mut self, id: &str, rate: f64) {
        if let Some(record) = self.records.get_mut(id)
            && let Some(Measure::Limit { rate: current }) = &mut record.measure
        {
            *current = rate;
        }
    }

    /// Ends policies whose time is over; true when there were any.
    pub fn expire(&mut self, now_ms: u64) -> bool {
        let over: Vec<String> = self
            .records
            .values()
            .filter(|r| !r.pinned && r.expires_ms <= now_ms)
            .map(|r| r.id.clone())
            .collect();
        for id in &over {
            tracing::info!(policy = %id, "the policy's time is over");
            if let Some(record) = self.remove(id) {
                self.tell(&record, What::PolicyEnded, "its time is over".to_owned(), now_ms);
            }
        }
        !over.is_empty()
    }

    /// Ends a limit that has done its work, or that did not help.
    pub fn lift(&mut self, id: &str, now_ms: u64) -> Option<Record> {
        let record = self.remove(id)?;
        self.tell(&record, What::PolicyEnded, "the limit is lifted".to_owned(), now_ms);
        Some(record)
    }

    /// Removes a policy.
    pub fn remove(&mut self, id: &str) -> Option<Record> {
        let removed = self.records.remove(id)?;
        self.changed.insert(id.to_owned());
        Some(removed)
    }

    fn insert(&mut self, record: Record) {
        self.changed.insert(record.id.clone());
        self.records.insert(record.id.clone(), record);
    }

    /// Changes a policy, or makes an operator's own.
    ///
    /// # Errors
    /// What is wrong with the change; nothing has changed then.
    pub fn edit(
        &mut self,
        id: &str,
        edit: Edit,
        breaker: &BreakerPolicy,
        by: &str,
        now_ms: u64,
    ) -> Result<Record, BookError> {
        let (mut record, is_new) = match self.records.get(id) {
            Some(record) => (record.clone(), false),
            None if self.records.len() >= POLICIES_MAX => return Err(BookError::Full),
            None => (manual(id, &edit, by, now_ms)?, true),
        };
        apply(&mut record, edit, breaker, is_new, now_ms)?;
        if let Some(Err((field, problem))) = record.slice().map(|slice| slice.validate()) {
            return Err(BookError::Invalid(field, problem));
        }
        self.tell(&record, What::PolicyChanged, format!("{} by {by}", made(&record)), now_ms);
        self.insert(record.clone());
        Ok(record)
    }
}

/// Where an incident lies, and how sure that is.
fn attributed(explanation: &Explanation) -> String {
    format!(
        "{}: {} of {} requests fail, which are {:.0} % of these failures",
        describe(&explanation.scope),
        explanation.failures,
        explanation.requests,
        explanation.recall * 100.0
    )
}

/// What a policy does.
fn made(record: &Record) -> String {
    let (action, slice) = (record.action.name(), describe(&record.scope));
    let rule = record.rule.as_ref().map_or_else(String::new, |rule| format!(" by the rule {rule}"));
    let shadow = if record.mode == Mode::Shadow { ", in shadow" } else { "" };
    format!("{action} {slice}{rule}{shadow}")
}

/// An operator's own policy, before the rest of the edit is laid on it.
fn manual(id: &str, edit: &Edit, by: &str, now_ms: u64) -> Result<Record, BookError> {
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

fn apply(
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

/// A name that no other policy has: what it is about, and when it was made.
fn name(cluster_id: &str, scope: &Attributes, now_ms: u64) -> String {
    use sha2::{Digest as _, Sha256};
    let mut hash = Sha256::new();
    hash.update(cluster_id);
    hash.update([0]);
    hash.update(describe(scope));
    hash.update(now_ms.to_le_bytes());
    let mut digits = hex(&hash.finalize());
    digits.truncate(12);
    format!("pol_{digits}")
}
