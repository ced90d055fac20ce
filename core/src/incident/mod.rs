//! Incidents: what an error says, which errors are the same, and what kind of failure they are.
//!
//! An error's own words are read out of its body ([`text`]), masked into a template ([`mask`]) and
//! reduced to a 64-bit [`signature`]. The filter does this much; the rest is the sidecar's.

pub mod cluster;
pub mod exemplar;
pub mod features;
pub mod judge;
pub mod kind;
pub mod mask;
pub mod miner;
pub mod signature;
pub mod text;

pub use kind::ErrorKind;
pub use signature::{Signature, Source, StatusClass};
pub use text::ErrorText;
