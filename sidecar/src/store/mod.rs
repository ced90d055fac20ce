//! State that survives a restart: keys made at run time, the auth generation, and limits that
//! were changed over the admin API. Embedded: one redb file, one process.

mod token;

use std::path::{Path, PathBuf};

use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use token::{TokenError, internal_token};

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const KEYS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("keys");
/// Pages that redb may keep in memory, in bytes; the state is small.
const CACHE_BYTES: usize = 4 << 20;

/// Why state could not be read or written.
#[derive(Debug)]
pub enum StoreError {
    /// The folder or the file cannot be opened.
    Open {
        /// The file.
        path: PathBuf,
        /// What the system or the database says.
        cause: String,
    },
    /// The database failed.
    Database(redb::Error),
    /// An entry is not what this version writes.
    Corrupt {
        /// Its key.
        entry: String,
        /// What is wrong with it.
        cause: serde_json::Error,
    },
}

impl std::fmt::Display for StoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Open { path, cause } => write!(
                f,
                "cannot open the store {}: {cause}; set store.path to a file this user may write, \
                 which no other tidegate has open",
                path.display()
            ),
            Self::Database(cause) => write!(f, "the store failed: {cause}"),
            Self::Corrupt { entry, cause } => {
                write!(f, "the store's entry `{entry}` cannot be read: {cause}; restore or remove the file")
            }
        }
    }
}

impl std::error::Error for StoreError {}

impl<E: Into<redb::Error>> From<E> for StoreError {
    fn from(error: E) -> Self {
        Self::Database(error.into())
    }
}

/// The embedded store. Its calls block on the disk: from async code they go through
/// `spawn_blocking`.
#[derive(Debug)]
pub struct Store {
    database: Database,
}

impl Store {
    /// Opens the database at `path`, and makes it and its folder if they are absent.
    ///
    /// # Errors
    /// The folder or file cannot be made or opened, or another process has it open.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let open = |cause: String| StoreError::Open { path: path.to_owned(), cause };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|e| open(e.to_string()))?;
        }
        let database =
            Database::builder().set_cache_size(CACHE_BYTES).create(path).map_err(|e| open(e.to_string()))?;
        private(path).map_err(|e| open(e.to_string()))?;
        let write = database.begin_write()?;
        write.open_table(META)?;
        write.open_table(KEYS)?;
        write.commit()?;
        Ok(Self { database })
    }

    /// Reads the value called `name`, if there is one.
    ///
    /// # Errors
    /// The database failed, or the value is not a `T`.
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StoreError> {
        let table = self.database.begin_read()?.open_table(META)?;
        table.get(name)?.map(|value| decode(name, value.value())).transpose()
    }

    /// Writes the value called `name`, or removes it.
    ///
    /// # Errors
    /// The database failed; then nothing has changed.
    pub fn put<T: Serialize>(&self, name: &str, value: Option<&T>) -> Result<(), StoreError> {
        let write = self.database.begin_write()?;
        {
            let mut table = write.open_table(META)?;
            match value {
                Some(value) => table.insert(name, encode(name, value)?.as_slice())?,
                None => table.remove(name)?,
            };
        }
        Ok(write.commit()?)
    }

    /// All stored keys, by id.
    ///
    /// # Errors
    /// The database failed, or an entry is not a `T`.
    pub fn keys<T: DeserializeOwned>(&self) -> Result<Vec<T>, StoreError> {
        let table = self.database.begin_read()?.open_table(KEYS)?;
        table
            .iter()?
            .map(|entry| {
                let (id, value) = entry?;
                decode(id.value(), value.value())
            })
            .collect()
    }

    /// Writes the key `id`, or removes it.
    ///
    /// # Errors
    /// The database failed; then nothing has changed.
    pub fn put_key<T: Serialize>(&self, id: &str, key: Option<&T>) -> Result<(), StoreError> {
        let write = self.database.begin_write()?;
        {
            let mut table = write.open_table(KEYS)?;
            match key {
                Some(key) => table.insert(id, encode(id, key)?.as_slice())?,
                None => table.remove(id)?,
            };
        }
        Ok(write.commit()?)
    }
}

fn decode<T: DeserializeOwned>(entry: &str, bytes: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(bytes).map_err(|cause| StoreError::Corrupt { entry: entry.to_owned(), cause })
}

fn encode<T: Serialize>(entry: &str, value: &T) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|cause| StoreError::Corrupt { entry: entry.to_owned(), cause })
}

/// Digests are no keys, but nobody else's business either.
fn private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_survives_a_restart_and_removal_removes() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("below/state.redb");
        let store = Store::open(&path).expect("opens");
        assert_eq!(store.get::<u64>("generation").expect("reads"), None);
        store.put("generation", Some(&7_u64)).expect("writes");
        store.put_key("a", Some(&"x")).expect("writes");
        store.put_key("b", Some(&"y")).expect("writes");
        store.put_key::<String>("a", None).expect("removes");
        drop(store);
        let store = Store::open(&path).expect("opens again");
        assert_eq!(store.get::<u64>("generation").expect("reads"), Some(7));
        assert_eq!(store.keys::<String>().expect("reads"), ["y"]);
        assert!(matches!(store.get::<String>("generation"), Err(StoreError::Corrupt { .. })));
    }

    #[test]
    fn a_store_that_is_open_or_no_database_is_refused_with_its_path() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("state.redb");
        let held = Store::open(&path).expect("opens");
        let error = Store::open(&path).expect_err("held").to_string();
        assert!(error.contains("state.redb") && error.contains("store.path"), "{error}");
        drop(held);
        let text = folder.path().join("text");
        std::fs::write(&text, "not a database".repeat(1000)).expect("writes");
        assert!(matches!(Store::open(&text), Err(StoreError::Open { .. })));
    }
}
