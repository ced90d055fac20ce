//! API keys: those of the configuration, the operator's, and those made over the admin API.
//!
//! Whatever takes validity away raises the auth generation, and every filter then forgets its
//! verdicts: a key that is revoked or rotated, and a table put in force by [`Keys::install`] that
//! differs from the last one, also across restarts. A new key does not: nobody has asked for it
//! yet, since nobody could know it.

mod digest;
pub mod random;
mod record;
mod table;

use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use tidegate_core::wire::{Identity, Role};

pub use digest::Digest;
pub use record::{KeyRecord, NewKey, Previous, Source};
use table::Table;

use crate::audit::{self, Act, Action, Actor};
use crate::config::auth::{Auth, KEY_BYTES_MAX};
use crate::store::{Store, StoreError, Table as Stored};

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

/// All keys in force.
#[derive(Debug)]
pub struct Keys {
    store: Arc<Store>,
    /// `GATEWAY_ADMIN_KEY`, if it is set.
    from_environment: Option<Digest>,
    table: RwLock<Table>,
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
        auth: &Auth,
        from_environment: Option<Digest>,
    ) -> Result<(Self, Option<String>), KeyError> {
        let keys = Self { store, from_environment, table: RwLock::default(), changing: Mutex::default() };
        keys.install(auth)?;
        let now_ms = unix_ms();
        let is_admin = |record: &KeyRecord| record.role == Role::Admin && now_ms < record.ends_ms();
        let has_admin = keys.table().records().iter().any(is_admin);
        if has_admin {
            return Ok((keys, None));
        }
        match keys.make_admin() {
            Ok(made) => Ok((keys, Some(made))),
            // Another gateway of the fleet was faster.
            Err(KeyError::Store(StoreError::Exists)) => {
                keys.install(auth)?;
                Ok((keys, None))
            }
            Err(error) => Err(error),
        }
    }

    fn make_admin(&self) -> Result<String, KeyError> {
        let key = random::api_key().map_err(KeyError::NoRandomness)?;
        let (name, tenant) = (ADMIN_ID.to_owned(), ADMIN_ID.to_owned());
        let admin = NewKey { name, tenant, role: Role::Admin, expires_at: None, allowed_models: None };
        let record = admin.record(ADMIN_ID.to_owned(), Digest::of(&key), unix_ms());
        self.change(&Actor::system("first start"), Action::KeyCreated, None, Some(record))?;
        Ok(key)
    }

    /// Writes a change of one key, its entry in the audit log, and what follows from it, all or
    /// nothing, and puts it in force.
    fn change(
        &self,
        actor: &Actor,
        action: Action,
        before: Option<&KeyRecord>,
        after: Option<KeyRecord>,
    ) -> Result<(), KeyError> {
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(id) = after.as_ref().or(before).map(|record| record.id.as_str()) else { return Ok(()) };
        let act = Act {
            actor: actor.clone(),
            action,
            target: id.to_owned(),
            before: before.map(KeyRecord::for_audit).unwrap_or_default(),
            after: after.as_ref().map(KeyRecord::for_audit).unwrap_or_default(),
            at_ms: unix_ms(),
        };
        let fingerprint = self.table().fingerprint(before, after.as_ref());
        let last = self.table().generation;
        let generation = if before.is_some() { next_generation(Some(last)) } else { last };
        self.store.write(|writer| {
            if before.is_none() && writer.has_record(Stored::Keys, id)? {
                return Err(StoreError::Exists);
            }
            writer.put_record(Stored::Keys, id, after.as_ref())?;
            writer.put(GENERATION, &generation)?;
            writer.put(FINGERPRINT, &fingerprint)?;
            audit::append(writer, &act)
        })?;
        let mut table = self.table_mut();
        table.change(before, after);
        table.generation = generation;
        Ok(())
    }

    /// Rebuilds the table; returns whether the generation rose.
    ///
    /// # Errors
    /// The store failed; then the last table stays in force.
    pub fn install(&self, auth: &Auth) -> Result<bool, KeyError> {
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut records: Vec<KeyRecord> = auth.api_keys.iter().map(KeyRecord::of_config).collect();
        if let Some(digest) = self.from_environment {
            records.push(KeyRecord::of_environment(digest));
        }
        records.extend(self.store.all::<KeyRecord>(Stored::Keys)?);
        self.put_in_force(records, &auth.jwt.fingerprint(&auth.users))
    }

    fn put_in_force(&self, records: Vec<KeyRecord>, tokens: &str) -> Result<bool, KeyError> {
        let mut table = Table::new(records, tokens, &self.table());
        let fingerprint = table.fingerprint(None, None);
        let stored = self.store.get::<u64>(GENERATION)?;
        let same = self.store.get::<String>(FINGERPRINT)?.as_deref() == Some(fingerprint.as_str());
        table.generation = match stored {
            Some(generation) if same => generation,
            last => self.raise(last, &fingerprint)?,
        };
        *self.table_mut() = table;
        Ok(!same)
    }

    fn raise(&self, last: Option<u64>, fingerprint: &str) -> Result<u64, KeyError> {
        let next = next_generation(last);
        self.store.write(|writer| {
            writer.put(GENERATION, &next)?;
            writer.put(FINGERPRINT, &fingerprint)
        })?;
        Ok(next)
    }

    /// Raises the generation although no key has changed: something else has lost its validity.
    ///
    /// # Errors
    /// The store failed.
    pub fn raise_generation(&self) -> Result<(), KeyError> {
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, fingerprint) = {
            let table = self.table();
            (table.generation, table.fingerprint(None, None))
        };
        let generation = self.raise(Some(last), &fingerprint)?;
        self.table_mut().generation = generation;
        Ok(())
    }

    fn table(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn table_mut(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who presents `credential`, and for how many more milliseconds; `None` if nobody known
    /// does. The look-up goes by the digest, so its time tells nothing about the key.
    #[must_use]
    pub fn authenticate(&self, credential: &str, now_ms: u64) -> Option<(Identity, u64)> {
        if credential.is_empty() || credential.len() > KEY_BYTES_MAX {
            return None;
        }
        let digest = Digest::of(credential);
        let table = self.table();
        let (identity, ends_ms) = table.find(&digest)?;
        let left_ms = ends_ms.checked_sub(now_ms).filter(|left| *left > 0)?;
        Some((identity.clone(), left_ms))
    }

    /// Notes that `identity` has just called.
    pub fn used(&self, identity: &Identity, now_ms: u64) {
        if let Some(id) = &identity.key {
            self.table().used(id, now_ms);
        }
    }

    /// The models that `identity` may use; `None` for all. A list that is no longer known allows
    /// nothing.
    #[must_use]
    pub fn allowed_models(&self, identity: &Identity) -> Option<Arc<[String]>> {
        let scope = identity.scope.as_ref()?;
        Some(self.table().models(scope).unwrap_or_default())
    }

    /// Rises whenever a credential may have gained or lost its validity.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.table().generation
    }

    /// All keys, without anything that could be used as one, and when each was last used, in
    /// milliseconds since 1970.
    #[must_use]
    pub fn list(&self) -> Vec<(KeyRecord, Option<u64>)> {
        let table = self.table();
        table.records().iter().map(|record| (record.clone(), table.last_used_ms(&record.id))).collect()
    }

    /// Makes a key and puts it in force; the returned text is the only copy of it.
    ///
    /// # Errors
    /// There are too many keys, or the store or the random source failed.
    pub fn create(&self, new: NewKey, by: &Actor) -> Result<(KeyRecord, String), KeyError> {
        if self.table().stored() >= STORED_KEYS_MAX {
            return Err(KeyError::Full);
        }
        let key = random::api_key().map_err(KeyError::NoRandomness)?;
        let id = random::key_id().map_err(KeyError::NoRandomness)?;
        let record = new.record(id, Digest::of(&key), unix_ms());
        self.change(by, Action::KeyCreated, None, Some(record.clone()))?;
        Ok((record, key))
    }

    /// Gives a key a new secret, whose only copy is the returned text. The old one is good for
    /// `grace_ms` more; one before that ends now.
    ///
    /// # Errors
    /// There is no such key, it is not one made over the admin API, or the store or the random
    /// source failed.
    pub fn rotate(&self, id: &str, grace_ms: u64, by: &Actor) -> Result<(KeyRecord, String), KeyError> {
        let old = self.stored(id)?;
        let key = random::api_key().map_err(KeyError::NoRandomness)?;
        let until_ms = unix_ms().saturating_add(grace_ms);
        let previous = (grace_ms > 0).then_some(Previous { digest: old.digest, until_ms });
        let record = KeyRecord { digest: Digest::of(&key), previous, ..old.clone() };
        self.change(by, Action::KeyRotated, Some(&old), Some(record.clone()))?;
        Ok((record, key))
    }

    /// Takes a key out of force, everywhere and for good.
    ///
    /// # Errors
    /// There is no such key, it is not one made over the admin API, or the store failed.
    pub fn revoke(&self, id: &str, by: &Actor) -> Result<(), KeyError> {
        let old = self.stored(id)?;
        self.change(by, Action::KeyRevoked, Some(&old), None)
    }

    /// The key of this id that was made over the admin API.
    fn stored(&self, id: &str) -> Result<KeyRecord, KeyError> {
        let table = self.table();
        let of_id = || table.records().iter().filter(|record| record.id == id);
        let stored = of_id().find(|record| record.source == Source::Store).cloned();
        stored.ok_or_else(|| {
            of_id().next().map_or(KeyError::Unknown, |record| KeyError::NotStored(record.source))
        })
    }
}

/// The clock keeps it rising even if the store was lost, so that verdicts from before cannot come
/// back to life.
fn next_generation(last: Option<u64>) -> u64 {
    last.map_or(1, |last| last.saturating_add(1)).max(unix_ms())
}

/// Milliseconds since 1970.
#[must_use]
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
