//! Writing, off the requests' path: answers with their vectors, and what was taken out.

use std::collections::BTreeMap;
use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use redis::{Pipeline, RedisError, pipe};
use tokio::time::timeout;

use super::super::entry::Name;
use super::super::purge::Removal;
use super::keys::{self, LOG, REMOVALS};
use super::message::Message;
use super::queue::Job;
use super::{Shared, value};
use crate::keys::unix_ms;
use crate::redis::CallError;

/// About how many changes Redis remembers: what a gateway that starts looks at.
const LOG_LENGTH: usize = 262_144;
/// How many removals Redis remembers.
pub(super) const REMOVALS_LENGTH: usize = 4096;
/// Removals that are told at once.
const REMOVALS_BATCH: usize = 256;
/// How often it is tried again when nobody says that there is something to do.
const PAUSE: Duration = Duration::from_millis(250);

/// Writes for as long as there is the cache.
pub(super) async fn write(shared: Weak<Shared>) {
    loop {
        let Some(alive) = shared.upgrade() else { return };
        // Whether told or not: what failed is tried again.
        let told = timeout(PAUSE, alive.queue.work.notified()).await.is_ok();
        while alive.redis.state().is_usable() && alive.write_some().await {}
        if told && !alive.redis.state().is_usable() {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// What could not be done, and whether it is worth another try.
enum Failed {
    ForNow(Vec<Job>),
    ForGood,
}

impl Shared {
    /// Writes the next ones; whether there may be more.
    async fn write_some(&self) -> bool {
        let removed_all = self.tell_removals().await;
        let jobs = self.queue.take();
        let is_idle = jobs.is_empty();
        let mut groups: BTreeMap<u8, Vec<Job>> = BTreeMap::new();
        let mut done = Vec::new();
        for job in jobs {
            match group_of(&job) {
                Some(group) => groups.entry(group).or_default().push(job),
                None => done.push(job),
            }
        }
        let outcomes = join_all(groups.into_values().map(|jobs| self.write_group(jobs))).await;
        let mut again = Vec::new();
        for outcome in outcomes {
            match outcome {
                Ok(jobs) => done.extend(jobs),
                Err(Failed::ForNow(jobs)) => again.extend(jobs),
                Err(Failed::ForGood) => {}
            }
        }
        self.index(&done).await;
        self.tell_stored(&done).await;
        let is_stuck = !again.is_empty() || !removed_all;
        self.queue.put_back(again);
        self.metrics.queue.set(self.queue.len() as u64);
        !is_stuck && !is_idle
    }

    /// Tells the others of what was taken out here, and takes it out of Redis; whether that worked.
    async fn tell_removals(&self) -> bool {
        let batch: Vec<Removal> = self.unsent().iter().take(REMOVALS_BATCH).cloned().collect();
        if batch.is_empty() {
            return true;
        }
        let mut told = pipe();
        let mut gone = Vec::new();
        for removal in &batch {
            let Ok(text) = serde_json::to_vec(removal) else { continue };
            let message = [&self.gateway[..], &text].concat();
            told.cmd("XADD").arg(REMOVALS).arg("MAXLEN").arg(REMOVALS_LENGTH).arg("*").arg("m").arg(message);
            told.ignore();
            if let Removal::Entry { name, .. } = removal {
                gone.extend(Name::parse(name));
            }
        }
        let unlinked = join_all(gone.into_iter().map(|name| {
            let mut unlink = pipe();
            unlink.unlink(keys::answer(name)).ignore();
            self.call(unlink)
        }));
        let is_unlinked = unlinked.await.into_iter().all(|outcome| outcome.is_ok());
        if !is_unlinked || self.call(told).await.is_err() {
            return false;
        }
        let mut unsent = self.unsent();
        if batch.iter().eq(unsent.iter().take(batch.len())) {
            unsent.drain(..batch.len());
        }
        true
    }

    /// Writes answers of one group; returns those that were stored.
    async fn write_group(&self, jobs: Vec<Job>) -> Result<Vec<Job>, Failed> {
        let now_ms = unix_ms();
        let mut pipeline = pipe();
        let mut stored = Vec::new();
        for job in &jobs {
            if self.add(&mut pipeline, job, now_ms) {
                stored.push(job.clone());
            }
        }
        if pipeline.is_empty() {
            return Ok(stored);
        }
        match self.call(pipeline).await {
            Ok(()) => {
                self.metrics.wrote("stored", stored.len());
                if self.complained.swap(false, Ordering::Relaxed) {
                    tracing::info!("redis takes answers again");
                }
                Ok(stored)
            }
            Err(CallError::Failed(error)) if !error.is_io_error() && !error.is_timeout() => {
                self.refused(&error, stored.len());
                Err(Failed::ForGood)
            }
            Err(_) => Err(Failed::ForNow(jobs)),
        }
    }

    /// Redis is full, or will not have it for another reason: said once.
    fn refused(&self, error: &RedisError, count: usize) {
        let is_full = error.code() == Some("OOM") || error.to_string().contains("OOM");
        self.metrics.wrote(if is_full { "full" } else { "error" }, count);
        if !self.complained.swap(true, Ordering::Relaxed) {
            tracing::warn!(%error, "redis does not take answers; the cache goes on in memory");
        }
    }

    /// Adds what has to be done for a job; whether it stores something.
    fn add(&self, pipeline: &mut Pipeline, job: &Job, now_ms: u64) -> bool {
        match job {
            Job::Tell(_) | Job::Forget(..) => false,
            Job::Remove(name) => {
                pipeline.unlink(keys::answer(*name)).ignore();
                false
            }
            Job::Store(entry, placed) => {
                let ttl_ms = entry.expires_at_ms.saturating_sub(now_ms);
                if ttl_ms == 0 || self.took(entry) {
                    return false;
                }
                let Some(answer) = value::encode_answer(entry) else {
                    self.metrics.wrote("too_large", 1);
                    return false;
                };
                pipeline.pset_ex(keys::answer(entry.name), answer, ttl_ms).ignore();
                if let Some((space, placed)) = placed.as_ref().filter(|_| !self.is_index) {
                    let vector = value::encode_vector(entry.name, &placed.partition, &placed.vector);
                    pipeline.pset_ex(keys::vector(*space, entry.name), vector, ttl_ms).ignore();
                }
                true
            }
        }
    }

    /// Tells the others what there is. If that fails they find it by its name, but not by meaning.
    async fn tell_stored(&self, stored: &[Job]) {
        let mut told = pipe();
        for job in stored {
            let message = match job {
                Job::Store(entry, Some((space, _))) if !self.is_index => {
                    Some(Message::Stored { space: *space, name: entry.name }.encode(self.gateway))
                }
                Job::Tell(message) => Some(message.encode(self.gateway)),
                Job::Store(..) | Job::Remove(_) | Job::Forget(..) => None,
            };
            if let Some(message) = message {
                told.cmd("XADD")
                    .arg(LOG)
                    .arg("MAXLEN")
                    .arg("~")
                    .arg(LOG_LENGTH)
                    .arg("*")
                    .arg("m")
                    .arg(message);
                told.ignore();
            }
        }
        if !told.is_empty() && self.call(told).await.is_err() {
            self.metrics.wrote("untold", stored.len());
        }
    }

    pub(super) async fn call(&self, pipeline: Pipeline) -> Result<(), CallError> {
        self.redis.run(|mut link| async move { pipeline.query_async(&mut link).await }).await
    }
}

/// Which keys of answers a job is about; `None` for a message, and for the index.
fn group_of(job: &Job) -> Option<u8> {
    match job {
        Job::Store(entry, _) => Some(keys::group(entry.name)),
        Job::Remove(name) => Some(keys::group(*name)),
        Job::Tell(_) | Job::Forget(..) => None,
    }
}
