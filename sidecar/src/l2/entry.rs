//! What is kept with a vector.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use tidegate_core::cache::semantic::Record;
use tidegate_core::cache::semantic::guard::Features;
use tidegate_core::route::Protocol;

/// Memory of an entry besides its texts, in bytes.
const FIXED_BYTES: usize = size_of::<Entry>();
/// One stored answer with the prompt it was given to.
#[derive(Debug)]
pub struct Entry {
    /// Its name: 128 random bits in hexadecimal.
    pub name: Box<str>,
    /// Whose it is.
    pub tenant: Box<str>,
    /// The model asked for.
    pub model: Box<str>,
    /// The words of the last user turn.
    pub prompt: Box<str>,
    /// What the guard keeps of them.
    pub features: Features,
    /// The answer, as a JSON document in `protocol`.
    pub body: Bytes,
    /// The protocol of the answer.
    pub protocol: Protocol,
    /// `x-gateway-provider` of the answer, possibly empty.
    pub provider: Box<str>,
    /// `x-gateway-model` of the answer, possibly empty.
    pub answered_by: Box<str>,
    /// When it was stored, in milliseconds since 1970.
    pub stored_at_ms: u64,
    /// Which answer it is: those that were found equal share one number.
    pub answer: u64,
    /// What was learned of it.
    pub record: Mutex<Record>,
}

impl Entry {
    /// What was learned of it.
    #[must_use]
    pub fn learned(&self) -> Record {
        *self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Memory of this value, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        FIXED_BYTES
            + self.name.len()
            + self.tenant.len()
            + self.model.len()
            + self.prompt.len()
            + self.features.memory_bytes()
            + self.body.len()
            + self.provider.len()
            + self.answered_by.len()
    }

    /// Whole seconds since it was stored, the value of `age`.
    #[must_use]
    pub const fn age_s(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.stored_at_ms) / 1000
    }
}
