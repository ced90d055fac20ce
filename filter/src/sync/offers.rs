//! Bringing answers to the semantic cache, off the path of the requests they were given to.

use tidegate_core::event::Counter;

use crate::ports::RootHost;
use crate::vm::Vm;

/// Most answers on their way at a time.
const IN_FLIGHT_MAX: usize = 8;

/// One VM's part in it. Every call is answered in the end, if only by its timeout.
#[derive(Default)]
pub struct OfferSync {
    in_flight: Vec<u32>,
}

impl OfferSync {
    pub fn is_waiting_for(&self, call: u32) -> bool {
        self.in_flight.contains(&call)
    }

    /// Sends what waits, as far as there is room.
    pub fn send(&mut self, vm: &mut Vm, host: &impl RootHost) {
        while self.in_flight.len() < IN_FLIGHT_MAX
            && let Some(call) = vm.offers.pop()
        {
            match host.call(&call) {
                Some(call) => self.in_flight.push(call),
                None => vm.counts.add(Counter::L2Dropped),
            }
        }
    }

    /// One was taken, or not; and the next may go.
    pub fn on_answer(&mut self, vm: &mut Vm, host: &impl RootHost, call: u32, status: Option<u16>) {
        self.in_flight.retain(|known| *known != call);
        vm.counts.add(if status == Some(204) { Counter::L2Offered } else { Counter::L2Dropped });
        self.send(vm, host);
    }
}
