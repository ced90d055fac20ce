//! The cache in Redis, shared by all gateways: answers that are looked up by the whole request, and
//! from which every gateway fills its own index. Nothing of a request waits for Redis but one look-up,
//! and that not for long.
//!
//! What one gateway stores, the others read in a stream and load. What it takes out is in a stream of
//! its own, and remembered by every gateway, so that nothing comes back that was purged while Redis,
//! or a gateway, was away.

mod follow;
mod keys;
mod message;
mod metrics;
mod queue;
#[cfg(test)]
mod tests;
mod value;
mod vectors;
mod write;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use prometheus_client::registry::Registry;
use redis::AsyncCommands as _;

use super::SemanticCache;
use super::entry::{Entry, Name};
use super::purge::{Removal, Removals};
use super::settings;
use crate::keys::random::{self, NoRandomness};
use crate::redis::{CallError, Redis, State};

pub use self::keys::Space;
pub use self::message::Message;
pub use self::value::Placed;

use self::message::Gateway;
use self::metrics::SharedMetrics;
use self::queue::{Job, Queue};

/// Longest that a request waits for Redis.
const LOOKUP_DEADLINE: Duration = Duration::from_millis(20);
/// Look-ups in a row that are late, after which requests ask Redis no more for [`REST_MS`].
const LATE_MAX: u32 = 8;
/// How long requests leave a slow Redis alone, in milliseconds.
const REST_MS: u64 = 1000;
/// Removals that wait for Redis one by one; beyond it they become a purge of everything.
const UNSENT_MAX: usize = 4096;

/// A place in a stream: milliseconds and a number.
type Place = (u64, u64);

/// Reads the id of a message.
fn place(id: &str) -> Option<Place> {
    let (ms, number) = id.split_once('-')?;
    Some((ms.parse().ok()?, number.parse().ok()?))
}

/// The cache in Redis.
#[derive(Debug)]
pub struct Shared {
    redis: Redis,
    gateway: Gateway,
    queue: Queue,
    removals: Mutex<Removals>,
    unsent: Mutex<VecDeque<Removal>>,
    /// Whether what others took out is known, without which nothing is served.
    knows_removals: AtomicBool,
    /// Whether prompts are compared in Redis.
    is_index: bool,
    late: AtomicU32,
    rests_until_ms: AtomicU64,
    complained: AtomicBool,
    complained_of_index: AtomicBool,
    /// How far the stream of changes was read.
    read: Mutex<Option<String>>,
    /// Up to where it was read before the start; what was learned until then is known.
    read_before: Option<Place>,
    metrics: SharedMetrics,
}

impl Shared {
    /// The cache in `redis`, with the index if `index` says so; `read_before` is what [`Self::read`]
    /// said before the start.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn new(
        redis: Redis,
        index: settings::Place,
        read_before: Option<&str>,
        registry: &mut Registry,
    ) -> Result<Self, NoRandomness> {
        Ok(Self {
            redis,
            gateway: random::bytes()?,
            queue: Queue::default(),
            removals: Mutex::default(),
            unsent: Mutex::default(),
            knows_removals: AtomicBool::new(false),
            is_index: index == settings::Place::Redis,
            late: AtomicU32::new(0),
            rests_until_ms: AtomicU64::new(0),
            complained: AtomicBool::new(false),
            complained_of_index: AtomicBool::new(false),
            read: Mutex::default(),
            read_before: read_before.and_then(place),
            metrics: SharedMetrics::register(registry),
        })
    }

    /// Begins to write, and to load what is there, for as long as there is the cache.
    pub fn tend(self: &Arc<Self>, cache: Weak<SemanticCache>) {
        tokio::spawn(write::write(Arc::downgrade(self)));
        tokio::spawn(follow::follow(cache));
    }

    /// Up to where the stream of changes was read, if it was.
    #[must_use]
    pub fn read(&self) -> Option<String> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn has_read(&self, id: &str) {
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = Some(id.to_owned());
    }

    /// Whether a change came after those that were read before the start.
    fn is_news(&self, id: &str) -> bool {
        self.read_before.is_none_or(|before| place(id).is_none_or(|place| place > before))
    }

    fn removals(&self) -> MutexGuard<'_, Removals> {
        self.removals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unsent(&self) -> MutexGuard<'_, VecDeque<Removal>> {
        self.unsent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer of this name to a request of `tenant`, if Redis has it and says so in time.
    pub async fn answer(&self, name: Name, tenant: &str, now_ms: u64) -> Option<Entry> {
        let found = self.fetch(name, tenant, now_ms).await;
        self.metrics.looked_up(found.as_ref().map_or_else(|why| *why, |_| "hit"));
        found.ok()
    }

    async fn fetch(&self, name: Name, tenant: &str, now_ms: u64) -> Result<Entry, &'static str> {
        self.may_ask(now_ms)?;
        self.get(name, tenant, now_ms).await
    }

    /// Whether requests ask Redis now.
    fn may_ask(&self, now_ms: u64) -> Result<(), &'static str> {
        if self.redis.state() != State::Up || !self.knows_removals.load(Ordering::Relaxed) {
            return Err("down");
        }
        if now_ms < self.rests_until_ms.load(Ordering::Relaxed) {
            return Err("resting");
        }
        Ok(())
    }

    async fn get(&self, name: Name, tenant: &str, now_ms: u64) -> Result<Entry, &'static str> {
        let key = keys::answer(name);
        let asked = self.redis.run_within(LOOKUP_DEADLINE, |mut link| async move { link.get(key).await });
        let bytes: Option<Vec<u8>> = asked.await.map_err(|error| self.failed(&error, now_ms))?;
        self.late.store(0, Ordering::Relaxed);
        let entry = value::decode_answer(name, &bytes.ok_or("miss")?).map_err(|_| "corrupt")?;
        if *entry.tenant != *tenant {
            return Err("corrupt");
        }
        if entry.expires_at_ms <= now_ms || self.took(&entry) {
            return Err("miss");
        }
        Ok(entry)
    }

    /// Counts look-ups that were late; too many in a row, and Redis is left alone for a while.
    fn failed(&self, error: &CallError, now_ms: u64) -> &'static str {
        match error {
            CallError::TimedOut => {
                if self.late.fetch_add(1, Ordering::Relaxed) + 1 >= LATE_MAX {
                    self.late.store(0, Ordering::Relaxed);
                    self.rests_until_ms.store(now_ms + REST_MS, Ordering::Relaxed);
                }
                "late"
            }
            CallError::Busy => "busy",
            CallError::Down => "down",
            CallError::Failed(_) => "error",
        }
    }

    /// Whether an entry was taken out, here or elsewhere.
    #[must_use]
    pub fn took(&self, entry: &Entry) -> bool {
        self.removals().took(entry)
    }

    /// Lets the others have an answer, in time.
    pub fn store(&self, entry: Arc<Entry>, placed: Option<(Space, Arc<Placed>)>) {
        if !self.queue.push(Job::Store(entry, placed)) {
            self.metrics.wrote("dropped", 1);
        }
        self.metrics.queue.set(self.queue.len() as u64);
    }

    /// Lets the others know something, in time.
    pub fn tell(&self, message: Message) {
        if !self.queue.push(Job::Tell(message)) {
            self.metrics.wrote("dropped", 1);
        }
    }

    /// Remembers that something was taken out here, with these entries, and tells the others as soon
    /// as Redis is there.
    pub fn remove(&self, removal: Removal, gone: impl Iterator<Item = Name>, now_ms: u64) {
        self.removals().add(&removal);
        let mut unsent = self.unsent();
        unsent.push_back(removal);
        if unsent.len() > UNSENT_MAX {
            unsent.clear();
            unsent.push_back(Removal::everything(now_ms));
        }
        drop(unsent);
        // What finds no room is not served all the same, and expires.
        gone.take_while(|name| self.queue.push(Job::Remove(*name))).for_each(drop);
        self.queue.work.notify_one();
    }

    /// Whether Redis has an answer of this name.
    pub async fn has(&self, name: Name) -> bool {
        let key = keys::answer(name);
        self.redis.run(|mut link| async move { link.exists(key).await }).await.unwrap_or(false)
    }
}
