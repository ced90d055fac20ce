//! What a VM does on its tick, apart from any request: follow the policy, fetch it if it is this
//! VM's turn, and report its counts.
//!
//! Every worker has a VM of its own. One of them holds a lease (a shared cell with an expiry) and
//! keeps one long poll open at the sidecar; what it receives and finds valid it publishes in two
//! cells, the document and, written after it, its revision. The others look at the revision.

mod policy;
mod report;

use crate::cells::{self, Updated};
use crate::ports::{Clock, RootHost, SharedCells};
use crate::vm::Vm;

const NS_PER_MS: u64 = 1_000_000;

/// The background work of one VM.
pub struct Sync {
    /// Name of this VM, unique among the VMs of all gateways for all practical purposes.
    id: u64,
    policy: policy::PolicySync,
    report: report::ReportSync,
}

impl Sync {
    /// Names the VM: a number no other VM of this process has, mixed with the time.
    pub fn new(host: &(impl SharedCells + Clock)) -> Self {
        let number = cells::update(host, cells::VM_COUNT, |bytes| {
            let number = bytes.try_into().map_or(0, u64::from_le_bytes) + 1;
            (Some(number.to_le_bytes().to_vec()), number)
        });
        // Contended past the bound: the time alone has to tell the VMs apart.
        let number = if let Updated::Written(number) = number { number } else { 0 };
        let id = cells::hash(&[&number.to_le_bytes(), &host.now_ns().to_le_bytes()]).max(1);
        Self { id, policy: policy::PolicySync::default(), report: report::ReportSync::default() }
    }

    /// One tick.
    pub fn on_tick(&mut self, vm: &mut Vm, host: &impl RootHost) {
        let now_ms = host.now_ns() / NS_PER_MS;
        self.policy.follow(vm, host);
        vm.watch.follow(host);
        vm.slices.on_tick(host, host.now_ns());
        self.policy.poll(self.id, vm, host, now_ms);
        self.report.send(self.id, vm, host, now_ms);
    }

    /// The sidecar's answer to a call of this VM; `status` is `None` when there was none.
    pub fn on_answer(
        &mut self,
        vm: &mut Vm,
        host: &impl RootHost,
        call: u32,
        status: Option<u16>,
        body: &[u8],
    ) {
        let now_ms = host.now_ns() / NS_PER_MS;
        if self.policy.is_waiting_for(call) {
            self.policy.on_answer(vm, host, status, body, now_ms);
        } else if self.report.is_waiting_for(call) {
            self.report.on_answer(vm, status);
        }
    }
}
