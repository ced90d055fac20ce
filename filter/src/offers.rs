//! What one VM has for the semantic cache: answers that wait to be brought, and when it may be asked
//! again. Bounded in number and in bytes.

use std::collections::VecDeque;

use crate::ports::Call;

/// Most answers that wait.
pub const WAITING_MAX: usize = 64;
/// Most bytes of them.
pub const WAITING_BYTES_MAX: usize = 4 << 20;

/// One VM's answers for the semantic cache.
#[derive(Debug, Default)]
pub struct Offers {
    waiting: VecDeque<Call>,
    bytes: usize,
    rests_until_ns: u64,
}

impl Offers {
    /// Adds a call that brings an answer; false when too much waits already.
    pub fn push(&mut self, call: Call) -> bool {
        let bytes = self.bytes + call.body.len();
        if self.waiting.len() >= WAITING_MAX || bytes > WAITING_BYTES_MAX {
            return false;
        }
        self.bytes = bytes;
        self.waiting.push_back(call);
        true
    }

    /// Takes the oldest.
    pub fn pop(&mut self) -> Option<Call> {
        let call = self.waiting.pop_front()?;
        self.bytes -= call.body.len();
        Some(call)
    }

    /// No look-ups before `ns`.
    pub const fn rest_until(&mut self, ns: u64) {
        self.rests_until_ns = ns;
    }

    /// Whether look-ups rest.
    #[must_use]
    pub const fn rests(&self, now_ns: u64) -> bool {
        now_ns < self.rests_until_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(bytes: usize) -> Call {
        Call { method: "POST", path: String::new(), body: vec![0; bytes], timeout_ms: 1 }
    }

    #[test]
    fn number_and_bytes_are_bounded_and_room_comes_back() {
        let mut offers = Offers::default();
        assert_eq!((0..100).filter(|_| offers.push(call(1))).count(), WAITING_MAX);
        while offers.pop().is_some() {}
        assert!(offers.push(call(WAITING_BYTES_MAX)) && !offers.push(call(1)));
        assert_eq!(offers.pop().map(|call| call.body.len()), Some(WAITING_BYTES_MAX));
        assert!(offers.push(call(1)) && offers.pop().is_some() && offers.pop().is_none());
    }
}
