//! The part of the embedded database that is a copy of what gateways share.

use std::collections::{HashMap, HashSet};

use redb::{Database, ReadableDatabase as _, ReadableTable as _, WriteTransaction};

use super::place::{Change, Place};
use super::{AUDIT, META, StoreError, Table};

/// Where the copy's mark is kept.
const MARK: &str = "etcd_mark";

/// How far the copy is; all zero for a database that never was one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mark {
    /// etcd's revision up to which everything is in the copy.
    pub revision: i64,
    /// Revision of the last change that a gateway made.
    pub head: i64,
}

impl Mark {
    /// The mark of a database.
    ///
    /// # Errors
    /// The database failed.
    pub fn read(database: &Database) -> Result<Self, StoreError> {
        let table = database.begin_read()?.open_table(META)?;
        Ok(table.get(MARK)?.map_or_else(Self::default, |bytes| Self::decode(bytes.value())))
    }

    /// The mark in a transaction.
    ///
    /// # Errors
    /// The database failed.
    pub fn of(write: &WriteTransaction) -> Result<Self, StoreError> {
        let table = write.open_table(META)?;
        Ok(table.get(MARK)?.map_or_else(Self::default, |bytes| Self::decode(bytes.value())))
    }

    /// Writes the mark.
    ///
    /// # Errors
    /// The database failed.
    pub fn put(self, write: &WriteTransaction) -> Result<(), StoreError> {
        let bytes = [self.revision.to_le_bytes(), self.head.to_le_bytes()].concat();
        write.open_table(META)?.insert(MARK, bytes.as_slice())?;
        Ok(())
    }

    fn decode(bytes: &[u8]) -> Self {
        let (revision, head) = bytes.split_at_checked(8).unwrap_or_default();
        let number = |bytes: &[u8]| bytes.try_into().map_or(0, i64::from_le_bytes);
        Self { revision: number(revision), head: number(head) }
    }
}

impl Change {
    /// Makes the change in a transaction.
    ///
    /// # Errors
    /// The database failed.
    pub fn apply(&self, write: &WriteTransaction) -> Result<(), StoreError> {
        let value = self.value.as_deref();
        match &self.place {
            Place::Value(name) => {
                let mut table = write.open_table(META)?;
                match value {
                    Some(value) => drop(table.insert(name.as_str(), value)?),
                    None => drop(table.remove(name.as_str())?),
                }
            }
            Place::Record(of, id) => {
                let mut table = write.open_table(of.definition())?;
                match value {
                    Some(value) => drop(table.insert(id.as_str(), value)?),
                    None => drop(table.remove(id.as_str())?),
                }
            }
            Place::Audit(seq) => {
                let mut table = write.open_table(AUDIT)?;
                match value {
                    Some(value) => drop(table.insert(seq, value)?),
                    None => drop(table.remove(seq)?),
                }
            }
        }
        Ok(())
    }
}

/// Everything in the database that gateways share.
///
/// # Errors
/// The database failed.
pub fn entries(database: &Database) -> Result<Vec<Change>, StoreError> {
    let read = database.begin_read()?;
    let mut entries = Vec::new();
    let mut add = |place: Place, bytes: &[u8]| {
        if place.is_shared() {
            entries.push(Change { place, value: Some(bytes.to_vec()) });
        }
    };
    for row in read.open_table(META)?.iter()? {
        let (name, value) = row?;
        add(Place::Value(name.value().to_owned()), value.value());
    }
    for table in Table::ALL {
        for row in read.open_table(table.definition())?.iter()? {
            let (id, value) = row?;
            add(Place::Record(table, id.value().to_owned()), value.value());
        }
    }
    for row in read.open_table(AUDIT)?.iter()? {
        let (seq, value) = row?;
        add(Place::Audit(seq.value()), value.value());
    }
    Ok(entries)
}

/// Puts `content` in the place of everything shared; returns whether that changed anything.
///
/// # Errors
/// The database failed.
pub fn replace(database: &Database, content: &[Change], mark: Mark) -> Result<bool, StoreError> {
    let before: HashMap<Place, Option<Vec<u8>>> =
        entries(database)?.into_iter().map(|entry| (entry.place, entry.value)).collect();
    let now: HashSet<&Place> = content.iter().map(|entry| &entry.place).collect();
    let gone = before.keys().filter(|place| !now.contains(place));
    let gone = gone.map(|place| Change { place: place.clone(), value: None });
    let new = content.iter().filter(|entry| before.get(&entry.place) != Some(&entry.value)).cloned();
    let write = database.begin_write()?;
    let mut has_news = false;
    for change in gone.chain(new) {
        change.apply(&write)?;
        has_news = true;
    }
    mark.put(&write)?;
    write.commit()?;
    Ok(has_news)
}
