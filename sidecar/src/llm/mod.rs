//! The LLM API: who may answer a request, and how the answer gets back to the caller.
//!
//! `front` reads the request and writes refusals, [`Providers`] picks who answers, and one of
//! two engines does: `upstream` passes the request on to a server, `local` runs a small model.
//! Where caller and provider speak different protocols, `translate` stands between them.

mod catalog;
mod front;
mod hidden;
mod idempotency;
mod idle;
mod local;
mod metrics;
mod operations;
mod provider;
mod providers;
pub mod report;
mod resilience;
pub mod routing;
pub mod settings;
mod translate;
mod upstream;

pub use front::{AllowedModels, Llm, Services, replay};
pub use local::compute_on_one_thread;
pub use providers::{Providers, StartError};
pub use settings::{Account, AwsKeys, ProviderKind, ProviderSettings, Remote, ServiceAccount};
pub use upstream::connect;

#[cfg(test)]
mod tests;
