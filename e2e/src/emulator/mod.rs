//! Emulated providers, one for each protocol there is, that answer at once, deterministically, and
//! fail when they are told to.
//!
//! A provider is mounted by path (`/openai/v1`, `/anthropic/v1`, `/azure`, `/gemini/v1beta`, `/vertex/v1/...`,
//! `/bedrock`, `/ernie`, `/ernie/v2`), so that one port carries all. Beside them lie the controls:
//!
//! | call | does |
//! |---|---|
//! | `POST /__faults` | arms one [`Fault`] (JSON, strict); faults are tried in the order armed |
//! | `GET /__faults`, `DELETE /__faults` | lists what is armed; disarms everything |
//! | `POST /__release` | lets the answers go on that a fault has stalled |
//! | `GET /__requests`, `DELETE /__requests` | the bounded log of requests; empties it |
//! | `GET /__stats` | counters since the start |
//!
//! The log says of each request how its answer ended, so a test can prove that a client which went
//! away made the gateway cancel the call to the provider.

mod answer;
mod anthropic;
mod azure;
mod bedrock;
mod body;
mod book;
mod control;
mod ernie;
mod fault;
mod gemini;
mod heard;
mod ids;
mod log;
mod openai;
mod provider;
mod script;
mod server;
mod service;
mod socket;
mod stats;
mod strict;
mod text;
mod vector;

pub use fault::{Fault, FaultError, FaultMatch, Refusal};
pub use log::{Outcome, RequestRecord};
pub use server::{Emulator, Options};
pub use stats::{StatsSnapshot, TokensSnapshot};
