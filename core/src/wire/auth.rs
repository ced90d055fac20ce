//! Bodies of `POST /internal/v1/authenticate`.

use serde::{Deserialize, Serialize};

use super::Identity;
use super::signature::{SignatureFault, SignedRequest};

/// What the filter asks. Exactly one credential: the filter has already refused duplicates.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthenticateRequest {
    /// The secret as presented, without a `Bearer ` prefix; of a signed request the whole value of
    /// `authorization`. Never logged.
    pub credential: String,
    /// Address that connected to Envoy, so that guessing from one place can be slowed down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// What was signed, if the credential is a signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<SignedRequest>,
}

/// What the sidecar decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "lowercase", deny_unknown_fields)]
pub enum Verdict {
    /// The credential is good until `ttl_ms` from now, if the auth generation stays the same.
    Granted {
        /// Who the caller is.
        identity: Identity,
        /// How long the filter may rely on this, in milliseconds.
        ttl_ms: u64,
        /// [`crate::policy::AuthPolicy::generation`] under which this was decided.
        generation: u64,
    },
    /// The credential is unknown, revoked or expired.
    Denied {
        /// How long the filter may go on refusing without asking, in milliseconds.
        ttl_ms: u64,
        /// [`crate::policy::AuthPolicy::generation`] under which this was decided.
        generation: u64,
    },
    /// The request's signature is not good. Concerns this request alone.
    Unsigned {
        /// What is wrong with it.
        fault: SignatureFault,
    },
    /// Too many bad credentials came from this source, so this one was not looked at. Concerns
    /// this request alone: never remembered.
    Limited {
        /// When to come back, in milliseconds.
        retry_after_ms: u64,
    },
}
