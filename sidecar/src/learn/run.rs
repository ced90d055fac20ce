//! The learning loop at work.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};

use tidegate_core::event::Attribute;
use tidegate_core::incident::cluster::Partition;

use super::{Learner, Seen};
use crate::bus::{Envelope, EventSource, Heard, Lane};
use crate::clusters::{Engine, Kept, Observation, Tally};
use crate::control::Control;
use crate::keys::unix_ms;
use crate::llm::Providers;

/// How often the loop looks at what it heard.
const INTERVAL: Duration = Duration::from_millis(250);
/// How often what was taken from lanes is kept, and then acknowledged.
const KEEP_INTERVAL: Duration = Duration::from_secs(2);
/// Most that is written so in a second, over time: a store may have a history of all of it.
const KEEP_BYTES_PER_SECOND: usize = 32 << 10;
/// Longest that the end of the process waits for the bus.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(3);

/// Learns from what `source` gives until the bus ends or the process drains.
pub async fn run(
    clusters: Arc<Engine>,
    source: impl EventSource + 'static,
    control: Arc<Control>,
    providers: Arc<Providers>,
    mut draining: watch::Receiver<bool>,
) {
    let learner = Learner::new(Arc::clone(&clusters));
    let mut work = Work {
        clusters,
        source,
        control,
        providers,
        learner: Some(learner),
        own: Seen::default(),
        lanes: BTreeMap::new(),
        keep_due: Instant::now() + KEEP_INTERVAL,
    };
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let is_over = async { draining.wait_for(|draining| *draining).await.is_ok() };
        let heard = tokio::select! {
            heard = work.source.next() => Some(heard),
            _ = ticks.tick() => None,
            _ = is_over => break,
        };
        match heard {
            Some(None) => break,
            Some(Some(Heard::Batch(lane, envelope))) => work.take(lane, envelope).await,
            Some(Some(Heard::Assigned(lanes))) => work.assigned(lanes).await,
            Some(Some(Heard::Revoked(lanes))) => lanes.iter().for_each(|lane| work.let_go(lane)),
            None => {
                if !work.decide().await {
                    return;
                }
                if Instant::now() >= work.keep_due {
                    work.keep().await;
                }
            }
        }
    }
    // Whoever takes over goes on where this one stops.
    work.keep().await;
    // A source takes its leave of its bus, which may not answer.
    let (done, left) = oneshot::channel();
    let source = work.source;
    std::thread::spawn(move || {
        source.leave();
        let _: Result<(), ()> = done.send(());
    });
    if tokio::time::timeout(LEAVE_TIMEOUT, left).await.is_err() {
        tracing::warn!("the bus did not answer when this sidecar took its leave");
    }
}

/// The loop's parts.
struct Work<S> {
    clusters: Arc<Engine>,
    source: S,
    control: Arc<Control>,
    providers: Arc<Providers>,
    /// Away while it decides.
    learner: Option<Learner<Arc<Engine>>>,
    /// The batches that came by no lane.
    own: Seen,
    /// The batches of the lanes that are this sidecar's.
    lanes: BTreeMap<Lane, Seen>,
    keep_due: Instant,
}

impl<S: EventSource> Work<S> {
    async fn take(&mut self, lane: Option<Lane>, envelope: Envelope) {
        let seen = match &lane {
            // A lane that went away with its last messages still on their way here.
            Some(lane) => match self.lanes.get_mut(lane) {
                Some(seen) => seen,
                None => return,
            },
            None => &mut self.own,
        };
        if !seen.take(&envelope.vm, envelope.batch.number) {
            return;
        }
        understand(&self.clusters, &envelope, lane.as_ref(), unix_ms()).await;
        let Some(learner) = &mut self.learner else { return };
        let notes = learner.take(envelope, unix_ms());
        for record in notes.iter().filter_map(|note| self.control.note_policy(note, unix_ms())) {
            learner.forget(&record.cluster_id);
        }
    }

    /// Takes over what is new among `lanes`, and lets go of the others.
    async fn assigned(&mut self, lanes: Vec<Lane>) {
        let gone: Vec<Lane> = self.lanes.keys().filter(|lane| !lanes.contains(lane)).cloned().collect();
        gone.iter().for_each(|lane| self.let_go(lane));
        for lane in lanes {
            if self.lanes.contains_key(&lane) {
                continue;
            }
            let (clusters, taken) = (self.clusters.clone(), lane.clone());
            let work = tokio::task::spawn_blocking(move || clusters.take_over(&taken, unix_ms()));
            match work.await {
                Ok(Ok(seen)) => {
                    tracing::info!(%lane, "this sidecar learns from this lane of the bus now");
                    self.lanes.insert(lane, seen);
                }
                Ok(Err(error)) => {
                    tracing::error!(%lane, %error, "what was counted of a lane cannot be read");
                    self.source.start_over();
                }
                Err(error) => {
                    tracing::error!(%lane, %error, "a lane could not be taken over");
                    self.source.start_over();
                }
            }
        }
    }

    fn let_go(&mut self, lane: &Lane) {
        if self.lanes.remove(lane).is_some() {
            tracing::info!(%lane, "another sidecar learns from this lane of the bus now");
            self.clusters.let_go(lane);
        }
    }

    /// Decides about policies; false when the loop has broken down.
    async fn decide(&mut self) -> bool {
        let Some(mut learner) = self.learner.take() else { return false };
        let (control, providers) = (Arc::clone(&self.control), Arc::clone(&self.providers));
        // Where others hear about all the traffic, this sidecar knows nothing that policies could go by.
        learner.set_informed(!self.source.has_lanes() || !self.lanes.is_empty());
        // Decisions are kept on the disk before they are in force.
        let work = move || {
            let only_models = |provider: &str| providers.only_models_of(provider);
            control.decide_policies(&mut learner, &only_models, unix_ms());
            steer(&control, &providers, &mut learner);
            learner
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(back) => {
                self.learner = Some(back);
                true
            }
            Err(error) => {
                tracing::error!(%error, "the learning loop has ended; policies stay as they are");
                false
            }
        }
    }

    /// Keeps what was taken from lanes, and then tells the bus that it need not come again.
    async fn keep(&mut self) {
        self.keep_due = Instant::now() + KEEP_INTERVAL;
        let (clusters, lanes) = (self.clusters.clone(), self.lanes.clone());
        match tokio::task::spawn_blocking(move || clusters.keep_lanes(&lanes)).await {
            Ok(Ok(Kept { lost, bytes })) if lost.is_empty() => {
                let pause = Duration::from_secs_f64(bytes as f64 / KEEP_BYTES_PER_SECOND as f64);
                self.keep_due = Instant::now() + KEEP_INTERVAL.max(pause);
                self.source.acknowledge().await;
            }
            Ok(Ok(Kept { lost, .. })) => {
                lost.iter().for_each(|lane| self.let_go(lane));
                self.source.start_over();
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "what was counted could not be kept; it stays on the bus")
            }
            Err(error) => tracing::error!(%error, "what was counted could not be kept; it stays on the bus"),
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
pub async fn understand(clusters: &Engine, envelope: &Envelope, lane: Option<&Lane>, now_ms: u64) {
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
    clusters.tally(&tallies, lane, now_ms);
}
