//! Tidegate's Envoy filter.
//!
//! [`pipeline`] is the path of one request, [`sync`] what a VM does on its tick, [`vm`] what one
//! VM remembers, [`ports`] what they need of a host. The SDK is behind `wasm`, which exists only
//! in Envoy; natively everything else runs on a fake host in `tests/`.

#![cfg_attr(
    not(test),
    deny(clippy::panic, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)
)]

pub mod answers;
pub mod cells;
pub mod config;
pub mod fleet;
pub mod full_sets;
pub mod gates;
pub mod headers;
pub mod levels;
pub mod offers;
pub mod outbox;
pub mod permits;
pub mod pipeline;
pub mod place;
pub mod ports;
pub mod shares;
pub mod slices;
pub mod sync;
pub mod text;
pub mod traffic;
pub mod verdicts;
pub mod vm;
pub mod watch;
pub mod ways;

#[cfg(target_arch = "wasm32")]
mod wasm;
