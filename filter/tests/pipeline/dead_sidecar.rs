//! A sidecar that is dead for ten minutes: filters go on with the last policies, each of which ends by
//! its time to live, and tell afterwards what they saw.

use tidegate_core::event::{Attribute, EVENTS_MAX, Report};
use tidegate_core::incident::enforcement::{Measure, SlicePolicy, slice};
use tidegate_core::policy::Snapshot;
use tidegate_filter::pipeline::Flow;

use crate::fake::{Process, Worker, chat, policy};

const SNAPSHOT: &str = "/internal/v1/snapshot";
const EVENTS: &str = "/internal/v1/events";
const DEAD_S: u64 = 600;
const TTL_S: u64 = 300;

/// The slice of model `m` is closed, for as long as the policy lives.
fn closed() -> Snapshot {
    let mut policy = policy();
    policy.slices = vec![SlicePolicy {
        id: "p1".into(),
        cluster: "c1".into(),
        scopes: vec![slice(Attribute::Model, "m")],
        measure: Measure::Break {
            recovery_timeout_ms: 3_600_000,
            recovery_increment: 0.2,
            successes_per_step: 10,
        },
        enforce: true,
        statuses: vec![503],
        sentence: "Model m is down.".into(),
        retry: true,
        ttl_ms: TTL_S * 1_000,
        renewal: 0,
    }];
    policy
}

/// Nobody answers what the worker asks.
fn leave_unanswered(worker: &mut Worker) {
    for path in [SNAPSHOT, EVENTS] {
        if worker.open(path).is_some() {
            worker.answer(path, None, b"");
        }
    }
}

/// What is told to a sidecar that is back: requests of the model, and its failures.
fn told(worker: &mut Worker, process: &Process) -> (u64, u64) {
    let (mut requests, mut failures) = (0, 0);
    // Longer than the wait after the last attempt, then batch by batch.
    process.advance_ms(60_000);
    loop {
        process.advance_ms(1_000);
        worker.tick();
        if worker.open(SNAPSHOT).is_some() {
            worker.answer(SNAPSHOT, None, b"");
        }
        let Some(call) = worker.open(EVENTS) else { return (requests, failures) };
        let report: Report = serde_json::from_slice(&call.body).expect("a report");
        worker.answer(EVENTS, Some(204), b"");
        let Some(batch) = report.batch else { return (requests, failures) };
        assert!(batch.events.len() <= EVENTS_MAX);
        requests += batch.traffic.iter().map(|row| row.requests).sum::<u64>();
        failures += batch.traffic.iter().flat_map(|row| &row.failures).map(|(_, count)| count).sum::<u64>();
    }
}

#[test]
fn for_ten_minutes_filters_go_on_and_policies_end_by_their_time_to_live() {
    let process = Process::new();
    let mut workers = [Worker::new(&process), Worker::new(&process)];
    workers.iter_mut().for_each(Worker::tick);
    workers[0].answer(SNAPSHOT, Some(200), &serde_json::to_vec(&closed()).expect("serialises"));
    process.advance_ms(100);
    workers.iter_mut().for_each(Worker::tick);
    let (mut refused, mut canaries, mut sent) = ([0; 2], 0, 0);
    // Questions that were never asked before: answers that are stored are served all the while.
    let mut n = 0;
    for second in 0..DEAD_S {
        process.advance_ms(1_000);
        for worker in &mut workers {
            worker.tick();
            leave_unanswered(worker);
            n += 1;
            let (mut other, flow) = chat(&process, &mut worker.vm, &format!(r#"{{"model":"m2","n":{n}}}"#));
            assert_eq!(flow, Flow::Continue, "a bystander, after {second} s");
            other.respond(&mut worker.vm, "200", "application/json", b"{}");
            sent += 1;
            let (mut stream, flow) = chat(&process, &mut worker.vm, &format!(r#"{{"model":"m","n":{n}}}"#));
            if flow != Flow::Continue {
                refused[usize::from(second >= TTL_S)] += 1;
                continue;
            }
            // A canary of the closed slice fails; after the policy's time all is well.
            let is_closed = second < TTL_S - 1;
            canaries += u64::from(is_closed);
            sent += 1;
            let status = if is_closed { "503" } else { "200" };
            let headers =
                [(":status", status), ("x-tidegate-answered", "1"), ("x-gateway-provider", "openai")];
            stream.response_headers(&mut worker.vm, &headers);
            stream.response_chunk(&mut worker.vm, b"{}", true);
            stream.end(&mut worker.vm);
        }
    }
    assert!(refused[0] >= 2 * (TTL_S - 1) * 9 / 10, "it stood for its time: {refused:?}");
    assert_eq!(refused[1], 0, "nobody renewed it");
    assert!(canaries > 0);
    let (mut requests, mut failures) = (0, 0);
    for worker in &mut workers {
        let (more_requests, more_failures) = told(worker, &process);
        requests += more_requests;
        failures += more_failures;
    }
    assert_eq!((requests, failures), (sent, canaries), "what was seen meanwhile is told, once");
}
