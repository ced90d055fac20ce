//! Telling the sidecar what was counted.

use tidegate_core::event::{Batch, BreakerChange, Report};
use tidegate_core::wire::path;

use crate::ports::{Call, RootHost};
use crate::vm::{Counts, Vm};

/// Time between reports, in milliseconds.
const INTERVAL_MS: u64 = 1_000;
/// The same when failures wait to be told, in milliseconds: a short batch keeps what failed apart from
/// what went well before.
const URGENT_MS: u64 = 200;
/// Time after which a VM with nothing to tell reports all the same, in milliseconds: it is alive.
const ALIVE_MS: u64 = 60_000;
/// A report is given up after this, in milliseconds; the next one says the same and more.
const TIMEOUT_MS: u64 = 2_000;

/// One VM's reports. Counters are cumulative, so a lost report loses nothing.
#[derive(Default)]
pub struct ReportSync {
    in_flight: Option<InFlight>,
    delivered: Counts,
    delivered_revision: String,
    sent_ms: u64,
    /// A batch that was not confirmed yet.
    batch: Option<Batch>,
    batches: u64,
}

struct InFlight {
    call: u32,
    counts: Counts,
    revision: String,
    breakers: Vec<BreakerChange>,
}

/// Answers after which a batch is sent again: the sidecar is away, busy or starting.
fn may_succeed_later(status: Option<u16>) -> bool {
    !status.is_some_and(|s| (200..500).contains(&s) && s != 429)
}

impl ReportSync {
    pub fn is_waiting_for(&self, call: u32) -> bool {
        self.in_flight.as_ref().is_some_and(|r| r.call == call)
    }

    /// Sends what changed since the last delivery, once in [`INTERVAL_MS`], or sooner if it is
    /// urgent.
    pub fn send(&mut self, id: u64, vm: &mut Vm, host: &impl RootHost, now_ms: u64) {
        let revision = vm.revision().to_owned();
        let is_urgent = self.batch.is_some() || vm.outbox.is_urgent() || vm.traffic.has_failures();
        let since_ms = now_ms.abs_diff(self.sent_ms);
        let is_news = vm.counts != self.delivered
            || revision != self.delivered_revision
            || !vm.breaker_changes().is_empty()
            || !vm.traffic.is_empty()
            || since_ms >= ALIVE_MS;
        let is_due = (is_news && since_ms >= INTERVAL_MS) || (is_urgent && since_ms >= URGENT_MS);
        if self.in_flight.is_some() || !is_due {
            return;
        }
        self.sent_ms = now_ms;
        let breakers = vm.breaker_changes().to_vec();
        let report = Report {
            vm: format!("{id:016x}"),
            revision: revision.clone(),
            counters: vm.counts.by_name(),
            duration_buckets: vm.counts.duration_buckets().to_vec(),
            duration_sum_ms: vm.counts.duration_sum_ms(),
            breakers: breakers.clone(),
            batch: self.next_batch(vm),
        };
        let Ok(body) = serde_json::to_vec(&report) else {
            return;
        };
        let call = Call { method: "POST", path: path::EVENTS.to_owned(), body, timeout_ms: TIMEOUT_MS };
        self.in_flight =
            host.call(&call).map(|call| InFlight { call, counts: vm.counts.clone(), revision, breakers });
    }

    /// The batch that is not confirmed yet, or a new one.
    fn next_batch(&mut self, vm: &mut Vm) -> Option<Batch> {
        if self.batch.is_none() && (vm.outbox.is_urgent() || !vm.traffic.is_empty()) {
            self.batches += 1;
            let (events, policies) = vm.outbox.take();
            self.batch = Some(Batch { number: self.batches, events, traffic: vm.traffic.take(), policies });
        }
        self.batch.clone()
    }

    pub fn on_answer(&mut self, vm: &mut Vm, status: Option<u16>) {
        let Some(report) = self.in_flight.take() else {
            return;
        };
        if !may_succeed_later(status) {
            self.batch = None;
        }
        if status.is_some_and(|s| (200..300).contains(&s)) {
            self.delivered = report.counts;
            self.delivered_revision = report.revision;
            vm.forget_breaker_changes(&report.breakers);
        }
    }
}
