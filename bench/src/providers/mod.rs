//! Many providers behind one gateway: one that is killed at full load, a thousand streams at a
//! time, callers who leave, and what translation costs.

pub(crate) mod failover;
pub(crate) mod leaving;
pub(crate) mod streams;
pub(crate) mod translation;
