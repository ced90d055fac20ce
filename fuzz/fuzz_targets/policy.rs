//! Policy documents: whatever is accepted is valid, and survives being written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_core::policy::Snapshot;

fuzz_target!(|json: &[u8]| {
    if let Ok(snapshot) = Snapshot::parse(json) {
        let again = serde_json::to_vec(&snapshot).expect("serialises");
        assert!(Snapshot::parse(&again).is_ok());
    }
});
