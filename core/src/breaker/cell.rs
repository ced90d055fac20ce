//! A breaker as the bytes of a shared cell: version, kind, owner's tag, then the numbers of the
//! state. Everything in one cell, so that a compare-and-swap covers it all.

use super::{Breaker, Counts, State};

const VERSION: u8 = 1;
const CLOSED: u8 = 0;
const OPEN: u8 = 1;
const HALF_OPEN: u8 = 2;
/// Size of an encoded breaker, in bytes.
pub const CELL_BYTES: usize = 2 + 8 + 8 + 4 * 4;

impl Breaker {
    /// The cell of the breaker whose key hashes to `tag`.
    #[must_use]
    pub fn encode(&self, tag: u64) -> [u8; CELL_BYTES] {
        let (kind, time, numbers) = match self.state {
            State::Closed { half_start_ms, now, before } => {
                (CLOSED, half_start_ms, [now.failures, now.successes, before.failures, before.successes])
            }
            State::Open { since_ms } => (OPEN, since_ms, [0; 4]),
            State::HalfOpen { step, offered, passed } => (HALF_OPEN, 0, [step, offered, passed, 0]),
        };
        let mut out = [0; CELL_BYTES];
        (out[0], out[1]) = (VERSION, kind);
        out[2..10].copy_from_slice(&tag.to_le_bytes());
        out[10..18].copy_from_slice(&time.to_le_bytes());
        let (chunks, _) = out[18..].as_chunks_mut::<4>();
        for (chunk, number) in chunks.iter_mut().zip(numbers) {
            *chunk = number.to_le_bytes();
        }
        out
    }

    /// Reads a cell; `None` when it is not one, or another key's.
    #[must_use]
    pub fn decode(bytes: &[u8], tag: u64) -> Option<Self> {
        let (found, breaker) = Self::decode_any(bytes)?;
        (found == tag).then_some(breaker)
    }

    /// Reads a cell whoever it belongs to.
    #[must_use]
    pub fn decode_any(bytes: &[u8]) -> Option<(u64, Self)> {
        let bytes: &[u8; CELL_BYTES] = bytes.try_into().ok()?;
        let (&[version, kind], rest) = bytes.split_first_chunk::<2>()?;
        let (tag, rest) = rest.split_first_chunk::<8>()?;
        let (time, rest) = rest.split_first_chunk::<8>()?;
        let (chunks, _) = rest.as_chunks::<4>();
        let mut numbers = chunks.iter().map(|c| u32::from_le_bytes(*c));
        let mut next = || numbers.next().unwrap_or_default();
        let (a, b, c, d) = (next(), next(), next(), next());
        let time = u64::from_le_bytes(*time);
        let state = match (version, kind) {
            (VERSION, CLOSED) => State::Closed {
                half_start_ms: time,
                now: Counts { failures: a, successes: b },
                before: Counts { failures: c, successes: d },
            },
            (VERSION, OPEN) => State::Open { since_ms: time },
            (VERSION, HALF_OPEN) => State::HalfOpen { step: a, offered: b, passed: c },
            _ => return None,
        };
        Some((u64::from_le_bytes(*tag), Self { state }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_keys_cell_and_foreign_bytes_are_not_mine() {
        let cell = Breaker::default().encode(1);
        assert_eq!(Breaker::decode(&cell, 1), Some(Breaker::default()));
        assert_eq!(Breaker::decode(&cell, 2), None);
        assert_eq!(Breaker::decode(&cell[1..], 1), None);
        assert_eq!(Breaker::decode(&[0; CELL_BYTES], 0), None);
    }
}
