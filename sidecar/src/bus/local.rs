//! The bus within one process: a bounded queue. What waits in it is lost with the process; filters
//! send again what was not taken.

use tokio::sync::mpsc;

use super::{Delivery, Envelope, EventBus, EventSource, Full, Heard};

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
    fn publish(&self, envelope: Envelope) -> Result<Delivery, Full> {
        self.0.try_send(envelope).map(|()| Delivery::ARRIVED).map_err(|_| Full)
    }
}

impl EventSource for LocalSource {
    async fn next(&mut self) -> Option<Heard> {
        self.0.recv().await.map(|envelope| Heard::Batch(None, envelope))
    }

    async fn acknowledge(&mut self) {}

    fn has_lanes(&self) -> bool {
        false
    }

    fn start_over(&mut self) {}

    fn leave(self) {}
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
        let heard = |number| Some(Heard::Batch(None, envelope(number)));
        assert_eq!(source.next().await, heard(1));
        source.acknowledge().await;
        assert!(bus.publish(envelope(4)).is_ok());
        drop(bus);
        assert_eq!([source.next().await, source.next().await], [heard(2), heard(4)]);
        assert_eq!(source.next().await, None);
    }
}
