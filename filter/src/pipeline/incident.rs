//! What was decided about slices of the traffic, carried out: a request that falls under a policy
//! is refused, let through as a probe, or told that trying again is of no use. Everyone else never
//! notices. Matching costs one hash for each set of attributes that policies ask for.

use tidegate_core::breaker::Phase;
use tidegate_core::event::{BreakerChange, Counter};
use tidegate_core::incident::enforcement::{Measure, SlicePolicy};
use tidegate_core::incident::gate::{Gate, GatePhase, Passage};
use tidegate_core::incident::matcher::Values;
use tidegate_core::reply::{Code, Incident, Reply};

use super::Exchange;
use super::response::Ending;
use crate::gates::{self, Changed};
use crate::ports::StreamHost;
use crate::vm::{Policy, Vm};

/// Advice when a gate is contended, in milliseconds: others are probing already.
const CONTENDED_RETRY_MS: u64 = 1_000;
/// Most policies one request is checked against; it takes many overlapping slices to reach it.
const MATCHES_MAX: usize = 16;

/// What policies are to know of this request's end.
#[derive(Debug, Default)]
pub struct Probes {
    /// Policies, by their place in the document, that let this request through as a probe.
    waiting: Vec<usize>,
    /// A policy that breaks has a say in this request, so its breaker has none.
    pub is_covered: bool,
    /// Trying again is of no use.
    pub advises: bool,
    /// The label of the request's breaker, under which breaks show; set when a policy has a say.
    route: String,
}

impl Probes {
    /// Asks all policies that a request with these values falls under; the first that refuses
    /// decides.
    ///
    /// # Errors
    /// The refusal, with the incident and when to come back.
    pub fn ask(
        &mut self,
        vm: &mut Vm,
        host: &impl StreamHost,
        policy: &Policy,
        values: &Values<'_>,
        (route, now_ns): (&str, u64),
    ) -> Result<(), Reply> {
        if policy.matcher.is_empty() {
            return Ok(());
        }
        let slices = &policy.snapshot.slices;
        let mut matches = [usize::MAX; MATCHES_MAX];
        let mut free = matches.iter_mut();
        policy.matcher.each_match(slices, values, |index| {
            if let Some(place) = free.next() {
                *place = index;
            }
        });
        for index in matches.into_iter().take_while(|index| *index != usize::MAX) {
            if let Some(slice) = slices.get(index) {
                route.clone_into(&mut self.route);
                self.ask_one(vm, host, policy, (index, slice), now_ns)?;
            }
        }
        Ok(())
    }

    fn ask_one(
        &mut self,
        vm: &mut Vm,
        host: &impl StreamHost,
        policy: &Policy,
        (index, slice): (usize, &SlicePolicy),
        now_ns: u64,
    ) -> Result<(), Reply> {
        let Some(tag) = policy.slice_tag(index, now_ns / 1_000_000) else {
            return Ok(());
        };
        if slice.measure == Measure::Advise {
            self.advises |= slice.enforce;
            return Ok(());
        }
        let is_live = |tag| policy.has_slice(tag);
        let admit = |gate: &mut Gate| gate.admit(&slice.measure, now_ns);
        let admitted = gates::update(host, tag, &slice.measure, now_ns, is_live, admit);
        show(vm, slice, (tag, &self.route), admitted.as_ref());
        let (passage, phase) = match admitted {
            Some(changed) => (changed.outcome, Some(changed.phase)),
            None => (Passage::Refuse(CONTENDED_RETRY_MS), None),
        };
        let breaks = matches!(slice.measure, Measure::Break { .. });
        self.is_covered |= breaks && slice.enforce && phase != Some(GatePhase::Passed);
        match passage {
            Passage::Pass => {
                if phase == Some(GatePhase::Passed) {
                    note_phase(vm, slice, phase);
                }
                Ok(())
            }
            Passage::Probe => {
                self.waiting.push(index);
                note_phase(vm, slice, phase);
                Ok(())
            }
            Passage::Refuse(ms) => refuse(vm, slice, phase, ms),
        }
    }
}

impl Exchange {
    /// Tells the policies that let this request through how it ended.
    pub(super) fn settle_probes(&mut self, vm: &mut Vm, host: &impl StreamHost, ending: Ending, now_ns: u64) {
        let Some(policy) = self.policy.clone() else { return };
        for index in std::mem::take(&mut self.probes.waiting) {
            let Some(slice) = policy.snapshot.slices.get(index) else { continue };
            let Some(tag) = policy.slice_tag(index, now_ns / 1_000_000) else { continue };
            let verdict = verdict(slice, ending, self.response.status);
            let change = |gate: &mut Gate| match verdict {
                Some(succeeded) => gate.probed(succeeded, &slice.measure, now_ns),
                None => gate.withdraw_probe(),
            };
            let is_live = |tag| policy.has_slice(tag);
            let changed = gates::update(host, tag, &slice.measure, now_ns, is_live, change);
            show(vm, slice, (tag, &self.probes.route), changed.as_ref());
            vm.outbox.note(&slice.id, |note| {
                note.probes_ok += u64::from(verdict == Some(true));
                note.probes_failed += u64::from(verdict == Some(false));
            });
            note_phase(vm, slice, changed.map(|changed| changed.phase));
        }
    }
}

/// Whether a probe succeeded; `None` when it says nothing. An answer with another error than the
/// incident's is one: what was broken has mended.
fn verdict(slice: &SlicePolicy, ending: Ending, status: u16) -> Option<bool> {
    match ending {
        Ending::Untold => None,
        Ending::Good => Some(true),
        Ending::Refused if (400..500).contains(&status) => Some(!slice.statuses.contains(&status)),
        Ending::Refused | Ending::StreamFailed | Ending::Cut => Some(false),
    }
}

fn refuse(vm: &mut Vm, slice: &SlicePolicy, phase: Option<GatePhase>, ms: u64) -> Result<(), Reply> {
    vm.outbox.note(&slice.id, |note| note.refused += 1);
    note_phase(vm, slice, phase);
    if !slice.enforce {
        vm.counts.add(Counter::PolicyShadowed);
        return Ok(());
    }
    let (code, counter) = match slice.measure {
        Measure::Limit { .. } => (Code::RateLimitExceeded, Counter::PolicyLimited),
        Measure::Break { .. } | Measure::Advise => (Code::CircuitOpen, Counter::PolicyBroke),
    };
    vm.counts.add(counter);
    let incident = Incident { cluster: slice.cluster.clone(), policy: slice.id.clone(), retry: slice.retry };
    let message = format!("{} Try again in {ms} ms.", slice.sentence);
    Err(Reply::new(code, message).retry_after_ms(ms).because_of(incident))
}

/// Shows a break among the breakers of its route, told by the VM that changed it.
fn show<T>(vm: &mut Vm, slice: &SlicePolicy, (id, route): (u64, &str), changed: Option<&Changed<T>>) {
    let Some(Changed { before, phase, .. }) = changed else { return };
    let breaks = matches!(slice.measure, Measure::Break { .. }) && slice.enforce;
    if !breaks || *before == Some(*phase) {
        return;
    }
    let state = match phase {
        GatePhase::Open => Phase::Open,
        GatePhase::HalfOpen => Phase::HalfOpen,
        GatePhase::Watching | GatePhase::Passed | GatePhase::Limiting => Phase::Closed,
    };
    match (before, phase) {
        (Some(GatePhase::HalfOpen), GatePhase::Watching) => vm.counts.add(Counter::BreakerClosed),
        (Some(_), GatePhase::Open) => vm.counts.add(Counter::BreakerOpened),
        _ => {}
    }
    vm.note_breaker(BreakerChange { id, route: route.to_owned(), state: state.gauge() });
}

fn note_phase(vm: &mut Vm, slice: &SlicePolicy, phase: Option<GatePhase>) {
    let Some(phase) = phase else { return };
    vm.outbox.note(&slice.id, |note| {
        note.phase = match phase {
            GatePhase::Passed => 0,
            GatePhase::HalfOpen => 1,
            GatePhase::Open => 2,
            GatePhase::Limiting => 3,
            GatePhase::Watching => 4,
        };
    });
}
