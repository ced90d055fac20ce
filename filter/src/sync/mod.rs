//! What a VM does on its tick, apart from any request: follow the policy, fetch it if it is this
//! VM's turn, lease from the limits of the fleet, answer questions about buckets, report its
//! counts, and bring answers to the semantic cache.
//!
//! Every worker has a VM of its own. One of them holds a lease (a shared cell with an expiry) and
//! keeps one long poll open at the sidecar; what it receives and finds valid it publishes in two
//! cells, the document and, written after it, its revision. The others look at the revision.

mod leases;
mod limits;
mod offers;
mod policy;
mod report;

use crate::cells;
use crate::ports::{Clock, RootHost, SharedCells};
use crate::vm::Vm;

const NS_PER_MS: u64 = 1_000_000;

/// The background work of one VM.
pub struct Sync {
    /// Name of this VM, unique among the VMs of all gateways for all practical purposes.
    id: u64,
    policy: policy::PolicySync,
    leases: leases::LeaseSync,
    limits: limits::LimitSync,
    report: report::ReportSync,
    offers: offers::OfferSync,
}

impl Sync {
    /// Names the VM.
    pub fn new(host: &(impl SharedCells + Clock)) -> Self {
        Self {
            id: cells::unique(host),
            policy: policy::PolicySync::default(),
            leases: leases::LeaseSync::default(),
            limits: limits::LimitSync::default(),
            report: report::ReportSync::default(),
            offers: offers::OfferSync::default(),
        }
    }

    /// One tick.
    pub fn on_tick(&mut self, vm: &mut Vm, host: &impl RootHost) {
        let now_ms = host.now_ns() / NS_PER_MS;
        self.policy.follow(vm, host);
        vm.watch.follow(host);
        vm.slices.on_tick(host, host.now_ns());
        vm.permits.on_tick(host, now_ms);
        let on_loss = vm.on_loss();
        vm.slices.fleet.on_tick(host, host.now_ns(), on_loss);
        let leads = policy::holds_lease(host, self.id, now_ms);
        self.policy.poll(leads, vm, host, now_ms);
        self.leases.send(self.id, leads, vm, host, now_ms);
        self.limits.poll(leads, vm, host, now_ms);
        self.report.send(self.id, vm, host, now_ms);
        self.offers.send(vm, host);
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
        } else if self.leases.is_waiting_for(call) {
            self.leases.on_answer(vm, host, status, body, now_ms);
        } else if self.limits.is_waiting_for(call) {
            self.limits.on_answer(vm, host, status, body, now_ms);
        } else if self.report.is_waiting_for(call) {
            self.report.on_answer(vm, status);
        } else if self.offers.is_waiting_for(call) {
            self.offers.on_answer(vm, host, call, status);
        }
    }
}
