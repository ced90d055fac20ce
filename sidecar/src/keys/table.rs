//! The keys in force, by what is asked of them. One change costs the same with any number of keys.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest as _, Sha256};
use tidegate_core::wire::Identity;

use super::random::hex;
use super::{Digest, KeyRecord, Previous, Source};

/// Whom a digest stands for, and until when.
#[derive(Debug)]
struct Caller {
    identity: Identity,
    ends_ms: u64,
}

/// Changes if and only if some credential's meaning does: the sum of the digests of all records,
/// so that records can be added and taken away one by one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fingerprint([u64; 4]);

impl Fingerprint {
    fn of(record: &KeyRecord) -> Self {
        let previous = record.previous.as_ref().map(|p| format!("{} {}", p.digest, p.until_ms));
        let identity = record.identity().to_header();
        let line = format!("{} {identity} {} {previous:?}", record.digest, record.ends_ms());
        let digest: [u8; 32] = Sha256::digest(line.as_bytes()).into();
        let (words, _) = digest.as_chunks::<8>();
        let mut lanes = [0; 4];
        lanes.iter_mut().zip(words).for_each(|(lane, word)| *lane = u64::from_le_bytes(*word));
        Self(lanes)
    }

    fn with(mut self, other: Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(lane, other)| *lane = lane.wrapping_add(other));
        self
    }

    fn without(mut self, other: Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(lane, other)| *lane = lane.wrapping_sub(other));
        self
    }

    /// As text, with what else callers' validity hangs on.
    pub fn text(self, tokens: &str) -> String {
        let mut hash = Sha256::new();
        self.0.iter().for_each(|lane| hash.update(lane.to_le_bytes()));
        hash.update(tokens);
        hex(&hash.finalize())
    }
}

/// All keys.
#[derive(Debug, Default)]
pub struct Table {
    by_digest: HashMap<[u8; 32], Caller>,
    /// Allow-lists by the scope in their callers' identities, and how many keys have each.
    allowed: HashMap<String, (Arc<[String]>, usize)>,
    /// By id, in milliseconds since 1970; 0 for never.
    last_used: HashMap<String, AtomicU64>,
    records: Vec<KeyRecord>,
    stored: usize,
    fingerprint: Fingerprint,
    /// What the validity of tokens hangs on.
    pub tokens: String,
    /// Rises whenever a credential may have lost its validity.
    pub generation: u64,
}

impl Table {
    /// A table of these; of two with one secret, the first counts. When keys were used is taken
    /// over from the last table.
    pub fn new(records: Vec<KeyRecord>, tokens: &str, last: &Self) -> Self {
        let mut table = Self { tokens: tokens.to_owned(), ..Self::default() };
        // The last to be put in counts.
        records.into_iter().rev().for_each(|record| table.insert(record));
        table.records.reverse();
        for (id, at_ms) in &table.last_used {
            at_ms.store(last.last_used_ms(id).unwrap_or(0), Ordering::Relaxed);
        }
        table
    }

    /// How the fingerprint is when `after` stands in the place of `before`.
    pub fn fingerprint(&self, before: Option<&KeyRecord>, after: Option<&KeyRecord>) -> String {
        let of = |record: Option<&KeyRecord>| record.map(Fingerprint::of).unwrap_or_default();
        self.fingerprint.without(of(before)).with(of(after)).text(&self.tokens)
    }

    /// Puts `after` in the place of `before`.
    pub fn change(&mut self, before: Option<&KeyRecord>, after: Option<KeyRecord>) {
        let used_ms = before.and_then(|old| self.last_used_ms(&old.id));
        if let Some(old) = before {
            self.remove(old);
        }
        if let Some(record) = after {
            let id = record.id.clone();
            self.insert(record);
            if let (Some(used_ms), Some(last)) = (used_ms, self.last_used.get(&id)) {
                last.store(used_ms, Ordering::Relaxed);
            }
        }
    }

    fn insert(&mut self, record: KeyRecord) {
        let (identity, ends_ms) = (record.identity(), record.ends_ms());
        if let Some(Previous { digest, until_ms }) = &record.previous {
            let caller = Caller { identity: identity.clone(), ends_ms: ends_ms.min(*until_ms) };
            self.by_digest.insert(*digest.bytes(), caller);
        }
        if let (Some(scope), Some(models)) = (&identity.scope, &record.allowed_models) {
            let list = self.allowed.entry(scope.clone()).or_insert_with(|| (models.as_slice().into(), 0));
            list.1 += 1;
        }
        self.last_used.entry(record.id.clone()).or_default();
        self.by_digest.insert(*record.digest.bytes(), Caller { identity, ends_ms });
        self.stored += usize::from(record.source == Source::Store);
        self.fingerprint = self.fingerprint.with(Fingerprint::of(&record));
        self.records.push(record);
    }

    fn remove(&mut self, old: &KeyRecord) {
        let Some(place) = self.records.iter().position(|record| record == old) else { return };
        self.records.remove(place);
        self.by_digest.remove(old.digest.bytes());
        if let Some(previous) = &old.previous {
            self.by_digest.remove(previous.digest.bytes());
        }
        if let Some(scope) = old.identity().scope
            && let Some(list) = self.allowed.get_mut(&scope)
        {
            list.1 -= 1;
            if list.1 == 0 {
                self.allowed.remove(&scope);
            }
        }
        self.last_used.remove(&old.id);
        self.stored -= usize::from(old.source == Source::Store);
        self.fingerprint = self.fingerprint.without(Fingerprint::of(old));
    }

    /// Who has this digest, and until when, in milliseconds since 1970.
    pub fn find(&self, digest: &Digest) -> Option<(&Identity, u64)> {
        self.by_digest.get(digest.bytes()).map(|caller| (&caller.identity, caller.ends_ms))
    }

    /// The models of a scope.
    pub fn models(&self, scope: &str) -> Option<Arc<[String]>> {
        self.allowed.get(scope).map(|(models, _)| models.clone())
    }

    /// Notes that a key was used.
    pub fn used(&self, id: &str, now_ms: u64) {
        if let Some(last) = self.last_used.get(id) {
            last.fetch_max(now_ms, Ordering::Relaxed);
        }
    }

    /// When a key was last used, if it was.
    pub fn last_used_ms(&self, id: &str) -> Option<u64> {
        let at_ms = self.last_used.get(id)?.load(Ordering::Relaxed);
        (at_ms > 0).then_some(at_ms)
    }

    /// All keys.
    pub fn records(&self) -> &[KeyRecord] {
        &self.records
    }

    /// How many were made over the admin API.
    pub const fn stored(&self) -> usize {
        self.stored
    }
}
