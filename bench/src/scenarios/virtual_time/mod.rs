//! Scenarios in virtual time: the filter's own pipeline and the sidecar's own learning loop, without
//! Envoy, sockets and waiting. Nothing is left to chance or to a busy machine, so a scenario can be
//! played at many moments: where within a second a fault begins decides which windows are clear of
//! what came before.
//!
//! `VERBOSE=1 cargo test -p tidegate-bench virtual_time::tests -- --nocapture` tells what becomes of the
//! policies.

mod host;
mod sidecar;
mod tests;
mod world;
