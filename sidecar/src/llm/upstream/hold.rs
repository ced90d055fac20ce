//! Lets only whole events pass. A provider may break off in the middle of an event; the caller
//! must then be able to read the error event that follows, so half an event is kept back until
//! its other half comes. Chunks that end with an event, nearly all, pass uncopied.

use bytes::{Bytes, BytesMut};
use tidegate_core::sse::EVENT_BYTES_MAX;

/// The tail of a stream that is not yet a whole event; at most [`EVENT_BYTES_MAX`] and a chunk.
#[derive(Debug, Default)]
pub struct Hold {
    tail: BytesMut,
}

impl Hold {
    /// Takes a chunk and gives what may pass now; empty when nothing may.
    pub fn push(&mut self, mut chunk: Bytes) -> Bytes {
        if self.tail.is_empty() {
            let Some(end) = last_boundary(&chunk, 0) else {
                self.tail.extend_from_slice(&chunk);
                return self.overflow();
            };
            self.tail.extend_from_slice(chunk.get(end..).unwrap_or_default());
            chunk.truncate(end);
            return chunk;
        }
        let searched = self.tail.len();
        self.tail.extend_from_slice(&chunk);
        match last_boundary(&self.tail, searched) {
            Some(end) => self.tail.split_to(end).freeze(),
            None => self.overflow(),
        }
    }

    /// The unfinished event, when the stream has ended.
    #[must_use]
    pub fn rest(&mut self) -> Bytes {
        self.tail.split().freeze()
    }

    /// An event longer than any real one is let go in pieces rather than kept.
    fn overflow(&mut self) -> Bytes {
        if self.tail.len() > EVENT_BYTES_MAX { self.tail.split().freeze() } else { Bytes::new() }
    }
}

/// Where the last blank line of `bytes` ends; no boundary ends before `from`.
fn last_boundary(bytes: &[u8], from: usize) -> Option<usize> {
    (from + 1..=bytes.len()).rev().find(|end| {
        let head = bytes.get(..*end).unwrap_or_default();
        head.ends_with(b"\n\n") || head.ends_with(b"\n\r\n") || head.ends_with(b"\r\r")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_events_pass_uncopied() {
        let chunk = Bytes::from_static(b"data: a\n\ndata: b\r\n\r\n");
        let mut hold = Hold::default();
        let passed = hold.push(chunk.clone());
        assert_eq!((passed.as_ptr(), passed.len()), (chunk.as_ptr(), chunk.len()));
        assert!(hold.rest().is_empty());
    }

    #[test]
    fn split_anywhere_the_bytes_stay_the_same_and_every_pass_ends_an_event() {
        let stream = "data: 你\n\n: ping\r\n\r\ndata: b\r\rdata: [DONE]\n\n".as_bytes();
        for at in 0..=stream.len() {
            let mut hold = Hold::default();
            let mut out = Vec::new();
            for part in [&stream[..at], &stream[at..]] {
                out.extend_from_slice(&hold.push(Bytes::copy_from_slice(part)));
                assert!(out.is_empty() || last_boundary(&out, 0) == Some(out.len()), "split at {at}");
            }
            out.extend_from_slice(&hold.rest());
            assert_eq!(out, stream, "split at {at}");
        }
    }

    #[test]
    fn half_an_event_is_kept_back() {
        let mut hold = Hold::default();
        assert_eq!(hold.push(Bytes::from_static(b"data: a\n\ndata: {\"b")), "data: a\n\n");
        assert!(hold.push(Bytes::from_static(b"c")).is_empty());
        assert_eq!(hold.rest(), "data: {\"bc");
    }

    #[test]
    fn a_giant_event_is_not_kept() {
        let mut hold = Hold::default();
        let mut passed = 0;
        for _ in 0..40 {
            passed += hold.push(Bytes::from(vec![b'x'; EVENT_BYTES_MAX / 10])).len();
            assert!(hold.tail.len() <= EVENT_BYTES_MAX);
        }
        assert!(passed > 2 * EVENT_BYTES_MAX);
    }
}
