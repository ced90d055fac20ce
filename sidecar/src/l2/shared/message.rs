//! What gateways tell each other of, in a stream.

use super::super::entry::Name;
use super::keys::Space;

const STORED: u8 = 1;

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
        let stored = Message::Stored { space: Space([7; 8]), name: Name::of(&[9; 32]) };
        assert_eq!(Message::decode(&stored.encode([1; 8])), Some(([1; 8], stored)));
    }

    proptest! {
        #[test]
        fn whatever_is_in_the_stream_is_read_or_passed_over(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Some((from, message)) = Message::decode(&bytes) {
                prop_assert_eq!(message.encode(from), bytes);
            }
        }
    }
}
