//! Bodies of `POST /internal/v1/leases`: tokens of limits that the fleet shares, see
//! [`crate::limit::lease`].

use serde::{Deserialize, Serialize};

/// Most pools of one exchange.
pub const ASKS_MAX: usize = 512;

/// What one Envoy wants, and gives back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaseRequest {
    /// Number of the Envoy process, the same in all its workers.
    pub gateway: u64,
    /// By pool; at most [`ASKS_MAX`], none twice. Empty says only that the gateway is there.
    pub asks: Vec<LeaseAsk>,
}

/// What is wanted of one pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaseAsk {
    /// Number of the pool, the same in all gateways.
    pub pool: u64,
    /// Nanoseconds that one token takes to come back.
    pub interval_ns: u64,
    /// Tokens of a full pool.
    pub burst: u64,
    /// Tokens wanted.
    pub ask: u64,
    /// Tokens given back. Whatever becomes of this message, they are not the sender's any more.
    pub back: u64,
}

/// What the sidecar got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaseAnswer {
    /// Whether the pools were reached; if not, nothing is granted and nothing was given back.
    pub is_leased: bool,
    /// Gateways of the fleet, as last known; at least 1.
    pub gateways: u32,
    /// By pool, in the order of the request.
    pub grants: Vec<LeaseGrant>,
}

/// What one pool gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaseGrant {
    /// Number of the pool.
    pub pool: u64,
    /// Tokens, at most those asked for.
    pub tokens: u64,
    /// Nanoseconds until the pool is full, if nobody takes anything.
    pub full_in_ns: u64,
}
