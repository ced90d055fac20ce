//! A gate as bytes of a cell.

use super::tally::Tally;
use super::{Canaries, Gate, State};

/// Most numbers of a state beside its time.
const NUMBERS: usize = 6;
/// Size of an encoded gate, in bytes.
pub const GATE_BYTES: usize = 1 + 8 + NUMBERS * 4;

impl Gate {
    /// The gate as bytes of a cell.
    #[must_use]
    pub fn encode(&self) -> [u8; GATE_BYTES] {
        let (kind, time, numbers) = match self.state {
            State::Open { since_ms, canaries: Canaries { refused, out, sent, apart, failed, owed } } => {
                (0u8, since_ms, [refused, out, sent, apart, failed, owed])
            }
            State::Probing { since_ms, out, tally: Tally { good, bad, run } } => {
                (1, since_ms, [out, good, bad, run, 0, 0])
            }
            State::Recovering { since_ms, step, offered, passed, tally: Tally { good, bad, run } } => {
                (2, since_ms, [step, offered, passed, good, bad, run])
            }
            State::Passed => (3, 0, [0; NUMBERS]),
            State::Limited { due_ns } => (4, due_ns, [0; NUMBERS]),
            State::Watching { since_ms, tally: Tally { good, bad, run } } => {
                (5, since_ms, [good, bad, run, 0, 0, 0])
            }
        };
        let mut out = [0; GATE_BYTES];
        out[0] = kind;
        out[1..9].copy_from_slice(&time.to_le_bytes());
        let (chunks, _) = out[9..].as_chunks_mut::<4>();
        for (chunk, number) in chunks.iter_mut().zip(numbers) {
            *chunk = number.to_le_bytes();
        }
        out
    }

    /// Reads what [`Gate::encode`] wrote; `None` for anything else.
    #[must_use]
    pub fn decode(bytes: &[u8; GATE_BYTES]) -> Option<Self> {
        let (&[kind], rest) = bytes.split_first_chunk::<1>()?;
        let (time, rest) = rest.split_first_chunk::<8>()?;
        let time = u64::from_le_bytes(*time);
        let (chunks, _) = rest.as_chunks::<4>();
        let numbers: &[[u8; 4]; NUMBERS] = chunks.try_into().ok()?;
        let [a, b, c, d, e, f] = numbers.map(u32::from_le_bytes);
        let state = match kind {
            0 => {
                let canaries = Canaries { refused: a, out: b, sent: c, apart: d, failed: e, owed: f };
                State::Open { since_ms: time, canaries }
            }
            1 => State::Probing { since_ms: time, out: a, tally: Tally { good: b, bad: c, run: d } },
            2 => {
                let tally = Tally { good: d, bad: e, run: f };
                State::Recovering { since_ms: time, step: a, offered: b, passed: c, tally }
            }
            3 => State::Passed,
            4 => State::Limited { due_ns: time },
            5 => State::Watching { since_ms: time, tally: Tally { good: a, bad: b, run: c } },
            _ => return None,
        };
        Some(Self { state })
    }
}
