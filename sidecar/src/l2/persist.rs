//! What was learned outlives the process, and what was taken back leaves the caches inside Envoy.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::SemanticCache;
use crate::control::Control;
use crate::store::{Store, StoreError, Table};

/// How far the stream of changes in Redis was read.
const READ: &str = "cache_changes_read";
/// How often what was learned is kept.
const INTERVAL: Duration = Duration::from_secs(60);

impl SemanticCache {
    /// Goes on from what was learned before the start, once it is known that the model is the same.
    ///
    /// # Errors
    /// The store failed.
    pub fn recall(self, store: &Store) -> Result<Self, StoreError> {
        *self.unsettled.lock().unwrap_or_else(PoisonError::into_inner) = store.all(Table::Trust)?;
        Ok(self)
    }

    /// Up to where the changes in Redis were read before the start, for [`Self::share`].
    ///
    /// # Errors
    /// The store failed.
    pub fn read_before(store: &Store) -> Result<Option<String>, StoreError> {
        store.get(READ)
    }

    /// Puts to use what was learned before the start, when the model is there.
    pub(super) fn settle(&self) {
        let mut unsettled = self.unsettled.lock().unwrap_or_else(PoisonError::into_inner);
        if !unsettled.is_empty()
            && let Ok(space) = self.space()
        {
            self.trust.restore(std::mem::take(&mut *unsettled), space);
            self.metrics.error_is(self.trust.audits.total());
        }
    }

    /// Keeps what was learned since the last time. Blocks on the disk.
    ///
    /// # Errors
    /// The store failed; then it is lost with the process.
    pub fn keep(&self, store: &Store) -> Result<(), StoreError> {
        let Ok(space) = self.space() else { return Ok(()) };
        self.settle();
        let read = self.shared().and_then(super::Shared::read);
        let kept = self.trust.to_keep(space);
        if kept.is_empty() {
            return Ok(());
        }
        store.write(|writer| {
            kept.iter().try_for_each(|kept| writer.put_record(Table::Trust, &kept.tenant, Some(kept)))?;
            read.iter().try_for_each(|read| writer.put(READ, read))
        })
    }
}

/// Keeps what is learned, and empties the caches inside Envoy when answers are taken back.
pub async fn tend(cache: Arc<SemanticCache>, control: Arc<Control>) {
    let mut taken_back = cache.taken_back.subscribe();
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let is_tick = tokio::select! {
            _ = ticks.tick() => true,
            changed = taken_back.changed() => {
                if changed.is_err() {
                    return;
                }
                false
            }
        };
        let until_ms = *taken_back.borrow_and_update();
        let (cache, control) = (cache.clone(), control.clone());
        let done = tokio::task::spawn_blocking(move || {
            if is_tick {
                cache.keep(control.store()).map_err(|error| error.to_string())
            } else {
                control.forget_answers(until_ms).map_err(|error| error.to_string())
            }
        });
        match done.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "what the cache learned or took back was not kept"),
            Err(error) => tracing::error!(%error, "what the cache learned or took back was not kept"),
        }
    }
}
