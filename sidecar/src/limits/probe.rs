//! Asking the filter what its buckets hold. Questions wait here until a filter comes for them.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidegate_core::limit::BucketState;
use tidegate_core::wire::{DescribedRequest, LimitAnswer, LimitQuestion, QUESTIONS_MAX};
use tokio::sync::{Notify, oneshot, watch};

/// How long an answer is waited for.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
struct Open {
    next_id: u64,
    unasked: Vec<LimitQuestion>,
    waiting: BTreeMap<u64, oneshot::Sender<Vec<BucketState>>>,
}

/// Questions about buckets; at most [`QUESTIONS_MAX`] at a time.
#[derive(Debug, Default)]
pub struct Probe {
    open: Mutex<Open>,
    news: Notify,
}

impl Probe {
    /// What the limits of a request would say to it; `None` if no filter answers in time.
    pub async fn ask(&self, request: DescribedRequest) -> Option<Vec<BucketState>> {
        let (id, answer) = {
            let mut open = self.lock();
            if open.waiting.len() >= QUESTIONS_MAX {
                return None;
            }
            open.next_id += 1;
            let (sender, answer) = oneshot::channel();
            let id = open.next_id;
            open.waiting.insert(id, sender);
            open.unasked.push(LimitQuestion { id, request });
            (id, answer)
        };
        self.news.notify_one();
        let states = tokio::time::timeout(ANSWER_TIMEOUT, answer).await;
        let mut open = self.lock();
        open.waiting.remove(&id);
        open.unasked.retain(|question| question.id != id);
        states.ok()?.ok()
    }

    /// A filter brings answers and takes the next questions, for which it waits.
    pub async fn exchange(
        &self,
        answers: Vec<LimitAnswer>,
        wait: Duration,
        mut draining: watch::Receiver<bool>,
    ) -> Vec<LimitQuestion> {
        for LimitAnswer { id, states } in answers.into_iter().take(QUESTIONS_MAX) {
            if let Some(waiting) = self.lock().waiting.remove(&id) {
                // Whoever asked may have gone.
                let _ = waiting.send(states);
            }
        }
        let questions = async {
            loop {
                let news = self.news.notified();
                let questions = std::mem::take(&mut self.lock().unasked);
                if !questions.is_empty() {
                    return questions;
                }
                news.await;
            }
        };
        tokio::select! {
            biased;
            questions = questions => questions,
            _ = draining.wait_for(|draining| *draining) => Vec::new(),
            () = tokio::time::sleep(wait) => Vec::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn state() -> BucketState {
        let text = |s: &str| s.to_owned();
        BucketState {
            bucket: text("tenant:a"),
            limit: text("concurrency"),
            most: 1,
            remaining: 1,
            reset_ms: 0,
            wait_ms: 0,
            share_remaining: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_is_answered_by_the_next_exchange() {
        let probe = Arc::new(Probe::default());
        let (_drain, draining) = watch::channel(false);
        let wait = Duration::from_secs(20);
        let asking = tokio::spawn({
            let probe = probe.clone();
            async move { probe.ask(DescribedRequest { tenant: "a".into(), ..Default::default() }).await }
        });
        let questions = probe.exchange(Vec::new(), wait, draining.clone()).await;
        assert_eq!(questions[0].request.tenant, "a");
        let answer = LimitAnswer { id: questions[0].id, states: vec![state()] };
        assert!(probe.exchange(vec![answer], wait, draining).await.is_empty(), "waits, and nothing comes");
        assert_eq!(asking.await.expect("no panic"), Some(vec![state()]));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_filter_the_answer_is_none_and_nothing_is_left_over() {
        let probe = Probe::default();
        assert_eq!(probe.ask(DescribedRequest::default()).await, None);
        let open = probe.lock();
        assert!(open.waiting.is_empty() && open.unasked.is_empty());
    }
}
