//! A limit that all gateways of a fleet share, without asking anybody for each request.
//!
//! The *pool* is the limit's one token bucket, kept where all gateways reach it ([`Pool`]). A
//! gateway *leases* tokens from it, several times a second and as many as it expects to need
//! ([`Demand`]): they are taken out of the pool before they are spent, and what turns out not to
//! be needed goes back. What a gateway holds of one pool is a [`Holding`].
//!
//! The first request after a pause finds nothing leased. It is admitted *on credit*, within this
//! gateway's equal share of what is believed to be in the pool; the debt is the first thing that
//! the next lease pays. So of rate R, burst B and n gateways never more is admitted in a time t
//! than R·t + B, and once, beside that, the credit of at most B/n for each gateway (and again for
//! each one that crashed and forgot its debt).
//!
//! A gateway that cannot reach the pool goes on alone ([`Mode`]): by default with a bucket of its
//! own of R/n and B/n. When the pool is back, what that bucket lacks to be full is a debt, so
//! that nothing is spent twice, also if the pool has forgotten everything and is full.
//!
//! Messages may be lost, late or, after a crash, for nobody: a grant that is not heard of within
//! its lease is lost to the fleet until the pool refills, and what is given back is never sent
//! twice. Nothing else is lost, and nothing is ever there twice.

mod demand;
mod holding;
mod pool;
mod set;
#[cfg(test)]
mod simulation;

use serde::{Deserialize, Serialize};

pub use demand::{Demand, Plan};
pub use holding::{Holding, LEASE_NS};
pub use pool::{Granted, Pool};
pub use set::{HoldingSet, WAYS};

/// What gateways do while they cannot reach what they share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnLoss {
    /// Each has its equal share of the limit.
    #[default]
    Share,
    /// Everything is admitted.
    Open,
    /// Nothing is admitted.
    Closed,
}

/// How a gateway stands to the pools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It leases from them.
    Leased,
    /// It cannot reach them.
    Alone(OnLoss),
}

/// What a gateway knows of the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// How it stands to the pools.
    pub mode: Mode,
    /// How many gateways there are, itself included; at least 1.
    pub gateways: u32,
}
