//! The way from requests to the model's threads: bounded, and the most urgent first, so that a
//! batch job never stands before a request that can wait for milliseconds only.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::{Condvar, Mutex, PoisonError};

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::Embedding;
use super::error::EmbedError;

/// Most texts computed at once.
pub const BATCH_TEXTS_MAX: usize = 32;

/// What comes back for a job.
pub type Outcome = Result<Vec<Embedding>, EmbedError>;

/// Texts that wait for their embeddings; at most [`BATCH_TEXTS_MAX`].
#[derive(Debug)]
pub struct Job {
    /// The texts.
    pub texts: Vec<Box<str>>,
    /// When nobody waits any more.
    pub deadline: Instant,
    /// Where the embeddings go.
    pub done: oneshot::Sender<Outcome>,
}

impl PartialEq for Job {
    fn eq(&self, other: &Self) -> bool {
        self.deadline == other.deadline
    }
}

impl Eq for Job {}

impl PartialOrd for Job {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Job {
    /// The heap gives its greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        other.deadline.cmp(&self.deadline)
    }
}

#[derive(Debug, Default)]
struct Waiting {
    jobs: BinaryHeap<Job>,
    texts: usize,
    closed: bool,
}

/// A queue of at most so many texts.
#[derive(Debug)]
pub struct Queue {
    texts_max: usize,
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    /// The same for tasks, which must not block.
    told: Notify,
}

impl Queue {
    /// Holds at most `texts_max`, or one batch if that is more.
    #[must_use]
    pub fn new(texts_max: usize) -> Self {
        let texts_max = texts_max.max(BATCH_TEXTS_MAX);
        Self { texts_max, waiting: Mutex::default(), arrived: Condvar::new(), told: Notify::new() }
    }

    /// Queues a job.
    ///
    /// # Errors
    /// `Busy` when there is no room for its texts, or nobody takes jobs any more.
    pub fn push(&self, job: Job) -> Result<(), EmbedError> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.closed || waiting.texts + job.texts.len() > self.texts_max {
            return Err(EmbedError::Busy);
        }
        waiting.texts += job.texts.len();
        waiting.jobs.push(job);
        drop(waiting);
        self.arrived.notify_one();
        self.told.notify_one();
        Ok(())
    }

    /// Waits for jobs and takes as many as fit a batch; `None` once the queue is closed. Jobs
    /// that nobody waits for any more are dropped here.
    #[must_use]
    pub fn take(&self) -> Option<Vec<Job>> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if waiting.closed {
                return None;
            }
            let batch = waiting.batch(Instant::now());
            if !batch.is_empty() {
                return Some(batch);
            }
            waiting = self.arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// As [`Self::take`], for tasks.
    pub async fn next(&self) -> Option<Vec<Job>> {
        loop {
            let told = self.told.notified();
            let (batch, has_more) = {
                let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                if waiting.closed {
                    return None;
                }
                (waiting.batch(Instant::now()), waiting.texts > 0)
            };
            if has_more {
                self.told.notify_one();
            }
            if !batch.is_empty() {
                return Some(batch);
            }
            told.await;
        }
    }

    /// Ends the threads and tasks that take from it.
    pub fn close(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        *waiting = Waiting { closed: true, ..Waiting::default() };
        drop(waiting);
        self.arrived.notify_all();
        self.told.notify_waiters();
    }
}

impl Waiting {
    fn batch(&mut self, now: Instant) -> Vec<Job> {
        let mut batch = Vec::new();
        let mut texts = 0;
        while let Some(job) = self.jobs.peek() {
            let is_dead = job.done.is_closed() || job.deadline <= now;
            if !is_dead && texts + job.texts.len() > BATCH_TEXTS_MAX {
                break;
            }
            let Some(job) = self.jobs.pop() else { break };
            self.texts -= job.texts.len();
            if is_dead {
                // Whoever still listens is told; nobody may be there.
                let _ = job.done.send(Err(EmbedError::Late));
            } else {
                texts += job.texts.len();
                batch.push(job);
            }
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn job(texts: usize, deadline: Instant) -> (Job, oneshot::Receiver<Outcome>) {
        let (done, outcome) = oneshot::channel();
        (Job { texts: vec!["x".into(); texts], deadline, done }, outcome)
    }

    #[test]
    fn the_most_urgent_come_first_and_batches_are_bounded() {
        let queue = Queue::new(100);
        let start = Instant::now() + Duration::from_secs(60);
        let mut outcomes = Vec::new();
        for (texts, seconds) in [(20, 3), (20, 2), (1, 1), (12, 4)] {
            let (job, outcome) = job(texts, start + Duration::from_secs(seconds));
            queue.push(job).expect("room");
            outcomes.push(outcome);
        }
        let sizes = |batch: Vec<Job>| batch.iter().map(|job| job.texts.len()).collect::<Vec<_>>();
        assert_eq!(queue.take().map(sizes), Some(vec![1, 20]));
        assert_eq!(queue.take().map(sizes), Some(vec![20, 12]));
    }

    #[test]
    fn a_full_queue_refuses_and_makes_room_again() {
        let queue = Queue::new(40);
        let later = Instant::now() + Duration::from_secs(60);
        let (first, _outcome) = job(30, later);
        queue.push(first).expect("room");
        assert_eq!(queue.push(job(11, later).0), Err(EmbedError::Busy));
        assert_eq!(queue.take().map(|batch| batch.len()), Some(1));
        queue.push(job(11, later).0).expect("room again");
    }

    #[tokio::test]
    async fn tasks_are_told_of_jobs_and_of_the_end() {
        let queue = std::sync::Arc::new(Queue::new(100));
        let taker = tokio::spawn({
            let queue = queue.clone();
            async move {
                let mut sizes = Vec::new();
                while let Some(batch) = queue.next().await {
                    sizes.push(batch.iter().map(|job| job.texts.len()).sum::<usize>());
                    if sizes.iter().sum::<usize>() == 41 {
                        queue.close();
                    }
                }
                sizes
            }
        });
        tokio::task::yield_now().await;
        let later = Instant::now() + Duration::from_secs(60);
        let mut outcomes = Vec::new();
        for texts in [1, 20, 20] {
            let (job, outcome) = job(texts, later);
            queue.push(job).expect("room");
            outcomes.push(outcome);
        }
        assert_eq!(taker.await.expect("ends"), [21, 20]);
    }

    #[test]
    fn late_jobs_and_those_nobody_waits_for_are_not_computed() {
        let queue = Queue::new(40);
        let now = Instant::now();
        let (late, mut told) = job(1, now);
        let (left, gone) = job(1, now + Duration::from_secs(60));
        let (good, _outcome) = job(2, now + Duration::from_secs(60));
        drop(gone);
        for job in [late, left, good] {
            queue.push(job).expect("room");
        }
        let batch = queue.take().expect("open");
        assert_eq!(batch.iter().map(|job| job.texts.len()).collect::<Vec<_>>(), [2]);
        assert_eq!(told.try_recv().expect("told"), Err(EmbedError::Late));
        queue.close();
        assert!(queue.take().is_none());
        assert_eq!(queue.push(job(1, now).0), Err(EmbedError::Busy));
    }
}
