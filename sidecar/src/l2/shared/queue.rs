//! What waits to be written to Redis, bounded in number and in bytes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::super::entry::{Entry, Name};
use super::super::index::PartitionKey;
use super::keys::Space;
use super::message::Message;
use super::value::Placed;

/// Most jobs that wait.
pub const JOBS_MAX: usize = 4096;
/// Most bytes of answers and vectors that wait.
const BYTES_MAX: usize = 32 << 20;
/// Most jobs that are done at once.
const BATCH_MAX: usize = 128;

/// Something to be done in Redis.
#[derive(Debug, Clone)]
pub enum Job {
    /// An answer to be stored, and its prompt's vector if there is one.
    Store(Arc<Entry>, Option<(Space, Arc<Placed>)>),
    /// An answer that was purged, to be removed.
    Remove(Name),
    /// What the index in Redis still names, but is no more.
    Forget(Space, PartitionKey, Name),
    /// Something that other gateways are to know.
    Tell(Message),
}

impl Job {
    fn bytes(&self) -> usize {
        match self {
            Self::Store(entry, placed) => {
                entry.memory_bytes() + placed.as_ref().map_or(0, |(_, placed)| size_of_val(&*placed.vector))
            }
            Self::Remove(_) => size_of::<Name>(),
            Self::Forget(..) => size_of::<(Space, PartitionKey, Name)>(),
            Self::Tell(_) => size_of::<Message>(),
        }
    }
}

#[derive(Debug, Default)]
struct State {
    jobs: VecDeque<Job>,
    bytes: usize,
}

/// The queue.
#[derive(Debug, Default)]
pub struct Queue {
    state: Mutex<State>,
    /// Told when there is something to do.
    pub work: Notify,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a job at the end; `false` if there is no room for it.
    pub fn push(&self, job: Job) -> bool {
        let mut state = self.lock();
        let bytes = job.bytes();
        if state.jobs.len() >= JOBS_MAX || state.bytes + bytes > BYTES_MAX {
            return false;
        }
        state.bytes += bytes;
        state.jobs.push_back(job);
        drop(state);
        self.work.notify_one();
        true
    }

    /// The first jobs, at most [`BATCH_MAX`].
    pub fn take(&self) -> Vec<Job> {
        let mut state = self.lock();
        let batch: Vec<Job> = {
            let count = state.jobs.len().min(BATCH_MAX);
            state.jobs.drain(..count).collect()
        };
        state.bytes -= batch.iter().map(Job::bytes).sum::<usize>();
        batch
    }

    /// Puts jobs that could not be done back to the beginning, whether or not there is room: they had
    /// some before.
    pub fn put_back(&self, jobs: Vec<Job>) {
        let mut state = self.lock();
        for job in jobs.into_iter().rev() {
            state.bytes += job.bytes();
            state.jobs.push_front(job);
        }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.lock().jobs.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::entry::example;
    use super::*;

    #[test]
    fn the_queue_is_bounded_in_number_and_in_bytes() {
        let queue = Queue::default();
        let name = example("x", 0).name;
        assert!((0..JOBS_MAX).all(|_| queue.push(Job::Remove(name))));
        assert!(!queue.push(Job::Remove(name)));
        let batch = queue.take();
        assert_eq!((batch.len(), queue.len()), (BATCH_MAX, JOBS_MAX - BATCH_MAX));
        queue.put_back(batch);
        assert_eq!(queue.len(), JOBS_MAX);

        let queue = Queue::default();
        let mut large = example("x", 0);
        large.body = vec![b'x'; 1 << 20].into();
        let large = Arc::new(large);
        let stored = (0..64).take_while(|_| queue.push(Job::Store(large.clone(), None))).count();
        assert_eq!(stored, 31, "and not 32, for what lies beside the answers");
        while !queue.take().is_empty() {}
        assert!(queue.push(Job::Store(large, None)), "room again");
    }
}
