//! Incidents: what an error says, which errors are the same, what kind of failure they are, which
//! slice of the traffic explains them, and what is done about that slice and nothing else.
//!
//! An error's own words are read out of its body ([`text`]), masked into a template ([`mask`]) and
//! reduced to a 64-bit [`signature`]. The filter does this much, and carries out what was decided
//! ([`matcher`], [`gate`]); the rest is the sidecar's ([`attribution`]).

pub mod attribution;
pub mod cluster;
pub mod enforcement;
pub mod exemplar;
pub mod features;
pub mod gate;
pub mod judge;
pub mod kind;
pub mod mask;
pub mod matcher;
pub mod miner;
pub mod page;
pub mod proposal;
pub mod signature;
pub mod text;

pub use kind::ErrorKind;
pub use signature::{Signature, Source, StatusClass};
pub use text::ErrorText;
