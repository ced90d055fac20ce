//! What the operator says about a provider, already validated: no field is optional here.

use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use tidegate_core::provider::Vendor;
use tidegate_core::usage::Price;

use crate::secret::Secret;

/// One upstream that answers LLM requests.
#[derive(Debug, Clone, PartialEq)]
pub struct ProviderSettings {
    /// Unique name; a metric label and the value of `x-gateway-provider`, so 1 to 64 of
    /// `A-Z a-z 0-9 . _ -`.
    pub name: String,
    /// Where the answers come from.
    pub kind: ProviderKind,
    /// Models it serves. Empty means: those it lists itself, or the provider's name (type local).
    pub models: Vec<String>,
    /// Share of the traffic among providers of the same model; at least 1.
    pub weight: u32,
    /// Whether it takes requests at all.
    pub enabled: bool,
    /// Longest wait for the first byte of an answer, for the whole of a JSON answer, and
    /// between two chunks of a stream.
    pub timeout: Duration,
    /// Longest wait for a connection, TLS included.
    pub connect_timeout: Duration,
    /// What its tokens cost.
    pub price: Price,
}

/// The server or engine behind a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProviderKind {
    /// A server elsewhere.
    Remote(Remote),
    /// A small language model inside this process.
    Local {
        /// GGUF file with its tokenizer.
        model_path: PathBuf,
    },
}

/// A server that answers LLM requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// What kind of server it is, which says what it is asked and how.
    pub vendor: Vendor,
    /// Scheme, authority and the path before the operation, as in `https://api.openai.com/v1`.
    pub base_url: Uri,
    /// Sent in turn when there are several; none for a server that asks for none.
    pub api_keys: Vec<Secret>,
    /// Azure: the version of the API, for addresses that have one.
    pub api_version: Option<String>,
    /// Whether fields that the server has no word for are left out instead of refused.
    pub lenient: bool,
}

impl ProviderKind {
    /// The value of `type:` in the configuration.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Remote(remote) => remote.vendor.label(),
            Self::Local { .. } => "local",
        }
    }
}
