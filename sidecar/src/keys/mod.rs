//! API keys: those of the configuration, the operator's, and those made over the admin API.
//!
//! The table in force is one immutable map from digest to caller. Whatever changes who may call
//! goes through [`Keys::install`], which compares the new table with the last one and raises the
//! auth generation if they differ, also across restarts; every filter then forgets its verdicts.

mod digest;
pub mod random;
mod record;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use sha2::{Digest as _, Sha256};
use tidegate_core::wire::{Identity, Role};

pub use digest::Digest;
pub use record::{KeyRecord, NewKey, Previous, Source};

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

/// Whom a digest stands for, and until when.
#[derive(Debug)]
struct Caller {
    identity: Identity,
    ends_ms: u64,
}

#[derive(Debug, Default)]
struct Table {
    by_digest: HashMap<[u8; 32], Caller>,
    /// Allow-lists by the scope in their callers' identities.
    allowed: HashMap<String, Arc<[String]>>,
    /// By id, in milliseconds since 1970; 0 for never.
    last_used: HashMap<String, Arc<AtomicU64>>,
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
        auth: &Auth,
        from_environment: Option<Digest>,
    ) -> Result<(Self, Option<String>), KeyError> {
        let keys = Self { store, from_environment, table: RwLock::default(), changing: Mutex::default() };
        keys.install(auth)?;
        let now_ms = unix_ms();
        let is_admin = |record: &KeyRecord| record.role == Role::Admin && now_ms < record.ends_ms();
        let has_admin = keys.table().records.iter().any(is_admin);
        if has_admin {
            return Ok((keys, None));
        }
        match keys.make_admin(auth) {
            Ok(made) => Ok((keys, Some(made))),
            // Another gateway of the fleet was faster.
            Err(KeyError::Store(StoreError::Exists)) => {
                keys.install(auth)?;
                Ok((keys, None))
            }
            Err(error) => Err(error),
        }
    }

    fn make_admin(&self, auth: &Auth) -> Result<String, KeyError> {
        let key = random::api_key().map_err(KeyError::NoRandomness)?;
        let (name, tenant) = (ADMIN_ID.to_owned(), ADMIN_ID.to_owned());
        let admin = NewKey { name, tenant, role: Role::Admin, expires_at: None, allowed_models: None };
        let record = admin.record(ADMIN_ID.to_owned(), Digest::of(&key), unix_ms());
        self.keep(&Actor::system("first start"), Action::KeyCreated, None, Some(&record))?;
        self.install(auth)?;
        Ok(key)
    }

    /// Writes a change and its entry in the audit log, both or neither.
    fn keep(
        &self,
        actor: &Actor,
        action: Action,
        before: Option<&KeyRecord>,
        after: Option<&KeyRecord>,
    ) -> Result<(), KeyError> {
        let Some(record) = after.or(before) else { return Ok(()) };
        let act = Act {
            actor: actor.clone(),
            action,
            target: record.id.clone(),
            before: before.map(KeyRecord::for_audit).unwrap_or_default(),
            after: after.map(KeyRecord::for_audit).unwrap_or_default(),
            at_ms: unix_ms(),
        };
        self.store.write(|writer| {
            if before.is_none() && writer.has_record(Stored::Keys, &record.id)? {
                return Err(StoreError::Exists);
            }
            writer.put_record(Stored::Keys, &record.id, after)?;
            audit::append(writer, &act)
        })?;
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
        let fingerprint = fingerprint(&records, tokens);
        let stored = self.store.get::<u64>(GENERATION)?;
        let same = self.store.get::<String>(FINGERPRINT)?.as_deref() == Some(fingerprint.as_str());
        let generation = match stored {
            Some(generation) if same => generation,
            last => self.next_generation(last, &fingerprint)?,
        };
        let table = Table::new(records, generation, &self.table());
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(table);
        Ok(!same)
    }

    /// The clock keeps it rising even if the store was lost, so that verdicts from before cannot
    /// come back to life.
    fn next_generation(&self, last: Option<u64>, fingerprint: &str) -> Result<u64, KeyError> {
        let next = last.map_or(1, |last| last.saturating_add(1)).max(unix_ms());
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
        let last = self.table();
        let fingerprint = self.store.get::<String>(FINGERPRINT)?.unwrap_or_default();
        let generation = self.next_generation(Some(last.generation), &fingerprint)?;
        let table = Table::new(last.records.clone(), generation, &last);
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(table);
        Ok(())
    }

    fn table(&self) -> Arc<Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Who presents `credential`, and for how many more milliseconds; `None` if nobody known
    /// does. The look-up goes by the digest, so its time tells nothing about the key.
    #[must_use]
    pub fn authenticate(&self, credential: &str, now_ms: u64) -> Option<(Identity, u64)> {
        if credential.is_empty() || credential.len() > KEY_BYTES_MAX {
            return None;
        }
        let table = self.table();
        let Caller { identity, ends_ms } = table.by_digest.get(Digest::of(credential).bytes())?;
        let left_ms = ends_ms.checked_sub(now_ms).filter(|left| *left > 0)?;
        Some((identity.clone(), left_ms))
    }

    /// Notes that `identity` has just called.
    pub fn used(&self, identity: &Identity, now_ms: u64) {
        if let Some(last) = identity.key.as_ref().and_then(|id| self.table().last_used.get(id).cloned()) {
            last.fetch_max(now_ms, Ordering::Relaxed);
        }
    }

    /// The models that `identity` may use; `None` for all. A list that is no longer known allows
    /// nothing.
    #[must_use]
    pub fn allowed_models(&self, identity: &Identity) -> Option<Arc<[String]>> {
        let scope = identity.scope.as_ref()?;
        Some(self.table().allowed.get(scope).cloned().unwrap_or_default())
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
        let last_used = |record: &KeyRecord| {
            let at_ms = table.last_used.get(&record.id)?.load(Ordering::Relaxed);
            (at_ms > 0).then_some(at_ms)
        };
        table.records.iter().map(|record| (record.clone(), last_used(record))).collect()
    }

    /// Makes a key and puts it in force; the returned text is the only copy of it.
    ///
    /// # Errors
    /// There are too many keys, or the store or the random source failed.
    pub fn create(&self, auth: &Auth, new: NewKey, by: &Actor) -> Result<(KeyRecord, String), KeyError> {
        if self.table().records.len() >= STORED_KEYS_MAX {
            return Err(KeyError::Full);
        }
        let key = random::api_key().map_err(KeyError::NoRandomness)?;
        let id = random::key_id().map_err(KeyError::NoRandomness)?;
        let record = new.record(id, Digest::of(&key), unix_ms());
        self.keep(by, Action::KeyCreated, None, Some(&record))?;
        self.install(auth)?;
        Ok((record, key))
    }

    /// Gives a key a new secret, whose only copy is the returned text. The old one is good for
    /// `grace_ms` more; one before that ends now.
    ///
    /// # Errors
    /// There is no such key, it is not one made over the admin API, or the store or the random
    /// source failed.
    pub fn rotate(
        &self,
        auth: &Auth,
        id: &str,
        grace_ms: u64,
        by: &Actor,
    ) -> Result<(KeyRecord, String), KeyError> {
        let old = self.stored(id)?;
        let key = random::api_key().map_err(KeyError::NoRandomness)?;
        let until_ms = unix_ms().saturating_add(grace_ms);
        let previous = (grace_ms > 0).then_some(Previous { digest: old.digest, until_ms });
        let record = KeyRecord { digest: Digest::of(&key), previous, ..old.clone() };
        self.keep(by, Action::KeyRotated, Some(&old), Some(&record))?;
        self.install(auth)?;
        Ok((record, key))
    }

    /// Takes a key out of force, everywhere and for good.
    ///
    /// # Errors
    /// There is no such key, it is not one made over the admin API, or the store failed.
    pub fn revoke(&self, auth: &Auth, id: &str, by: &Actor) -> Result<(), KeyError> {
        let old = self.stored(id)?;
        self.keep(by, Action::KeyRevoked, Some(&old), None)?;
        self.install(auth)?;
        Ok(())
    }

    /// The key of this id that was made over the admin API.
    fn stored(&self, id: &str) -> Result<KeyRecord, KeyError> {
        let table = self.table();
        let of_id = || table.records.iter().filter(|record| record.id == id);
        let stored = of_id().find(|record| record.source == Source::Store).cloned();
        stored.ok_or_else(|| {
            of_id().next().map_or(KeyError::Unknown, |record| KeyError::NotStored(record.source))
        })
    }
}

impl Table {
    fn new(records: Vec<KeyRecord>, generation: u64, last: &Self) -> Self {
        let mut table = Self { generation, ..Self::default() };
        // Of two entries with one secret, the first counts.
        for record in records.iter().rev() {
            let (identity, ends_ms) = (record.identity(), record.ends_ms());
            if let Some(Previous { digest, until_ms }) = &record.previous {
                let caller = Caller { identity: identity.clone(), ends_ms: ends_ms.min(*until_ms) };
                table.by_digest.insert(*digest.bytes(), caller);
            }
            if let (Some(scope), Some(models)) = (&identity.scope, &record.allowed_models) {
                table.allowed.insert(scope.clone(), models.as_slice().into());
            }
            let last_used = last.last_used.get(&record.id).cloned().unwrap_or_default();
            table.last_used.insert(record.id.clone(), last_used);
            table.by_digest.insert(*record.digest.bytes(), Caller { identity, ends_ms });
        }
        table.records = records;
        table
    }
}

/// Changes if and only if some credential's meaning does.
fn fingerprint(records: &[KeyRecord], tokens: &str) -> String {
    let line = |r: &KeyRecord| {
        let previous = r.previous.as_ref().map(|p| format!("{} {}", p.digest, p.until_ms));
        format!("{} {} {} {previous:?}", r.digest, r.identity().to_header(), r.ends_ms())
    };
    let mut lines: Vec<String> = records.iter().map(line).collect();
    lines.sort_unstable();
    lines.push(tokens.to_owned());
    random::hex(&Sha256::digest(lines.join("\n").as_bytes()))
}

/// Milliseconds since 1970.
#[must_use]
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
