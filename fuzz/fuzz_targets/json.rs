//! Request bodies: accepted exactly when serde_json accepts them, and canonical forms are stable.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;
use tidegate_core::chat::{RequestView, Tape};

/// serde_json refuses at its own depth.
const DEPTH_COMPARED: usize = 100;

fuzz_target!(|text: &[u8]| {
    let mut tape = Tape::default();
    let ours = tape.read(text).is_ok();
    let depth = text.iter().filter(|b| matches!(b, b'[' | b'{')).count();
    if depth < DEPTH_COMPARED {
        assert_eq!(ours, serde_json::from_slice::<&RawValue>(text).is_ok());
    }
    if ours {
        let _ = RequestView::new(&tape, text);
        let mut once = Vec::new();
        tape.canonical(text, &mut once);
        tape.read(&once).expect("a canonical form is valid");
        let mut twice = Vec::new();
        tape.canonical(&once, &mut twice);
        assert_eq!(once, twice);
    }
});
