//! State that survives a restart: keys made at run time, the auth generation, limits that were
//! changed over the admin API, sessions, and the audit log. Embedded: one redb file, one process.
//! With etcd, that file is a copy of what gateways have in common ([`etcd`]), besides what is one
//! gateway's own.

mod etcd;
mod place;
mod shared;
mod token;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use serde::Serialize;
use serde::de::DeserializeOwned;

use etcd::Etcd;
pub use etcd::{Changes, EtcdSettings, EtcdTls};
pub use token::{TokenError, internal_token, secret_key};
pub use writer::Writer;

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const AUDIT: TableDefinition<'_, u64, &[u8]> = TableDefinition::new(Table::AUDIT_NAME);
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
    /// Gateways share the store, and etcd did not take a change; nothing has changed then, or the
    /// change arrives later.
    Unreachable(String),
    /// What was to be made is there already.
    Exists,
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
            Self::Unreachable(problem) => {
                write!(
                    f,
                    "etcd did not take the change: {problem}; look at etcd.endpoints and at etcd's health"
                )
            }
            Self::Exists => f.write_str("it is there already"),
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

/// A table of records by id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Table {
    /// Keys made at run time.
    Keys,
    /// Sessions of users.
    Sessions,
    /// What was used, by month.
    Usage,
    /// Policies on slices of the traffic.
    Policies,
    /// What the semantic cache learned, by tenant.
    Trust,
    /// What was counted of each lane of the bus.
    Lanes,
}

impl Table {
    /// What the audit log's table is called, in errors and in etcd.
    pub const AUDIT_NAME: &'static str = "audit";
    /// All tables.
    const ALL: [Self; 6] =
        [Self::Keys, Self::Sessions, Self::Usage, Self::Policies, Self::Trust, Self::Lanes];

    const fn name(self) -> &'static str {
        match self {
            Self::Keys => "keys",
            Self::Sessions => "sessions",
            Self::Usage => "usage",
            Self::Policies => "policies",
            Self::Trust => "trust",
            Self::Lanes => "lanes",
        }
    }

    /// Whether all gateways that use the same etcd have its records in common.
    const fn is_shared(self) -> bool {
        match self {
            Self::Keys | Self::Sessions | Self::Policies | Self::Lanes => true,
            Self::Usage | Self::Trust => false,
        }
    }

    const fn definition(self) -> TableDefinition<'static, &'static str, &'static [u8]> {
        TableDefinition::new(self.name())
    }
}

/// The store. Its calls block, on the disk and, for changes that gateways share, on the network:
/// from async code they go through `spawn_blocking`.
#[derive(Debug)]
pub struct Store {
    database: Arc<Database>,
    etcd: Option<Etcd>,
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
        for table in Table::ALL {
            write.open_table(table.definition())?;
        }
        write.open_table(AUDIT)?;
        write.commit()?;
        Ok(Self { database: Arc::new(database), etcd: None })
    }

    /// Opens the database at `path` as the copy of what gateways share in etcd.
    ///
    /// # Errors
    /// See [`Store::open`]; or etcd cannot be reached, and there is no earlier copy.
    pub fn open_shared(path: &Path, settings: EtcdSettings) -> Result<Self, StoreError> {
        let store = Self::open(path)?;
        let etcd = Etcd::start(store.database.clone(), settings)?;
        Ok(Self { etcd: Some(etcd), ..store })
    }

    /// Tells of changes that other gateways make; `None` where nothing is shared.
    #[must_use]
    pub fn changes(&self) -> Option<Changes> {
        self.etcd.as_ref().map(Etcd::changes)
    }

    /// Whether what gateways share can be changed; `None` where nothing is shared.
    #[must_use]
    pub fn is_shared_up(&self) -> Option<bool> {
        self.etcd.as_ref().map(Etcd::is_up)
    }

    /// Reads the value called `name`, if there is one.
    ///
    /// # Errors
    /// The database failed, or the value is not a `T`.
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StoreError> {
        let table = self.database.begin_read()?.open_table(META)?;
        table.get(name)?.map(|value| decode(name, value.value())).transpose()
    }

    /// All records of a table, by id.
    ///
    /// # Errors
    /// The database failed, or an entry is not a `T`.
    pub fn all<T: DeserializeOwned>(&self, table: Table) -> Result<Vec<T>, StoreError> {
        let table = self.database.begin_read()?.open_table(table.definition())?;
        table
            .iter()?
            .map(|entry| {
                let (id, value) = entry?;
                decode(id.value(), value.value())
            })
            .collect()
    }

    /// Runs `work` as one transaction; more than once if another gateway was faster.
    ///
    /// # Errors
    /// What `work` says, or the database failed, or etcd did not take it; then nothing has changed.
    pub fn write<T>(&self, work: impl Fn(&Writer<'_>) -> Result<T, StoreError>) -> Result<T, StoreError> {
        if let Some(etcd) = &self.etcd {
            return etcd.write(&self.database, work);
        }
        let write = self.database.begin_write()?;
        let value = work(&Writer::new(&write))?;
        write.commit()?;
        Ok(value)
    }

    /// Up to `limit` entries of the audit log below `before`, from the highest down.
    ///
    /// # Errors
    /// The database failed.
    pub fn bytes_before(&self, before: u64, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        let table = self.database.begin_read()?.open_table(AUDIT)?;
        let rows = table.range(..before)?.rev().take(limit);
        rows.map(|row| row.map(|(seq, bytes)| (seq.value(), bytes.value().to_vec())).map_err(Into::into))
            .collect()
    }

    /// Shows all entries of the audit log to `look` from the lowest up, until it says no.
    ///
    /// # Errors
    /// The database failed.
    pub fn each_bytes(&self, mut look: impl FnMut(u64, &[u8]) -> bool) -> Result<(), StoreError> {
        let table = self.database.begin_read()?.open_table(AUDIT)?;
        for row in table.iter()? {
            let (seq, bytes) = row?;
            if !look(seq.value(), bytes.value()) {
                break;
            }
        }
        Ok(())
    }

    /// Reads what was stored under `entry`, a name for errors.
    ///
    /// # Errors
    /// It is not a `T`.
    pub fn decode<T: DeserializeOwned>(entry: &str, bytes: &[u8]) -> Result<T, StoreError> {
        decode(entry, bytes)
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
        let written = store.write(|writer| {
            writer.put("generation", &7_u64)?;
            writer.put_record(Table::Keys, "a", Some(&"x"))?;
            writer.put_record(Table::Keys, "b", Some(&"y"))?;
            writer.put_record::<String>(Table::Keys, "a", None)
        });
        written.expect("writes");
        drop(store);
        let store = Store::open(&path).expect("opens again");
        assert_eq!(store.get::<u64>("generation").expect("reads"), Some(7));
        assert_eq!(store.all::<String>(Table::Keys).expect("reads"), ["y"]);
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
