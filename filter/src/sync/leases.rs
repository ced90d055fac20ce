//! Leasing tokens of the limits that the fleet shares, for all workers of this Envoy.
//!
//! Five times a second, if anybody asked for anything; else once a second, so that the others know
//! how many gateways there are.

use std::collections::BTreeMap;

use tidegate_core::event::Counter;
use tidegate_core::limit::Rate;
use tidegate_core::limit::lease::{Demand, View};
use tidegate_core::wire::leases::{ASKS_MAX, LeaseAnswer, LeaseAsk, LeaseRequest};
use tidegate_core::wire::path;

use crate::fleet::{self, Asked, Heard};
use crate::ports::{Call, RootHost};
use crate::vm::Vm;

/// Least time between exchanges, in milliseconds.
const EXCHANGE_MS: u64 = 200;
/// Most time between them, in milliseconds.
const ALIVE_MS: u64 = 1_000;
/// An exchange is given up after this, in milliseconds; what it brings later is lost.
const TIMEOUT_MS: u64 = 2_000;
/// An answer that has not come this long after that never will, in milliseconds.
const GRACE_MS: u64 = 1_000;
const NS_PER_MS: u64 = 1_000_000;

#[derive(Debug, Clone, Copy)]
struct Active {
    rate: Rate,
    demand: Demand,
}

struct InFlight {
    call: u32,
    sent_ns: u64,
}

/// One VM's part in leasing.
#[derive(Default)]
pub struct LeaseSync {
    active: BTreeMap<u64, Active>,
    in_flight: Option<InFlight>,
    sent_ms: u64,
}

impl LeaseSync {
    pub fn is_waiting_for(&self, call: u32) -> bool {
        self.in_flight.as_ref().is_some_and(|exchange| exchange.call == call)
    }

    /// Sends what is wanted and what goes back, if the lease on talking to the sidecar is this
    /// VM's (`leads`).
    pub fn send(&mut self, id: u64, leads: bool, vm: &mut Vm, host: &impl RootHost, now_ms: u64) {
        let now_ns = now_ms * NS_PER_MS;
        if !vm.policy.as_ref().is_some_and(|policy| policy.is_shared) {
            return;
        }
        let lost_ns = (TIMEOUT_MS + GRACE_MS) * NS_PER_MS;
        self.in_flight.take_if(|exchange| now_ns.abs_diff(exchange.sent_ns) > lost_ns);
        if !leads || self.in_flight.is_some() || now_ms < self.sent_ms.saturating_add(EXCHANGE_MS) {
            return;
        }
        let asks = self.asks(vm.slices.fleet.view(), host, now_ns);
        if asks.is_empty() && now_ms < self.sent_ms.saturating_add(ALIVE_MS) {
            return;
        }
        self.sent_ms = now_ms;
        let heard = Heard::read(host);
        let gateway = if heard.gateway == 0 { id } else { heard.gateway };
        Heard { gateway, ..heard }.write(host);
        let Ok(body) = serde_json::to_vec(&LeaseRequest { gateway, asks }) else { return };
        let call = Call { method: "POST", path: path::LEASES.to_owned(), body, timeout_ms: TIMEOUT_MS };
        match host.call(&call) {
            Some(call) => self.in_flight = Some(InFlight { call, sent_ns: now_ns }),
            None => lose(vm, host),
        }
    }

    /// Takes in what was granted. Whatever else the answer is, this gateway is alone now.
    pub fn on_answer(
        &mut self,
        vm: &mut Vm,
        host: &impl RootHost,
        status: Option<u16>,
        body: &[u8],
        now_ms: u64,
    ) {
        let Some(InFlight { sent_ns, .. }) = self.in_flight.take() else { return };
        let answer =
            (status == Some(200)).then(|| serde_json::from_slice::<LeaseAnswer>(body).ok()).flatten();
        let now_ns = now_ms * NS_PER_MS;
        let Some(LeaseAnswer { is_leased, gateways, grants }) = answer else {
            return lose(vm, host);
        };
        if !is_leased {
            Heard { gateways: gateways.max(1), ..Heard::read(host) }.write(host);
            return lose(vm, host);
        }
        Heard { at_ns: now_ns, gateways: gateways.max(1), ..Heard::read(host) }.write(host);
        vm.counts.add(Counter::LeaseExchanged);
        let view = Heard::read(host).view(now_ns, vm.on_loss());
        for grant in grants {
            let Some(Active { rate, .. }) = self.active.get(&grant.pool) else { continue };
            fleet::change(host, grant.pool, now_ns, |holding| {
                holding.grant(grant.tokens, grant.full_in_ns, sent_ns, now_ns, *rate, view);
            });
        }
    }

    /// What each pool in use needs. What goes back is taken out here and now, so that it can be
    /// given back once only.
    fn asks(&mut self, view: View, host: &impl RootHost, now_ns: u64) -> Vec<LeaseAsk> {
        let asked = fleet::collect(host);
        for (pool, Asked { rate, .. }) in &asked {
            if self.active.len() < ASKS_MAX {
                self.active.entry(*pool).or_insert(Active { rate: *rate, demand: Demand::default() });
            }
        }
        let mut asks = Vec::new();
        self.active.retain(|pool, active| {
            let news = asked.get(pool);
            active.rate = news.map_or(active.rate, |news| news.rate);
            active.demand = active.demand.after(news.map_or(0, |news| news.tokens));
            let (rate, demand) = (active.rate, active.demand);
            let outcome = fleet::change(host, *pool, now_ns, |holding| {
                let plan = demand.plan(holding.balance(now_ns, rate, view), rate.burst());
                let back = holding.give_back(plan.back, now_ns, rate, view);
                (plan.ask, back, holding.balance(now_ns, rate, view))
            });
            // Contended: the next round sees to it.
            let Some((ask, back, balance)) = outcome else { return true };
            if ask > 0 || back > 0 {
                let (interval_ns, burst) = (rate.interval_ns(), rate.burst());
                asks.push(LeaseAsk { pool: *pool, interval_ns, burst, ask, back });
            }
            !demand.is_over() || balance != 0
        });
        asks
    }
}

fn lose(vm: &mut Vm, host: &impl RootHost) {
    vm.counts.add(Counter::LeaseFailed);
    Heard { at_ns: 0, ..Heard::read(host) }.write(host);
}
