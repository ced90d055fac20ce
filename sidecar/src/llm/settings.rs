//! What the operator says about a provider, already validated: no field is optional here.

use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
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
    /// Models it serves. Empty means: those it lists under `/models` (types openai and
    /// anthropic), or the name of the model file (type local).
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

/// The protocol or engine behind a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProviderKind {
    /// Any server that speaks OpenAI's API.
    OpenAi {
        /// Scheme, authority and the path before `/chat/completions`, as in
        /// `https://api.openai.com/v1`.
        base_url: Uri,
        /// Sent as `authorization: Bearer`, in turn when there are several; none for a server
        /// that asks for none.
        api_keys: Vec<Secret>,
    },
    /// Any server that speaks Anthropic's Messages API.
    Anthropic {
        /// Scheme, authority and the path before `/messages`, as in
        /// `https://api.anthropic.com/v1`.
        base_url: Uri,
        /// Sent as `x-api-key`, in turn when there are several.
        api_keys: Vec<Secret>,
    },
    /// A small language model inside this process.
    Local {
        /// GGUF file with its tokenizer.
        model_path: PathBuf,
    },
}

impl ProviderKind {
    /// The value of `type:` in the configuration.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::OpenAi { .. } => "openai",
            Self::Anthropic { .. } => "anthropic",
            Self::Local { .. } => "local",
        }
    }
}
