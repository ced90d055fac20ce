//! Event streams: a split at any byte changes nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_core::sse::Scanner;

fuzz_target!(|input: (usize, &[u8])| {
    let (at, stream) = input;
    let mut whole = Scanner::new();
    whole.push(stream);
    let (head, tail) = stream.split_at(at % (stream.len() + 1));
    let mut split = Scanner::new();
    split.push(head);
    split.push(tail);
    assert_eq!(whole.end(), split.end());
});
