//! Breakers, over several VMs.

use tidegate_core::event::Counter;
use tidegate_filter::pipeline::Flow;

use crate::fake::{Process, chat, code, header, policy, reply, stream, vm};

const BODY: &str = r#"{"model":"m","messages":[]}"#;

fn fail(process: &std::rc::Rc<Process>, vm: &mut tidegate_filter::vm::Vm, body: &str) {
    let (mut stream, flow) = chat(process, vm, body);
    assert_eq!(flow, Flow::Continue);
    stream.response_headers(vm, &[(":status", "502"), ("x-tidegate-answered", "1")]);
    stream.response_chunk(vm, b"{}", true);
    stream.end(vm);
}

#[test]
fn failures_seen_by_different_vms_open_one_breaker_and_only_that() {
    let process = Process::new();
    let mut vms = [vm(&policy()), vm(&policy())];
    for i in 0..10 {
        fail(&process, &mut vms[i % 2], BODY);
    }
    for vm in &mut vms {
        vm.watch.follow(&stream(&process).host);
    }
    let refusal = reply(chat(&process, &mut vms[0], BODY).1);
    assert_eq!((refusal.status, code(&refusal).as_str()), (503, "circuit_open"));
    assert_eq!(header(&refusal, "retry-after"), Some("30"));
    assert_eq!(chat(&process, &mut vms[1], r#"{"model":"other"}"#).1, Flow::Continue, "a bystander");
    assert_eq!(vms.iter().map(|vm| vm.counts.get(Counter::BreakerOpened)).sum::<u64>(), 1);
    assert_eq!(vms[1].breaker_changes().len(), 1);
}

#[test]
fn a_stored_answer_is_served_while_the_breaker_is_open() {
    let process = Process::new();
    let mut vm = vm(&policy());
    let (mut good, _) = chat(&process, &mut vm, BODY);
    good.respond(&mut vm, "200", "application/json", b"{\"choices\":[]}");
    for i in 0..10 {
        fail(&process, &mut vm, &format!(r#"{{"model":"m","n":{i}}}"#));
    }
    assert_eq!(reply(chat(&process, &mut vm, r#"{"model":"m","n":99}"#).1).status, 503);
    let hit = reply(chat(&process, &mut vm, BODY).1);
    assert_eq!((hit.status, header(&hit, "x-gateway-cache")), (200, Some("hit")));
}

#[test]
fn it_recovers_by_steps_and_closes() {
    let process = Process::new();
    let mut vm = vm(&policy());
    for _ in 0..10 {
        fail(&process, &mut vm, BODY);
    }
    process.advance_ms(30_000);
    let (mut admitted, mut offered) = (0, 0);
    while vm.counts.get(Counter::BreakerClosed) == 0 {
        offered += 1;
        assert!(offered < 100, "it closes");
        let (mut stream, flow) =
            chat(&process, &mut vm, &format!(r#"{{"model":"m","messages":[],"n":{offered}}}"#));
        if flow == Flow::Continue {
            admitted += 1;
            stream.respond(&mut vm, "200", "application/json", b"{}");
        } else {
            assert_eq!(header(&reply(flow), "retry-after-ms"), Some("1000"));
        }
    }
    assert_eq!(admitted, 10, "two successes at each of five steps");
    assert_eq!(offered, 6 + 3 + 2 + 2 + 2, "the first steps admit a part only");
}

#[test]
fn a_failed_probe_opens_again() {
    let process = Process::new();
    let mut vm = vm(&policy());
    for _ in 0..10 {
        fail(&process, &mut vm, BODY);
    }
    process.advance_ms(30_000);
    fail(&process, &mut vm, BODY);
    assert_eq!(header(&reply(chat(&process, &mut vm, BODY).1), "retry-after"), Some("30"));
}

#[test]
fn clients_that_leave_and_their_own_errors_open_nothing() {
    let process = Process::new();
    let mut vm = vm(&policy());
    for i in 0..50 {
        let (mut left, flow) = chat(&process, &mut vm, BODY);
        assert_eq!(flow, Flow::Continue, "request {i}");
        left.response_headers(&mut vm, &[(":status", "200"), ("content-type", "text/event-stream")]);
        left.response_chunk(&mut vm, b"data: {}\n\n", false);
        left.end(&mut vm);
        let (mut refused, _) = chat(&process, &mut vm, BODY);
        refused.respond(&mut vm, "400", "application/json", b"{}");
    }
    assert_eq!(vm.counts.get(Counter::StreamAborted), 50);
}

#[test]
fn streams_that_end_badly_or_are_cut_by_the_upstream_are_failures() {
    let process = Process::new();
    let mut vm = vm(&policy());
    for i in 0..10 {
        let (mut stream, flow) = chat(&process, &mut vm, BODY);
        assert_eq!(flow, Flow::Continue);
        stream.response_headers(&mut vm, &[(":status", "200"), ("content-type", "text/event-stream")]);
        let is_cut = i % 2 == 0;
        stream.host.flags.set(if is_cut { 1 << 4 } else { 0 });
        stream.response_chunk(&mut vm, b"data: {\"error\":{}}\n\n", !is_cut);
        stream.end(&mut vm);
    }
    assert_eq!(reply(chat(&process, &mut vm, BODY).1).status, 503);
}

#[test]
fn an_operators_own_route_has_its_own() {
    let process = Process::new();
    let mut vm = vm(&policy());
    let get = |route: &str, vm: &mut tidegate_filter::vm::Vm| {
        let mut stream = stream(&process);
        stream.host.route = route.to_owned();
        stream.host.cluster = "shop".to_owned();
        let flow = stream.headers(vm, &[(":method", "GET"), (":path", "/shop/1")], true);
        (stream, flow)
    };
    for _ in 0..10 {
        let (mut stream, flow) = get("shop", &mut vm);
        assert_eq!(flow, Flow::Continue);
        stream.respond(&mut vm, "503", "text/plain", b"no");
        assert_eq!(stream.received("content-type").as_deref(), Some("text/plain"), "not ours to rewrite");
    }
    assert_eq!(code(&reply(get("shop", &mut vm).1)), "circuit_open");
    assert_eq!(get("cart", &mut vm).1, Flow::Continue);
}
