//! The policy in force, as the one versioned document that filters poll for.

mod publisher;

use sha2::{Digest as _, Sha256};
use tidegate_core::incident::enforcement::SlicePolicy;
use tidegate_core::policy::{
    AuthPolicy, BreakerPolicy, DirectPolicy, FORMAT, Invalid, L1Policy, Limits, SamplerPolicy, Snapshot,
};

pub use publisher::{Published, Publisher};

/// Hex digits of a revision.
const REVISION_DIGITS: usize = 16;

/// What a document is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Parts {
    /// Who may call.
    pub auth: AuthPolicy,
    /// How much they may call.
    pub limits: Limits,
    /// When a failing route is left alone.
    pub breaker: BreakerPolicy,
    /// The exact cache inside Envoy.
    pub l1: L1Policy,
    /// LLM requests that do not go to the sidecar.
    pub direct: DirectPolicy,
    /// Largest accepted request body, in bytes.
    pub body_bytes_max: u64,
    /// What is observed of failures.
    pub sampler: SamplerPolicy,
    /// Slices of the traffic that are limited or broken.
    pub slices: Vec<SlicePolicy>,
}

impl Parts {
    /// The document, named by the digest of its content, and as JSON.
    ///
    /// # Errors
    /// A part that filters would refuse; it is found here, before they see it.
    pub fn document(self) -> Result<(Snapshot, Vec<u8>), Invalid> {
        let Self { auth, limits, breaker, l1, direct, body_bytes_max, sampler, slices } = self;
        let mut snapshot = Snapshot {
            format: FORMAT,
            revision: String::new(),
            auth,
            limits,
            breaker,
            l1,
            direct,
            body_bytes_max,
            sampler,
            slices,
        };
        let mut revision = crate::keys::random::hex(&Sha256::digest(to_json(&snapshot)?));
        revision.truncate(REVISION_DIGITS);
        snapshot.revision = revision;
        snapshot.validate()?;
        let json = to_json(&snapshot)?;
        Ok((snapshot, json))
    }
}

fn to_json(snapshot: &Snapshot) -> Result<Vec<u8>, Invalid> {
    serde_json::to_vec(snapshot)
        .map_err(|error| Invalid { field: "document".to_owned(), problem: error.to_string() })
}
