//! Redis, one server or a cluster, as something that may be away.
//!
//! One task keeps a connection, asks once a second whether it still answers, and connects again
//! when it does not. Nobody else waits for any of that: a call fails at once while Redis is away,
//! when [`CALLS_MAX`] calls are under way already, or when its own time is over.

mod health;
mod link;
mod script;
#[cfg(test)]
mod tests;

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use prometheus_client::registry::Registry;
use redis::{RedisError, RedisResult};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{Instant, sleep, timeout};

use self::health::Metrics;
use crate::config::redis::RedisSettings;

pub use health::State;
pub use link::Link;
pub use script::script;

/// Calls under way at a time.
const CALLS_MAX: usize = 256;
/// How often Redis is asked whether it is there.
const PING_INTERVAL: Duration = Duration::from_secs(1);
/// First wait before connecting again; doubles up to [`RECONNECT_MAX`].
const RECONNECT_MIN: Duration = Duration::from_millis(50);
/// Longest wait before connecting again.
const RECONNECT_MAX: Duration = Duration::from_secs(1);

/// Why a call came to nothing.
#[derive(Debug)]
pub enum CallError {
    /// Redis is away; the call was not tried.
    Down,
    /// Too many calls are under way; the call was not tried.
    Busy,
    /// No answer in time. What was asked may have been done.
    TimedOut,
    /// Redis, or the connection, said no. Unless Redis itself did, what was asked may have been
    /// done.
    Failed(RedisError),
}

impl CallError {
    const fn label(&self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Busy => "busy",
            Self::TimedOut => "timeout",
            Self::Failed(_) => "error",
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Down => f.write_str("Redis is away"),
            Self::Busy => write!(f, "{CALLS_MAX} calls of Redis are under way already"),
            Self::TimedOut => f.write_str("Redis did not answer in time"),
            Self::Failed(error) => write!(f, "Redis: {error}"),
        }
    }
}

impl std::error::Error for CallError {}

#[derive(Debug)]
struct Inner {
    link: Mutex<Option<Link>>,
    state: watch::Sender<State>,
    calls: Semaphore,
    /// Somebody's call failed in a way that makes a ping worth while at once.
    doubt: Notify,
    settings: RedisSettings,
    metrics: Metrics,
}

/// The handle; clones share one connection.
#[derive(Debug, Clone)]
pub struct Redis(Arc<Inner>);

impl Redis {
    /// Begins to connect; whether that succeeds is seen by [`Redis::state`]. The connection ends
    /// with the last handle.
    #[must_use]
    pub fn start(settings: RedisSettings, registry: &mut Registry) -> Self {
        let inner = Arc::new(Inner {
            link: Mutex::new(None),
            state: watch::Sender::new(State::Connecting),
            calls: Semaphore::new(CALLS_MAX),
            doubt: Notify::new(),
            settings,
            metrics: Metrics::register(registry),
        });
        tokio::spawn(keep(Arc::downgrade(&inner)));
        Self(inner)
    }

    /// Whether Redis is of use now.
    #[must_use]
    pub fn state(&self) -> State {
        *self.0.state.borrow()
    }

    /// The state, and its changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<State> {
        self.0.state.subscribe()
    }

    /// Makes a call, within the configured time.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn run<T, F, Fut>(&self, call: F) -> Result<T, CallError>
    where
        F: FnOnce(Link) -> Fut,
        Fut: Future<Output = RedisResult<T>>,
    {
        self.run_within(self.0.settings.timeout, call).await
    }

    /// Makes a call that somebody waits for, within `longest` if that is shorter than the
    /// configured time.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn run_within<T, F, Fut>(&self, longest: Duration, call: F) -> Result<T, CallError>
    where
        F: FnOnce(Link) -> Fut,
        Fut: Future<Output = RedisResult<T>>,
    {
        let longest = longest.min(self.0.settings.timeout);
        let outcome = self.try_run(longest, call).await;
        self.0.metrics.called(outcome.as_ref().map_or_else(CallError::label, |_| "ok"));
        outcome
    }

    async fn try_run<T, F, Fut>(&self, longest: Duration, call: F) -> Result<T, CallError>
    where
        F: FnOnce(Link) -> Fut,
        Fut: Future<Output = RedisResult<T>>,
    {
        let link = self.0.link().ok_or(CallError::Down)?;
        let _permit = self.0.calls.try_acquire().map_err(|_| CallError::Busy)?;
        match timeout(longest, call(link)).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) if error.is_timeout() => {
                self.0.doubt.notify_one();
                Err(CallError::TimedOut)
            }
            Ok(Err(error)) => {
                if error.is_io_error() {
                    self.0.doubt.notify_one();
                }
                Err(CallError::Failed(error))
            }
            Err(_) => Err(CallError::TimedOut),
        }
    }
}

impl Inner {
    fn link(&self) -> Option<Link> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn put(&self, link: Option<Link>) {
        *self.link.lock().unwrap_or_else(PoisonError::into_inner) = link;
    }

    /// Returns the state before.
    fn enter(&self, state: State) -> State {
        self.metrics.state(state);
        self.state.send_replace(state)
    }

    /// One ping, and how long it took.
    async fn ping(&self, link: &mut Link) -> Result<Duration, CallError> {
        let sent = Instant::now();
        match timeout(self.settings.timeout, link.ping()).await {
            Ok(Ok(())) => Ok(sent.elapsed()),
            Ok(Err(error)) => Err(CallError::Failed(error)),
            Err(_) => Err(CallError::TimedOut),
        }
    }

    fn answered_within(&self, latency: Duration) {
        self.metrics.pinged(latency);
        if !self.enter(State::of_latency(latency)).is_usable() {
            tracing::info!("redis answers");
        }
    }

    fn lost(&self, error: &CallError) {
        self.put(None);
        if self.enter(State::Down) != State::Down {
            tracing::warn!(%error, "redis does not answer; going on without it");
        }
    }

    async fn connect(&self) -> Result<Link, CallError> {
        let longest = self.settings.connect_timeout;
        let opened = timeout(longest, Link::open(&self.settings)).await.map_err(|_| CallError::TimedOut)?;
        let mut link = opened.map_err(CallError::Failed)?;
        let latency = self.ping(&mut link).await?;
        self.put(Some(link.clone()));
        self.answered_within(latency);
        Ok(link)
    }
}

/// Keeps a connection for as long as there is a handle.
async fn keep(inner: Weak<Inner>) {
    let mut wait = RECONNECT_MIN;
    loop {
        let Some(alive) = inner.upgrade() else { return };
        match alive.connect().await {
            Ok(link) => {
                wait = RECONNECT_MIN;
                drop(alive);
                attend(&inner, link).await;
            }
            Err(error) => alive.lost(&error),
        }
        sleep(wait).await;
        wait = (wait * 2).min(RECONNECT_MAX);
    }
}

/// Pings until there is no answer any more.
async fn attend(inner: &Weak<Inner>, mut link: Link) {
    loop {
        let Some(alive) = inner.upgrade() else { return };
        // A doubt ends the wait early; without one it runs out, which is the usual way.
        let _ = timeout(PING_INTERVAL, alive.doubt.notified()).await;
        match alive.ping(&mut link).await {
            Ok(latency) => alive.answered_within(latency),
            Err(error) => return alive.lost(&error),
        }
    }
}
