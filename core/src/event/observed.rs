//! What filters observe of failures and of the traffic around them, in batches on their tick.
//!
//! Counts are exact: every request is in a [`TrafficRow`], and every failure under its signature.
//! What an error says travels in [`ErrorEvent`]s, of which only a sample is sent once a signature
//! is known. No prompt and no answer is in either: messages are masked in the filter.

use serde::{Deserialize, Serialize};

use super::Attributes;
use crate::incident::{Signature, Source, StatusClass};

/// Most events of one batch.
pub const EVENTS_MAX: usize = 128;
/// Most rows of one batch, which is how many tuples of attributes one VM tells apart at a time.
pub const ROWS_MAX: usize = 512;
/// Most signatures told apart in one row; the failures of others are counted under no signature.
pub const ROW_SIGNATURES_MAX: usize = 64;
/// First bytes of an error's body that are looked at.
pub const ERROR_HEAD_BYTES: usize = 1024;

/// One failure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorEvent {
    /// Its number in its VM; with the VM's name it is unique.
    pub number: u64,
    /// When it happened by the gateway's clock, in milliseconds since 1970.
    pub at_ms: u64,
    /// The status; 0 when there was none.
    pub status: u16,
    /// Who said that something failed.
    pub source: Source,
    /// The provider's codes and types.
    pub codes: Vec<String>,
    /// The masked message.
    pub template: String,
    /// Over all of these.
    pub signature: Signature,
    /// The request.
    pub attributes: Attributes,
}

impl ErrorEvent {
    /// The class of its status.
    #[must_use]
    pub const fn class(&self) -> StatusClass {
        StatusClass::of(Some(self.status))
    }
}

/// Requests with the same attributes since the last batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrafficRow {
    /// The attributes; empty for all requests beyond the tuples that are told apart.
    pub attributes: Attributes,
    /// Requests that ended.
    pub requests: u64,
    /// Those that failed, by signature.
    pub failures: Vec<(Signature, u64)>,
    /// These are attempts that failed before somebody else answered: no caller saw them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hidden: bool,
}

/// What a policy did in one VM since the last batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyNote {
    /// The policy.
    pub id: String,
    /// Requests refused, or, in shadow mode, that would have been.
    pub refused: u64,
    /// Probes that succeeded.
    pub probes_ok: u64,
    /// Probes that failed.
    pub probes_failed: u64,
    /// The last phase seen: 0 passed, 1 half-open, 2 open, 3 limiting, 4 watching.
    pub phase: u8,
}

/// Everything observed since the last batch. A batch that was not confirmed is sent again under
/// the same number, so that nothing is lost or counted twice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// Counts up in each VM.
    pub number: u64,
    /// A sample of the failures; at most [`EVENTS_MAX`].
    pub events: Vec<ErrorEvent>,
    /// The traffic; at most [`ROWS_MAX`] and one for the rest.
    pub traffic: Vec<TrafficRow>,
    /// What policies did.
    pub policies: Vec<PolicyNote>,
}
