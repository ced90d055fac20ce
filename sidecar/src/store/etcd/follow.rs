//! Keeping the copy up to date: everything is read once, then changes are followed by watch. What
//! breaks (a member, a leader, a compaction) begins anew at the next member.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{EventType, WatchResponse, WatchStream};
use redb::Database;
use tokio::sync::watch;

use super::super::StoreError;
use super::super::place::Change;
use super::super::shared::{self, Mark};
use super::Progress;
use super::link::Link;

/// First wait before the next member is tried; doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(50);
/// Longest wait before the next member is tried.
const RETRY_MAX: Duration = Duration::from_secs(2);

/// Runs until nobody listens any more.
pub async fn follow(link: Arc<Link>, database: Arc<Database>, progress: watch::Sender<Progress>) {
    let mut wait = RETRY_MIN;
    while !progress.is_closed() {
        let failure = session(&link, &database, &progress).await;
        let was_up = progress.borrow().is_up;
        progress.send_modify(|p| p.is_up = false);
        if was_up {
            tracing::warn!(error = %failure, "etcd was lost; the gateway goes on with its last copy");
            wait = RETRY_MIN;
        }
        link.next_member().await;
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RETRY_MAX);
    }
}

/// From the first read to the first failure.
async fn session(link: &Link, database: &Database, progress: &watch::Sender<Progress>) -> String {
    match begin(link, database, progress).await {
        Ok(stream) => match pursue(link, database, progress, stream).await {
            Ok(reason) => reason,
            Err(error) => error.to_string(),
        },
        Err(error) => error,
    }
}

async fn begin(
    link: &Link,
    database: &Database,
    progress: &watch::Sender<Progress>,
) -> Result<WatchStream, String> {
    let failed = |error: StoreError| error.to_string();
    let mut content = link.read().await.map_err(|error| error.to_string())?;
    let own = on_disk(|| shared::entries(database)).map_err(failed)?;
    if content.head == 0 && content.entries.is_empty() && !own.is_empty() {
        tracing::info!(entries = own.len(), "etcd has nothing yet; it gets what this gateway has");
        link.seed(&own).await?;
        content = link.read().await.map_err(|error| error.to_string())?;
    }
    let mark = Mark { revision: content.revision, head: content.head };
    let has_news = on_disk(|| shared::replace(database, &content.entries, mark)).map_err(failed)?;
    let stream = link.watch(mark.revision + 1).await.map_err(|error| error.to_string())?;
    progress.send_modify(|p| {
        p.is_up = true;
        p.head = mark.head;
        p.changes += u64::from(has_news);
    });
    Ok(stream)
}

/// Applies what comes; returns why nothing comes any more.
async fn pursue(
    link: &Link,
    database: &Database,
    progress: &watch::Sender<Progress>,
    mut stream: WatchStream,
) -> Result<String, StoreError> {
    loop {
        match stream.message().await {
            Ok(Some(message)) if message.canceled() => {
                return Ok(format!("the watch was cancelled: {}", message.cancel_reason()));
            }
            Ok(Some(message)) => on_disk(|| apply(link, database, progress, &message))?,
            Ok(None) => return Ok("the watch ended".to_owned()),
            Err(error) => return Ok(error.to_string()),
        }
    }
}

/// The database has one writer at a time, which may be waiting for this very runtime to tell it that
/// etcd took its change: others go on while this one waits.
fn on_disk<T>(work: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(work)
}

/// One message holds whole transactions, in order. Those that this gateway made itself are in the
/// copy already.
fn apply(
    link: &Link,
    database: &Database,
    progress: &watch::Sender<Progress>,
    message: &WatchResponse,
) -> Result<(), StoreError> {
    let write = database.begin_write()?;
    let mut mark = Mark::of(&write)?;
    let known = mark.revision;
    let mut changes = Vec::new();
    for event in message.events() {
        let Some(entry) = event.kv().filter(|entry| entry.mod_revision() > known) else { continue };
        mark.revision = mark.revision.max(entry.mod_revision());
        if link.is_head(entry.key()) {
            let is_there = event.event_type() == EventType::Put;
            mark.head = if is_there { entry.mod_revision() } else { 0 };
        } else if let Some(place) = link.place(entry.key()) {
            let value = (event.event_type() == EventType::Put).then(|| entry.value().to_vec());
            changes.push(Change { place, value });
        }
    }
    if mark.revision == known {
        return Ok(());
    }
    let has_news = changes.iter().any(|change| change.place.is_put_in_force());
    for change in changes {
        change.apply(&write)?;
    }
    mark.put(&write)?;
    write.commit()?;
    progress.send_modify(|p| {
        p.head = p.head.max(mark.head);
        p.changes += u64::from(has_news);
    });
    Ok(())
}
