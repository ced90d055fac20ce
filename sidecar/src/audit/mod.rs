//! The audit log: every administrative act, in the order in which they happened.
//!
//! Entries are kept as they were written, each with SHA-256 over the hash of the one before it
//! and its own bytes, and the last hash stands beside them. Changing, removing or inserting an
//! entry breaks the chain, and [`verify`] says where. Somebody who can rewrite the whole file can
//! also rewrite the whole chain: each hash is logged as well, so that a copy of the log shows it.
//!
//! An act is written in the same transaction as the change it is about: neither exists without
//! the other.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tidegate_core::wire::{Identity, Role};

use crate::keys::random::hex;
use crate::store::{Store, StoreError, Table, Writer};

/// Most entries that are kept; beyond it the oldest goes for each new one.
pub const ENTRIES_MAX: u64 = 100_000;
/// Most entries of one answer.
pub const PAGE_MAX: usize = 1000;
const HEAD: &str = "audit_head";
const HASH_BYTES: usize = 32;
const ZERO: [u8; HASH_BYTES] = [0; HASH_BYTES];

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// A key was made.
    KeyCreated,
    /// A key was taken out of force.
    KeyRevoked,
    /// A key got a new secret.
    KeyRotated,
    /// Limits were changed at run time.
    LimitsChanged,
    /// Limits went back to the configuration's.
    LimitsReset,
    /// A provider was added at run time.
    ProviderAdded,
    /// A provider was changed at run time.
    ProviderChanged,
    /// A provider was removed at run time.
    ProviderRemoved,
    /// Routing was changed at run time.
    RoutingChanged,
    /// The configuration file was read again and put in force.
    ConfigReloaded,
    /// A policy on a slice of the traffic was made or changed.
    PolicyChanged,
    /// A policy on a slice of the traffic was removed.
    PolicyDeleted,
    /// A refresh token was used twice, so its session was ended.
    SessionRevoked,
    /// Answers were taken out of the semantic cache.
    CachePurged,
}

/// Who does something, and from where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// Id of the key or user; `system` for the gateway itself.
    pub key: String,
    /// Its tenant, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Its role, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// The address, or how else it came.
    pub from: String,
}

impl Actor {
    /// A caller of the admin API.
    #[must_use]
    pub fn caller(identity: Identity, from: String) -> Self {
        let Identity { tenant, key, role, scope: _ } = identity;
        Self { key: key.unwrap_or_default(), tenant: Some(tenant), role: Some(role), from }
    }

    /// The gateway itself, because of `what`.
    #[must_use]
    pub fn system(what: &str) -> Self {
        Self { key: "system".to_owned(), tenant: None, role: None, from: what.to_owned() }
    }
}

/// An act that is about to happen.
#[derive(Debug, Clone)]
pub struct Act {
    /// Who does it.
    pub actor: Actor,
    /// What.
    pub action: Action,
    /// To what, by its id.
    pub target: String,
    /// How it was, without secrets; null if it was not.
    pub before: Value,
    /// How it will be, without secrets; null if it will not be.
    pub after: Value,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Entry {
    seq: u64,
    at_ms: u64,
    actor: Actor,
    action: Action,
    target: String,
    before: Value,
    after: Value,
}

/// An entry with its place in the chain.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Shown {
    #[serde(flatten)]
    entry: Entry,
    previous: String,
    hash: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    seq: u64,
    hash: String,
}

/// What [`verify`] found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Whether the chain is whole.
    pub ok: bool,
    /// Entries looked at.
    pub entries: u64,
    /// Hash of the last entry.
    pub head: String,
    /// Sequence number of the first entry that does not fit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broken_at: Option<u64>,
}

/// Writes `act` as the next entry of the transaction.
///
/// # Errors
/// The database failed.
pub fn append(writer: &Writer<'_>, act: &Act) -> Result<(), StoreError> {
    let Act { actor, action, target, before, after, at_ms } = act.clone();
    let head = writer.get::<Head>(HEAD)?.unwrap_or_default();
    let previous = match writer.bytes(head.seq)?.as_deref().and_then(split) {
        Some((hash, ..)) => hash,
        None => ZERO,
    };
    let seq = head.seq.saturating_add(1);
    let entry = Entry { seq, at_ms, actor, action, target, before, after };
    let json = writer.encode(&entry)?;
    let hash = chained(&previous, &json);
    writer.put_bytes(seq, &[hash.as_slice(), &previous, &json].concat())?;
    if let Some(oldest) = seq.checked_sub(ENTRIES_MAX) {
        writer.remove_bytes(oldest)?;
    }
    let hash = hex(&hash);
    tracing::info!(seq, action = ?entry.action, target = %entry.target, by = %entry.actor.key, %hash, "audit");
    writer.put(HEAD, &Head { seq, hash })
}

/// The last `limit` entries before the one numbered `before`, newest first.
///
/// # Errors
/// The database failed, or an entry is none.
pub fn page(store: &Store, limit: usize, before: Option<u64>) -> Result<Vec<Shown>, StoreError> {
    let rows = store.bytes_before(before.unwrap_or(u64::MAX), limit.min(PAGE_MAX))?;
    rows.into_iter().map(|(seq, bytes)| shown(seq, &bytes)).collect()
}

fn shown(seq: u64, bytes: &[u8]) -> Result<Shown, StoreError> {
    let (hash, previous, json) = split(bytes).unwrap_or((ZERO, ZERO, &[]));
    let entry = Store::decode(&format!("{} {seq}", Table::AUDIT_NAME), json)?;
    Ok(Shown { entry, previous: hex(&previous), hash: hex(&hash) })
}

/// Follows the chain from the oldest kept entry to the last.
///
/// # Errors
/// The database failed.
pub fn verify(store: &Store) -> Result<Verdict, StoreError> {
    let head = store.get::<Head>(HEAD)?.unwrap_or_default();
    let first = head.seq.saturating_sub(ENTRIES_MAX).saturating_add(1);
    let (mut next, mut last, mut broken_at) = (first, None, None);
    store.each_bytes(|seq, bytes| {
        let fits = split(bytes).filter(|(hash, previous, json)| {
            seq == next
                && last.is_none_or(|last: [u8; HASH_BYTES]| last == *previous)
                && (seq != 1 || *previous == ZERO)
                && chained(previous, json) == *hash
                && serde_json::from_slice::<Entry>(json).is_ok_and(|entry| entry.seq == seq)
        });
        match fits {
            Some((hash, ..)) => (next, last) = (next.saturating_add(1), Some(hash)),
            None => broken_at = Some(next.min(seq)),
        }
        broken_at.is_none()
    })?;
    let entries = next.saturating_sub(first);
    let ends_well =
        next == head.seq.saturating_add(1) && last.map_or_else(String::new, |l| hex(&l)) == head.hash;
    if broken_at.is_none() && !ends_well {
        broken_at = Some(next);
    }
    Ok(Verdict { ok: broken_at.is_none(), entries, head: head.hash, broken_at })
}

type Parts<'a> = ([u8; HASH_BYTES], [u8; HASH_BYTES], &'a [u8]);

fn split(bytes: &[u8]) -> Option<Parts<'_>> {
    let (hash, rest) = bytes.split_first_chunk()?;
    let (previous, json) = rest.split_first_chunk()?;
    Some((*hash, *previous, json))
}

fn chained(previous: &[u8; HASH_BYTES], json: &[u8]) -> [u8; HASH_BYTES] {
    Sha256::new().chain_update(previous).chain_update(json).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().expect("folder");
        let store = Store::open(&folder.path().join("state.redb")).expect("opens");
        (folder, store)
    }

    fn act(store: &Store, target: &str) {
        let act = Act {
            actor: Actor::system("test"),
            action: Action::KeyCreated,
            target: target.to_owned(),
            before: Value::Null,
            after: serde_json::json!({"rate": 0.1}),
            at_ms: 7,
        };
        store.write(|writer| append(writer, &act)).expect("writes");
    }

    #[test]
    fn entries_are_chained_and_come_newest_first() {
        let (_folder, store) = store();
        assert_eq!(verify(&store).expect("reads").entries, 0);
        assert!(verify(&store).expect("reads").ok);
        ["a", "b", "c"].iter().for_each(|target| act(&store, target));
        let all = page(&store, 10, None).expect("reads");
        assert_eq!(all.iter().map(|s| s.entry.target.as_str()).collect::<Vec<_>>(), ["c", "b", "a"]);
        assert_eq!(all[0].previous, all[1].hash);
        assert_eq!(page(&store, 1, Some(3)).expect("reads")[0].entry.target, "b");
        let verdict = verify(&store).expect("reads");
        assert_eq!((verdict.ok, verdict.entries, verdict.head), (true, 3, all[0].hash.clone()));
    }

    #[test]
    fn every_kind_of_tampering_shows_where_it_begins() {
        let rewritten = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(&bytes[64..]).replace("\"b\"", "\"x\"");
            let previous: [u8; 32] = bytes[32..64].try_into().expect("32");
            let hash = chained(&previous, text.as_bytes());
            [hash.as_slice(), &previous, text.as_bytes()].concat()
        };
        type Tamper<'a> = Box<dyn Fn(&Writer<'_>) -> Result<(), StoreError> + 'a>;
        let cases: [(&str, u64, Tamper<'_>); 5] = [
            (
                "changed",
                2,
                Box::new(|w| {
                    let mut bytes = w.bytes(2)?.expect("there");
                    *bytes.last_mut().expect("byte") = b' ';
                    w.put_bytes(2, &bytes)
                }),
            ),
            (
                "changed with its hash",
                3,
                Box::new(|w| w.put_bytes(2, &rewritten(&w.bytes(2)?.expect("there")))),
            ),
            ("removed", 2, Box::new(|w| w.remove_bytes(2))),
            ("removed at the front", 1, Box::new(|w| w.remove_bytes(1))),
            ("removed at the end", 3, Box::new(|w| w.remove_bytes(3))),
        ];
        for (what, place, tamper) in cases {
            let (_folder, store) = store();
            ["a", "b", "c"].iter().for_each(|target| act(&store, target));
            store.write(tamper).expect("writes");
            let verdict = verify(&store).expect("reads");
            assert_eq!((verdict.ok, verdict.broken_at), (false, Some(place)), "{what}");
        }
    }
}
