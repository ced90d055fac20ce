//! One partition: rows of vectors and the entries they belong to.

use std::collections::HashMap;

use super::entry::{Entry, EntryId, Found};
use super::rows::Rows;

/// Vectors and entries under one key, row by row.
#[derive(Debug)]
pub(super) struct Partition<T> {
    rows: Rows,
    entries: Vec<Entry<T>>,
    places: HashMap<EntryId, usize>,
}

impl<T> Partition<T> {
    pub(super) fn new(dimension: usize) -> Self {
        Self { rows: Rows::new(dimension), entries: Vec::new(), places: HashMap::new() }
    }

    pub(super) fn insert(&mut self, vector: &[f32], entry: Entry<T>) {
        let row = self.rows.push(vector);
        self.places.insert(entry.id, row);
        self.entries.push(entry);
    }

    /// The removed entry, if it was there.
    pub(super) fn remove(&mut self, id: EntryId) -> Option<Entry<T>> {
        let row = self.places.remove(&id)?;
        self.rows.swap_remove(row);
        let entry = self.entries.swap_remove(row);
        if let Some(moved) = self.entries.get(row) {
            self.places.insert(moved.id, row);
        }
        Some(entry)
    }

    pub(super) fn get(&self, id: EntryId) -> Option<&Entry<T>> {
        self.entries.get(*self.places.get(&id)?)
    }

    pub(super) fn entries(&self) -> &[Entry<T>] {
        &self.entries
    }

    pub(super) fn nearest(&self, query: &[f32], k: usize, now_ms: u64) -> Vec<Found<T>> {
        let rows = self.rows.nearest(query, k).into_iter();
        let live = rows.filter_map(|(row, similarity)| {
            let entry = self.entries.get(row).filter(|entry| now_ms < entry.worth.expires_at_ms)?;
            Some(Found { id: entry.id, similarity, value: entry.value.clone() })
        });
        live.collect()
    }
}
