//! A store that gateways share: etcd has the truth, and each gateway's embedded database a copy of it.
//!
//! Reading never leaves the process, so a gateway goes on with its last copy while etcd is away, and
//! starts with it too. A change is a transaction in etcd that holds only if nobody has changed
//! anything since the copy was made (all changes also write the key `head`); if somebody has, the
//! copy is brought up to date and the change is worked out anew. What others change arrives by watch.

mod follow;
mod link;

use std::sync::Arc;
use std::time::Duration;

use redb::Database;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::watch;

use self::link::{Committed, Link};
use super::place::Change;
use super::shared::Mark;
use super::{StoreError, Writer};
use crate::secret::Secret;

/// Attempts to make a change before another gateway's; each needs an own look at what is there.
const ATTEMPTS_MAX: usize = 8;
/// Entries of one transaction; etcd's default limit is 128 operations, one of which is `head`.
const CHANGES_MAX: usize = 100;

/// The section `etcd` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdSettings {
    /// URLs of the members.
    pub endpoints: Vec<String>,
    /// User and password, where etcd asks for them.
    pub user: Option<(String, Secret)>,
    /// What the keys begin with; gateways with the same prefix are one fleet.
    pub prefix: String,
    /// Longest that a change may take, over all members.
    pub timeout: Duration,
    /// For members that are reached by TLS.
    pub tls: Option<EtcdTls>,
}

/// What connections to etcd by TLS need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdTls {
    /// Certificates of the authorities that members' certificates come from, in PEM form.
    pub ca: String,
    /// This gateway's certificate and its key in PEM form, where etcd asks for them.
    pub identity: Option<(String, Secret)>,
}

/// How far the copy is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// etcd answers.
    is_up: bool,
    /// Revision of the last change by a gateway that is in the copy.
    head: i64,
    /// Rises with every change that came from another gateway.
    changes: u64,
}

/// The connection to etcd.
#[derive(Debug)]
pub(super) struct Etcd {
    link: Arc<Link>,
    progress: watch::Receiver<Progress>,
    timeout: Duration,
    runtime: Background,
}

/// A runtime of its own, since changes are made from threads that block.
#[derive(Debug)]
struct Background(Option<Runtime>, Handle);

impl Background {
    fn start() -> std::io::Result<Self> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).thread_name("etcd").enable_all().build()?;
        let handle = runtime.handle().clone();
        Ok(Self(Some(runtime), handle))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Tells of changes that other gateways made.
#[derive(Debug)]
pub struct Changes {
    progress: watch::Receiver<Progress>,
    seen: u64,
}

impl Changes {
    /// Waits for the next one; several may be told of at once. False when there will be none.
    pub async fn next(&mut self) -> bool {
        let seen = self.seen;
        match self.progress.wait_for(|progress| progress.changes > seen).await {
            Ok(progress) => {
                self.seen = progress.changes;
                true
            }
            Err(_) => false,
        }
    }
}

impl Etcd {
    /// Connects and brings the copy up to date; without etcd, an older copy does. Blocks, and must
    /// not be called from async code.
    ///
    /// # Errors
    /// etcd cannot be reached and there is no copy, or the database failed.
    pub(super) fn start(database: Arc<Database>, settings: EtcdSettings) -> Result<Self, StoreError> {
        let runtime = Background::start().map_err(|error| StoreError::Unreachable(error.to_string()))?;
        let timeout = settings.timeout;
        let link = Arc::new(Link::new(settings));
        let has_copy = Mark::read(&database)?.revision > 0;
        let (progress, mut seen) = watch::channel(Progress::default());
        runtime.1.spawn(follow::follow(link.clone(), database, progress));
        let up = async { tokio::time::timeout(timeout, seen.wait_for(|p| p.is_up)).await.is_ok() };
        if !runtime.1.block_on(up) {
            if !has_copy {
                let problem = "no member answered, and there is no earlier copy to start from";
                return Err(StoreError::Unreachable(problem.to_owned()));
            }
            tracing::warn!("etcd cannot be reached; starting from the last copy of what it had");
        }
        Ok(Self { link, progress: seen, timeout, runtime })
    }

    pub(super) fn is_up(&self) -> bool {
        self.progress.borrow().is_up
    }

    /// Done at each change that another gateway made.
    pub(super) fn changes(&self) -> Changes {
        let seen = self.progress.borrow().changes;
        Changes { progress: self.progress.clone(), seen }
    }

    /// Runs `work` as one transaction over the copy and etcd.
    pub(super) fn write<T>(
        &self,
        database: &Database,
        work: impl Fn(&Writer<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        for _ in 0..ATTEMPTS_MAX {
            let write = database.begin_write()?;
            let mark = Mark::of(&write)?;
            let writer = Writer::new(&write);
            let value = work(&writer)?;
            let changes = writer.into_shared();
            if changes.is_empty() {
                write.commit()?;
                return Ok(value);
            }
            match self.commit(changes, mark.head)? {
                Committed::At(revision) => {
                    Mark { revision, head: revision }.put(&write)?;
                    write.commit()?;
                    return Ok(value);
                }
                Committed::Not { head } => {
                    drop(write);
                    self.wait_for(head)?;
                }
            }
        }
        let problem = format!("other gateways were faster {ATTEMPTS_MAX} times; try again");
        Err(StoreError::Unreachable(problem))
    }

    fn commit(&self, changes: Vec<Change>, head: i64) -> Result<Committed, StoreError> {
        if changes.len() > CHANGES_MAX {
            let problem = format!("{} changes at once; etcd takes {CHANGES_MAX}", changes.len());
            return Err(StoreError::Unreachable(problem));
        }
        self.runtime.1.block_on(self.link.commit(&changes, head)).map_err(StoreError::Unreachable)
    }

    fn wait_for(&self, head: i64) -> Result<(), StoreError> {
        let mut progress = self.progress.clone();
        // Made inside, where there is a runtime: a timer cannot be made on a thread that has none.
        let arrived = async {
            let news = progress.wait_for(|p| p.head >= head);
            tokio::time::timeout(self.timeout, news).await.is_ok_and(|news| news.is_ok())
        };
        if self.runtime.1.block_on(arrived) {
            return Ok(());
        }
        Err(StoreError::Unreachable("a change of another gateway did not arrive in time".to_owned()))
    }
}
