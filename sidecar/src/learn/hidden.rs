//! What this process saw of failures that no caller did, on the bus like the filters' batches:
//! whoever learns on another gateway hears of it too.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use tidegate_core::event::Batch;

use crate::bus::{Envelope, EventBus};
use crate::keys::random;
use crate::llm::Providers;

/// How often there is a batch, if there is anything to tell.
const INTERVAL: Duration = Duration::from_millis(250);

/// Tells what there is to tell until the process drains. A batch for which there is no room comes
/// again; what happens meanwhile is counted in the next.
pub async fn tell(providers: Arc<Providers>, bus: impl EventBus, mut draining: watch::Receiver<bool>) {
    let Ok(vm) = random::name() else {
        tracing::error!(
            "the system gives no random bytes; failures that callers do not see are not learnt from"
        );
        return;
    };
    let (mut number, mut waiting) = (0, None);
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = draining.wait_for(|draining| *draining) => return,
        }
        if waiting.is_none()
            && let Some((events, traffic)) = providers.hidden.take()
        {
            number += 1;
            waiting = Some(Batch { number, events, traffic, policies: Vec::new() });
        }
        if let Some(batch) = waiting.take()
            && bus.publish(Envelope { vm: vm.clone(), batch: batch.clone() }).is_err()
        {
            waiting = Some(batch);
        }
    }
}
