//! Amazon's binary event stream: nothing makes the decoder panic, and a split at any byte changes
//! nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_core::provider::FrameDecoder;

fuzz_target!(|input: (usize, &[u8])| {
    let (at, bytes) = input;
    let mut whole = Vec::new();
    let opened = FrameDecoder::default().push(bytes, &mut whole);
    let (head, tail) = bytes.split_at(at % (bytes.len() + 1));
    let mut split = Vec::new();
    let mut decoder = FrameDecoder::default();
    let again = decoder.push(head, &mut split).and_then(|()| decoder.push(tail, &mut split));
    assert_eq!((opened.is_ok(), whole), (again.is_ok(), split));
});
