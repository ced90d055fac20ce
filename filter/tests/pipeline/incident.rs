//! Failures observed, and slices of the traffic broken and limited, over several VMs.

use std::rc::Rc;

use tidegate_core::event::{Attribute, Batch, Counter, Report};
use tidegate_core::incident::Source;
use tidegate_core::incident::enforcement::{Measure, SlicePolicy, slice};
use tidegate_core::incident::gate::CANARY_EVERY;
use tidegate_core::policy::Snapshot;
use tidegate_filter::pipeline::Flow;
use tidegate_filter::vm::Vm;

use crate::fake::{Process, Stream, Worker, chat, code, header, policy, reply, stream, vm};

const BODY: &str = r#"{"model":"m","stream":false,"messages":[]}"#;
const QUOTA: &[u8] = br#"{"error":{"message":"You exceeded quota 12 of 'acme-7'","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#;

fn broken(measure: Measure, enforce: bool) -> Snapshot {
    let mut policy = policy();
    policy.slices = vec![SlicePolicy {
        id: "p1".into(),
        cluster: "c1".into(),
        scopes: vec![slice(Attribute::Model, "m")],
        measure,
        enforce,
        statuses: vec![429],
        sentence: "Model m is out of quota.".into(),
        retry: true,
        ttl_ms: 600_000,
        renewal: 0,
    }];
    policy
}

const BREAK: Measure =
    Measure::Break { recovery_timeout_ms: 30_000, recovery_increment: 0.5, successes_per_step: 2 };

fn ask(process: &Rc<Process>, vm: &mut Vm, n: u32) -> (Stream, Flow) {
    chat(process, vm, &format!(r#"{{"model":"m","messages":[],"n":{n}}}"#))
}

fn fail(process: &Rc<Process>, vm: &mut Vm, n: u32) {
    let (mut stream, flow) = ask(process, vm, n);
    assert_eq!(flow, Flow::Continue);
    let headers = [
        (":status", "429"),
        ("content-type", "application/json"),
        ("x-tidegate-answered", "1"),
        ("x-gateway-provider", "openai"),
        ("x-tidegate-provider-key", "0"),
    ];
    stream.response_headers(vm, &headers);
    assert_eq!(stream.received("x-tidegate-provider-key"), None, "not the client's business");
    stream.response_chunk(vm, QUOTA, true);
    stream.end(vm);
}

/// The sidecar answers with a provider's failure.
fn answer(stream: &mut Stream, vm: &mut Vm, status: &str) {
    let headers = [(":status", status), ("x-tidegate-answered", "1"), ("x-gateway-provider", "openai")];
    stream.response_headers(vm, &headers);
    stream.response_chunk(vm, b"{}", true);
    stream.end(vm);
}

/// What the VM's next report tells.
fn batch(worker: &mut Worker) -> Option<Batch> {
    worker.tick();
    let call = worker.open("/internal/v1/events")?;
    serde_json::from_slice::<Report>(&call.body).expect("a report").batch
}

fn worker(process: &Rc<Process>, policy: &Snapshot) -> Worker {
    let mut worker = Worker::new(process);
    worker.vm = vm(policy);
    worker
}

#[test]
fn a_failure_is_told_masked_with_its_request_and_the_traffic_around_it() {
    let process = Process::new();
    let mut worker = worker(&process, &policy());
    for n in 0..3 {
        fail(&process, &mut worker.vm, n);
    }
    let (mut good, _) = chat(&process, &mut worker.vm, r#"{"model":"other","messages":[]}"#);
    good.respond(&mut worker.vm, "200", "application/json", b"{}");
    let batch = batch(&mut worker).expect("a batch");
    let [event] = batch.events.as_slice() else { panic!("one sample of one signature: {batch:?}") };
    assert_eq!((event.status, event.source), (429, Source::Provider));
    assert_eq!(event.codes, ["insufficient_quota"]);
    assert!(event.template.contains("exceeded quota") && !event.template.contains("acme-7"), "{event:?}");
    let said = |attribute| event.attributes.get(&attribute).map(String::as_str);
    assert_eq!(said(Attribute::Tenant), Some("demo"));
    assert_eq!(said(Attribute::Model), Some("m"));
    assert_eq!(said(Attribute::Provider), Some("openai"));
    assert_eq!(said(Attribute::ProviderKey), Some("0"));
    assert_eq!(said(Attribute::Method), Some("POST"));
    assert_eq!(batch.traffic.iter().map(|row| row.requests).sum::<u64>(), 4);
    let failed: Vec<_> = batch.traffic.iter().flat_map(|row| &row.failures).collect();
    assert_eq!(failed, [&(event.signature, 3)]);
    assert_eq!(worker.vm.counts.get(Counter::EventSampled), 1);
    assert_eq!(worker.vm.counts.get(Counter::EventCounted), 2);
}

#[test]
fn a_batch_is_sent_again_until_it_is_confirmed_and_no_longer() {
    let process = Process::new();
    let mut worker = worker(&process, &policy());
    fail(&process, &mut worker.vm, 0);
    let first = batch(&mut worker).expect("a batch");
    for answer in [None, Some(503)] {
        worker.answer("/internal/v1/events", answer, b"");
        process.advance_ms(1_000);
        fail(&process, &mut worker.vm, 1);
        assert_eq!(batch(&mut worker).as_ref(), Some(&first), "the same, after {answer:?}");
    }
    worker.answer("/internal/v1/events", Some(204), b"");
    process.advance_ms(1_000);
    let next = batch(&mut worker).expect("what came since");
    assert_eq!((next.number, next.traffic[0].requests), (first.number + 1, 2));
}

#[test]
fn what_the_caller_did_wrong_or_left_is_no_failure() {
    let process = Process::new();
    let mut worker = worker(&process, &policy());
    let (mut refused, _) = ask(&process, &mut worker.vm, 0);
    refused.respond(&mut worker.vm, "400", "application/json", b"{}");
    let (mut left, _) = ask(&process, &mut worker.vm, 1);
    left.end(&mut worker.vm);
    assert_eq!(batch(&mut worker), None);
}

#[test]
fn an_error_inside_a_stream_and_one_of_envoys_are_told_by_their_source() {
    let process = Process::new();
    let mut worker = worker(&process, &policy());
    let (mut stream, _) = ask(&process, &mut worker.vm, 0);
    let headers = [(":status", "200"), ("content-type", "text/event-stream"), ("x-gateway-provider", "p")];
    stream.response_headers(&mut worker.vm, &headers);
    stream.response_chunk(&mut worker.vm, b"data: {\"error\":{\"message\":\"overloaded\"}}\n\n", true);
    stream.end(&mut worker.vm);
    let (mut cut, _) = ask(&process, &mut worker.vm, 1);
    cut.host.flags.set(1 << 4);
    cut.end(&mut worker.vm);
    let events = batch(&mut worker).expect("a batch").events;
    let told: Vec<_> = events.iter().map(|e| (e.source, e.template.as_str())).collect();
    assert_eq!(told[0], (Source::Stream, "overloaded"));
    assert_eq!(told[1].0, Source::Envoy);
}

#[test]
fn a_broken_slice_is_refused_in_every_vm_and_nothing_else_is() {
    let process = Process::new();
    let policy = broken(BREAK, true);
    let mut vms = [vm(&policy), vm(&policy)];
    for (n, vm) in (0u32..).zip(&mut vms) {
        let refusal = reply(ask(&process, vm, n).1);
        assert_eq!((refusal.status, code(&refusal).as_str()), (503, "circuit_open"));
        assert_eq!(header(&refusal, "x-gateway-cluster"), Some("c1"));
        assert_eq!(header(&refusal, "x-gateway-policy"), Some("p1"));
        assert_eq!(header(&refusal, "retry-after"), Some("30"));
        assert!(String::from_utf8_lossy(&refusal.body).contains("Model m is out of quota."));
        assert_eq!(chat(&process, vm, r#"{"model":"m2","messages":[]}"#).1, Flow::Continue, "a bystander");
    }
}

#[test]
fn probes_of_the_slice_bring_it_back_over_all_vms() {
    let process = Process::new();
    let policy = broken(BREAK, true);
    let mut vms = [vm(&policy), vm(&policy)];
    reply(ask(&process, &mut vms[0], 0).1);
    process.advance_ms(30_000);
    let mut probes: Vec<Stream> = Vec::new();
    for n in 0..9 {
        let (stream, flow) = ask(&process, &mut vms[(n % 2) as usize], n);
        if flow == Flow::Continue {
            probes.push(stream);
        }
    }
    assert_eq!(probes.len(), 3, "a few, whichever VM");
    for mut probe in probes {
        probe.respond(&mut vms[0], "200", "application/json", b"{\"choices\":[]}");
    }
    let mut admitted = 0;
    for n in 100..120 {
        let (mut stream, flow) = ask(&process, &mut vms[1], n);
        if flow == Flow::Continue {
            admitted += 1;
            stream.respond(&mut vms[1], "200", "application/json", b"{\"choices\":[]}");
        }
    }
    assert!((18..20).contains(&admitted), "by steps, then everything: {admitted}");
    for n in 200..203 {
        fail(&process, &mut vms[0], n);
    }
    assert_eq!(reply(ask(&process, &mut vms[1], 300).1).status, 503, "a relapse is not learnt anew");
}

/// A slice whose canaries go out every quarter of a second: the next request is to wait.
fn busy(process: &Rc<Process>, vm: &mut Vm, fails: bool) -> u32 {
    let mut n = 1_000;
    for _ in 0..2 * CANARY_EVERY {
        n += 1;
        process.advance_ms(10);
        let (mut stream, flow) = ask(process, vm, n);
        if flow == Flow::Continue {
            answer(&mut stream, vm, if fails { "503" } else { "200" });
        }
    }
    n
}

#[test]
fn a_refusal_waits_for_the_next_canary_and_goes_on_if_it_comes_back_well() {
    let process = Process::new();
    let mut vm = vm(&broken(BREAK, true));
    let mut n = busy(&process, &mut vm, true);
    let mut waiting = Vec::new();
    let mut canary = loop {
        n += 1;
        process.advance_ms(10);
        match ask(&process, &mut vm, n) {
            (stream, Flow::Hold) => waiting.push(stream),
            (stream, Flow::Continue) => break stream,
            (_, other) => panic!("{other:?}"),
        }
    };
    assert_eq!(waiting.len() as u32, CANARY_EVERY - 1);
    assert!(waiting.iter_mut().all(|stream| stream.ask_again(&mut vm) == Flow::Hold), "no news yet");
    answer(&mut canary, &mut vm, "200");
    for _tick in 0..5 {
        process.advance_ms(100);
        waiting.retain_mut(|stream| match stream.ask_again(&mut vm) {
            Flow::Hold => true,
            Flow::Continue => {
                answer(stream, &mut vm, "200");
                false
            }
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(waiting.len(), 0, "nobody was refused in vain");
    assert_eq!(
        vm.counts.get(Counter::PolicyBroke),
        u64::from(2 * CANARY_EVERY) - 2 - u64::from(CANARY_EVERY - 1)
    );
}

#[test]
fn a_refusal_that_waits_comes_when_the_canary_fails_or_is_late() {
    let process = Process::new();
    let policy = broken(BREAK, true);
    let mut vm = vm(&policy);
    let n = busy(&process, &mut vm, true);
    let (mut waiting, flow) = ask(&process, &mut vm, n + 1);
    assert_eq!(flow, Flow::Hold);
    assert_eq!(waiting.body(&mut vm, b"", true), Flow::Hold, "nothing changes it");
    process.advance_ms(CANARY_EVERY.into());
    assert_eq!(waiting.ask_again(&mut vm), Flow::Hold);
    process.advance_ms(1_000);
    let refusal = reply(waiting.ask_again(&mut vm));
    assert_eq!((refusal.status, header(&refusal, "x-gateway-policy")), (503, Some("p1")));

    let (mut deleted, flow) = ask(&process, &mut vm, n + 2);
    assert_eq!(flow, Flow::Hold);
    let mut none = broken(BREAK, true);
    (none.revision, none.slices) = ("r2".into(), Vec::new());
    let host = stream(&process).host;
    vm.adopt(&host, &serde_json::to_vec(&none).expect("serialises")).expect("valid");
    process.advance_ms(1_000);
    assert_eq!(deleted.ask_again(&mut vm), Flow::Continue, "its policy is gone");
}

#[test]
fn two_policies_on_one_slice_do_not_keep_each_others_canaries_back() {
    let process = Process::new();
    let mut policy = broken(BREAK, true);
    let mut second = policy.slices[0].clone();
    (second.id, second.scopes) = ("p2".into(), vec![slice(Attribute::Method, "POST")]);
    policy.slices.push(second);
    let mut vm = vm(&policy);
    for n in 0..CANARY_EVERY / 2 {
        reply(chat(&process, &mut vm, &format!(r#"{{"model":"m2","messages":[],"n":{n}}}"#)).1);
    }
    busy(&process, &mut vm, false);
    assert_eq!(ask(&process, &mut vm, 1).1, Flow::Continue);
}

#[test]
fn a_failure_that_another_policy_answers_does_not_open_a_slice() {
    let process = Process::new();
    let mut policy = broken(BREAK, true);
    let mut second = policy.slices[0].clone();
    (second.id, second.scopes, second.statuses) =
        ("p2".into(), vec![slice(Attribute::Method, "POST")], vec![503]);
    policy.slices.push(second);
    let mut worker = worker(&process, &policy);
    // All end with the first one's status: whether the second one's failure is over is not known.
    for n in 0..4 * CANARY_EVERY {
        process.advance_ms(10);
        let (mut stream, flow) = ask(&process, &mut worker.vm, n);
        if flow == Flow::Continue {
            answer(&mut stream, &mut worker.vm, "429");
        }
    }
    let notes = batch(&mut worker).expect("a batch").policies;
    assert!(notes.iter().all(|note| note.phase == 2 && note.probes_ok == 0), "{notes:?}");
    assert!(notes.iter().any(|note| note.id == "p1" && note.probes_failed > 0), "{notes:?}");
}

#[test]
fn a_probe_that_fails_with_the_incidents_status_begins_again_and_another_error_does_not() {
    let process = Process::new();
    let policy = broken(BREAK, true);
    let mut vm = vm(&policy);
    reply(ask(&process, &mut vm, 0).1);
    process.advance_ms(30_000);
    fail(&process, &mut vm, 1);
    assert_eq!(header(&reply(ask(&process, &mut vm, 2).1), "retry-after"), Some("30"));
    process.advance_ms(30_000);
    for n in 10..13 {
        let (mut probe, flow) = ask(&process, &mut vm, n);
        assert_eq!(flow, Flow::Continue);
        probe.respond(&mut vm, "400", "application/json", b"{}");
    }
    assert_eq!(ask(&process, &mut vm, 20).1, Flow::Continue, "recovering");
}

#[test]
fn a_shadow_policy_refuses_nobody_and_says_what_it_would_have() {
    let process = Process::new();
    let mut worker = worker(&process, &broken(BREAK, false));
    for n in 0..5 {
        assert_eq!(ask(&process, &mut worker.vm, n).1, Flow::Continue);
    }
    let notes = batch(&mut worker).expect("a batch").policies;
    assert_eq!((notes[0].id.as_str(), notes[0].refused, notes[0].phase), ("p1", 5, 2));
}

#[test]
fn a_limited_slice_gets_its_rate_and_waiting_as_told_gets_in() {
    let process = Process::new();
    let mut vm = vm(&broken(Measure::Limit { rate: 2.0 }, true));
    assert_eq!(ask(&process, &mut vm, 0).1, Flow::Continue);
    let refusal = reply(ask(&process, &mut vm, 1).1);
    assert_eq!((refusal.status, code(&refusal).as_str()), (429, "rate_limit_exceeded"));
    let ms = header(&refusal, "retry-after-ms").and_then(|v| v.parse().ok()).expect("a time");
    process.advance_ms(ms);
    assert_eq!(ask(&process, &mut vm, 2).1, Flow::Continue);
}

#[test]
fn what_an_operator_closed_stays_closed_until_it_ends_however_well_the_slice_does() {
    let process = Process::new();
    let mut vm = vm(&broken(Measure::Close, true));
    for n in 0..200 {
        assert!(matches!(ask(&process, &mut vm, n).1, Flow::Reply(_)), "request {n}");
        process.advance_ms(2_900);
    }
    process.advance_ms(20_000);
    assert_eq!(ask(&process, &mut vm, 200).1, Flow::Continue);
}

#[test]
fn a_policy_ends_by_itself_when_nobody_renews_it_and_lives_on_when_somebody_does() {
    let process = Process::new();
    let mut policy = broken(BREAK, true);
    let mut vm = vm(&policy);
    reply(ask(&process, &mut vm, 0).1);
    process.advance_ms(599_999);
    policy.revision = "r2".into();
    policy.slices[0].renewal = 1;
    let host = stream(&process).host;
    vm.adopt(&host, &serde_json::to_vec(&policy).expect("serialises")).expect("valid");
    process.advance_ms(1);
    // Its time-out is long over, so this is a probe; and it fails.
    fail(&process, &mut vm, 1);
    reply(ask(&process, &mut vm, 2).1);
    process.advance_ms(600_000);
    for n in 10..20 {
        assert_eq!(ask(&process, &mut vm, n).1, Flow::Continue);
    }
}

#[test]
fn a_stored_answer_is_served_while_the_slice_is_broken() {
    let process = Process::new();
    let mut vm = vm(&policy());
    let (mut good, _) = chat(&process, &mut vm, BODY);
    good.respond(&mut vm, "200", "application/json", b"{\"choices\":[]}");
    let mut policy = broken(BREAK, true);
    policy.revision = "r2".into();
    let host = stream(&process).host;
    vm.adopt(&host, &serde_json::to_vec(&policy).expect("serialises")).expect("valid");
    assert_eq!(reply(chat(&process, &mut vm, BODY).1).status, 200);
    assert_eq!(reply(ask(&process, &mut vm, 1).1).status, 503);
}

#[test]
fn a_policy_takes_over_from_breakers_that_opened_for_it() {
    let process = Process::new();
    let mut vm = vm(&policy());
    let mut n = 0;
    let flow = loop {
        n += 1;
        let (mut stream, flow) = ask(&process, &mut vm, n);
        if flow != Flow::Continue {
            break flow;
        }
        answer(&mut stream, &mut vm, "503");
        assert!(n <= 10, "the breaker opens");
    };
    assert_eq!(header(&reply(flow), "x-gateway-policy"), None, "by the status alone");
    process.advance_ms(500);
    let mut policy = broken(BREAK, true);
    policy.revision = "r2".into();
    policy.slices[0].scopes =
        vec![[(Attribute::Model, "m".to_owned()), (Attribute::Stream, "true".to_owned())].into()];
    let host = stream(&process).host;
    vm.adopt(&host, &serde_json::to_vec(&policy).expect("serialises")).expect("valid");
    assert_eq!(ask(&process, &mut vm, 100).1, Flow::Continue, "not in the slice");
    let in_slice = r#"{"model":"m","stream":true,"messages":[]}"#;
    assert_eq!(header(&reply(chat(&process, &mut vm, in_slice).1), "x-gateway-policy"), Some("p1"));
}

#[test]
fn a_tenants_failures_open_no_breaker_for_another() {
    let process = Process::new();
    let mut vm = vm(&policy());
    for n in 0..10 {
        let (mut stream, _) = ask(&process, &mut vm, n);
        answer(&mut stream, &mut vm, "500");
    }
    assert_eq!(reply(ask(&process, &mut vm, 11).1).status, 503);
    let mut other = policy();
    other.revision = "r2".into();
    other.auth.anonymous_tenant = Some("another".into());
    let host = stream(&process).host;
    vm.adopt(&host, &serde_json::to_vec(&other).expect("serialises")).expect("valid");
    assert_eq!(ask(&process, &mut vm, 12).1, Flow::Continue);
}
