//! All partitions under one bound on memory.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::entry::{Entry, EntryId, Found, PartitionKey};
use super::partition::Partition;
use super::rows::Rows;
use super::worth::Worth;

/// Entries that are looked at to find the one to give up, as Redis samples keys for eviction.
const EVICTION_SAMPLE: usize = 16;
/// Memory of an entry besides its vector and its value: maps, counters and pointers, in bytes.
const OVERHEAD_BYTES: usize = 240;

/// What the index may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Components of a vector.
    pub dimension: usize,
    /// Memory of vectors, entries and their values, in bytes.
    pub bytes_max: usize,
}

/// How full the index is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Stored entries.
    pub entries: usize,
    /// Partitions with an entry.
    pub partitions: usize,
    /// Memory taken, in bytes.
    pub bytes: usize,
    /// Entries given up for others since the start.
    pub evicted: u64,
}

type Shared<T> = Arc<RwLock<Partition<T>>>;

/// Nearest stored prompts, by partition. Searches of one partition go on beside each other; an
/// insert or a removal keeps them waiting for microseconds, and for some ten milliseconds on the few
/// occasions when a large partition has grown fourfold.
#[derive(Debug)]
pub struct Index<T> {
    limits: Limits,
    partitions: RwLock<HashMap<PartitionKey, Shared<T>>>,
    roster: Mutex<Roster>,
    bytes: AtomicUsize,
    evicted: AtomicU64,
    /// Bits of the priority of the last entry that was given up.
    floor: AtomicU64,
}

/// Every entry and where it lies, in an order one can draw from.
#[derive(Debug, Default)]
struct Roster {
    ids: Vec<EntryId>,
    places: HashMap<EntryId, (usize, PartitionKey)>,
    next: u64,
}

impl Roster {
    fn add(&mut self, partition: PartitionKey) -> EntryId {
        self.next += 1;
        let id = EntryId(self.next);
        self.places.insert(id, (self.ids.len(), partition));
        self.ids.push(id);
        id
    }

    fn remove(&mut self, id: EntryId) -> Option<PartitionKey> {
        let (place, partition) = self.places.remove(&id)?;
        self.ids.swap_remove(place);
        if let Some(moved) = self.ids.get(place)
            && let Some(entry) = self.places.get_mut(moved)
        {
            entry.0 = place;
        }
        Some(partition)
    }

    /// Some entries, spread evenly from a place that changes with every insert.
    fn sample(&self) -> Vec<(EntryId, PartitionKey)> {
        let len = self.ids.len();
        let start = (self.next.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16) as usize;
        let step = (len / EVICTION_SAMPLE).max(1);
        let ids = (0..EVICTION_SAMPLE.min(len)).filter_map(|i| self.ids.get((start + i * step) % len));
        ids.filter_map(|id| Some((*id, self.places.get(id)?.1))).collect()
    }
}

impl<T> Index<T> {
    /// An empty index.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            partitions: RwLock::default(),
            roster: Mutex::default(),
            bytes: AtomicUsize::new(0),
            evicted: AtomicU64::new(0),
            floor: AtomicU64::new(0.0_f64.to_bits()),
        }
    }

    /// Memory that an entry takes besides the bytes its [`Worth`] states.
    #[must_use]
    pub const fn entry_bytes(dimension: usize) -> usize {
        Rows::row_bytes(dimension) + OVERHEAD_BYTES
    }

    /// The `k` entries nearest to a unit vector that have not expired, the nearest first.
    #[must_use]
    pub fn search(&self, partition: &PartitionKey, vector: &[f32], k: usize, now_ms: u64) -> Vec<Found<T>> {
        let Some(partition) = self.partition(partition).filter(|_| vector.len() == self.limits.dimension)
        else {
            return Vec::new();
        };
        let partition = partition.read().unwrap_or_else(PoisonError::into_inner);
        partition.nearest(vector, k, now_ms)
    }

    /// Stores an entry under a unit vector and gives up others if that takes too much memory.
    /// `None` if the vector is of another dimension or the entry alone is over the bound.
    pub fn insert(
        &self,
        partition: PartitionKey,
        vector: &[f32],
        value: Arc<T>,
        worth: Worth,
        now_ms: u64,
    ) -> Option<EntryId> {
        let bytes = worth.bytes + Self::entry_bytes(self.limits.dimension);
        if vector.len() != self.limits.dimension || bytes > self.limits.bytes_max {
            return None;
        }
        while self.bytes.load(Ordering::Relaxed) + bytes > self.limits.bytes_max {
            if !self.evict(now_ms) {
                return None;
            }
        }
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let entry = |id| Entry::new(id, value, worth, self.floor());
        // The map is held so that the partition cannot be dropped as empty meanwhile.
        let partitions = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = partitions.get(&partition) {
            return Some(self.append(shared, partition, vector, entry));
        }
        drop(partitions);
        let mut partitions = self.partitions.write().unwrap_or_else(PoisonError::into_inner);
        let empty = || Arc::new(RwLock::new(Partition::new(self.limits.dimension)));
        let shared = partitions.entry(partition).or_insert_with(empty);
        Some(self.append(shared, partition, vector, entry))
    }

    fn append(
        &self,
        shared: &RwLock<Partition<T>>,
        key: PartitionKey,
        vector: &[f32],
        entry: impl FnOnce(EntryId) -> Entry<T>,
    ) -> EntryId {
        let mut rows = shared.write().unwrap_or_else(PoisonError::into_inner);
        // Named while the partition is held, so that nobody finds the id before the entry.
        let id = self.roster.lock().unwrap_or_else(PoisonError::into_inner).add(key);
        rows.insert(vector, entry(id));
        id
    }

    /// Counts a hit; what is used is kept longer.
    pub fn hit(&self, partition: &PartitionKey, id: EntryId) {
        if let Some(shared) = self.partition(partition) {
            let rows = shared.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(entry) = rows.get(id) {
                entry.hit(self.floor());
            }
        }
    }

    /// Removes an entry; the next search does not find it.
    pub fn remove(&self, id: EntryId) -> Option<Arc<T>> {
        let partition = self.roster.lock().unwrap_or_else(PoisonError::into_inner).remove(id)?;
        let shared = self.partition(&partition)?;
        let (removed, empty) = {
            let mut rows = shared.write().unwrap_or_else(PoisonError::into_inner);
            (rows.remove(id), rows.entries().is_empty())
        };
        if empty {
            self.drop_if_empty(&partition);
        }
        let entry = removed?;
        let bytes = entry.worth.bytes + Self::entry_bytes(self.limits.dimension);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        Some(entry.value)
    }

    /// Removes every entry for which this holds; returns how many.
    pub fn remove_where(&self, mut unwanted: impl FnMut(&PartitionKey, &T) -> bool) -> usize {
        let mut ids = Vec::new();
        let all: Vec<_> = {
            let partitions = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
            partitions.iter().map(|(key, shared)| (*key, shared.clone())).collect()
        };
        for (key, shared) in all {
            let rows = shared.read().unwrap_or_else(PoisonError::into_inner);
            ids.extend(
                rows.entries().iter().filter(|entry| unwanted(&key, &entry.value)).map(|entry| entry.id),
            );
        }
        ids.into_iter().filter(|id| self.remove(*id).is_some()).count()
    }

    /// How full it is.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            entries: self.roster.lock().unwrap_or_else(PoisonError::into_inner).ids.len(),
            partitions: self.partitions.read().unwrap_or_else(PoisonError::into_inner).len(),
            bytes: self.bytes.load(Ordering::Relaxed),
            evicted: self.evicted.load(Ordering::Relaxed),
        }
    }

    fn partition(&self, key: &PartitionKey) -> Option<Shared<T>> {
        self.partitions.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn drop_if_empty(&self, key: &PartitionKey) {
        let mut partitions = self.partitions.write().unwrap_or_else(PoisonError::into_inner);
        let empty = partitions
            .get(key)
            .is_some_and(|shared| shared.read().unwrap_or_else(PoisonError::into_inner).entries().is_empty());
        if empty {
            partitions.remove(key);
        }
    }

    fn floor(&self) -> f64 {
        f64::from_bits(self.floor.load(Ordering::Relaxed))
    }

    /// Gives up the least valuable of a sample; whether there was one.
    fn evict(&self, now_ms: u64) -> bool {
        let sample = self.roster.lock().unwrap_or_else(PoisonError::into_inner).sample();
        let priorities = sample.into_iter().filter_map(|(id, partition)| {
            let shared = self.partition(&partition)?;
            let rows = shared.read().unwrap_or_else(PoisonError::into_inner);
            Some((rows.get(id)?.priority(now_ms), id))
        });
        let Some((priority, id)) = priorities.min_by(|(a, _), (b, _)| a.total_cmp(b)) else {
            return false;
        };
        if priority.is_finite() {
            self.floor.store(priority.to_bits(), Ordering::Relaxed);
        }
        let removed = self.remove(id).is_some();
        self.evicted.fetch_add(u64::from(removed), Ordering::Relaxed);
        removed
    }
}
