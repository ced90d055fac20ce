//! What is kept with a vector.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use tidegate_core::cache::semantic::Record;
use tidegate_core::cache::semantic::guard::Features;
use tidegate_core::route::Protocol;

/// Memory of an entry besides its texts, in bytes.
const FIXED_BYTES: usize = size_of::<Entry>();

/// What an answer is called, in headers and in Redis: the first half of the SHA-256 of the request it
/// answers, audience included. A fresh answer to the same request has the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name([u8; Self::BYTES]);

impl Name {
    /// Length in bytes.
    pub const BYTES: usize = 16;

    /// The name of the answer to a request with this digest.
    #[must_use]
    pub const fn of(digest: &[u8; 32]) -> Self {
        let (half, _) = digest.split_at(Self::BYTES);
        let mut bytes = [0; Self::BYTES];
        bytes.copy_from_slice(half);
        Self(bytes)
    }

    /// The name as bytes.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// From its bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// Reads the 32 hex digits of `x-gateway-cache-entry`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != Self::BYTES * 2 {
            return None;
        }
        let mut bytes = [0; Self::BYTES];
        for (byte, pair) in bytes.iter_mut().zip(digits.as_chunks::<2>().0) {
            let digit = |place: usize| char::from(*pair.get(place)?).to_digit(16);
            *byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
        }
        Some(Self(bytes))
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// One stored answer with the prompt it was given to.
#[derive(Debug)]
pub struct Entry {
    /// Its name.
    pub name: Name,
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
    /// Until when it may be served, in milliseconds since 1970.
    pub expires_at_ms: u64,
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

/// An entry for tests: of tenant `t`, model `m`.
#[cfg(test)]
pub fn example(prompt: &str, stored_at_ms: u64) -> Entry {
    use sha2::Digest as _;
    Entry {
        name: Name::of(&sha2::Sha256::digest(prompt).into()),
        tenant: "t".into(),
        model: "m".into(),
        prompt: prompt.into(),
        features: Features::of(prompt),
        body: Bytes::from_static(b"{\"choices\":[]}"),
        protocol: Protocol::OpenAi,
        provider: "p".into(),
        answered_by: "m-1".into(),
        stored_at_ms,
        expires_at_ms: stored_at_ms + 60_000,
        answer: 7,
        record: Mutex::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_survives_its_header_and_nothing_else_is_one() {
        let name = Name::of(&std::array::from_fn(|i| i as u8 * 7));
        assert_eq!(Name::parse(&name.to_string()), Some(name));
        assert_eq!(name.to_string().len(), 32);
        for wrong in ["", "00", &"g".repeat(32), &"0".repeat(33), "é000000000000000000000000000000"] {
            assert_eq!(Name::parse(wrong), None, "{wrong}");
        }
    }
}
