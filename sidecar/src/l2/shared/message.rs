//! What gateways tell each other of, in a stream.

use tidegate_core::cache::semantic::Outcome;

use super::super::entry::Name;
use super::keys::Space;

const STORED: u8 = 1;
const LEARNED: u8 = 2;

/// Which gateway says it: 64 random bits, drawn at its start.
pub type Gateway = [u8; 8];

/// One thing that a gateway did.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// It stored an answer under this name.
    Stored {
        /// The model of its vector.
        space: Space,
        /// Its name.
        name: Name,
    },
    /// It found out whether an answer would have been right for a near prompt.
    Learned {
        /// The model of the vectors.
        space: Space,
        /// Whose answer.
        name: Name,
        /// What it saw, and what was so.
        outcome: Outcome,
        /// Whether somebody said that the answer was wrong: it is not served at this distance again.
        raises: bool,
        /// The tenant.
        tenant: Box<str>,
    },
}

impl Message {
    /// The message as bytes.
    #[must_use]
    pub fn encode(&self, from: Gateway) -> Vec<u8> {
        let mut out = from.to_vec();
        match self {
            Self::Stored { space, name } => {
                out.push(STORED);
                out.extend_from_slice(&space.0);
                out.extend_from_slice(name.bytes());
            }
            Self::Learned { space, name, outcome, raises, tenant } => {
                out.push(LEARNED);
                out.extend_from_slice(&space.0);
                out.extend_from_slice(name.bytes());
                out.extend_from_slice(&outcome.encode());
                out.push(u8::from(*raises));
                out.extend_from_slice(tenant.as_bytes());
            }
        }
        out
    }

    /// Reads [`Self::encode`]; `None` for what this version does not know.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<(Gateway, Self)> {
        let (from, rest) = bytes.split_first_chunk()?;
        let (&kind, rest) = rest.split_first()?;
        let message = match kind {
            STORED => {
                let (space, rest) = rest.split_first_chunk()?;
                let name = rest.try_into().ok()?;
                Self::Stored { space: Space(*space), name: Name::from_bytes(name) }
            }
            LEARNED => {
                let (space, rest) = rest.split_first_chunk()?;
                let (name, rest) = rest.split_first_chunk()?;
                let (outcome, rest) = rest.split_first_chunk()?;
                let (raises, tenant) = rest.split_first()?;
                Self::Learned {
                    space: Space(*space),
                    name: Name::from_bytes(*name),
                    outcome: Outcome::decode(outcome),
                    raises: *raises == 1,
                    tenant: std::str::from_utf8(tenant).ok()?.into(),
                }
            }
            _ => return None,
        };
        Some((*from, message))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_message_survives_the_stream() {
        let (space, name) = (Space([7; 8]), Name::of(&[9; 32]));
        let mut bytes = [0; Outcome::BYTES];
        bytes[9] = 0x0e;
        bytes[10] = 1;
        let outcome = Outcome::decode(&bytes);
        assert!(outcome.is_right() && (outcome.similarity() - 0.875).abs() < 1e-6);
        for message in [
            Message::Stored { space, name },
            Message::Learned { space, name, outcome, raises: true, tenant: "acme".into() },
        ] {
            assert_eq!(Message::decode(&message.encode([1; 8])), Some(([1; 8], message)));
        }
    }

    proptest! {
        #[test]
        fn whatever_is_in_the_stream_is_read_or_passed_over(bytes in proptest::collection::vec(any::<u8>(), 0..96)) {
            if let Some((from, message)) = Message::decode(&bytes) {
                prop_assert_eq!(Message::decode(&message.encode(from)), Some((from, message)));
            }
        }
    }
}
