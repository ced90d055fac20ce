//! Telling the sidecar what was counted.

use tidegate_core::event::{BreakerChange, Report};
use tidegate_core::wire::path;

use crate::ports::{Call, RootHost};
use crate::vm::{Counts, Vm};

/// Time between reports, in milliseconds.
const INTERVAL_MS: u64 = 1_000;
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
    next_ms: u64,
}

struct InFlight {
    call: u32,
    counts: Counts,
    revision: String,
    breakers: Vec<BreakerChange>,
}

impl ReportSync {
    pub fn is_waiting_for(&self, call: u32) -> bool {
        self.in_flight.as_ref().is_some_and(|r| r.call == call)
    }

    /// Sends what changed since the last delivery, once in [`INTERVAL_MS`].
    pub fn send(&mut self, id: u64, vm: &Vm, host: &impl RootHost, now_ms: u64) {
        let revision = vm.revision();
        let is_news = vm.counts != self.delivered
            || revision != self.delivered_revision
            || !vm.breaker_changes().is_empty()
            || now_ms >= self.next_ms + ALIVE_MS;
        if self.in_flight.is_some() || now_ms < self.next_ms || !is_news {
            return;
        }
        self.next_ms = now_ms + INTERVAL_MS;
        let breakers = vm.breaker_changes().to_vec();
        let report = Report {
            vm: format!("{id:016x}"),
            revision: revision.to_owned(),
            counters: vm.counts.by_name(),
            duration_buckets: vm.counts.duration_buckets().to_vec(),
            duration_sum_ms: vm.counts.duration_sum_ms(),
            breakers: breakers.clone(),
        };
        let Ok(body) = serde_json::to_vec(&report) else {
            return;
        };
        let call = Call { method: "POST", path: path::EVENTS.to_owned(), body, timeout_ms: TIMEOUT_MS };
        self.in_flight = host.call(&call).map(|call| InFlight {
            call,
            counts: vm.counts.clone(),
            revision: revision.to_owned(),
            breakers,
        });
    }

    pub fn on_answer(&mut self, vm: &mut Vm, status: Option<u16>) {
        let Some(report) = self.in_flight.take() else {
            return;
        };
        if status.is_some_and(|s| (200..300).contains(&s)) {
            self.delivered = report.counts;
            self.delivered_revision = report.revision;
            vm.forget_breaker_changes(&report.breakers);
        }
    }
}
