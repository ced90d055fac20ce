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
    /// When they did.
    sent_ns: u64,
    /// A policy that breaks has a say in this request, so its breaker has none.
    pub is_covered: bool,
    /// Trying again is of no use.
    pub advises: bool,
    /// The label of the request's breaker, under which breaks show; set when a policy has a say.
    route: String,
    /// Gates whose refusal waits for news.
    held_by: Vec<(usize, u64)>,
}

/// When policies are asked, and for which route.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    /// The label of the request's breaker.
    pub route: &'a str,
    /// Now.
    pub now_ns: u64,
    /// Since when the request has waited, if it has.
    pub since_ns: Option<u64>,
    /// Whether it may wait.
    pub may_wait: bool,
}

/// Why a request does not go on.
#[derive(Debug)]
pub enum Stop {
    /// It is refused.
    Refuse(Reply),
    /// It is worth waiting for what the slice's probes find.
    Wait,
}

impl From<Reply> for Stop {
    fn from(reply: Reply) -> Self {
        Self::Refuse(reply)
    }
}

/// A policy's refusal.
struct Refusal {
    index: usize,
    tag: u64,
    phase: Option<GatePhase>,
    retry_ms: u64,
    waits: bool,
}

impl Probes {
    /// Asks all policies that a request with these values falls under. One that refuses decides,
    /// unless another sends the request as one of its few canaries: then it is one of both.
    ///
    /// # Errors
    /// The refusal, with the incident and when to come back; or that it is worth waiting.
    pub fn ask(
        &mut self,
        vm: &mut Vm,
        host: &impl StreamHost,
        policy: &Policy,
        values: &Values<'_>,
        asking: Asking<'_>,
    ) -> Result<(), Stop> {
        self.is_covered = false;
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
        self.sent_ns = asking.now_ns;
        self.waiting.clear();
        self.held_by.clear();
        let (mut refusals, mut is_canary) = (Vec::new(), false);
        for index in matches.into_iter().take_while(|index| *index != usize::MAX) {
            if let Some(slice) = slices.get(index) {
                asking.route.clone_into(&mut self.route);
                match self.ask_one(vm, host, policy, (index, slice), asking) {
                    Said::Nothing => {}
                    Said::Canary => is_canary = true,
                    Said::Refused(refusal) => refusals.push(refusal),
                }
            }
        }
        self.weigh(vm, host, policy, (refusals, is_canary), asking)
    }

    fn weigh(
        &mut self,
        vm: &mut Vm,
        host: &impl StreamHost,
        policy: &Policy,
        (refusals, is_canary): (Vec<Refusal>, bool),
        asking: Asking<'_>,
    ) -> Result<(), Stop> {
        let slice = |refusal: &Refusal| policy.snapshot.slices.get(refusal.index);
        let breaks =
            |refusal: &Refusal| slice(refusal).is_some_and(|s| matches!(s.measure, Measure::Break { .. }));
        if is_canary && refusals.iter().all(breaks) {
            for refusal in &refusals {
                self.join(vm, host, policy, refusal, asking.now_ns);
            }
            return Ok(());
        }
        let waits = asking.may_wait && refusals.iter().all(|refusal| refusal.waits);
        let Some(first) = refusals.first() else { return Ok(()) };
        if waits {
            self.held_by = refusals.iter().map(|refusal| (refusal.index, refusal.tag)).collect();
            return Err(Stop::Wait);
        }
        match slice(first) {
            Some(slice) => Err(refuse(vm, slice, first).into()),
            None => Ok(()),
        }
    }

    /// Makes the request a canary of a policy that would refuse it.
    fn join(&mut self, vm: &mut Vm, host: &impl StreamHost, policy: &Policy, refusal: &Refusal, now_ns: u64) {
        let Some(slice) = policy.snapshot.slices.get(refusal.index) else { return };
        let is_live = |tag| policy.has_slice(tag);
        let join = |gate: &mut Gate| gate.join(now_ns);
        let joined = gates::update(host, refusal.tag, &slice.measure, now_ns, is_live, join);
        self.waiting.push(refusal.index);
        note_phase(vm, slice, joined.map(|changed| changed.phase));
    }

    fn ask_one(
        &mut self,
        vm: &mut Vm,
        host: &impl StreamHost,
        policy: &Policy,
        (index, slice): (usize, &SlicePolicy),
        asking: Asking<'_>,
    ) -> Said {
        let now_ns = asking.now_ns;
        let Some((tag, left_ms)) = policy.slice_life(index, now_ns / 1_000_000) else {
            return Said::Nothing;
        };
        if slice.measure == Measure::Advise {
            self.advises |= slice.enforce;
            return Said::Nothing;
        }
        let is_live = |tag| policy.has_slice(tag);
        let admit = |gate: &mut Gate| match asking.since_ns {
            Some(since_ns) => gate.ask_again(&slice.measure, since_ns, now_ns),
            None => gate.admit(&slice.measure, now_ns),
        };
        let admitted = gates::update(host, tag, &slice.measure, now_ns, is_live, admit);
        show(vm, slice, (tag, &self.route), admitted.as_ref());
        let contended = Passage::Refuse { retry_ms: CONTENDED_RETRY_MS, waits: false };
        let (passage, phase) = match admitted {
            Some(changed) => (changed.outcome, Some(changed.phase)),
            None => (contended, None),
        };
        self.is_covered |= slice.measure.closes() && slice.enforce && phase != Some(GatePhase::Passed);
        match passage {
            Passage::Pass => {
                if phase == Some(GatePhase::Passed) {
                    note_phase(vm, slice, phase);
                }
                Said::Nothing
            }
            Passage::Probe | Passage::Canary => {
                self.waiting.push(index);
                note_phase(vm, slice, phase);
                if slice.enforce && passage == Passage::Canary { Said::Canary } else { Said::Nothing }
            }
            Passage::Refuse { .. } if !slice.enforce => {
                note_refusal(vm, slice, phase);
                vm.counts.add(Counter::PolicyShadowed);
                Said::Nothing
            }
            Passage::Refuse { retry_ms, waits } => {
                // Nobody is to wait for longer than the policy lives.
                Said::Refused(Refusal { index, tag, phase, retry_ms: retry_ms.min(left_ms), waits })
            }
        }
    }

    /// Whether the gates that hold the request back have no news for it yet.
    pub fn still_wait(&self, host: &impl StreamHost, policy: &Policy, since_ns: u64, now_ns: u64) -> bool {
        !self.held_by.is_empty()
            && self.held_by.iter().all(|(index, tag)| {
                let Some(slice) = policy.snapshot.slices.get(*index) else { return false };
                gates::look(host, *tag).is_some_and(|mut gate| {
                    gate.phase() == GatePhase::Open
                        && matches!(
                            gate.ask_again(&slice.measure, since_ns, now_ns),
                            Passage::Refuse { waits: true, .. }
                        )
                })
            })
    }
}

/// What one policy says of a request.
enum Said {
    Nothing,
    Canary,
    Refused(Refusal),
}

impl Exchange {
    /// Tells the policies that let this request through how it ended.
    pub(super) fn settle_probes(&mut self, vm: &mut Vm, host: &impl StreamHost, ending: Ending, now_ns: u64) {
        let Some(policy) = self.policy.clone() else { return };
        let (waiting, status) = (std::mem::take(&mut self.probes.waiting), self.response.status);
        let slices = &policy.snapshot.slices;
        let shows = |index: &usize| slices.get(*index).is_some_and(|slice| slice.statuses.contains(&status));
        for index in &waiting {
            let Some(slice) = slices.get(*index) else { continue };
            let Some((tag, _)) = policy.slice_life(*index, now_ns / 1_000_000) else { continue };
            // A failure that another policy answers says nothing about this one's.
            let is_anothers = ending == Ending::Refused && !shows(index) && waiting.iter().any(shows);
            let verdict = if is_anothers { None } else { verdict(slice, ending, status) };
            let sent_ns = self.probes.sent_ns;
            let change = |gate: &mut Gate| match verdict {
                Some(succeeded) => gate.probed(succeeded, sent_ns, &slice.measure, now_ns),
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

fn refuse(vm: &mut Vm, slice: &SlicePolicy, refusal: &Refusal) -> Reply {
    note_refusal(vm, slice, refusal.phase);
    let (code, counter) = match slice.measure {
        Measure::Limit { .. } => (Code::RateLimitExceeded, Counter::PolicyLimited),
        Measure::Break { .. } | Measure::Close | Measure::Advise => (Code::CircuitOpen, Counter::PolicyBroke),
    };
    vm.counts.add(counter);
    let incident = Incident { cluster: slice.cluster.clone(), policy: slice.id.clone(), retry: slice.retry };
    let message = format!("{} Try again in {} ms.", slice.sentence, refusal.retry_ms);
    Reply::new(code, message).retry_after_ms(refusal.retry_ms).because_of(incident)
}

fn note_refusal(vm: &mut Vm, slice: &SlicePolicy, phase: Option<GatePhase>) {
    vm.outbox.note(&slice.id, |note| note.refused += 1);
    note_phase(vm, slice, phase);
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
    vm.outbox.note(&slice.id, |note| note.phase = phase.code());
}
