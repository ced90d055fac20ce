//! Last stage before the upstream: leave alone what keeps failing. LLM traffic has a breaker for each
//! operation and model, so that a broken model does not take its neighbours along; the operator's
//! own routes have one each. Every tenant has its own, so that nobody's failing requests, crafted or
//! not, break anything for others. It reacts at once and knows the status alone; policies on
//! incidents (`incident`) come within seconds, know what fails, and take its place for their slice. Closed, a breaker costs one look at its cell and nothing afterwards.

use std::borrow::Cow;

use tidegate_core::breaker::{Admission, Breaker, Phase};
use tidegate_core::event::{BreakerChange, Counter};
use tidegate_core::hash::hash;
use tidegate_core::policy::BreakerPolicy;
use tidegate_core::reply::{Code, Reply};
use tidegate_core::route::Endpoint;

use crate::cells::{self, Table, Updated};
use crate::ports::SharedCells;
use crate::vm::Vm;

/// Longest route label reported, in bytes.
const LABEL_BYTES_MAX: usize = 64;

/// The breaker that watches one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    tag: u64,
    label: Cow<'static, str>,
    is_probe: bool,
}

impl Guard {
    /// The breaker of an LLM operation on one model.
    #[must_use]
    pub fn of_model(endpoint: Endpoint, path: &str, model_raw: &[u8], tenant: &str) -> Self {
        let tag = hash(&[path.as_bytes(), model_raw, tenant.as_bytes()]);
        Self { tag, label: Cow::Borrowed(endpoint.label()), is_probe: false }
    }

    /// The breaker of one of the operator's own routes.
    #[must_use]
    pub fn of_route(mut route: String, tenant: &str) -> Self {
        let tag = hash(&[b"route", route.as_bytes(), tenant.as_bytes()]);
        if let Some((cut, _)) = route.char_indices().nth(LABEL_BYTES_MAX / 4) {
            route.truncate(cut);
        }
        Self { tag, label: Cow::Owned(route), is_probe: false }
    }

    /// Asks the breaker; the returned guard is to be told the outcome.
    ///
    /// # Errors
    /// 503 with the time at which the breaker admits again.
    pub fn admit(
        mut self,
        vm: &mut Vm,
        cells: &impl SharedCells,
        policy: &BreakerPolicy,
        now_ns: u64,
    ) -> Result<Self, Reply> {
        if vm.watch.is_closed(self.tag) {
            return Ok(self);
        }
        let now_ms = now_ns / 1_000_000;
        let cell = cells.read(&self.key());
        let Some(breaker) = Breaker::decode(&cell.bytes, self.tag).filter(|b| b.phase() != Phase::Closed)
        else {
            vm.watch.found_closed(self.tag);
            return Ok(self);
        };
        let handed_over_ms = vm.policy.as_ref().map_or(0, |policy| policy.breaks_since_ms);
        if breaker.opened_ms().is_some_and(|opened_ms| opened_ms < handed_over_ms) {
            // A policy has come since. What it does not answer opens the breaker again.
            let _: Option<((), Phase)> = self.change(cells, now_ms, policy, |b| *b = Breaker::default());
            self.note(vm, cells, Phase::Open, Phase::Closed);
            return Ok(self);
        }
        let before = breaker.phase();
        let admission = self.change(cells, now_ms, policy, |b| b.admit(now_ms, policy));
        // Contended past the bound: others are probing already, so this one need not.
        let (admission, after) =
            admission.unwrap_or((Admission::Refuse(policy.recovery_timeout_ms.min(1000)), before));
        self.note(vm, cells, before, after);
        match admission {
            Admission::Pass => Ok(self),
            Admission::Probe => {
                self.is_probe = true;
                Ok(self)
            }
            Admission::Refuse(ms) => {
                vm.counts.add(Counter::BreakerRefused);
                let message =
                    format!("{} keeps failing and is left alone for now; try again in {ms} ms", self.label);
                Err(Reply::new(Code::CircuitOpen, message).retry_after_ms(ms))
            }
        }
    }

    /// Reports that the request succeeded.
    pub fn succeeded(&self, vm: &mut Vm, cells: &impl SharedCells, policy: &BreakerPolicy, now_ns: u64) {
        if !self.is_probe {
            vm.watch.count_success(self.tag);
            return;
        }
        let now_ms = now_ns / 1_000_000;
        if let Some(((), after)) =
            self.change(cells, now_ms, policy, |b| b.record_probe_success(now_ms, policy))
        {
            self.note(vm, cells, Phase::HalfOpen, after);
        }
    }

    /// Reports that the request failed through no fault of the caller.
    pub fn failed(&self, vm: &mut Vm, cells: &impl SharedCells, policy: &BreakerPolicy, now_ns: u64) {
        let now_ms = now_ns / 1_000_000;
        let successes = vm.watch.take_successes(self.tag);
        let changed = self.change(cells, now_ms, policy, |b| {
            let before = b.phase();
            b.record_failure(self.is_probe, successes, now_ms, policy);
            before
        });
        if let Some((before, after)) = changed {
            self.note(vm, cells, before, after);
        }
    }

    /// Its bounded label.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// A policy answers for this request: whatever the breaker held against it is settled there.
    pub fn hand_over(&self, vm: &mut Vm, cells: &impl SharedCells, policy: &BreakerPolicy, now_ns: u64) {
        if vm.watch.is_closed(self.tag) {
            return;
        }
        let settle = |breaker: &mut Breaker| {
            let before = breaker.phase();
            *breaker = Breaker::default();
            before
        };
        if let Some((Phase::Open | Phase::HalfOpen, _)) =
            self.change(cells, now_ns / 1_000_000, policy, settle)
        {
            let state = Phase::Closed.gauge();
            vm.note_breaker(BreakerChange { id: self.tag, route: self.label.clone().into_owned(), state });
        }
        vm.watch.found_closed(self.tag);
    }

    fn key(&self) -> cells::Name {
        cells::name(Table::Breakers, (self.tag % u64::from(cells::BREAKERS)) as u32)
    }

    /// Changes this breaker in its cell. A cell in use by another breaker is left to it, until it
    /// is idle: without a cell a breaker stays closed, which refuses nobody.
    fn change<T>(
        &self,
        cells: &impl SharedCells,
        now_ms: u64,
        policy: &BreakerPolicy,
        mut change: impl FnMut(&mut Breaker) -> T,
    ) -> Option<(T, Phase)> {
        let updated = cells::update(cells, &self.key(), |bytes| {
            let mut breaker = match Breaker::decode_any(bytes) {
                Some((tag, breaker)) if tag == self.tag => breaker,
                Some((_, other)) if !other.is_idle(now_ms, policy) => return (None, None),
                _ => Breaker::default(),
            };
            let outcome = change(&mut breaker);
            (Some(breaker.encode(self.tag).to_vec()), Some((outcome, breaker.phase())))
        });
        match updated {
            Updated::Written(outcome) | Updated::Kept(outcome) => outcome,
            Updated::Contended => None,
        }
    }

    fn note(&self, vm: &mut Vm, cells: &impl SharedCells, before: Phase, after: Phase) {
        if before == after {
            return;
        }
        match after {
            Phase::Open => {
                vm.counts.add(Counter::BreakerOpened);
                vm.watch.announce_opened(cells, self.tag);
            }
            Phase::Closed => vm.counts.add(Counter::BreakerClosed),
            Phase::HalfOpen => {}
        }
        vm.note_breaker(BreakerChange {
            id: self.tag,
            route: self.label.clone().into_owned(),
            state: after.gauge(),
        });
    }
}
