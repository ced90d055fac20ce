//! One policy, with everything it has to say for itself.

use serde::{Deserialize, Serialize};
use tidegate_core::event::Attributes;
use tidegate_core::incident::ErrorKind;
use tidegate_core::incident::attribution::{Explanation, names_provider};
use tidegate_core::incident::enforcement::{
    Measure, SCOPES_MAX, SENTENCE_BYTES_MAX, STATUSES_MAX, SlicePolicy, describe,
};
use tidegate_core::incident::proposal::Action;

use crate::config::policy::Mode;
use crate::llm::routing::Steer;

/// Longest quotation of an error in a sentence, in characters.
const QUOTE_CHARS_MAX: usize = 160;

/// A policy that the learning loop wants.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposal {
    /// The cluster of errors.
    pub cluster_id: String,
    /// Its kind.
    pub kind: ErrorKind,
    /// The rule that fits.
    pub rule: String,
    /// What the rule asks for.
    pub action: Action,
    /// How; `None` where nothing is done in the filters.
    pub measure: Option<Measure>,
    /// Whether it is carried out.
    pub mode: Mode,
    /// The slice, and how well it explains the cluster.
    pub explanation: Explanation,
    /// The slice in terms that filters know; as many as it takes.
    pub members: Vec<Attributes>,
    /// Statuses by which the failure shows.
    pub statuses: Vec<u16>,
    /// Masked messages of the cluster, the most telling first.
    pub examples: Vec<String>,
    /// How long it lives without new failures, in milliseconds.
    pub ttl_ms: u64,
    /// Whether refused callers are told that trying again can help.
    pub retry: bool,
}

/// A policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Its name.
    pub id: String,
    /// The cluster of errors that it answers; `manual` for an operator's own.
    pub cluster_id: String,
    /// The kind of failure.
    pub kind: ErrorKind,
    /// The rule that asked for it, if one did.
    pub rule: Option<String>,
    /// What it does.
    pub action: Action,
    /// How.
    pub measure: Option<Measure>,
    /// Whether it is carried out.
    pub mode: Mode,
    /// The slice.
    pub scope: Attributes,
    /// The slice in terms that filters know.
    pub members: Vec<Attributes>,
    /// Share of the slice's requests that failed.
    pub precision: f64,
    /// What that share was at least, with 90 % confidence.
    pub precision_low: f64,
    /// Share of the cluster's failures that lay in the slice.
    pub recall: f64,
    /// Log-likelihood ratio against the rest of the traffic.
    pub significance: f64,
    /// Share of all requests that lay in the slice.
    pub share: f64,
    /// Requests that this was found from.
    pub requests: u64,
    /// Failures among them.
    pub failures: u64,
    /// Tenants seen failing.
    pub tenants: usize,
    /// Statuses by which the failure shows.
    pub statuses: Vec<u16>,
    /// Masked messages.
    pub examples: Vec<String>,
    /// What refused callers read.
    pub sentence: String,
    /// `learned`, or who made or last changed it.
    pub created_by: String,
    /// When it was made, in milliseconds since 1970.
    pub created_ms: u64,
    /// When it ends unless something renews it, in milliseconds since 1970.
    pub expires_ms: u64,
    /// How long a renewal lasts, in milliseconds.
    pub ttl_ms: u64,
    /// How often it was renewed.
    pub renewal: u32,
    /// Kept as it is until an operator says otherwise.
    pub pinned: bool,
    /// Not carried out, and not proposed again while it stands.
    pub silenced: bool,
    /// Whether refused callers are told that trying again can help.
    pub retry: bool,
    /// The last phase that filters told: `open`, `half_open`, `watching`, `limiting`.
    pub state: String,
    /// Requests refused, or, in shadow mode, that would have been.
    pub refused: u64,
    /// Probes that succeeded.
    pub probes_ok: u64,
    /// Probes that failed.
    pub probes_failed: u64,
}

impl Record {
    /// The record of a proposal that is accepted.
    #[must_use]
    pub fn accepted(id: String, proposal: Proposal, now_ms: u64) -> Self {
        let Proposal {
            cluster_id,
            kind,
            rule,
            action,
            measure,
            mode,
            explanation,
            mut members,
            mut statuses,
            examples,
            ttl_ms,
            retry,
        } = proposal;
        let sentence = match members.is_empty() {
            true => steered(kind, &explanation, &examples),
            false => sentence(kind, &explanation, &examples),
        };
        let Explanation {
            scope,
            precision,
            precision_low,
            recall,
            significance,
            requests,
            failures,
            share,
            tenants,
            doomed: _,
            doomed_low: _,
            failing: _,
        } = explanation;
        members.truncate(SCOPES_MAX);
        statuses.truncate(STATUSES_MAX);
        let state = if matches!(measure, Some(Measure::Limit { .. })) { "limiting" } else { "open" };
        Self {
            rule: Some(rule),
            measure,
            mode,
            scope,
            members,
            precision,
            precision_low,
            recall,
            significance,
            share,
            requests,
            failures,
            tenants,
            statuses,
            examples,
            sentence,
            created_by: "learned".to_owned(),
            retry,
            state: state.to_owned(),
            ..Self::begun(id, cluster_id, kind, action, (now_ms, ttl_ms))
        }
    }

    /// A record of which no more is known than what it is to do; enforced, and open.
    pub(super) fn begun(
        id: String,
        cluster_id: String,
        kind: ErrorKind,
        action: Action,
        (now_ms, ttl_ms): (u64, u64),
    ) -> Self {
        Self {
            id,
            cluster_id,
            kind,
            rule: None,
            action,
            measure: None,
            mode: Mode::Enforce,
            scope: Attributes::new(),
            members: Vec::new(),
            precision: 0.0,
            precision_low: 0.0,
            recall: 0.0,
            significance: 0.0,
            share: 0.0,
            requests: 0,
            failures: 0,
            tenants: 0,
            statuses: Vec::new(),
            examples: Vec::new(),
            sentence: String::new(),
            created_by: String::new(),
            created_ms: now_ms,
            expires_ms: now_ms.saturating_add(ttl_ms),
            ttl_ms,
            renewal: 0,
            pinned: false,
            silenced: false,
            retry: true,
            state: "open".to_owned(),
            refused: 0,
            probes_ok: 0,
            probes_failed: 0,
        }
    }

    /// The policy as filters read it; `None` while there is nothing for them to do.
    #[must_use]
    pub fn slice(&self) -> Option<SlicePolicy> {
        let measure = self.measure.filter(|_| !self.silenced && !self.members.is_empty())?;
        Some(SlicePolicy {
            id: self.id.clone(),
            cluster: self.cluster_id.clone(),
            scopes: self.members.clone(),
            measure,
            enforce: self.mode == Mode::Enforce,
            statuses: self.statuses.clone(),
            sentence: self.sentence.clone(),
            retry: self.retry,
            ttl_ms: self.ttl_ms,
            renewal: self.renewal,
        })
    }

    /// The policy as the router carries it out; `None` where it names no provider to pass by.
    #[must_use]
    pub fn steer(&self) -> Option<Steer> {
        let measure = self.measure.filter(Measure::closes)?;
        let is_wanted = !self.silenced && self.mode == Mode::Enforce && names_provider(&self.scope);
        is_wanted.then(|| Steer {
            id: self.id.clone(),
            scope: self.scope.clone(),
            measure,
            statuses: self.statuses.clone(),
            decides: self.members.is_empty(),
        })
    }

    /// Whether the learning loop may change or end it.
    #[must_use]
    pub fn is_learned(&self) -> bool {
        self.created_by == "learned" && !self.pinned && !self.silenced
    }

    /// Prolongs its life from `now_ms` on.
    pub fn renew(&mut self, now_ms: u64) {
        self.expires_ms = now_ms.saturating_add(self.ttl_ms);
        self.renewal = self.renewal.wrapping_add(1);
    }
}

/// What a refused caller reads: what fails, for whom, and that it is not everyone.
fn sentence(kind: ErrorKind, explanation: &Explanation, examples: &[String]) -> String {
    let what = failing(kind, explanation, examples);
    bounded(format!("{what}, so they are not sent on for now; others are not affected."))
}

/// What an operator reads of a policy that refuses nothing.
fn steered(kind: ErrorKind, explanation: &Explanation, examples: &[String]) -> String {
    let what = failing(kind, explanation, examples);
    bounded(format!("{what}, so others are asked for now; nothing is refused."))
}

fn failing(kind: ErrorKind, explanation: &Explanation, examples: &[String]) -> String {
    let who = match explanation.scope.is_empty() {
        true => "all requests".to_owned(),
        false => format!("requests with {}", describe(&explanation.scope)),
    };
    let quote: String = examples.first().map_or("", String::as_str).chars().take(QUOTE_CHARS_MAX).collect();
    let says = if quote.is_empty() { String::new() } else { format!(": \"{quote}\"") };
    let percent = (explanation.doomed * 100.0).round();
    format!("{percent:.0} % of {who} were failing ({kind}{says})")
}

fn bounded(mut text: String) -> String {
    while text.len() > SENTENCE_BYTES_MAX {
        text.pop();
    }
    text
}
