//! Entries and what a search returns of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::worth::Worth;

/// SHA-256 of everything that must be equal before similarity counts.
pub type PartitionKey = [u8; 32];

/// Names an entry for as long as the process lives; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryId(pub(super) u64);

/// A stored prompt near the one asked for.
#[derive(Debug, Clone)]
pub struct Found<T> {
    /// Which one.
    pub id: EntryId,
    /// Cosine of the two prompts, to four digits.
    pub similarity: f32,
    /// What was stored with it.
    pub value: Arc<T>,
}

/// One entry beside its vector.
#[derive(Debug)]
pub(super) struct Entry<T> {
    pub(super) id: EntryId,
    pub(super) value: Arc<T>,
    pub(super) worth: Worth,
    hits: AtomicU32,
    /// Bits of the priority at its last use.
    priority: AtomicU64,
}

impl<T> Entry<T> {
    pub(super) fn new(id: EntryId, value: Arc<T>, worth: Worth, floor: f64) -> Self {
        let priority = AtomicU64::new(worth.priority(0, floor).to_bits());
        Self { id, value, worth, hits: AtomicU32::new(0), priority }
    }

    pub(super) fn hit(&self, floor: f64) {
        let hits = self.hits.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        self.priority.store(self.worth.priority(hits, floor).to_bits(), Ordering::Relaxed);
    }

    /// What it is worth now; an expired entry is worth nothing.
    pub(super) fn priority(&self, now_ms: u64) -> f64 {
        if now_ms >= self.worth.expires_at_ms {
            return f64::NEG_INFINITY;
        }
        f64::from_bits(self.priority.load(Ordering::Relaxed))
    }
}
