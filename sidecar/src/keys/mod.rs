//! API keys: those of the configuration, the operator's, and those made over the admin API.
//!
//! The table in force is one immutable map from digest to caller. Whatever changes who may call
//! goes through [`Keys::install`], which compares the new table with the last one and raises the
//! auth generation if they differ, also across restarts; every filter then forgets its verdicts.

mod digest;
pub mod random;
mod record;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use sha2::{Digest as _, Sha256};
use tidegate_core::wire::{Identity, Role};

pub use digest::Digest;
pub use record::{KeyRecord, NewKey, Source};

use crate::config::auth::{ApiKey, KEY_BYTES_MAX};
use crate::store::{Store, StoreError};

/// Most keys made over the admin API.
pub const STORED_KEYS_MAX: usize = 100_000;
/// Id of the operator's first key.
const ADMIN_ID: &str = "admin";
const GENERATION: &str = "auth_generation";
const FINGERPRINT: &str = "auth_fingerprint";

/// Why a key could not be made or revoked.
#[derive(Debug)]
pub enum KeyError {
    /// There is no key of this id.
    Unknown,
    /// The key stands in the configuration or the environment, and can only be removed there.
    NotStored(Source),
    /// [`STORED_KEYS_MAX`] is reached.
    Full,
    /// The system gave no random bytes.
    NoRandomness(random::NoRandomness),
    /// The store failed; nothing has changed.
    Store(StoreError),
}

impl std::fmt::Display for KeyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unknown => f.write_str("there is no key of this id"),
            Self::NotStored(source) => write!(f, "this key stands in {source}; remove it there"),
            Self::Full => write!(f, "there are {STORED_KEYS_MAX} keys already; revoke some first"),
            Self::NoRandomness(error) => error.fmt(f),
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for KeyError {}

impl From<StoreError> for KeyError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

#[derive(Debug, Default)]
struct Table {
    by_digest: HashMap<[u8; 32], Identity>,
    records: Vec<KeyRecord>,
    generation: u64,
}

/// All keys in force.
#[derive(Debug)]
pub struct Keys {
    store: Arc<Store>,
    /// `GATEWAY_ADMIN_KEY`, if it is set.
    from_environment: Option<Digest>,
    table: RwLock<Arc<Table>>,
    /// Changes are made one after the other.
    changing: Mutex<()>,
}

impl Keys {
    /// Puts the keys of the configuration, the environment and the store in force. Where no
    /// key has the role admin, one is made and returned, to be shown once.
    ///
    /// # Errors
    /// The store failed, or the system gives no random bytes.
    pub fn start(
        store: Arc<Store>,
        configured: &[ApiKey],
        from_environment: Option<Digest>,
    ) -> Result<(Self, Option<String>), KeyError> {
        let keys = Self { store, from_environment, table: RwLock::default(), changing: Mutex::default() };
        keys.install(configured)?;
        let has_admin = keys.table().records.iter().any(|record| record.role == Role::Admin);
        let made = if has_admin { None } else { Some(keys.make_admin(configured)?) };
        Ok((keys, made))
    }

    fn make_admin(&self, configured: &[ApiKey]) -> Result<String, KeyError> {
        let key = random::api_key().map_err(KeyError::NoRandomness)?;
        let admin = NewKey { name: ADMIN_ID.into(), tenant: ADMIN_ID.into(), role: Role::Admin };
        let record = admin.record(ADMIN_ID.to_owned(), Digest::of(&key), unix_ms());
        self.store.put_key(ADMIN_ID, Some(&record))?;
        self.install(configured)?;
        Ok(key)
    }

    /// Rebuilds the table; returns whether the generation rose.
    ///
    /// # Errors
    /// The store failed; then the last table stays in force.
    pub fn install(&self, configured: &[ApiKey]) -> Result<bool, KeyError> {
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut records: Vec<KeyRecord> = configured.iter().map(KeyRecord::of_config).collect();
        if let Some(digest) = self.from_environment {
            records.push(KeyRecord::of_environment(digest));
        }
        records.extend(self.store.keys::<KeyRecord>()?);
        self.put_in_force(records)
    }

    fn put_in_force(&self, records: Vec<KeyRecord>) -> Result<bool, KeyError> {
        let fingerprint = fingerprint(&records);
        let stored = self.store.get::<u64>(GENERATION)?;
        let same = self.store.get::<String>(FINGERPRINT)?.as_deref() == Some(fingerprint.as_str());
        let generation = match stored {
            Some(generation) if same => generation,
            // The clock keeps it rising even if the store was lost, so that verdicts from before
            // cannot come back to life.
            last => {
                let next = last.map_or(1, |last| last.saturating_add(1)).max(unix_ms());
                self.store.put(GENERATION, Some(&next))?;
                self.store.put(FINGERPRINT, Some(&fingerprint))?;
                next
            }
        };
        let by_digest = records.iter().rev().map(|r| (*r.digest.bytes(), r.identity())).collect();
        let table = Arc::new(Table { by_digest, records, generation });
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = table;
        Ok(!same)
    }

    fn table(&self) -> Arc<Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Who presents `credential`; `None` if nobody known does. The look-up goes by the digest,
    /// so its time tells nothing about the key.
    #[must_use]
    pub fn authenticate(&self, credential: &str) -> Option<Identity> {
        if credential.is_empty() || credential.len() > KEY_BYTES_MAX {
            return None;
        }
        self.table().by_digest.get(Digest::of(credential).bytes()).cloned()
    }

    /// Rises whenever a credential may have gained or lost its validity.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.table().generation
    }

    /// All keys, without anything that could be used as one.
    #[must_use]
    pub fn list(&self) -> Vec<KeyRecord> {
        self.table().records.clone()
    }

    /// Makes a key and puts it in force; the returned text is the only copy of it.
    ///
    /// # Errors
    /// There are too many keys, or the store or the random source failed.
    pub fn create(&self, configured: &[ApiKey], new: NewKey) -> Result<(KeyRecord, String), KeyError> {
        if self.table().records.len() >= STORED_KEYS_MAX {
            return Err(KeyError::Full);
        }
        let key = random::api_key().map_err(KeyError::NoRandomness)?;
        let id = random::key_id().map_err(KeyError::NoRandomness)?;
        let record = new.record(id, Digest::of(&key), unix_ms());
        self.store.put_key(&record.id, Some(&record))?;
        self.install(configured)?;
        Ok((record, key))
    }

    /// Takes a key out of force, everywhere and for good.
    ///
    /// # Errors
    /// There is no such key, it is not one made over the admin API, or the store failed.
    pub fn revoke(&self, configured: &[ApiKey], id: &str) -> Result<(), KeyError> {
        let table = self.table();
        let of_id = || table.records.iter().filter(|record| record.id == id);
        if !of_id().any(|record| record.source == Source::Store) {
            return Err(of_id()
                .next()
                .map_or(KeyError::Unknown, |record| KeyError::NotStored(record.source)));
        }
        self.store.put_key::<KeyRecord>(id, None)?;
        self.install(configured)?;
        Ok(())
    }
}

/// Changes if and only if some credential's meaning does.
fn fingerprint(records: &[KeyRecord]) -> String {
    let mut lines: Vec<String> =
        records.iter().map(|r| format!("{} {}", r.digest, r.identity().to_header())).collect();
    lines.sort_unstable();
    random::hex(&Sha256::digest(lines.join("\n").as_bytes()))
}

/// Milliseconds since 1970.
fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
