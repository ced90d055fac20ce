//! The policy's way to every VM, and the reports' way back.

use tidegate_core::event::{Counter, Report};
use tidegate_core::policy::Snapshot;

use tidegate_filter::pipeline::Flow;

use crate::fake::{Process, Worker, chat, policy};

const SNAPSHOT: &str = "/internal/v1/snapshot";
const EVENTS: &str = "/internal/v1/events";

fn document(revision: &str, rate: f64) -> Vec<u8> {
    let mut policy = policy();
    policy.revision = revision.into();
    policy.limits.rules[1].requests.as_mut().expect("a rate").rate = rate;
    serde_json::to_vec(&policy).expect("serialises")
}

fn revision(worker: &Worker) -> Option<&str> {
    worker.vm.policy.as_ref().map(|p| p.snapshot.revision.as_str())
}

#[test]
fn one_vm_polls_and_all_follow() {
    let process = Process::new();
    let mut workers: Vec<_> = (0..4).map(|_| Worker::new(&process)).collect();
    workers.iter_mut().for_each(Worker::tick);
    let polling: Vec<_> = workers.iter().filter(|w| w.open(SNAPSHOT).is_some()).collect();
    assert_eq!(polling.len(), 1, "one lease, one poll");
    assert_eq!(polling[0].open(SNAPSHOT).expect("open").path, format!("{SNAPSHOT}?have=&wait_ms=0"));

    workers[0].answer(SNAPSHOT, Some(200), &document("r1", 5.0));
    process.advance_ms(100);
    workers.iter_mut().for_each(Worker::tick);
    assert!(workers.iter().all(|w| revision(w) == Some("r1")));
    assert_eq!(workers[0].open(SNAPSHOT).expect("open").path, format!("{SNAPSHOT}?have=r1&wait_ms=20000"));
}

#[test]
fn a_worker_that_has_not_ticked_yet_adopts_what_is_published() {
    let process = Process::new();
    let (mut one, mut late) = (Worker::new(&process), Worker::new(&process));
    one.tick();
    one.answer(SNAPSHOT, Some(200), &document("r1", 5.0));
    let (_, flow) = chat(&process, &mut late.vm, r#"{"model":"m"}"#);
    assert_eq!((flow, revision(&late)), (Flow::Continue, Some("r1")));
}

#[test]
fn a_bad_document_is_refused_counted_and_the_last_good_stays() {
    let process = Process::new();
    let (mut one, mut two) = (Worker::new(&process), Worker::new(&process));
    one.tick();
    one.answer(SNAPSHOT, Some(200), &document("r1", 5.0));
    for bad in [&b"{}"[..], b"", b"\xff", &document("r2", -1.0)] {
        process.advance_ms(1000);
        one.tick();
        two.tick();
        one.answer(SNAPSHOT, Some(200), bad);
        assert_eq!((revision(&one), revision(&two)), (Some("r1"), Some("r1")));
    }
    assert_eq!(one.vm.counts.get(Counter::SnapshotRefused), 4);
    assert!(one.warnings.borrow().iter().all(|w| w.contains("the last good one stays")));
    process.advance_ms(500);
    one.tick();
    assert!(one.open(SNAPSHOT).is_none(), "it does not ask for the same bad document in a loop");
    process.advance_ms(500);
    one.tick();
    one.answer(SNAPSHOT, Some(200), &document("r3", 7.0));
    two.tick();
    assert_eq!((revision(&one), revision(&two)), (Some("r3"), Some("r3")));
}

#[test]
fn a_lost_poll_is_tried_again_soon_and_limits_go_on() {
    let process = Process::new();
    let mut worker = Worker::new(&process);
    worker.tick();
    worker.answer(SNAPSHOT, Some(200), &document("r1", 5.0));
    worker.tick();
    worker.answer(SNAPSHOT, None, b"");
    assert_eq!(worker.vm.counts.get(Counter::SnapshotPollFailed), 1);
    assert_eq!(revision(&worker), Some("r1"));
    process.advance_ms(200);
    worker.tick();
    assert!(worker.open(SNAPSHOT).is_some());
}

#[test]
fn another_vm_takes_the_lease_of_one_that_stopped() {
    let process = Process::new();
    let (mut dead, mut heir) = (Worker::new(&process), Worker::new(&process));
    dead.tick();
    heir.tick();
    assert!(heir.open(SNAPSHOT).is_none());
    process.advance_ms(1499);
    heir.tick();
    assert!(heir.open(SNAPSHOT).is_none());
    process.advance_ms(1);
    heir.tick();
    assert!(heir.open(SNAPSHOT).is_some());
    dead.tick();
    heir.answer(SNAPSHOT, Some(200), &document("r1", 1.0));
    dead.tick();
    assert_eq!(revision(&dead), Some("r1"), "a VM that comes back follows");
}

#[test]
fn reports_are_cumulative_and_sent_again_until_delivered() {
    let process = Process::new();
    let mut worker = Worker::new(&process);
    let report = |worker: &Worker| {
        let call = worker.open(EVENTS).expect("a report");
        serde_json::from_slice::<Report>(&call.body).expect("a report")
    };
    worker.tick();
    assert_eq!(report(&worker).revision, "", "a new VM says at once that it is there");
    worker.answer(EVENTS, Some(204), b"");
    worker.answer(SNAPSHOT, Some(200), &document("r1", 1000.0));
    let _ = chat(&process, &mut worker.vm, "{");
    process.advance_ms(1000);
    worker.tick();
    let first = report(&worker);
    assert_eq!((first.revision.as_str(), first.vm.len()), ("r1", 16));
    assert_eq!(first.counters.get("requests.llm.refused"), Some(&1));
    worker.answer(EVENTS, None, b"");

    let _ = chat(&process, &mut worker.vm, "{");
    process.advance_ms(1000);
    worker.tick();
    assert_eq!(report(&worker).counters.get("requests.llm.refused"), Some(&2));
    assert_eq!(report(&worker).vm, first.vm);
    worker.answer(EVENTS, Some(204), b"");
    process.advance_ms(5000);
    worker.tick();
    assert!(worker.open(EVENTS).is_none(), "nothing new, nothing sent");
    process.advance_ms(60_000);
    worker.tick();
    assert!(worker.open(EVENTS).is_some(), "but now and then it says that it is still there");
}

#[test]
fn a_smaller_bound_frees_what_it_no_longer_reaches() {
    let process = Process::new();
    let mut worker = Worker::new(&process);
    worker.tick();
    worker.answer(SNAPSHOT, Some(200), &document("r1", 1e6));
    for i in 0..100 {
        let (mut stream, _) = chat(&process, &mut worker.vm, &format!(r#"{{"model":"m","n":{i}}}"#));
        stream.respond(&mut worker.vm, "200", "application/json", b"{\"choices\":[]}");
    }
    let before = process.bytes_under("tg1/d/");
    let mut small: Snapshot = serde_json::from_slice(&document("r2", 1e6)).expect("valid");
    small.l1.bytes_max = 256 << 10;
    worker.tick();
    worker.answer(SNAPSHOT, Some(200), &serde_json::to_vec(&small).expect("serialises"));
    assert!(process.bytes_under("tg1/d/") < before / 2);
}
