//! What is known about a key.

use serde::{Deserialize, Serialize};
use tidegate_core::wire::{Identity, Role};

use super::Digest;
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
}

impl NewKey {
    /// The record of this key, to be kept in the store.
    #[must_use]
    pub fn record(self, id: String, digest: Digest, created_ms: u64) -> KeyRecord {
        let Self { name, tenant, role } = self;
        KeyRecord { id, name, tenant, role, digest, created_ms, source: Source::Store }
    }
}

impl KeyRecord {
    /// The record of a key in the configuration.
    #[must_use]
    pub fn of_config(key: &ApiKey) -> Self {
        let ApiKey { name, digest, tenant, role } = key.clone();
        Self { id: name.clone(), name, tenant, role, digest, created_ms: 0, source: Source::Config }
    }

    /// The record of `GATEWAY_ADMIN_KEY`.
    #[must_use]
    pub fn of_environment(digest: Digest) -> Self {
        Self {
            id: "gateway_admin_key".to_owned(),
            name: "GATEWAY_ADMIN_KEY".to_owned(),
            tenant: "admin".to_owned(),
            role: Role::Admin,
            digest,
            created_ms: 0,
            source: Source::Environment,
        }
    }

    /// The caller that presents this key.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity { tenant: self.tenant.clone(), key: Some(self.id.clone()), role: self.role }
    }
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
