//! The filter's pipeline on a fake Envoy: several VMs over the same shared cells.

mod admission;
mod answers;
mod breaker;
mod dead_sidecar;
mod fake;
mod fleet;
mod incident;
mod limits;
mod semantic;
mod shares;
mod sync;
mod tokens;
