//! Fetching and following the policy document.

use tidegate_core::event::Counter;
use tidegate_core::wire::{SNAPSHOT_WAIT_MS_MAX, path};

use crate::cells::{self, Updated};
use crate::ports::{Call, RootHost, SharedCells};
use crate::vm::Vm;

/// How long a lease lasts without renewal, in milliseconds.
const LEASE_MS: u64 = 1_500;
/// A lease is renewed when less than this is left of it, in milliseconds.
const LEASE_RENEW_MS: u64 = 1_000;
/// Pause after a poll that failed, in milliseconds: the sidecar may be restarting.
const FAILED_PAUSE_MS: u64 = 200;
/// Pause after a document that was refused, in milliseconds: asking again gives the same one.
const REFUSED_PAUSE_MS: u64 = 1_000;
/// A poll that has no answer this long after it should have is given up, in milliseconds.
const POLL_GRACE_MS: u64 = 5_000;
/// Largest document accepted, in bytes.
const DOCUMENT_BYTES_MAX: usize = 4 << 20;

/// One VM's part in fetching and following the policy.
#[derive(Default)]
pub struct PolicySync {
    /// Revision cell as last seen, so that a document refused once is not parsed at each tick.
    seen: Vec<u8>,
    polling: Option<u32>,
    next_poll_ms: u64,
}

impl PolicySync {
    pub fn is_waiting_for(&self, call: u32) -> bool {
        self.polling == Some(call)
    }

    /// Applies what another VM published.
    pub fn follow(&mut self, vm: &mut Vm, host: &impl RootHost) {
        let revision = host.read(cells::REVISION).bytes;
        if revision.is_empty() || revision == self.seen || revision == vm.revision().as_bytes() {
            return;
        }
        self.seen = revision;
        Self::apply(vm, host, &host.read(cells::DOCUMENT).bytes);
    }

    /// Keeps one long poll open, if the lease on that is this VM's (`leads`).
    pub fn poll(&mut self, leads: bool, vm: &Vm, host: &impl RootHost, now_ms: u64) {
        if !leads || self.polling.is_some() || now_ms < self.next_poll_ms {
            return;
        }
        // Before the first policy the answer is immediate; no need to hold the call open.
        let wait_ms = if vm.policy.is_some() { SNAPSHOT_WAIT_MS_MAX } else { 0 };
        let call = Call {
            method: "GET",
            path: format!("{}?have={}&wait_ms={wait_ms}", path::SNAPSHOT, vm.revision()),
            body: Vec::new(),
            timeout_ms: wait_ms + POLL_GRACE_MS,
        };
        self.polling = host.call(&call);
        if self.polling.is_none() {
            self.next_poll_ms = now_ms + FAILED_PAUSE_MS;
        }
    }

    pub fn on_answer(
        &mut self,
        vm: &mut Vm,
        host: &impl RootHost,
        status: Option<u16>,
        body: &[u8],
        now_ms: u64,
    ) {
        self.polling = None;
        self.next_poll_ms = match status {
            Some(304) => now_ms,
            Some(200) if body.len() <= DOCUMENT_BYTES_MAX => {
                if Self::apply(vm, host, body) {
                    host.write(cells::DOCUMENT, body, 0);
                    host.write(cells::REVISION, vm.revision().as_bytes(), 0);
                    now_ms
                } else {
                    now_ms + REFUSED_PAUSE_MS
                }
            }
            _ => {
                vm.counts.add(Counter::SnapshotPollFailed);
                now_ms + FAILED_PAUSE_MS
            }
        };
    }

    fn apply(vm: &mut Vm, host: &impl RootHost, json: &[u8]) -> bool {
        match vm.adopt(host, json) {
            Ok(()) => true,
            Err(invalid) => {
                vm.counts.add(Counter::SnapshotRefused);
                host.warn(&format!("policy refused, the last good one stays in force: {invalid}"));
                false
            }
        }
    }
}

/// Takes or renews the lease: VM id and expiry in one cell.
pub fn holds_lease(cells: &impl SharedCells, id: u64, now_ms: u64) -> bool {
    let outcome = cells::update(cells, cells::LEASE, |bytes| {
        let (holder, expires_ms) = decode(bytes).unwrap_or((0, 0));
        let is_free = holder == id || expires_ms <= now_ms || expires_ms > now_ms + 2 * LEASE_MS;
        if !is_free {
            return (None, false);
        }
        if holder == id && expires_ms > now_ms + LEASE_RENEW_MS && expires_ms <= now_ms + LEASE_MS {
            return (None, true);
        }
        (Some(encode(id, now_ms + LEASE_MS)), true)
    });
    match outcome {
        Updated::Written(holds) | Updated::Kept(holds) => holds,
        Updated::Contended => false,
    }
}

fn encode(holder: u64, expires_ms: u64) -> Vec<u8> {
    [holder.to_le_bytes(), expires_ms.to_le_bytes()].concat()
}

fn decode(bytes: &[u8]) -> Option<(u64, u64)> {
    let (holder, rest) = bytes.split_first_chunk::<8>()?;
    Some((u64::from_le_bytes(*holder), u64::from_le_bytes(rest.try_into().ok()?)))
}
