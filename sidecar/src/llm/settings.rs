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
    /// What some servers want instead of keys.
    pub account: Account,
    /// Whether fields that the server has no word for are left out instead of refused.
    pub lenient: bool,
    /// Whether it is asked for the usage of streams (`stream_options`).
    pub stream_usage: bool,
}

/// What a server wants to know of who pays, where a key is not enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Account {
    /// Nothing: keys are enough, or none are needed.
    None,
    /// Amazon: requests are signed.
    Aws(AwsKeys),
    /// Baidu: a pair of keys gets access tokens.
    Baidu {
        /// Names the account.
        api_key: Secret,
        /// The key.
        secret_key: Secret,
    },
    /// Google: a service account gets access tokens.
    Google(Box<ServiceAccount>),
}

/// Keys of an Amazon account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsKeys {
    /// As in `us-east-1`.
    pub region: String,
    /// Names the key.
    pub access_key_id: String,
    /// The key.
    pub secret_access_key: Secret,
    /// Belongs to keys that are for a while only.
    pub session_token: Option<Secret>,
}

/// A service account of Google's, from its key file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAccount {
    /// Its name.
    pub client_email: String,
    /// The key: RSA, PKCS #8 in PEM.
    pub private_key: Secret,
    /// Where tokens are to be had.
    pub token_uri: Uri,
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
