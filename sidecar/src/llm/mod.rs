//! The LLM API: who may answer a request, and how the answer gets back to the caller.

pub mod settings;

pub use settings::{ProviderKind, ProviderSettings};
