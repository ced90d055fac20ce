//! What was learned, as bytes to store: a version, then 11 bytes an outcome.

use super::evidence::FEATURES;
use super::verifier::{ErrorBound, OBSERVATIONS_MAX, Outcome, Record, Verifier};

const VERSION: u8 = 1;
/// Steps of a stored feature; features lie within ±8.
const STEPS: f64 = 4096.0;
const OUTCOME_BYTES: usize = FEATURES * 2 + 1;

impl Record {
    /// The record as bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; 6] {
        let (tried, surplus) = (self.tried.to_le_bytes(), self.surplus.to_le_bytes());
        [tried[0], tried[1], surplus[0], surplus[1], surplus[2], surplus[3]]
    }

    /// Reads [`Record::encode`]; a surplus that is no number counts as none.
    #[must_use]
    pub fn decode(bytes: [u8; 6]) -> Self {
        let [t0, t1, s0, s1, s2, s3] = bytes;
        let surplus = f32::from_le_bytes([s0, s1, s2, s3]);
        Self {
            tried: u16::from_le_bytes([t0, t1]),
            surplus: if surplus.is_finite() { surplus.clamp(-64.0, 64.0) } else { 0.0 },
        }
    }
}

impl Outcome {
    /// Length of [`Self::encode`].
    pub const BYTES: usize = OUTCOME_BYTES;

    /// The outcome as bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; OUTCOME_BYTES] {
        let mut out = [0; OUTCOME_BYTES];
        let (places, _) = out.as_chunks_mut::<2>();
        for (place, feature) in places.iter_mut().zip(self.features) {
            let step = (feature * STEPS).round().clamp(f64::from(i16::MIN), f64::from(i16::MAX));
            *place = (step as i16).to_le_bytes();
        }
        out[OUTCOME_BYTES - 1] = u8::from(self.right) | u8::from(self.audited) << 1;
        out
    }

    /// Reads [`Self::encode`].
    #[must_use]
    pub fn decode(bytes: &[u8; OUTCOME_BYTES]) -> Self {
        let flags = bytes[OUTCOME_BYTES - 1];
        let mut outcome = Self { features: [0.0; FEATURES], right: flags & 1 != 0, audited: flags & 2 != 0 };
        for (feature, step) in outcome.features.iter_mut().zip(bytes.as_chunks::<2>().0) {
            *feature = f64::from(i16::from_le_bytes(*step)) / STEPS;
        }
        outcome
    }
}

impl Verifier {
    /// All outcomes, the oldest first: at most 22.5 kB.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1 + self.observations.len() * OUTCOME_BYTES);
        out.push(VERSION);
        let (newer, older) = self.observations.split_at(self.oldest.min(self.observations.len()));
        older.iter().chain(newer).for_each(|seen| out.extend_from_slice(&seen.encode()));
        out
    }

    /// Reads [`Verifier::encode`] and fits the model to it; `None` for anything else. The bound may be
    /// another than it was.
    #[must_use]
    pub fn decode(bytes: &[u8], bound: ErrorBound, audit_share: f64) -> Option<Self> {
        let (&version, rest) = bytes.split_first()?;
        let (outcomes, torn) = rest.as_chunks::<OUTCOME_BYTES>();
        if version != VERSION || !torn.is_empty() || outcomes.len() > OBSERVATIONS_MAX {
            return None;
        }
        let mut verifier = Self::new(bound, audit_share);
        outcomes.iter().for_each(|bytes| verifier.observe(Outcome::decode(bytes)));
        verifier.fit();
        Some(verifier)
    }
}
