//! A timer for waits that begin and end with every chunk of a stream.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// Measures only the time in which we wait for whoever produces: a caller that reads slowly
/// uses up its own time. Made to cost nothing while chunks come in time.
#[derive(Debug)]
pub struct IdleTimer {
    limit: Duration,
    since: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl IdleTimer {
    /// A timer for waits of at most `limit`; no wait has begun.
    #[must_use]
    pub const fn new(limit: Duration) -> Self {
        Self { limit, since: None, sleep: None }
    }

    /// The longest wait.
    #[must_use]
    pub const fn limit(&self) -> Duration {
        self.limit
    }

    /// Something came; the wait is over.
    pub const fn stop(&mut self) {
        self.since = None;
    }

    /// Begins a wait, or goes on with it; ready once it has lasted too long. The timer is not
    /// moved at every chunk, but when it fires: if the present wait began later than the one
    /// it was set for, it is set to this wait's own end.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let due = *self.since.get_or_insert_with(Instant::now) + self.limit;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        loop {
            ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() >= due {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(due);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_wait_has_the_whole_limit() {
        let mut timer = IdleTimer::new(Duration::from_secs(10));
        let start = Instant::now();
        for _ in 0..3 {
            let chunk_came = tokio::time::timeout(Duration::from_secs(6), poll_fn(|cx| timer.poll(cx))).await;
            assert!(chunk_came.is_err(), "no wait was longer than six seconds");
            timer.stop();
        }
        poll_fn(|cx| timer.poll(cx)).await;
        assert_eq!(start.elapsed().as_secs(), 3 * 6 + 10);
    }
}
