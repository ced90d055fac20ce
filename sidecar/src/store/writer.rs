//! One transaction on the store.

use std::cell::RefCell;

use redb::{ReadableTable as _, WriteTransaction};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::place::{Change, Place};
use super::{AUDIT, META, StoreError, Table, decode, encode};

/// One transaction: all of it is kept, or nothing.
pub struct Writer<'a> {
    write: &'a WriteTransaction,
    /// What of it other gateways are to have too.
    shared: RefCell<Vec<Change>>,
}

impl std::fmt::Debug for Writer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Writer")
    }
}

impl Writer<'_> {
    /// Reads the value called `name`, if there is one.
    ///
    /// # Errors
    /// The database failed, or the value is not a `T`.
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StoreError> {
        let table = self.write.open_table(META)?;
        table.get(name)?.map(|value| decode(name, value.value())).transpose()
    }

    /// Writes the value called `name`.
    ///
    /// # Errors
    /// The database failed.
    pub fn put<T: Serialize>(&self, name: &str, value: &T) -> Result<(), StoreError> {
        self.change(Place::Value(name.to_owned()), Some(encode(name, value)?))
    }

    /// Removes the value called `name`.
    ///
    /// # Errors
    /// The database failed.
    pub fn remove(&self, name: &str) -> Result<(), StoreError> {
        self.change(Place::Value(name.to_owned()), None)
    }

    /// Writes the record `id`, or removes it.
    ///
    /// # Errors
    /// The database failed.
    pub fn put_record<T: Serialize>(
        &self,
        table: Table,
        id: &str,
        record: Option<&T>,
    ) -> Result<(), StoreError> {
        let value = record.map(|record| encode(id, record)).transpose()?;
        self.change(Place::Record(table, id.to_owned()), value)
    }

    /// The audit log's entry `seq`.
    ///
    /// # Errors
    /// The database failed.
    pub fn bytes(&self, seq: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let table = self.write.open_table(AUDIT)?;
        Ok(table.get(seq)?.map(|bytes| bytes.value().to_vec()))
    }

    /// Writes the audit log's entry `seq`.
    ///
    /// # Errors
    /// The database failed.
    pub fn put_bytes(&self, seq: u64, bytes: &[u8]) -> Result<(), StoreError> {
        self.change(Place::Audit(seq), Some(bytes.to_vec()))
    }

    /// Removes the audit log's entry `seq`.
    ///
    /// # Errors
    /// The database failed.
    pub fn remove_bytes(&self, seq: u64) -> Result<(), StoreError> {
        self.change(Place::Audit(seq), None)
    }

    /// `value` as it is stored.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn encode<T: Serialize>(&self, value: &T) -> Result<Vec<u8>, StoreError> {
        encode(Table::AUDIT_NAME, value)
    }

    /// Reads the record `id`, if there is one.
    ///
    /// # Errors
    /// The database failed, or the record is not a `T`.
    pub fn record<T: DeserializeOwned>(&self, table: Table, id: &str) -> Result<Option<T>, StoreError> {
        let table = self.write.open_table(table.definition())?;
        table.get(id)?.map(|value| decode(id, value.value())).transpose()
    }

    /// Whether the table has a record `id`.
    ///
    /// # Errors
    /// The database failed.
    pub fn has_record(&self, table: Table, id: &str) -> Result<bool, StoreError> {
        Ok(self.write.open_table(table.definition())?.get(id)?.is_some())
    }

    fn change(&self, place: Place, value: Option<Vec<u8>>) -> Result<(), StoreError> {
        let change = Change { place, value };
        change.apply(self.write)?;
        if change.place.is_shared() {
            self.shared.borrow_mut().push(change);
        }
        Ok(())
    }
}

impl<'a> Writer<'a> {
    pub(super) fn new(write: &'a WriteTransaction) -> Self {
        Self { write, shared: RefCell::default() }
    }

    /// What other gateways are to have too; of several changes of one entry, the last.
    pub(super) fn into_shared(self) -> Vec<Change> {
        let mut last: Vec<Change> = Vec::new();
        for change in self.shared.into_inner() {
            last.retain(|earlier| earlier.place != change.place);
            last.push(change);
        }
        last
    }
}
