//! How bad a cluster is: one number, by a formula that fits on a line.

use serde::{Deserialize, Serialize};

use super::Cluster;
use crate::incident::ErrorKind;

/// A rate of this many errors a minute is as much as a rate can count.
const RATE_MAX_PER_MINUTE: f64 = 1000.0;
/// This many tenants are as many as can count.
const TENANTS_MAX: f64 = 16.0;

/// Whom a cluster hits.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Breadth {
    /// Share of all requests that end in this cluster, 0 to 1.
    pub share: f64,
    /// Tenants that have had errors of it.
    pub tenants: u64,
}

/// How bad a cluster is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Below 20 of 100.
    Low,
    /// Below 40.
    Medium,
    /// Below 65.
    High,
    /// From 65.
    Critical,
}

impl Severity {
    /// The level of a value of 0 to 100.
    #[must_use]
    pub fn of(value: f64) -> Self {
        match value {
            v if v < 20.0 => Self::Low,
            v if v < 40.0 => Self::Medium,
            v if v < 65.0 => Self::High,
            _ => Self::Critical,
        }
    }

    /// Its name in answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

/// What a kind weighs: what a provider does to everyone most, what a caller does to itself least.
const fn weight(kind: ErrorKind) -> f64 {
    match kind {
        ErrorKind::UpstreamBug | ErrorKind::Overloaded | ErrorKind::Network | ErrorKind::Timeout => 1.0,
        ErrorKind::Auth | ErrorKind::Quota => 0.9,
        ErrorKind::RateLimited | ErrorKind::Unknown => 0.7,
        ErrorKind::NotFound => 0.5,
        ErrorKind::InvalidRequest | ErrorKind::ContextTooLong | ErrorKind::ContentRefused => 0.3,
    }
}

impl Cluster {
    /// 0 to 100: `100 * kind * (0.4 * sqrt(share) + 0.25 * rate + 0.15 * tenants + 0.2 * trend)`, where
    /// `rate` is log(1 + errors a minute) / log(1001), `tenants` is log(1 + tenants) / log(17), both at
    /// most 1, and `trend` is the balance of now and before where it is positive. All but the kind's
    /// weight fades with the rate: a cluster without errors now has severity 0.
    #[must_use]
    pub fn severity(&self, breadth: Breadth, now_ms: u64) -> f64 {
        let per_minute = self.activity.rate(now_ms) * 60.0;
        let rate = ((1.0 + per_minute).ln() / (1.0 + RATE_MAX_PER_MINUTE).ln()).min(1.0);
        let tenants = ((1.0 + breadth.tenants as f64).ln() / (1.0 + TENANTS_MAX).ln()).min(1.0);
        let trend = self.activity.balance(now_ms).max(0.0);
        // Less than one error a minute is hardly there any more.
        let present = per_minute.min(1.0);
        let parts = 0.4 * breadth.share.clamp(0.0, 1.0).sqrt() + 0.25 * rate + 0.15 * tenants + 0.2 * trend;
        100.0 * weight(self.kind) * parts * present
    }
}
