//! The binary encoding of Amazon's event streams (`application/vnd.amazon.eventstream`): frames
//! with lengths, typed headers, a payload and two checksums. Each becomes one SSE event whose
//! data is `{"TYPE":PAYLOAD}`, so that all streams go the same way from there on.

use std::fmt;

/// Longest frame taken, in bytes, as the protocol has it: 16 MiB of payload, 128 KiB of headers.
const FRAME_BYTES_MAX: usize = (16 << 20) + (128 << 10) + PRELUDE_BYTES + CRC_BYTES;
/// Total length, length of the headers, checksum of both.
const PRELUDE_BYTES: usize = 12;
const CRC_BYTES: usize = 4;

/// Why bytes are not an event stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    /// Lengths that contradict each other or the bound.
    Length,
    /// A checksum that does not fit.
    Checksum,
    /// Headers that are cut or of unknown types.
    Headers,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Length => "a frame's lengths are impossible",
            Self::Checksum => "a frame's checksum does not fit",
            Self::Headers => "a frame's headers cannot be read",
        })
    }
}

impl std::error::Error for FrameError {}

/// Takes a stream's bytes, split anywhere. Memory is bounded by one frame.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    pending: Vec<u8>,
}

impl FrameDecoder {
    /// Feeds a chunk and appends to `out` the events it completes.
    ///
    /// # Errors
    /// The bytes are not frames; nothing of the stream after this can be read.
    pub fn push(&mut self, chunk: &[u8], out: &mut Vec<u8>) -> Result<(), FrameError> {
        self.pending.extend_from_slice(chunk);
        let mut at = 0;
        while let Some(rest) = self.pending.get(at..).filter(|rest| rest.len() >= PRELUDE_BYTES) {
            let total = u32_at(rest, 0)? as usize;
            if !(PRELUDE_BYTES + CRC_BYTES..=FRAME_BYTES_MAX).contains(&total) {
                return Err(FrameError::Length);
            }
            if crc32(rest.get(..8).unwrap_or_default()) != u32_at(rest, 8)? {
                return Err(FrameError::Checksum);
            }
            let Some(frame) = rest.get(..total) else { break };
            event(frame, out)?;
            at += total;
        }
        self.pending.drain(..at);
        Ok(())
    }

    /// Whether the bytes so far end inside a frame.
    #[must_use]
    pub const fn is_mid_frame(&self) -> bool {
        !self.pending.is_empty()
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, FrameError> {
    let four = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>()).ok_or(FrameError::Length)?;
    Ok(u32::from_be_bytes(*four))
}

/// Writes one whole frame as an SSE event.
fn event(frame: &[u8], out: &mut Vec<u8>) -> Result<(), FrameError> {
    let (body, crc) =
        frame.split_at_checked(frame.len().saturating_sub(CRC_BYTES)).ok_or(FrameError::Length)?;
    if crc32(body) != u32_at(crc, 0)? {
        return Err(FrameError::Checksum);
    }
    let after = body.get(PRELUDE_BYTES..).ok_or(FrameError::Length)?;
    let (headers, payload) = after.split_at_checked(u32_at(body, 4)? as usize).ok_or(FrameError::Length)?;
    let kind = kind(headers)?;
    if payload.first() != Some(&b'{') {
        return Ok(());
    }
    out.extend_from_slice(b"data: {\"");
    out.extend(kind.iter().filter(|byte| byte.is_ascii_alphanumeric()));
    out.extend_from_slice(b"\":");
    // A line end in JSON is only ever between values.
    out.extend(payload.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }));
    out.extend_from_slice(b"}\n\n");
    Ok(())
}

/// The event's type, or the exception's.
fn kind(mut headers: &[u8]) -> Result<&[u8], FrameError> {
    let mut kind: &[u8] = b"";
    while let Some((length, rest)) = headers.split_first() {
        let (name, rest) = rest.split_at_checked(usize::from(*length)).ok_or(FrameError::Headers)?;
        let (value_type, rest) = rest.split_first().ok_or(FrameError::Headers)?;
        let (value, rest) = match value_type {
            0 | 1 => (&rest[..0], rest),
            2 => fixed(rest, 1)?,
            3 => fixed(rest, 2)?,
            4 => fixed(rest, 4)?,
            5 | 8 => fixed(rest, 8)?,
            9 => fixed(rest, 16)?,
            6 | 7 => {
                let (length, rest) = rest.split_first_chunk::<2>().ok_or(FrameError::Headers)?;
                fixed(rest, usize::from(u16::from_be_bytes(*length)))?
            }
            _ => return Err(FrameError::Headers),
        };
        if matches!(name, b":event-type" | b":exception-type") {
            kind = value;
        }
        headers = rest;
    }
    Ok(kind)
}

fn fixed(bytes: &[u8], length: usize) -> Result<(&[u8], &[u8]), FrameError> {
    bytes.split_at_checked(length).ok_or(FrameError::Headers)
}

/// CRC-32 as in gzip (ISO 3309, reflected polynomial 0xEDB88320).
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        let index = (crc ^ u32::from(*byte)) & 0xff;
        CRC_TABLE.get(index as usize).copied().unwrap_or_default() ^ (crc >> 8)
    };
    !bytes.iter().fold(!0, step)
}

const CRC_TABLE: [u32; 256] = crc_table();

#[expect(clippy::indexing_slicing, clippy::cast_possible_truncation, reason = "evaluated at compile time")]
const fn crc_table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = index as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { 0xEDB8_8320 ^ (crc >> 1) } else { crc >> 1 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(headers: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
        let mut head = Vec::new();
        for (name, value) in headers {
            head.push(name.len() as u8);
            head.extend_from_slice(name.as_bytes());
            head.push(7);
            head.extend_from_slice(&(value.len() as u16).to_be_bytes());
            head.extend_from_slice(value.as_bytes());
        }
        let total = PRELUDE_BYTES + head.len() + payload.len() + CRC_BYTES;
        let mut frame = (total as u32).to_be_bytes().to_vec();
        frame.extend_from_slice(&(head.len() as u32).to_be_bytes());
        frame.extend_from_slice(&crc32(&frame).to_be_bytes());
        frame.extend_from_slice(&head);
        frame.extend_from_slice(payload);
        frame.extend_from_slice(&crc32(&frame).to_be_bytes());
        frame
    }

    fn stream() -> Vec<u8> {
        let mut all = frame(
            &[(":event-type", "contentBlockDelta"), (":content-type", "application/json")],
            "{\"delta\":{\"text\":\"你\"},\r\n\"contentBlockIndex\":0}".as_bytes(),
        );
        all.extend(frame(
            &[(":message-type", "exception"), (":exception-type", "throttlingException")],
            b"{\"message\":\"slow\"}",
        ));
        all
    }

    const EXPECTED: &str = "data: {\"contentBlockDelta\":{\"delta\":{\"text\":\"你\"},  \"contentBlockIndex\":0}}\n\ndata: {\"throttlingException\":{\"message\":\"slow\"}}\n\n";

    #[test]
    fn the_checksum_is_that_of_iso_3309() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }

    /// The empty message and its checksums are from Amazon's own test vectors.
    #[test]
    fn amazons_empty_message_is_one() {
        let empty = [0, 0, 0, 0x10, 0, 0, 0, 0, 0x05, 0xc2, 0x48, 0xeb, 0x7d, 0x98, 0xc8, 0xff];
        let mut out = Vec::new();
        FrameDecoder::default().push(&empty, &mut out).expect("a frame");
        assert!(out.is_empty());
    }

    #[test]
    fn frames_are_events_wherever_they_are_split() {
        let stream = stream();
        for at in 0..=stream.len() {
            let (mut decoder, mut out) = (FrameDecoder::default(), Vec::new());
            decoder.push(&stream[..at], &mut out).expect("frames");
            decoder.push(&stream[at..], &mut out).expect("frames");
            assert_eq!(String::from_utf8_lossy(&out), EXPECTED, "split at {at}");
            assert!(!decoder.is_mid_frame());
        }
    }

    #[test]
    fn a_length_beyond_the_bound_is_not_waited_for() {
        let mut decoder = FrameDecoder::default();
        let prelude = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(decoder.push(&prelude, &mut Vec::new()), Err(FrameError::Length));
    }

    proptest! {
        #[test]
        fn no_damaged_byte_goes_unnoticed(at in any::<prop::sample::Index>(), flip in 1_u8..) {
            let mut stream = stream();
            let at = at.index(stream.len());
            stream[at] ^= flip;
            let (mut decoder, mut out) = (FrameDecoder::default(), Vec::new());
            let pushed = decoder.push(&stream, &mut out);
            prop_assert!(pushed.is_err() || decoder.is_mid_frame());
            prop_assert!(EXPECTED.as_bytes().starts_with(&out));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = FrameDecoder::default().push(&bytes, &mut Vec::new());
        }
    }
}
