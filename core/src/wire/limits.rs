//! Bodies of `POST /internal/v1/limits`: the sidecar has questions about buckets, which lie in
//! Envoy; the filter brings the answers when it comes for the next ones.

use serde::{Deserialize, Serialize};

use crate::limit::{BucketState, Subject};

/// Most questions, or answers, in one body.
pub const QUESTIONS_MAX: usize = 64;

/// What the filter brings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitAnswers {
    /// At most [`QUESTIONS_MAX`].
    pub answers: Vec<LimitAnswer>,
}

/// The answer to one question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitAnswer {
    /// [`LimitQuestion::id`].
    pub id: u64,
    /// All limits that the described request would meet.
    pub states: Vec<BucketState>,
}

/// What the filter takes away.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitQuestions {
    /// At most [`QUESTIONS_MAX`].
    pub questions: Vec<LimitQuestion>,
}

/// Which limits would a request meet, and what would they say?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitQuestion {
    /// Its number.
    pub id: u64,
    /// The request.
    pub request: DescribedRequest,
}

/// A request as somebody describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DescribedRequest {
    /// Tenant.
    pub tenant: String,
    /// Id of the key or user.
    pub key: Option<String>,
    /// Client's address.
    pub ip: Option<String>,
    /// Operation or upstream.
    pub route: String,
    /// Model.
    pub model: Option<String>,
    /// Tokens it would use.
    pub tokens: u64,
}

impl DescribedRequest {
    /// As limits see it; an address that is none is left out.
    #[must_use]
    pub fn subject(&self) -> Subject<'_> {
        Subject {
            tenant: &self.tenant,
            key: self.key.as_deref(),
            ip: self.ip.as_deref().and_then(|ip| ip.parse().ok()),
            route: &self.route,
            model: self.model.as_deref(),
        }
    }
}
