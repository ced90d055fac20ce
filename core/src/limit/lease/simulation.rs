//! The lease protocol under every interleaving of a small fleet, and under long random ones of a
//! larger one: gateways crash and forget, messages are lost or late, Redis goes away and comes
//! back, with what it knew or without.
//!
//! Two things must hold. *Safety*: in any run, what was admitted is at most R·t + B and the
//! credit of one share for each life of a gateway. *Liveness*: when everybody is quiet for as
//! long as the pool takes to fill, one gateway can have the whole burst; no token is gone for
//! ever.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::limit::Rate;
use crate::policy::BucketPolicy;

const STEP_NS: u64 = 500_000_000;
const START_NS: u64 = 1_000_000_000_000;

/// What can happen next.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// A request comes to a gateway.
    Request(usize),
    /// A gateway sends what it wants; Redis answers at once, if it is there.
    Exchange(usize),
    /// The answer arrives.
    Deliver(usize),
    /// The answer is lost.
    Lose(usize),
    /// What is asked arrives nowhere: given back, and never sent again.
    LoseRequest(usize),
    /// A gateway crashes, and a new one is there.
    Crash(usize),
    /// Half a second passes.
    Pass,
    /// Redis goes away, and every gateway notices.
    Away,
    /// Redis is back with what it knew.
    Back,
    /// Redis is back and knows nothing.
    BackEmpty,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Answer {
    granted: Granted0,
    asked_ns: u64,
}

/// [`Granted`], as something to hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Granted0(u64, u64);

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct Member {
    holding: Holding,
    demand: Demand,
    asked: u64,
    answer: Option<Answer>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Fleet {
    members: Vec<Member>,
    pool: Pool,
    is_away: bool,
    now_ns: u64,
    admitted: u64,
    lives: u64,
}

impl Fleet {
    fn new(members: usize) -> Self {
        Self {
            members: vec![Member::default(); members],
            pool: Pool::default(),
            is_away: false,
            now_ns: START_NS,
            admitted: 0,
            lives: members as u64,
        }
    }

    fn view(&self) -> View {
        let mode = if self.is_away { Mode::Alone(OnLoss::Share) } else { Mode::Leased };
        View { mode, gateways: self.members.len() as u32 }
    }

    fn on(&mut self, event: Event, rate: Rate) {
        let (view, now_ns) = (self.view(), self.now_ns);
        match event {
            Event::Request(i) => {
                let member = &mut self.members[i];
                member.asked += 1;
                self.admitted += u64::from(member.holding.take(1, now_ns, rate, view).is_ok());
            }
            Event::Exchange(i) | Event::LoseRequest(i) => {
                let member = &mut self.members[i];
                member.demand = member.demand.after(member.asked);
                member.asked = 0;
                let plan = member.demand.plan(member.holding.balance(now_ns, rate, view), rate.burst());
                let back = member.holding.give_back(plan.back, now_ns, rate, view);
                if !self.is_away && member.answer.is_none() && matches!(event, Event::Exchange(_)) {
                    let granted = self.pool.exchange(i as u64 + 1, plan.ask, back, now_ns, rate);
                    let granted = Granted0(granted.tokens, granted.full_in_ns);
                    member.answer = Some(Answer { granted, asked_ns: now_ns });
                }
            }
            Event::Deliver(i) => {
                let member = &mut self.members[i];
                if let Some(Answer { granted: Granted0(tokens, full_in_ns), asked_ns }) = member.answer.take()
                    && !self.is_away
                {
                    member.holding.grant(tokens, full_in_ns, asked_ns, now_ns, rate, view);
                }
            }
            Event::Lose(i) => self.members[i].answer = None,
            Event::Crash(i) => {
                self.members[i] = Member::default();
                self.lives += 1;
            }
            Event::Pass => self.now_ns += STEP_NS,
            Event::Away if !self.is_away => {
                self.is_away = true;
                let view = self.view();
                for member in &mut self.members {
                    member.answer = None;
                    member.holding.balance(now_ns, rate, view);
                }
            }
            Event::Back | Event::BackEmpty if self.is_away => {
                self.is_away = false;
                if matches!(event, Event::BackEmpty) {
                    self.pool = Pool::default();
                }
                let view = self.view();
                for member in &mut self.members {
                    member.holding.balance(now_ns, rate, view);
                }
            }
            Event::Away | Event::Back | Event::BackEmpty => {}
        }
    }

    /// R·t + B, and a share of the burst on credit for each life.
    fn bound(&self, rate: Rate) -> u64 {
        let refilled = (self.now_ns - START_NS) / rate.interval_ns();
        refilled + rate.burst() + self.lives * rate.burst().div_ceil(self.members.len() as u64)
    }

    fn check(&self, rate: Rate) -> Result<(), String> {
        let bound = self.bound(rate);
        (self.admitted <= bound)
            .then_some(())
            .ok_or_else(|| format!("{} of {bound}: {self:?}", self.admitted))
    }

    /// After a long pause, and a debt paid, one gateway can have everything.
    fn check_liveness(mut self, rate: Rate) -> Result<(), String> {
        self.on(Event::Back, rate);
        for i in 0..self.members.len() {
            self.on(Event::Lose(i), rate);
        }
        // A debt is paid by the first exchanges; then everything comes back.
        for _ in 0..40 {
            self.now_ns += rate.interval_ns() * rate.burst();
            for i in 0..self.members.len() {
                self.on(Event::Exchange(i), rate);
                self.on(Event::Deliver(i), rate);
            }
        }
        self.now_ns += rate.interval_ns() * rate.burst() + LEASE_NS;
        let granted = self.pool.exchange(99, rate.burst(), 0, self.now_ns, rate);
        let owed = self.members.iter().any(|m| m.holding.balance < 0);
        (granted.tokens == rate.burst() && !owed).then_some(()).ok_or_else(|| format!("{granted:?} {self:?}"))
    }
}

/// Every sequence of events up to a length, states that were met before left out.
fn explore(members: usize, rate: Rate, events: &[Event], depth: usize) -> usize {
    let mut seen = HashSet::new();
    let mut frontier = vec![Fleet::new(members)];
    for _ in 0..depth {
        let mut next = Vec::new();
        for fleet in frontier {
            for event in events {
                let mut after = fleet.clone();
                after.on(*event, rate);
                after.check(rate).unwrap_or_else(|broken| panic!("{event:?}: {broken}"));
                if seen.insert(after.clone()) {
                    next.push(after);
                }
            }
        }
        frontier = next;
    }
    for fleet in frontier.into_iter().step_by(97) {
        fleet.check_liveness(rate).unwrap_or_else(|lost| panic!("{lost}"));
    }
    seen.len()
}

#[test]
fn no_interleaving_of_two_gateways_admits_more_than_the_bound() {
    let rate = Rate::new(BucketPolicy { rate: 1.0, burst: 2 });
    use Event::{Away, Back, BackEmpty, Crash, Deliver, Exchange, Lose, LoseRequest, Pass, Request};
    let events = [
        Request(0),
        Request(1),
        Exchange(0),
        Exchange(1),
        Deliver(0),
        Deliver(1),
        Lose(0),
        LoseRequest(1),
        Crash(0),
        Pass,
        Away,
        Back,
        BackEmpty,
    ];
    let states = explore(2, rate, &events, 8);
    assert!(states > 10_000, "{states}");
}

fn event(members: usize) -> impl Strategy<Value = Event> {
    let which = 0..members;
    prop_oneof![
        20 => which.clone().prop_map(Event::Request),
        8 => which.clone().prop_map(Event::Exchange),
        8 => which.clone().prop_map(Event::Deliver),
        1 => which.clone().prop_map(Event::Lose),
        1 => which.clone().prop_map(Event::LoseRequest),
        1 => which.prop_map(Event::Crash),
        3 => Just(Event::Pass),
        1 => Just(Event::Away),
        1 => Just(Event::Back),
        1 => Just(Event::BackEmpty),
    ]
}

proptest! {
    #[test]
    fn no_long_run_of_five_gateways_does_either(
        rate in 1_u32..50,
        burst in 1_u64..60,
        events in prop::collection::vec(event(5), 1..600),
    ) {
        let rate = Rate::new(BucketPolicy { rate: f64::from(rate), burst });
        let mut fleet = Fleet::new(5);
        for event in events {
            fleet.on(event, rate);
            prop_assert_eq!(fleet.check(rate), Ok(()));
        }
        prop_assert_eq!(fleet.check_liveness(rate), Ok(()));
    }
}
