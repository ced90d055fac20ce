//! Limits of the whole fleet: three gateways of two workers each, and the pools they lease from.

use std::collections::BTreeMap;
use std::rc::Rc;

use tidegate_core::event::Counter;
use tidegate_core::limit::Rate;
use tidegate_core::limit::lease::{OnLoss, Pool};
use tidegate_core::policy::{BucketPolicy, Rule, Scope, Selector, Snapshot};
use tidegate_core::wire::leases::{LeaseAnswer, LeaseGrant, LeaseRequest};
use tidegate_filter::pipeline::Flow;

use crate::fake::{Process, Worker, chat, code, header, policy, reply};

const LEASES: &str = "/internal/v1/leases";
const SNAPSHOT: &str = "/internal/v1/snapshot";
const BODY: &str = r#"{"model":"m","messages":[]}"#;
const RATE: u64 = 100;
const BURST: u64 = 100;
const TICK_MS: u64 = 100;

/// What stands for Redis, with the sidecars that talk to it.
#[derive(Default)]
struct Shared {
    pools: BTreeMap<u64, Pool>,
    gateways: BTreeMap<u64, u64>,
    is_away: bool,
    calls: u64,
}

impl Shared {
    fn answer(&mut self, body: &[u8], now_ns: u64) -> LeaseAnswer {
        let LeaseRequest { gateway, asks } = serde_json::from_slice(body).expect("a request");
        if self.is_away {
            let gateways = self.gateways.len() as u32;
            return LeaseAnswer { is_leased: false, gateways, grants: Vec::new() };
        }
        self.calls += 1;
        self.gateways.insert(gateway, now_ns);
        let grants = asks.into_iter().map(|ask| {
            let rate = Rate::from_parts(ask.interval_ns, ask.burst);
            let pool = self.pools.entry(ask.pool).or_default();
            let granted = pool.exchange(gateway, ask.ask, ask.back, now_ns, rate);
            LeaseGrant { pool: ask.pool, tokens: granted.tokens, full_in_ns: granted.full_in_ns }
        });
        let grants = grants.collect();
        LeaseAnswer { is_leased: true, gateways: self.gateways.len() as u32, grants }
    }
}

struct Gateway {
    process: Rc<Process>,
    workers: Vec<Worker>,
}

impl Gateway {
    fn new(snapshot: &Snapshot, ahead_ms: u64) -> Self {
        let process = Process::new();
        process.advance_ms(ahead_ms);
        let mut workers: Vec<_> = (0..2).map(|_| Worker::new(&process)).collect();
        workers[0].tick();
        let document = serde_json::to_vec(snapshot).expect("serialises");
        workers[0].answer(SNAPSHOT, Some(200), &document);
        workers[1].tick();
        Self { process, workers }
    }

    /// One tick of each worker; the sidecar answers at once, by the clock of the pools.
    fn tick(&mut self, shared: &mut Shared, pool_ns: u64) {
        for worker in &mut self.workers {
            worker.tick();
            if let Some(call) = worker.open(LEASES) {
                let answer = serde_json::to_vec(&shared.answer(&call.body, pool_ns)).expect("serialises");
                worker.answer(LEASES, Some(200), &answer);
            }
        }
    }

    fn ask(&mut self, worker: usize) -> Flow {
        chat(&self.process, &mut self.workers[worker].vm, BODY).1
    }
}

struct Fleet {
    gateways: Vec<Gateway>,
    shared: Shared,
    now_ns: u64,
    admitted: Vec<u64>,
}

impl Fleet {
    /// Three gateways whose clocks differ by minutes.
    fn new(on_loss: OnLoss) -> Self {
        let mut snapshot = policy();
        snapshot.l1.enabled = false;
        let tenant = Selector { tenant: Some("demo".to_owned()), ..Selector::default() };
        let bucket = BucketPolicy { rate: RATE as f64, burst: BURST };
        snapshot.limits.rules.push(Rule { scope: Scope::Fleet, ..Rule::of_requests(tenant, bucket) });
        snapshot.limits.on_redis_loss = on_loss;
        let gateways = (0..3).map(|i| Gateway::new(&snapshot, 60_000 * i)).collect();
        let mut fleet =
            Self { gateways, shared: Shared::default(), now_ns: 1_000_000_000_000, admitted: vec![0; 3] };
        // Everybody says once that it is there.
        fleet.run(2_000, [0, 0, 0]);
        fleet
    }

    /// Lets time pass, with so many requests a tick at each gateway, spread over its workers.
    fn run(&mut self, ms: u64, requests: [u64; 3]) {
        for _ in 0..ms / TICK_MS {
            self.now_ns += TICK_MS * 1_000_000;
            for (i, gateway) in self.gateways.iter_mut().enumerate() {
                gateway.process.advance_ms(TICK_MS);
                gateway.tick(&mut self.shared, self.now_ns);
                for n in 0..requests[i] {
                    let is_admitted = gateway.ask((n % 2) as usize) == Flow::Continue;
                    self.admitted[i] += u64::from(is_admitted);
                }
            }
        }
    }

    fn total(&self) -> u64 {
        self.admitted.iter().sum()
    }
}

fn assert_within(admitted: u64, expected: u64, percent: u64) {
    let most_off = expected * percent / 100;
    assert!(admitted.abs_diff(expected) <= most_off, "{admitted} admitted, {expected} expected");
}

#[test]
fn three_gateways_share_one_limit_under_overload() {
    let mut fleet = Fleet::new(OnLoss::Share);
    let before = fleet.shared.calls;
    fleet.run(30_000, [17, 17, 17]);
    assert_within(fleet.total(), RATE * 30 + BURST, 3);
    for admitted in &fleet.admitted {
        assert_within(*admitted, (RATE * 30 + BURST) / 3, 12);
    }
    assert!(fleet.shared.calls - before <= 3 * 30 * 5, "five exchanges a second for each gateway");
}

#[test]
fn what_a_quiet_gateway_does_not_use_goes_to_a_busy_one() {
    let mut fleet = Fleet::new(OnLoss::Share);
    fleet.run(30_000, [50, 1, 0]);
    assert_within(fleet.total(), RATE * 30 + BURST, 3);
    assert_within(fleet.admitted[1], 300, 5);
}

#[test]
fn without_redis_each_has_its_share_and_nothing_is_spent_twice_afterwards() {
    let mut fleet = Fleet::new(OnLoss::Share);
    fleet.run(10_000, [17, 17, 17]);
    fleet.shared.is_away = true;
    fleet.run(10_000, [17, 17, 17]);
    fleet.shared = Shared { gateways: std::mem::take(&mut fleet.shared.gateways), ..Shared::default() };
    fleet.run(10_000, [17, 17, 17]);
    assert_within(fleet.total(), RATE * 30 + BURST, 4);
}

#[test]
fn the_operator_may_choose_open_or_closed() {
    for (on_loss, expected) in [(OnLoss::Open, 51), (OnLoss::Closed, 0)] {
        let mut fleet = Fleet::new(on_loss);
        fleet.shared.is_away = true;
        fleet.run(200, [17, 17, 17]);
        let before = fleet.total();
        fleet.run(100, [17, 17, 17]);
        assert_eq!(fleet.total() - before, expected, "{on_loss:?}");
    }
}

#[test]
fn a_sidecar_that_is_silent_leaves_the_gateway_alone() {
    let mut fleet = Fleet::new(OnLoss::Closed);
    let gateway = &mut fleet.gateways[0];
    assert_eq!(gateway.ask(0), Flow::Continue);
    // No tick is answered any more.
    for _ in 0..30 {
        gateway.process.advance_ms(TICK_MS);
        gateway.workers.iter_mut().for_each(Worker::tick);
    }
    let refused = reply(gateway.ask(0));
    assert_eq!(code(&refused), "rate_limit_exceeded");
    assert_eq!(header(&refused, "retry-after-ms"), Some("1000"));
    assert!(gateway.workers[0].open(LEASES).is_some());
}

#[test]
fn an_answer_that_makes_no_sense_changes_nothing_but_who_is_alone() {
    let mut fleet = Fleet::new(OnLoss::Share);
    let gateway = &mut fleet.gateways[0];
    for (status, body) in [(Some(200), &b"{"[..]), (Some(500), b""), (None, b"")] {
        gateway.process.advance_ms(1_000);
        gateway.workers.iter_mut().for_each(Worker::tick);
        let leader = gateway.workers.iter_mut().find(|worker| worker.open(LEASES).is_some());
        leader.expect("one leases").answer(LEASES, status, body);
    }
    let failed: u64 = gateway.workers.iter().map(|w| w.vm.counts.get(Counter::LeaseFailed)).sum();
    assert_eq!(failed, 3);
    assert_eq!(gateway.ask(0), Flow::Continue);
}

#[test]
fn idle_leases_go_back_and_a_single_gateway_can_have_all() {
    let mut fleet = Fleet::new(OnLoss::Share);
    fleet.run(5_000, [10, 10, 10]);
    fleet.run(5_000, [0, 0, 0]);
    let pool = *fleet.shared.pools.keys().next().expect("one pool");
    let rate = Rate::from_parts(1_000_000_000 / RATE, BURST);
    let all = fleet.shared.pools.get_mut(&pool).expect("the pool").exchange(99, BURST, 0, fleet.now_ns, rate);
    assert_eq!(all.tokens, BURST);
}

#[test]
fn a_first_request_after_a_pause_is_admitted_at_once_and_a_refusal_says_when() {
    let mut fleet = Fleet::new(OnLoss::Share);
    let gateway = &mut fleet.gateways[2];
    let credit = BURST.div_ceil(3);
    let admitted = (0..BURST).take_while(|_| gateway.ask(0) == Flow::Continue).count() as u64;
    assert_eq!(admitted, credit, "this gateway's share of a full pool");
    let refused = reply(gateway.ask(0));
    let wait_ms: u64 = header(&refused, "retry-after-ms").and_then(|ms| ms.parse().ok()).expect("a wait");
    assert!(wait_ms <= 300, "{wait_ms}");
    fleet.run(wait_ms, [0, 0, 0]);
    assert_eq!(fleet.gateways[2].ask(0), Flow::Continue, "a client that waits as told gets in");
}
