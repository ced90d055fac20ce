//! Sessions of users: from a login until its end, over many refresh tokens.
//!
//! A refresh token is good once. Each use gives out the next one, and using an old one again
//! means that two parties have it: the session ends for both. Only digests are kept: of the
//! session's id (which therefore only holders of its refresh tokens know; access tokens carry the
//! digest) and of the one refresh token that is good now.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard};

use serde::{Deserialize, Serialize};

use crate::audit::{self, Act, Action, Actor};
use crate::keys::{Digest, random};
use crate::store::{Store, StoreError, Table};

/// Most sessions of one user; a further login ends the oldest.
pub const SESSIONS_PER_USER_MAX: usize = 32;
/// Before a refresh token, so that scanners of leaked secrets know it.
const PREFIX: &str = "tgr-";
/// Longest refresh token looked at, in bytes.
const TOKEN_BYTES_MAX: usize = 256;

/// Why there is no session.
#[derive(Debug)]
pub enum SessionError {
    /// The token is unknown, or its session has ended.
    Unknown,
    /// The token was used before; its session has been ended now.
    Reused,
    /// The system gave no random bytes.
    NoRandomness(random::NoRandomness),
    /// The store failed; nothing has changed.
    Store(StoreError),
}

impl From<StoreError> for SessionError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<random::NoRandomness> for SessionError {
    fn from(error: random::NoRandomness) -> Self {
        Self::NoRandomness(error)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    /// Digest of the session's id.
    sid: String,
    user: String,
    /// Of the password the session began with.
    stamp: String,
    /// Digest of the refresh token that is good now.
    current: String,
    /// When it began, in milliseconds since 1970.
    began_ms: u64,
    /// When it ends, in milliseconds since 1970.
    ends_ms: u64,
}

/// A session with its next refresh token.
#[derive(Debug)]
pub struct Opened {
    /// What access tokens carry.
    pub sid: String,
    /// Whose it is.
    pub user: String,
    /// The only copy of the refresh token.
    pub refresh_token: String,
}

/// All sessions: a copy in memory of what the store has. Changes block on the disk; whoever only
/// asks never waits for one.
#[derive(Debug)]
pub struct Sessions {
    store: Arc<Store>,
    table: RwLock<HashMap<String, Record>>,
    /// Changes are made one after the other.
    changing: Mutex<()>,
}

impl Sessions {
    /// The sessions of the store.
    ///
    /// # Errors
    /// The store failed.
    pub fn start(store: Arc<Store>) -> Result<Self, StoreError> {
        let records = store.all::<Record>(Table::Sessions)?;
        let table = records.into_iter().map(|record| (record.sid.clone(), record)).collect();
        Ok(Self { store, table: RwLock::new(table), changing: Mutex::default() })
    }

    /// Reads the store again, where another gateway has changed something; returns whether sessions
    /// have ended.
    ///
    /// # Errors
    /// The store failed; then nothing changes.
    pub fn reload(&self) -> Result<bool, StoreError> {
        let _one_at_a_time = self.change();
        let records = self.store.all::<Record>(Table::Sessions)?;
        let now = records.into_iter().map(|record| (record.sid.clone(), record)).collect();
        let before = std::mem::replace(&mut *self.table(), now);
        let now = self.table.read().unwrap_or_else(PoisonError::into_inner);
        Ok(before.keys().any(|sid| !now.contains_key(sid)))
    }

    /// Whether the session is still this user's, with this password.
    #[must_use]
    pub fn is_open(&self, sid: &str, user: &str, stamp: &str, now_ms: u64) -> bool {
        let record = self.get(sid);
        record.is_some_and(|r| r.user == user && r.stamp == stamp && now_ms < r.ends_ms)
    }

    /// Begins a session of `user`. Sessions that are over go, and so does the user's oldest if
    /// there are too many.
    ///
    /// # Errors
    /// The store or the random source failed.
    pub fn begin(&self, user: &str, stamp: &str, ttl_ms: u64, now_ms: u64) -> Result<Opened, SessionError> {
        let id = random::token()?;
        let sid = digest(&id);
        let refresh_token = format!("{PREFIX}{id}.{}", random::token()?);
        let current = digest(&refresh_token);
        let ends_ms = now_ms.saturating_add(ttl_ms);
        let (user, stamp) = (user.to_owned(), stamp.to_owned());
        let record =
            Record { sid: sid.clone(), user: user.clone(), stamp, current, began_ms: now_ms, ends_ms };
        let _one_at_a_time = self.change();
        let gone = superfluous(&self.table.read().unwrap_or_else(PoisonError::into_inner), &user, now_ms);
        self.store.write(|writer| {
            for sid in &gone {
                writer.put_record::<Record>(Table::Sessions, sid, None)?;
            }
            writer.put_record(Table::Sessions, &sid, Some(&record))
        })?;
        let mut table = self.table();
        table.retain(|sid, _| !gone.contains(sid));
        table.insert(sid.clone(), record);
        Ok(Opened { sid, user, refresh_token })
    }

    /// Exchanges a refresh token for the next one.
    ///
    /// # Errors
    /// See [`SessionError`]; after [`SessionError::Reused`] the auth generation must rise.
    pub fn refresh(&self, token: &str, from: &str, now_ms: u64) -> Result<Opened, SessionError> {
        let id = parse(token).ok_or(SessionError::Unknown)?;
        let sid = digest(id);
        let _one_at_a_time = self.change();
        let record = self.get(&sid).filter(|r| now_ms < r.ends_ms).ok_or(SessionError::Unknown)?;
        if record.current != digest(token) {
            let act = revocation(&record, from, now_ms);
            self.store.write(|writer| {
                writer.put_record::<Record>(Table::Sessions, &sid, None)?;
                audit::append(writer, &act)
            })?;
            self.table().remove(&sid);
            return Err(SessionError::Reused);
        }
        let refresh_token = format!("{PREFIX}{id}.{}", random::token()?);
        let next = Record { current: digest(&refresh_token), ..record };
        self.store.write(|writer| writer.put_record(Table::Sessions, &sid, Some(&next)))?;
        let user = next.user.clone();
        self.table().insert(sid.clone(), next);
        Ok(Opened { sid, user, refresh_token })
    }

    fn get(&self, sid: &str) -> Option<Record> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).get(sid).cloned()
    }

    fn table(&self) -> RwLockWriteGuard<'_, HashMap<String, Record>> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sessions that are over, and this user's oldest ones beyond what leaves room for one more.
fn superfluous(table: &HashMap<String, Record>, user: &str, now_ms: u64) -> Vec<String> {
    let over = table.values().filter(|r| r.ends_ms <= now_ms);
    let mut own: Vec<&Record> = table.values().filter(|r| r.user == user && now_ms < r.ends_ms).collect();
    own.sort_unstable_by_key(|record| std::cmp::Reverse(record.began_ms));
    let surplus = own.into_iter().skip(SESSIONS_PER_USER_MAX.saturating_sub(1));
    over.chain(surplus).map(|record| record.sid.clone()).collect()
}

fn revocation(record: &Record, from: &str, now_ms: u64) -> Act {
    Act {
        actor: Actor {
            key: format!("user.{}", record.user),
            tenant: None,
            role: None,
            from: from.to_owned(),
        },
        action: Action::SessionRevoked,
        target: record.sid.clone(),
        before: serde_json::json!({"user": record.user, "began_ms": record.began_ms}),
        after: serde_json::Value::Null,
        at_ms: now_ms,
    }
}

/// The session's id in a refresh token.
fn parse(token: &str) -> Option<&str> {
    let rest = token.strip_prefix(PREFIX).filter(|_| token.len() <= TOKEN_BYTES_MAX)?;
    rest.split_once('.').map(|(id, _)| id)
}

fn digest(text: &str) -> String {
    random::hex(Digest::of(text).bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sessions() -> (tempfile::TempDir, Arc<Store>, Sessions) {
        let folder = tempfile::tempdir().expect("folder");
        let store = Arc::new(Store::open(&folder.path().join("state.redb")).expect("opens"));
        let sessions = Sessions::start(store.clone()).expect("starts");
        (folder, store, sessions)
    }

    #[test]
    fn a_refresh_token_is_good_once_and_its_second_use_ends_the_session() {
        let (_folder, store, sessions) = sessions();
        let first = sessions.begin("alice", "s", 1000, 0).expect("begins");
        let second = sessions.refresh(&first.refresh_token, "::1", 1).expect("refreshed");
        assert_eq!((second.sid.as_str(), second.user.as_str()), (first.sid.as_str(), "alice"));
        assert!(sessions.is_open(&first.sid, "alice", "s", 2));
        let again = Sessions::start(store.clone()).expect("a restart forgets nothing");
        assert!(matches!(again.refresh(&first.refresh_token, "::1", 2), Err(SessionError::Reused)));
        assert!(!again.is_open(&first.sid, "alice", "s", 2));
        assert!(matches!(again.refresh(&second.refresh_token, "::1", 3), Err(SessionError::Unknown)));
        let log = serde_json::to_string(&audit::page(&store, 9, None).expect("reads")).expect("JSON");
        assert!(log.contains("session_revoked") && log.contains("user.alice") && log.contains("::1"));
        assert!(!log.contains(&first.refresh_token[..20]));
    }

    #[test]
    fn what_is_no_token_of_a_session_ends_none() {
        let (_folder, _store, sessions) = sessions();
        let opened = sessions.begin("alice", "s", 1000, 0).expect("begins");
        let long = format!("tgr-{}.x", "a".repeat(TOKEN_BYTES_MAX));
        let by_sid = format!("tgr-{}.x", opened.sid);
        for bad in ["", "tgr-", "tgr-.", "x", &long, &by_sid, &opened.refresh_token[4..]] {
            assert!(matches!(sessions.refresh(bad, "", 1), Err(SessionError::Unknown)), "{bad}");
        }
        assert!(sessions.is_open(&opened.sid, "alice", "s", 999));
        assert!(!sessions.is_open(&opened.sid, "bob", "s", 1), "another user's");
        assert!(!sessions.is_open(&opened.sid, "alice", "t", 1), "another password's");
        assert!(!sessions.is_open(&opened.sid, "alice", "s", 1000), "over");
        assert!(matches!(sessions.refresh(&opened.refresh_token, "", 1000), Err(SessionError::Unknown)));
    }

    #[test]
    fn sessions_of_a_user_are_bounded_and_dead_ones_go() {
        let (_folder, store, sessions) = sessions();
        let first = sessions.begin("alice", "s", 9000, 0).expect("begins");
        let other = sessions.begin("bob", "s", 10, 0).expect("begins");
        for at in 0..SESSIONS_PER_USER_MAX as u64 {
            sessions.begin("alice", "s", 9000, 100 + at).expect("begins");
        }
        assert!(!sessions.is_open(&first.sid, "alice", "s", 200), "the oldest");
        assert!(sessions.get(&other.sid).is_none(), "over");
        assert_eq!(store.all::<Record>(Table::Sessions).expect("reads").len(), SESSIONS_PER_USER_MAX);
    }
}
