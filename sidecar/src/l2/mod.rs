//! The semantic cache of the sidecar.

pub mod index;
