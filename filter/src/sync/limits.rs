//! Answering what operators ask about buckets: one VM keeps a long poll open for questions, and
//! brings the answers with the next.

use tidegate_core::limit::{Buckets, Kind, Level, Look, Rate, Subject, states};
use tidegate_core::wire::{
    LimitAnswer, LimitAnswers, LimitQuestions, QUESTIONS_MAX, SNAPSHOT_WAIT_MS_MAX, path,
};

use crate::permits;
use crate::place::{Account, Place};
use crate::ports::{Call, RootHost, SharedCells};
use crate::slices::Slices;
use crate::vm::{Policy, Vm};

/// Pause after a poll that failed, in milliseconds.
const FAILED_PAUSE_MS: u64 = 1_000;
/// A poll that has no answer this long after it should have is given up, in milliseconds.
const POLL_GRACE_MS: u64 = 5_000;

/// One VM's part in it.
#[derive(Default)]
pub struct LimitSync {
    polling: Option<u32>,
    answers: Vec<LimitAnswer>,
    next_poll_ms: u64,
}

impl LimitSync {
    pub fn is_waiting_for(&self, call: u32) -> bool {
        self.polling == Some(call)
    }

    /// Keeps one poll open, if this VM leads.
    pub fn poll(&mut self, leads: bool, vm: &Vm, host: &impl RootHost, now_ms: u64) {
        if !leads || self.polling.is_some() || now_ms < self.next_poll_ms || vm.policy.is_none() {
            return;
        }
        let answers = LimitAnswers { answers: std::mem::take(&mut self.answers) };
        let Ok(body) = serde_json::to_vec(&answers) else { return };
        let timeout_ms = SNAPSHOT_WAIT_MS_MAX + POLL_GRACE_MS;
        self.polling = host.call(&Call { method: "POST", path: path::LIMITS.to_owned(), body, timeout_ms });
        if self.polling.is_none() {
            self.next_poll_ms = now_ms + FAILED_PAUSE_MS;
        }
    }

    pub fn on_answer(
        &mut self,
        vm: &Vm,
        host: &impl RootHost,
        status: Option<u16>,
        body: &[u8],
        now_ms: u64,
    ) {
        self.polling = None;
        let asked = match status {
            Some(200) => serde_json::from_slice::<LimitQuestions>(body).ok(),
            _ => None,
        };
        let (Some(asked), Some(policy)) = (asked, &vm.policy) else {
            self.next_poll_ms = now_ms + FAILED_PAUSE_MS;
            return;
        };
        let now_ns = host.now_ns();
        let answer = |question: tidegate_core::wire::LimitQuestion| {
            let subject = question.request.subject();
            let levels = policy.levels.all(&subject);
            let mut cells = InCells { host, slices: &vm.slices, policy, now_ns };
            let states = states(&levels, &subject, question.request.tokens, &mut cells);
            LimitAnswer { id: question.id, states }
        };
        self.answers = asked.questions.into_iter().take(QUESTIONS_MAX).map(answer).collect();
    }
}

/// Buckets as all VMs see them.
struct InCells<'h, H> {
    host: &'h H,
    slices: &'h Slices,
    policy: &'h Policy,
    now_ns: u64,
}

impl<H: SharedCells> Buckets for InCells<'_, H> {
    fn look(&mut self, level: &Level, kind: Kind, rate: Rate, subject: &Subject<'_>, amount: u64) -> Look {
        let place = Place::of(level, kind, subject.ip);
        let account = Account { place, rate, sharer: self.policy.sharer(subject.tenant) };
        let look = self.slices.look(self.host, &account, amount, self.now_ns);
        // Of a bucket by its name nobody asks on a tenant's behalf.
        if subject.tenant.is_empty() { Look { share: None, ..look } } else { look }
    }

    fn in_flight(&mut self, level: &Level, subject: &Subject<'_>) -> u32 {
        permits::in_use(self.host, level.tag(subject.ip), self.now_ns / 1_000_000)
    }

    fn gateways(&self) -> u32 {
        self.slices.fleet.view().gateways
    }
}
