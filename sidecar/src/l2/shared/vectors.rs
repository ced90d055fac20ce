//! The index in Redis, for fleets whose cache is larger than a gateway's memory: a vector set for each
//! partition (`VADD`, `VSIM`; Redis 8), whose elements are the names of answers.
//!
//! Redis keeps eight bits of each number, so a cosine is known to about .005. An answer that expired
//! is still named in the index: a search that comes upon it has it forgotten, and so has a look at
//! some members at random whenever something is stored. Elements have no time of their own, but a
//! partition that nothing is stored in any more goes with its last answer.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use futures_util::future::join_all;
use redis::{AsyncCommands as _, cmd, pipe};

use super::super::CANDIDATES;
use super::super::entry::{Entry, Name};
use super::super::index::PartitionKey;
use super::keys::{self, Space};
use super::queue::Job;
use super::{LOOKUP_DEADLINE, Shared};
use crate::embedding::little_endian;
use crate::keys::unix_ms;
use crate::redis::CallError;

/// Members that are looked at for each answer that is stored: more than one, so that fewer are dead
/// than alive at any rate of storing.
const LOOKED_AT: usize = 2;

/// What is done to one partition.
#[derive(Default)]
struct Changes<'a> {
    added: Vec<(Name, &'a [f32])>,
    gone: Vec<Name>,
    ttl_ms: u64,
}

impl Shared {
    /// Whether prompts are compared in Redis.
    #[must_use]
    pub const fn is_index(&self) -> bool {
        self.is_index
    }

    /// Answers to prompts that are near this one, the nearest first, with their cosines.
    pub async fn near(
        &self,
        (space, partition): (Space, &PartitionKey),
        vector: &[f32],
        tenant: &str,
    ) -> Vec<(f32, Entry)> {
        let found = self.search((space, partition), vector, tenant, unix_ms()).await;
        self.metrics.searched(match &found {
            Ok(near) if near.is_empty() => "nothing",
            Ok(_) => "found",
            Err(why) => why,
        });
        found.unwrap_or_default()
    }

    async fn search(
        &self,
        (space, partition): (Space, &PartitionKey),
        vector: &[f32],
        tenant: &str,
        now_ms: u64,
    ) -> Result<Vec<(f32, Entry)>, &'static str> {
        self.may_ask(now_ms)?;
        let mut search = cmd("VSIM");
        search.arg(keys::partition(space, partition)).arg("FP32").arg(little_endian(vector));
        search.arg("WITHSCORES").arg("COUNT").arg(CANDIDATES);
        let asked = self
            .redis
            .run_within(LOOKUP_DEADLINE, |mut link| async move { search.query_async(&mut link).await });
        let members: Vec<(Vec<u8>, f32)> = asked.await.map_err(|error| self.failed(&error, now_ms))?;
        let answers = members.into_iter().map(|(member, score)| async move {
            let name = Name::from_bytes(member.try_into().ok()?);
            match self.get(name, tenant, now_ms).await {
                // A score is (1 + cosine) / 2.
                Ok(entry) => Some((2.0 * score - 1.0, entry)),
                Err(why) => {
                    if why == "miss" {
                        // Without room in the queue another search comes upon it.
                        self.queue.push(Job::Forget(space, *partition, name));
                    }
                    None
                }
            }
        });
        Ok(join_all(answers).await.into_iter().flatten().collect())
    }

    /// Brings the index up to what was done.
    pub(super) async fn index(&self, done: &[Job]) {
        if !self.is_index {
            return;
        }
        let now_ms = unix_ms();
        let mut partitions: BTreeMap<String, Changes<'_>> = BTreeMap::new();
        for job in done {
            match job {
                Job::Store(entry, Some((space, placed))) => {
                    let changes = partitions.entry(keys::partition(*space, &placed.partition)).or_default();
                    changes.added.push((entry.name, &placed.vector));
                    changes.ttl_ms = changes.ttl_ms.max(entry.expires_at_ms.saturating_sub(now_ms));
                }
                Job::Forget(space, partition, name) => {
                    partitions.entry(keys::partition(*space, partition)).or_default().gone.push(*name);
                }
                Job::Store(_, None) | Job::Remove(_) | Job::Tell(_) => {}
            }
        }
        join_all(partitions.into_iter().map(|(key, changes)| self.change(key, changes))).await;
    }

    async fn change(&self, key: String, changes: Changes<'_>) {
        let added = changes.added.len();
        match self.try_change(&key, changes).await {
            Ok(()) => self.complained_of_index.store(false, Ordering::Relaxed),
            Err(error) => {
                // What could not be added is found by the same words, and here in memory.
                self.metrics.wrote("unindexed", added);
                if !self.complained_of_index.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "redis does not take vectors (it takes Redis 8); prompts are compared in memory");
                }
            }
        }
    }

    async fn try_change(&self, key: &str, changes: Changes<'_>) -> Result<(), CallError> {
        self.forget(key, changes.gone).await?;
        if changes.added.is_empty() {
            return Ok(());
        }
        self.add_vectors(key, &changes.added, changes.ttl_ms).await?;
        self.look_at_some(key, LOOKED_AT * changes.added.len()).await
    }

    async fn add_vectors(&self, key: &str, added: &[(Name, &[f32])], ttl_ms: u64) -> Result<(), CallError> {
        let mut pipeline = pipe();
        for (name, vector) in added {
            pipeline.cmd("VADD").arg(key).arg("FP32").arg(little_endian(vector)).arg(name.bytes()).ignore();
        }
        for condition in ["NX", "GT"] {
            pipeline.cmd("PEXPIRE").arg(key).arg(ttl_ms).arg(condition).ignore();
        }
        self.call(pipeline).await
    }

    async fn forget(&self, key: &str, gone: Vec<Name>) -> Result<(), CallError> {
        if gone.is_empty() {
            return Ok(());
        }
        let mut pipeline = pipe();
        for name in gone {
            pipeline.cmd("VREM").arg(key).arg(name.bytes()).ignore();
        }
        self.call(pipeline).await
    }

    /// Forgets those of some members whose answers are no more.
    async fn look_at_some(&self, key: &str, count: usize) -> Result<(), CallError> {
        let mut some = cmd("VRANDMEMBER");
        some.arg(key).arg(count);
        let members: Vec<Vec<u8>> =
            self.redis.run(|mut link| async move { some.query_async(&mut link).await }).await?;
        let looks = members.into_iter().filter_map(|member| Some(Name::from_bytes(member.try_into().ok()?)));
        let looks = looks.map(|name| async move {
            let key = keys::answer(name);
            let there: bool = self.redis.run(|mut link| async move { link.exists(key).await }).await?;
            Ok::<_, CallError>((!there).then_some(name))
        });
        let looked: Result<Vec<Option<Name>>, CallError> = join_all(looks).await.into_iter().collect();
        self.forget(key, looked?.into_iter().flatten().collect()).await
    }
}
