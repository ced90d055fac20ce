//! Pure logic shared by the two halves of Tidegate, the Envoy filter (wasm32) and the sidecar.
//!
//! Nothing here reads a clock, does IO or knows an SDK: time is an argument, bytes come in and
//! values go out. That is what lets the same machines run inside Envoy, inside tokio and inside
//! property tests.

pub mod address;
pub mod breaker;
pub mod cache;
pub mod chat;
pub mod event;
pub mod hash;
pub mod incident;
pub mod limit;
pub mod policy;
pub mod provider;
pub mod reply;
pub mod route;
pub mod routing;
pub mod sse;
pub mod usage;
pub mod wire;
