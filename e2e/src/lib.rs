//! What the end-to-end tests, the demos and the benchmarks share: emulated providers that speak the
//! documented wire formats and fail on demand ([`emulator`]), and a harness that runs a whole
//! gateway, with a real Envoy, on free ports ([`harness`]).
//!
//! Nothing here is part of the product.

pub mod emulator;
pub mod harness;
