//! Whatever lies in a shared cell or comes from the host is read without a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_core::breaker::Breaker;
use tidegate_core::cache::Entry;
use tidegate_core::cache::slots::{Index, SET_BYTES};
use tidegate_core::limit::BucketSet;
use tidegate_core::wire::Identity;
use tidegate_filter::headers::HeaderMap;

fuzz_target!(|bytes: &[u8]| {
    let _ = Breaker::decode_any(bytes);
    let _ = Entry::decode(bytes);
    let _ = BucketSet::decode(bytes).encode();
    let _ = HeaderMap::new(bytes).iter().count();
    let _ = std::str::from_utf8(bytes).map(Identity::from_header);
    let mut index = Index::decode(bytes);
    if index.bytes() <= SET_BYTES && index.claim(1, 100, 10, 5).is_some() {
        assert!(index.bytes() <= SET_BYTES);
    }
});
