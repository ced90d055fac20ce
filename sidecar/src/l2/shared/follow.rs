//! Reading what other gateways stored and took out: at the start all of it, then what is new.

use std::collections::{BTreeMap, HashSet};
use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use redis::pipe;
use tokio::time::sleep;

use super::super::SemanticCache;
use super::super::entry::Name;
use super::super::purge::Removal;
use super::keys::{self, LOG, REMOVALS, Space};
use super::message::{Gateway, Message};
use super::write::REMOVALS_LENGTH;
use super::{Shared, value};
use crate::embedding::EmbedError;
use crate::keys::unix_ms;
use crate::redis::CallError;

/// How often the streams are read.
const INTERVAL: Duration = Duration::from_millis(100);
/// Messages that are read at once.
const PAGE: usize = 1000;
/// Answers that are loaded at once.
const LOAD: usize = 128;
/// Least share of the index that stays free when it is filled at the start, as its reciprocal.
const SPARE: usize = 10;

/// Messages by their number in a stream.
type Page = Vec<(String, Vec<Vec<u8>>)>;

/// How far the streams were read.
#[derive(Debug, Default)]
struct Cursor {
    log: Option<String>,
    removals: Option<String>,
    /// Answers to be loaded, the latest last.
    wanted: Vec<Name>,
    known: HashSet<Name>,
    /// Whether all that was there at the start is here.
    is_warm: bool,
}

impl Cursor {
    fn want(&mut self, name: Name) {
        if self.known.insert(name) {
            self.wanted.push(name);
        }
    }
}

/// Follows for as long as there is the cache.
pub(super) async fn follow(cache: Weak<SemanticCache>) {
    let mut cursor = Cursor::default();
    loop {
        let Some(alive) = cache.upgrade() else { return };
        let has_more = alive.keep_up(&mut cursor).await;
        drop(alive);
        if !has_more {
            sleep(INTERVAL).await;
        }
    }
}

impl SemanticCache {
    /// One step; whether there is more to do at once.
    async fn keep_up(&self, cursor: &mut Cursor) -> bool {
        let Some(shared) = self.shared().filter(|shared| shared.redis.state().is_usable()) else {
            return false;
        };
        let space = match self.space() {
            Err(EmbedError::Loading) => return false,
            space => space.ok(),
        };
        self.settle();
        let Ok((log, removals)) = read(shared, cursor).await else { return false };
        self.take_removals(shared, cursor, &removals);
        let is_whole = log.len() < PAGE;
        for (id, fields) in log {
            match foreign(shared.gateway, &fields, Message::decode) {
                Some(Message::Stored { space: of, name }) if Some(of) == space && !shared.is_index => {
                    cursor.want(name);
                }
                Some(Message::Learned { space: of, name, outcome, raises, tenant }) if Some(of) == space => {
                    if raises {
                        self.trust.raise(name, outcome.similarity());
                    }
                    if shared.is_news(&id) {
                        self.trust.adopt(&tenant, outcome);
                    }
                }
                _ => {}
            }
            shared.has_read(&id);
            cursor.log = Some(id);
        }
        if !is_whole {
            return true;
        }
        match space {
            Some(space) => self.load_some(shared, space, cursor).await,
            None => false,
        }
    }

    fn take_removals(&self, shared: &Shared, cursor: &mut Cursor, page: &Page) {
        let decode = |bytes: &[u8]| {
            let (from, text) = bytes.split_first_chunk()?;
            Some((*from, serde_json::from_slice::<Removal>(text).ok()?))
        };
        let removals = page.iter().filter_map(|(_, fields)| foreign(shared.gateway, fields, decode));
        let is_first = cursor.removals.is_none();
        for (place, removal) in removals.enumerate() {
            if is_first && place == 0 && page.len() >= REMOVALS_LENGTH {
                // There may have been others before.
                shared.removals().take_all_until(removal.at_ms());
            }
            self.removed_elsewhere(shared, &removal, is_first);
        }
        if let Some((id, _)) = page.last() {
            cursor.removals = Some(id.clone());
        }
        shared.knows_removals.store(true, Ordering::Relaxed);
    }

    fn removed_elsewhere(&self, shared: &Shared, removal: &Removal, is_past: bool) {
        shared.removals().add(removal);
        if let Removal::Entry { name, .. } = removal
            && let Some(name) = Name::parse(name)
        {
            self.said_wrong(name);
        }
        self.take_out(removal);
        // What happened before the start may have reached Envoy's caches already.
        let at_ms = if is_past { removal.at_ms() } else { unix_ms() };
        self.taken_back.send_if_modified(|last| {
            let is_later = at_ms > *last;
            *last = at_ms.max(*last);
            is_later
        });
    }

    /// Loads some of what is wanted, the latest first; whether there is more.
    async fn load_some(&self, shared: &Shared, space: Space, cursor: &mut Cursor) -> bool {
        if !cursor.is_warm && self.is_nearly_full(SPARE) {
            cursor.wanted.clear();
        }
        let rest = cursor.wanted.len().saturating_sub(LOAD);
        let batch = cursor.wanted.split_off(rest);
        if batch.is_empty() {
            cursor.known.clear();
            if !std::mem::replace(&mut cursor.is_warm, true) {
                tracing::info!(entries = self.stats().entries, "the semantic cache has what redis has");
            }
            return false;
        }
        let mut groups: BTreeMap<u8, Vec<Name>> = BTreeMap::new();
        for name in &batch {
            groups.entry(keys::group(*name)).or_default().push(*name);
        }
        let loads = groups.into_values().map(|names| self.load_group(shared, space, names, cursor.is_warm));
        let failed: Vec<Name> = join_all(loads).await.into_iter().filter_map(Result::err).flatten().collect();
        let is_stuck = !failed.is_empty();
        cursor.wanted.extend(failed);
        !is_stuck
    }

    /// Loads answers of one group. If Redis fails, all of them are to be tried again.
    async fn load_group(
        &self,
        shared: &Shared,
        space: Space,
        names: Vec<Name>,
        replaces: bool,
    ) -> Result<(), Vec<Name>> {
        let mut pipeline = pipe();
        for name in &names {
            pipeline.get(keys::answer(*name)).get(keys::vector(space, *name));
        }
        let got: Result<Vec<Option<Vec<u8>>>, CallError> =
            shared.redis.run(|mut link| async move { pipeline.query_async(&mut link).await }).await;
        let Ok(values) = got else { return Err(names) };
        for (name, pair) in names.iter().zip(values.as_chunks::<2>().0) {
            let outcome = self.adopt(shared, *name, pair, replaces);
            shared.metrics.loaded(outcome);
        }
        Ok(())
    }

    fn adopt(
        &self,
        shared: &Shared,
        name: Name,
        pair: &[Option<Vec<u8>>; 2],
        replaces: bool,
    ) -> &'static str {
        let [Some(answer), Some(vector)] = pair else { return "gone" };
        let Ok(entry) = value::decode_answer(name, answer) else { return "corrupt" };
        let Ok(placed) = value::decode_vector(name, self.dimension(), vector) else { return "corrupt" };
        if shared.took(&entry) {
            return "purged";
        }
        self.take_in(entry, &placed, replaces)
    }
}

/// The next page of both streams.
async fn read(shared: &Shared, cursor: &Cursor) -> Result<(Page, Page), CallError> {
    let after = |id: &Option<String>| id.as_ref().map_or_else(|| "-".to_owned(), |id| format!("({id}"));
    let mut pipeline = pipe();
    for (key, id, count) in [(LOG, &cursor.log, PAGE), (REMOVALS, &cursor.removals, REMOVALS_LENGTH)] {
        pipeline.cmd("XRANGE").arg(key).arg(after(id)).arg("+").arg("COUNT").arg(count);
    }
    shared.redis.run(|mut link| async move { pipeline.query_async(&mut link).await }).await
}

/// The message in these fields, if another gateway said it.
fn foreign<T>(own: Gateway, fields: &[Vec<u8>], decode: impl Fn(&[u8]) -> Option<(Gateway, T)>) -> Option<T> {
    let [_, bytes] = fields else { return None };
    decode(bytes).filter(|(from, _)| *from != own).map(|(_, message)| message)
}
