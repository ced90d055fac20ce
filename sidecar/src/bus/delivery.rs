//! Whether a batch is where no process can lose it any more. Filters forget a batch only then: until
//! then they send it again, under the same number.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// Most workers of filters whose last batch is remembered; of others a batch that comes again is put on
/// the bus again, which does no harm.
const VMS_MAX: usize = 4096;

/// A batch on its way.
#[derive(Debug, Clone)]
pub struct Delivery(Option<watch::Receiver<bool>>);

/// Tells of the end of the way. Dropped without a word, the batch is lost.
pub type Arrival = Arc<watch::Sender<bool>>;

impl Delivery {
    /// A batch that is as safe as it will ever be.
    pub const ARRIVED: Self = Self(None);

    /// A batch that sets out now.
    #[must_use]
    pub fn new() -> (Arrival, Self) {
        let (arrival, delivery) = watch::channel(false);
        (Arc::new(arrival), Self(Some(delivery)))
    }

    /// Waits for its arrival; false if it does not arrive within `patience`.
    pub async fn arrives(self, patience: Duration) -> bool {
        let Some(mut delivery) = self.0 else { return true };
        let arrived = tokio::time::timeout(patience, delivery.wait_for(|arrived| *arrived)).await;
        arrived.is_ok_and(|arrived| arrived.is_ok())
    }

    fn has_arrived(&self) -> bool {
        self.0.as_ref().is_none_or(|delivery| *delivery.borrow())
    }

    fn is_lost(&self) -> bool {
        !self.has_arrived() && self.0.as_ref().is_some_and(|delivery| delivery.has_changed().is_err())
    }
}

/// The last batch of each worker of a filter. A worker sends no other one before this has arrived.
#[derive(Debug, Clone, Default)]
pub struct Underway(Arc<Mutex<HashMap<String, (u64, Delivery)>>>);

impl Underway {
    /// The batch `number` of `vm`: the one that is on its way, or one that `send` sets on its way.
    ///
    /// # Errors
    /// Those of `send`.
    pub fn or_send<E>(
        &self,
        vm: &str,
        number: u64,
        send: impl FnOnce() -> Result<Delivery, E>,
    ) -> Result<Delivery, E> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, delivery)) = last.get(vm)
            && *known == number
            && !delivery.is_lost()
        {
            return Ok(delivery.clone());
        }
        let delivery = send()?;
        if last.len() >= VMS_MAX && !last.contains_key(vm) {
            last.retain(|_, (_, delivery)| !delivery.has_arrived());
        }
        if last.len() < VMS_MAX || last.contains_key(vm) {
            last.insert(vm.to_owned(), (number, delivery.clone()));
        }
        Ok(delivery)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(1500);

    #[tokio::test(start_paused = true)]
    async fn a_batch_that_comes_again_is_sent_once_and_confirmed_when_it_has_arrived() {
        let (underway, sent, arrivals) = (Underway::default(), Cell::new(0), RefCell::new(Vec::new()));
        let send = |vm, number| {
            underway.or_send(vm, number, || {
                let (arrival, delivery) = Delivery::new();
                sent.set(sent.get() + 1);
                arrivals.borrow_mut().push(arrival);
                Ok::<_, ()>(delivery)
            })
        };
        assert!(!send("a", 1).expect("sent").arrives(PATIENCE).await);
        let again = send("a", 1).expect("under way");
        assert_eq!(sent.get(), 1);
        arrivals.borrow()[0].send_replace(true);
        assert!(again.arrives(PATIENCE).await);
        assert!(send("a", 1).expect("known").arrives(PATIENCE).await);
        assert_eq!(sent.get(), 1);
        // Lost on its way, and the next of the same worker, and another worker's.
        send("a", 2).expect("sent");
        arrivals.borrow_mut().clear();
        for (vm, number) in [("a", 2), ("a", 3), ("b", 3)] {
            send(vm, number).expect("sent");
        }
        assert_eq!(sent.get(), 5);
        assert_eq!(underway.or_send("c", 1, || Err("full")).expect_err("refused"), "full");
    }

    #[test]
    fn workers_are_remembered_within_the_bound() {
        let underway = Underway::default();
        for vm in 0..2 * VMS_MAX {
            underway.or_send(&format!("v{vm}"), 1, || Ok::<_, ()>(Delivery::ARRIVED)).expect("sent");
        }
        assert!(underway.0.lock().expect("unharmed").len() <= VMS_MAX);
    }
}
