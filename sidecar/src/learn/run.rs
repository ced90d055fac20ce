//! The learning loop at work.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use tidegate_core::event::Attribute;
use tidegate_core::incident::cluster::Partition;

use super::Learner;
use crate::bus::{Envelope, EventSource};
use crate::clusters::{Engine, Observation, Tally};
use crate::control::Control;
use crate::keys::unix_ms;
use crate::llm::Providers;

/// How often the loop looks at what it heard.
const INTERVAL: Duration = Duration::from_millis(250);

/// Learns from what `source` gives until the bus ends or the process drains.
pub async fn run(
    clusters: Arc<Engine>,
    mut source: impl EventSource,
    control: Arc<Control>,
    providers: Arc<Providers>,
    mut draining: watch::Receiver<bool>,
) {
    let mut learner = Learner::new(Arc::clone(&clusters));
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let is_over = async { draining.wait_for(|draining| *draining).await.is_ok() };
        let heard = tokio::select! {
            envelope = source.next() => Some(envelope),
            _ = ticks.tick() => None,
            _ = is_over => return,
        };
        match heard {
            Some(None) => return,
            Some(Some(envelope)) => {
                if !learner.is_new(&envelope) {
                    continue;
                }
                understand(&clusters, &envelope, unix_ms()).await;
                let notes = learner.take(envelope, unix_ms());
                for record in notes.iter().filter_map(|note| control.note_policy(note, unix_ms())) {
                    learner.forget(&record.cluster_id);
                }
            }
            None => {
                let (control, providers) = (Arc::clone(&control), Arc::clone(&providers));
                // Decisions are kept on the disk before they are in force.
                let work = move || {
                    let only_models = |provider: &str| providers.only_models_of(provider);
                    control.decide_policies(&mut learner, &only_models, unix_ms());
                    steer(&control, &providers, &mut learner);
                    learner
                };
                match tokio::task::spawn_blocking(work).await {
                    Ok(back) => learner = back,
                    Err(error) => {
                        tracing::error!(%error, "the learning loop has ended; policies stay as they are");
                        return;
                    }
                }
                source.acknowledge().await;
            }
        }
    }
}

/// Tells the router which providers are to be passed by, after hearing from it how those do that
/// were.
fn steer(control: &Control, providers: &Providers, learner: &mut Learner<Arc<Engine>>) {
    let steering = &providers.router.steering;
    for record in steering.take_notes().iter().filter_map(|note| control.note_policy(note, unix_ms())) {
        learner.forget(&record.cluster_id);
    }
    steering.apply(control.steers());
}

/// Has the words of a batch's errors understood, and its failures counted by what they mean.
pub async fn understand(clusters: &Engine, envelope: &Envelope, now_ms: u64) {
    let observations: Vec<Observation> = envelope
        .batch
        .events
        .iter()
        .map(|event| Observation {
            partition: Partition { class: event.class(), source: event.source },
            status: Some(event.status).filter(|status| *status != 0),
            codes: event.codes.clone(),
            template: event.template.clone(),
            signature: event.signature,
        })
        .collect();
    clusters.learn(&observations, now_ms).await;
    let tallies: Vec<Tally<'_>> = envelope
        .batch
        .traffic
        .iter()
        .map(|row| Tally {
            tenant: row.attributes.get(&Attribute::Tenant).filter(|_| !row.hidden).map(String::as_str),
            provider: row.attributes.get(&Attribute::Provider).map(String::as_str),
            requests: row.requests,
            failures: &row.failures,
        })
        .collect();
    clusters.tally(&tallies, now_ms);
}
