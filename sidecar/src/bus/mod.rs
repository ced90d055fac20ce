//! How what filters observe reaches whoever learns from it. Delivery is at least once: a batch is
//! acknowledged only after what was learnt from it is kept, and batches are numbered in their VM,
//! so that one that comes twice changes nothing.

mod local;

use std::future::Future;

use serde::{Deserialize, Serialize};
use tidegate_core::event::Batch;

pub use local::{LocalBus, LocalSource, local};

/// A batch and the VM it comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// The VM's random name.
    pub vm: String,
    /// What it observed.
    pub batch: Batch,
}

/// The bus takes no more until some of what waits is done; the sender is to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// Where batches are put.
pub trait EventBus: Send + Sync {
    /// Puts a batch on the bus.
    ///
    /// # Errors
    /// [`Full`]; the batch is not on the bus then.
    fn publish(&self, envelope: Envelope) -> Result<(), Full>;
}

/// Where batches are taken from.
pub trait EventSource: Send {
    /// The next batch; `None` when the bus has ended.
    fn next(&mut self) -> impl Future<Output = Option<Envelope>> + Send;
    /// Confirms all batches taken so far: they need not come again after a restart.
    fn acknowledge(&mut self) -> impl Future<Output = ()> + Send;
}
