//! Calls to etcd: one member at a time, and the next one when it fails. A client that balances over
//! all members keeps asking a dead one after the leader was lost.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use etcd_client::{
    Certificate, Client, Compare, CompareOp, ConnectOptions, Error, GetOptions, Identity, KeyValue,
    SortOrder, SortTarget, TlsOptions, Txn, TxnOp, TxnOpResponse, WatchOptions, WatchStream,
};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::super::place::{Change, Place};
use super::{CHANGES_MAX, EtcdSettings, EtcdTls};
use crate::keys::random;

/// A member that does not answer within this is given up for the next.
const MEMBER_TIMEOUT: Duration = Duration::from_secs(2);
/// Time between signs of life on idle connections; etcd hangs up on clients that ask for one more
/// often than every five seconds.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How long a sign of life may be missing.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(3);
/// Entries read at a time.
const PAGE: i64 = 50;
/// Largest answer of etcd that is read, in bytes: a page of the largest records there are, those of
/// lanes ([`crate::clusters`]).
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// The key that every change writes.
const HEAD: &str = "head";

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// It is in force, at this revision.
    At(i64),
    /// Somebody else changed something since; this is the revision of that.
    Not {
        /// Revision of the last change.
        head: i64,
    },
}

/// Everything that is shared, at one revision.
#[derive(Debug)]
pub struct Content {
    pub revision: i64,
    /// Revision of the last change; 0 if there never was one.
    pub head: i64,
    pub entries: Vec<Change>,
}

/// The members, and a connection to the one in use.
pub struct Link {
    settings: EtcdSettings,
    options: ConnectOptions,
    member: AtomicUsize,
    client: Mutex<Option<(usize, Client)>>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("endpoints", &self.settings.endpoints).finish_non_exhaustive()
    }
}

impl Link {
    pub fn new(settings: EtcdSettings) -> Self {
        let mut options = ConnectOptions::new()
            .with_connect_timeout(MEMBER_TIMEOUT.min(settings.timeout))
            .with_keep_alive(KEEP_ALIVE, KEEP_ALIVE_TIMEOUT)
            .with_keep_alive_while_idle(true)
            .with_require_leader(true);
        if let Some((user, password)) = &settings.user {
            options = options.with_user(user, password.expose());
        }
        if let Some(EtcdTls { ca, identity }) = &settings.tls {
            let mut tls = TlsOptions::new().ca_certificate(Certificate::from_pem(ca));
            if let Some((certificate, key)) = identity {
                tls = tls.identity(Identity::from_pem(certificate, key.expose()));
            }
            options = options.with_tls(tls);
        }
        Self { settings, options, member: AtomicUsize::new(0), client: Mutex::new(None) }
    }

    /// The client of the member in use.
    async fn client(&self) -> Result<Client, Error> {
        let mut held = self.client.lock().await;
        let member = self.member.load(Ordering::Relaxed) % self.settings.endpoints.len().max(1);
        if let Some((of, client)) = held.as_ref()
            && *of == member
        {
            return Ok(client.clone());
        }
        let endpoint = self.settings.endpoints.get(member).map_or("", String::as_str);
        let client = Client::connect([endpoint], Some(self.options.clone())).await?;
        *held = Some((member, client.clone()));
        Ok(client)
    }

    /// Leaves the member in use for the next one.
    pub async fn next_member(&self) {
        self.member.fetch_add(1, Ordering::Relaxed);
        *self.client.lock().await = None;
    }

    /// Makes a change, if `head` is still the last one. A member that fails is asked no more; since
    /// the change may have been made all the same, the key `head` carries a name of it.
    ///
    /// # Errors
    /// Why no member took it in time. It may have been made all the same, and arrives by watch then.
    pub async fn commit(&self, changes: &[Change], head: i64) -> Result<Committed, String> {
        let name = random::token().map_err(|error| error.to_string())?;
        let until = Instant::now() + self.settings.timeout;
        loop {
            let error =
                match tokio::time::timeout(MEMBER_TIMEOUT, self.try_commit(changes, head, &name)).await {
                    Ok(Ok(committed)) => return Ok(committed),
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => "a member did not answer in time".to_owned(),
                };
            self.next_member().await;
            if Instant::now() >= until {
                return Err(error);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn try_commit(&self, changes: &[Change], head: i64, name: &str) -> Result<Committed, Error> {
        let key = self.key(HEAD);
        let mut operations: Vec<TxnOp> = changes.iter().map(|change| self.operation(change)).collect();
        operations.push(TxnOp::put(key.as_str(), name, None));
        let txn = Txn::new()
            .when([Compare::mod_revision(key.as_str(), CompareOp::Equal, head)])
            .and_then(operations)
            .or_else([TxnOp::get(key.as_str(), None)]);
        let answer = self.client().await?.txn(txn).await?;
        if answer.succeeded() {
            let revision = answer.header().map_or(0, etcd_client::ResponseHeader::revision);
            return Ok(Committed::At(revision));
        }
        let found = answer.op_responses().into_iter().find_map(|response| match response {
            TxnOpResponse::Get(mut found) => found.take_kvs().pop(),
            _ => None,
        });
        Ok(match found {
            Some(entry) if entry.value() == name.as_bytes() => Committed::At(entry.mod_revision()),
            Some(entry) => Committed::Not { head: entry.mod_revision() },
            None => Committed::Not { head: 0 },
        })
    }

    /// Writes the entries of a gateway that had an embedded store to an etcd that has none yet.
    pub async fn seed(&self, entries: &[Change]) -> Result<(), String> {
        let mut head = 0;
        for chunk in entries.chunks(CHANGES_MAX) {
            match self.commit(chunk, head).await? {
                Committed::At(revision) => head = revision,
                // Another gateway was faster; its content is the fleet's.
                Committed::Not { .. } => return Ok(()),
            }
        }
        Ok(())
    }

    /// Reads everything, page by page, as it was at one revision.
    pub async fn read(&self) -> Result<Content, Error> {
        let prefix = self.key("");
        let end = prefix_end(&prefix);
        let mut content = Content { revision: 0, head: 0, entries: Vec::new() };
        let mut from = prefix.clone().into_bytes();
        loop {
            let options = GetOptions::new()
                .with_range(end.clone())
                .with_limit(PAGE)
                .with_revision(content.revision)
                .with_sort(SortTarget::Key, SortOrder::Ascend);
            let mut client = self.client().await?.kv_client().max_decoding_message_size(ANSWER_BYTES_MAX);
            let page = tokio::time::timeout(MEMBER_TIMEOUT, client.get(from.clone(), Some(options)));
            let mut page = page.await.map_err(|_| Error::Internal("no answer in time".to_owned()))??;
            if content.revision == 0 {
                content.revision = page.header().map_or(0, etcd_client::ResponseHeader::revision);
            }
            let more = page.more();
            for entry in page.take_kvs() {
                from = [entry.key(), &[0]].concat();
                self.add(&mut content, &entry);
            }
            if !more {
                return Ok(content);
            }
        }
    }

    fn add(&self, content: &mut Content, entry: &KeyValue) {
        if entry.key() == self.key(HEAD).as_bytes() {
            content.head = entry.mod_revision();
        } else if let Some(place) = self.place(entry.key()) {
            content.entries.push(Change { place, value: Some(entry.value().to_vec()) });
        }
    }

    /// Watches everything from `revision` on.
    pub async fn watch(&self, revision: i64) -> Result<WatchStream, Error> {
        let options = WatchOptions::new().with_prefix().with_start_revision(revision);
        let mut client = self.client().await?.watch_client().max_decoding_message_size(ANSWER_BYTES_MAX);
        client.watch(self.key(""), Some(options)).await
    }

    /// The place of a key; `None` for keys that are not places.
    pub fn place(&self, key: &[u8]) -> Option<Place> {
        Place::parse(std::str::from_utf8(key).ok()?.strip_prefix(self.key("").as_str())?)
    }

    /// Whether a key is the one that every change writes.
    pub fn is_head(&self, key: &[u8]) -> bool {
        key == self.key(HEAD).as_bytes()
    }

    fn operation(&self, change: &Change) -> TxnOp {
        let key = self.key(&change.place.path());
        match &change.value {
            Some(value) => TxnOp::put(key, value.as_slice(), None),
            None => TxnOp::delete(key, None),
        }
    }

    fn key(&self, path: &str) -> String {
        format!("{}/{path}", self.settings.prefix)
    }
}

/// The first key behind all that begin with `prefix`, which ends with a slash.
fn prefix_end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last = last.saturating_add(1);
    }
    end
}
