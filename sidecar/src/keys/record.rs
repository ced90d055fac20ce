//! What is known about a key.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tidegate_core::wire::{Identity, Role, SCOPE_DIGITS};

use super::Digest;
use super::random::hex;
use crate::config::auth::ApiKey;

/// Where a key stands, which is where it can be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// `auth.api_keys` of the configuration.
    Config,
    /// `GATEWAY_ADMIN_KEY`.
    Environment,
    /// The store.
    Store,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Config => "auth.api_keys of the configuration file",
            Self::Environment => "GATEWAY_ADMIN_KEY in the environment",
            Self::Store => "the store",
        })
    }
}

/// What an operator says when making a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewKey {
    /// For people.
    pub name: String,
    /// Whose requests these will be.
    pub tenant: String,
    /// What they may do.
    pub role: Role,
    /// When it ends, in seconds since 1970.
    pub expires_at: Option<u64>,
    /// The models it may use; all, if there is no list.
    pub allowed_models: Option<Vec<String>>,
}

/// The secret before the last rotation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Previous {
    /// What is compared.
    #[serde(with = "digest_text")]
    pub digest: Digest,
    /// When it ends, in milliseconds since 1970.
    pub until_ms: u64,
}

/// A key without the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRecord {
    /// Names it in `/admin/keys/{id}`, and in the identity that travels with requests.
    pub id: String,
    /// For people.
    pub name: String,
    /// Whose requests these are.
    pub tenant: String,
    /// What they may do.
    pub role: Role,
    /// What is compared.
    #[serde(with = "digest_text")]
    pub digest: Digest,
    /// When it was made, in milliseconds since 1970; 0 if that is not known.
    pub created_ms: u64,
    /// Where it stands.
    pub source: Source,
    /// When it ends, in seconds since 1970.
    #[serde(default)]
    pub expires_at: Option<u64>,
    /// The models it may use; all, if there is no list.
    #[serde(default)]
    pub allowed_models: Option<Vec<String>>,
    /// The secret before this one, while it is still good.
    #[serde(default)]
    pub previous: Option<Previous>,
}

impl NewKey {
    /// The record of this key, to be kept in the store.
    #[must_use]
    pub fn record(self, id: String, digest: Digest, created_ms: u64) -> KeyRecord {
        let Self { name, tenant, role, expires_at, allowed_models } = self;
        let source = Source::Store;
        let previous = None;
        KeyRecord { id, name, tenant, role, digest, created_ms, source, expires_at, allowed_models, previous }
    }
}

impl KeyRecord {
    /// The record of a key in the configuration.
    #[must_use]
    pub fn of_config(key: &ApiKey) -> Self {
        let ApiKey { name, digest, tenant, role, expires_at, allowed_models } = key.clone();
        let new = NewKey { name: name.clone(), tenant, role, expires_at, allowed_models };
        Self { source: Source::Config, ..new.record(name, digest, 0) }
    }

    /// The record of `GATEWAY_ADMIN_KEY`.
    #[must_use]
    pub fn of_environment(digest: Digest) -> Self {
        let new = NewKey {
            name: "GATEWAY_ADMIN_KEY".to_owned(),
            tenant: "admin".to_owned(),
            role: Role::Admin,
            expires_at: None,
            allowed_models: None,
        };
        Self { source: Source::Environment, ..new.record("gateway_admin_key".to_owned(), digest, 0) }
    }

    /// The caller that presents this key.
    #[must_use]
    pub fn identity(&self) -> Identity {
        let scope = self.allowed_models.as_deref().map(scope);
        Identity { tenant: self.tenant.clone(), key: Some(self.id.clone()), role: self.role, scope }
    }

    /// When it ends, in milliseconds since 1970.
    #[must_use]
    pub fn ends_ms(&self) -> u64 {
        self.expires_at.map_or(u64::MAX, |seconds| seconds.saturating_mul(1000))
    }

    /// What the audit log keeps of it.
    #[must_use]
    pub fn for_audit(&self) -> serde_json::Value {
        serde_json::json!({
            "name": self.name,
            "tenant": self.tenant,
            "role": self.role,
            "expires_at": self.expires_at,
            "allowed_models": self.allowed_models,
            "previous_until_ms": self.previous.as_ref().map(|previous| previous.until_ms),
        })
    }
}

/// The same for the same models, whatever their order.
fn scope(models: &[String]) -> String {
    let mut models: Vec<&String> = models.iter().collect();
    models.sort_unstable();
    models.dedup();
    let mut hash = Sha256::new();
    for model in models {
        hash.update((model.len() as u64).to_le_bytes());
        hash.update(model);
    }
    hex(hash.finalize().get(..SCOPE_DIGITS / 2).unwrap_or_default())
}

mod digest_text {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    use super::Digest;

    pub fn serialize<S: Serializer>(digest: &Digest, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(digest)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        let text = String::deserialize(deserializer)?;
        Digest::parse(&text).ok_or_else(|| D::Error::custom("not a digest"))
    }
}
