//! The bus within one process: a bounded queue. What waits in it is lost with the process; filters
//! send again what was not taken.

use tokio::sync::mpsc;

use super::{Envelope, EventBus, EventSource, Full};

/// Where batches are put.
#[derive(Debug, Clone)]
pub struct LocalBus(mpsc::Sender<Envelope>);

/// Where they are taken from.
#[derive(Debug)]
pub struct LocalSource(mpsc::Receiver<Envelope>);

/// A bus on which `capacity` batches may wait.
#[must_use]
pub fn local(capacity: usize) -> (LocalBus, LocalSource) {
    let (sender, receiver) = mpsc::channel(capacity.max(1));
    (LocalBus(sender), LocalSource(receiver))
}

impl EventBus for LocalBus {
    fn publish(&self, envelope: Envelope) -> Result<(), Full> {
        self.0.try_send(envelope).map_err(|_| Full)
    }
}

impl EventSource for LocalSource {
    async fn next(&mut self) -> Option<Envelope> {
        self.0.recv().await
    }

    async fn acknowledge(&mut self) {}
}

#[cfg(test)]
mod tests {
    use tidegate_core::event::Batch;

    use super::*;

    fn envelope(number: u64) -> Envelope {
        let batch = Batch { number, events: vec![], traffic: vec![], policies: vec![] };
        Envelope { vm: "a".into(), batch }
    }

    #[tokio::test]
    async fn it_is_bounded_and_keeps_the_order() {
        let (bus, mut source) = local(2);
        assert_eq!([1, 2, 3].map(|n| bus.publish(envelope(n)).is_ok()), [true, true, false]);
        assert_eq!(source.next().await.map(|e| e.batch.number), Some(1));
        source.acknowledge().await;
        assert_eq!(bus.publish(envelope(4)), Ok(()));
        drop(bus);
        assert_eq!(source.next().await.map(|e| e.batch.number), Some(2));
        assert_eq!(source.next().await.map(|e| e.batch.number), Some(4));
        assert_eq!(source.next().await, None);
    }
}
