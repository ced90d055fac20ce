//! The semantic cache for requests that do not go to the sidecar.

use std::rc::Rc;

use serde_json::Value;
use tidegate_core::event::Counter;
use tidegate_core::policy::{CalloutPolicy, Snapshot};
use tidegate_core::wire::semantic::{CHAT_BYTES_MAX, LookupHead, StoreHead, split};
use tidegate_filter::offers::WAITING_MAX;
use tidegate_filter::pipeline::Flow;
use tidegate_filter::ports::Call;
use tidegate_filter::vm::Vm;

use crate::fake::{CHAT, Process, Stream, Worker, chat, header, policy, reply, stream, vm};

const BODY: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
const ANSWER: &str = r#"{"choices":[{"message":{"content":"hello"}}]}"#;
const EVENTS: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\ndata: [DONE]\n\n";
const STORE: &str = "/internal/v1/store";

fn with_callout() -> Snapshot {
    let mut policy = policy();
    policy.body_bytes_max = 1 << 20;
    policy.l1.enabled = false;
    policy.direct.callout =
        Some(CalloutPolicy { deadline_ms: 75, temperature_max: 1.0, allow_tools: false, has_secrets: false });
    policy
}

/// A request that Envoy sends to the operator's own server.
fn ask(process: &Rc<Process>, vm: &mut Vm, headers: &[(&str, &str)], body: &str) -> (Stream, Flow) {
    let mut stream = stream(process);
    stream.host.cluster = "vllm".to_owned();
    let headers: Vec<_> = CHAT.iter().chain(headers).copied().collect();
    assert_eq!(stream.headers(vm, &headers, false), Flow::Pause);
    let flow = stream.body(vm, body.as_bytes(), true);
    (stream, flow)
}

fn call(flow: Flow) -> Call {
    match flow {
        Flow::Ask(call) => call,
        other => panic!("expected a call, got {other:?}"),
    }
}

/// What the next tick brings to the sidecar.
fn offered(worker: &mut Worker) -> Option<(StoreHead, Vec<u8>)> {
    worker.tick();
    let call = worker.open(STORE)?;
    let (head, body) = split(&call.body).expect("both parts");
    Some((head, body.to_vec()))
}

#[test]
fn a_hit_is_served_with_what_the_sidecar_says_of_it_and_nothing_else() {
    let process = Process::new();
    let mut vm = vm(&with_callout());
    let (mut stream, flow) = ask(&process, &mut vm, &[("x-gateway-provider", "p")], BODY);
    let asked = call(flow);
    assert_eq!((asked.path.as_str(), asked.timeout_ms), ("/internal/v1/lookup", 75));
    let (head, chat) = split::<LookupHead>(&asked.body).expect("both parts");
    assert_eq!(chat, BODY.as_bytes());
    assert_eq!((head.identity.as_str(), head.path.as_str()), ("demo;;user", "/v1/chat/completions"));
    assert_eq!((head.cluster.as_str(), head.pin.as_str()), ("vllm", "p"));
    assert_eq!(stream.trailers(&mut vm), Flow::Pause, "nothing passes before the verdict");
    let headers = [
        (":status", "200"),
        ("content-type", "application/json"),
        ("x-gateway-cache", "hit"),
        ("x-gateway-cache-layer", "semantic"),
        ("x-gateway-cache-similarity", "0.9731"),
        ("age", "7"),
        ("x-tidegate-answered", "1"),
    ];
    let hit = reply(stream.answer_with(&mut vm, 200, &headers, ANSWER));
    assert_eq!((hit.status, hit.body.as_slice()), (200, ANSWER.as_bytes()));
    for (name, value) in &headers[1..6] {
        assert_eq!(header(&hit, name), Some(*value), "{name}");
    }
    assert_eq!(header(&hit, "x-request-id"), Some("req-1"));
    assert_eq!(header(&hit, "x-tidegate-answered"), None);
    stream.end(&mut vm);
    assert_eq!((vm.counts.get(Counter::L2Hit), vm.counts.get(Counter::LlmCacheHit)), (1, 1));
}

#[test]
fn a_whole_good_answer_is_brought_to_the_sidecar_after_the_client_has_it() {
    let process = Process::new();
    let mut worker = Worker::new(&process);
    worker.vm = vm(&with_callout());
    for (content_type, body, is_kept) in [
        ("application/json", ANSWER, true),
        ("text/event-stream", EVENTS, true),
        ("text/event-stream", &EVENTS[..20], false),
        ("application/json", r#"{"error":{"message":"x"}}"#, false),
        ("text/plain", "hello", false),
    ] {
        let (mut stream, _) = ask(&process, &mut worker.vm, &[], BODY);
        let ticket = [(":status", "204"), ("x-tidegate-ticket", "t1")];
        assert_eq!(stream.answer_with(&mut worker.vm, 204, &ticket, ""), Flow::Continue);
        stream.respond(&mut worker.vm, "200", content_type, body.as_bytes());
        assert_eq!(stream.received("x-gateway-cache").as_deref(), Some("miss"));
        let brought = offered(&mut worker);
        assert_eq!(brought.is_some(), is_kept, "{body}");
        if let Some((head, stored)) = brought {
            assert_eq!((head.ticket.as_str(), head.stream), ("t1", content_type == "text/event-stream"));
            assert_eq!(stored, body.as_bytes());
            worker.answer(STORE, Some(204), b"");
        }
    }
    assert_eq!((worker.vm.counts.get(Counter::L2Offered), worker.vm.counts.get(Counter::L2Miss)), (2, 5));
    assert_eq!(worker.vm.counts.get(Counter::L2Dropped), 2, "an answer in plain text is none");
}

#[test]
fn a_sidecar_that_is_late_or_gone_delays_one_request_a_second() {
    let process = Process::new();
    let mut vm = vm(&with_callout());
    for failure in [None, Some(503)] {
        let (mut stream, flow) = ask(&process, &mut vm, &[], BODY);
        call(flow);
        let flow = match failure {
            None => stream.answer(&mut vm, None),
            Some(status) => stream.answer_with(&mut vm, status, &[(":status", "503")], "no healthy upstream"),
        };
        assert_eq!(flow, Flow::Continue);
        assert_eq!(ask(&process, &mut vm, &[], BODY).1, Flow::Continue, "not asked again at once");
        process.advance_ms(1001);
    }
    call(ask(&process, &mut vm, &[], BODY).1);
    assert_eq!((vm.counts.get(Counter::L2Failed), vm.counts.get(Counter::L2Skipped)), (2, 2));
}

#[test]
fn nobody_asks_where_it_is_not_wanted() {
    let process = Process::new();
    let mut wanted = vm(&with_callout());
    assert_eq!(chat(&process, &mut wanted, BODY).1, Flow::Continue, "the sidecar itself is asked");
    let hot = r#"{"model":"m","temperature":1.5,"messages":[]}"#;
    let tools = r#"{"model":"m","tools":[{}],"messages":[]}"#;
    for body in [hot, tools] {
        assert_eq!(ask(&process, &mut wanted, &[], body).1, Flow::Continue, "{body}");
    }
    assert_eq!(ask(&process, &mut wanted, &[("cache-control", "no-store")], BODY).1, Flow::Continue);
    let large = format!(r#"{{"model":"m","messages":["{}"]}}"#, "x".repeat(CHAT_BYTES_MAX));
    assert_eq!(ask(&process, &mut wanted, &[], &large).1, Flow::Continue);
    assert_eq!(wanted.counts.get(Counter::L2Skipped), 1);
    assert_eq!(ask(&process, &mut vm(&policy()), &[], BODY).1, Flow::Continue, "off");

    let fresh = call(ask(&process, &mut wanted, &[("cache-control", "no-cache")], BODY).1);
    let (head, _) = split::<LookupHead>(&fresh.body).expect("both parts");
    assert_eq!((head.may_serve, head.may_store), (false, true));
}

#[test]
fn what_waits_for_the_sidecar_is_bounded() {
    let process = Process::new();
    let mut worker = Worker::new(&process);
    worker.vm = vm(&with_callout());
    for _ in 0..WAITING_MAX + 5 {
        let (mut stream, _) = ask(&process, &mut worker.vm, &[], BODY);
        stream.answer_with(&mut worker.vm, 204, &[("x-tidegate-ticket", "t")], "");
        stream.respond(&mut worker.vm, "200", "application/json", ANSWER.as_bytes());
    }
    assert_eq!(worker.vm.counts.get(Counter::L2Dropped), 5);
    worker.tick();
    for _ in 0..WAITING_MAX {
        worker.answer(STORE, None, b"");
    }
    assert!(worker.open(STORE).is_none());
    assert_eq!(worker.vm.counts.get(Counter::L2Dropped), 5 + WAITING_MAX as u64);
    let giant = format!(r#"{{"a":"{}"}}"#, "x".repeat(300_000));
    let (mut stream, _) = ask(&process, &mut worker.vm, &[], BODY);
    stream.answer_with(&mut worker.vm, 204, &[("x-tidegate-ticket", "t")], "");
    stream.respond(&mut worker.vm, "200", "application/json", giant.as_bytes());
    assert!(offered(&mut worker).is_none());
}

#[test]
fn what_must_not_be_stored_is_in_no_cache() {
    let process = Process::new();
    let mut secret = with_callout();
    secret.l1.enabled = true;
    secret.direct.callout.as_mut().expect("there").has_secrets = true;
    let mut vm = vm(&secret);
    for answer in [Some((204, "no-store")), None] {
        for _ in 0..2 {
            let (mut stream, flow) = ask(&process, &mut vm, &[], BODY);
            call(flow);
            match answer {
                Some((status, control)) => {
                    stream.answer_with(&mut vm, status, &[("cache-control", control)], "")
                }
                None => stream.answer(&mut vm, None),
            };
            stream.respond(&mut vm, "200", "application/json", ANSWER.as_bytes());
            process.advance_ms(1001);
        }
    }
    assert_eq!(vm.counts.get(Counter::L1Stored), 0);
    let (mut stream, _) = ask(&process, &mut vm, &[], BODY);
    stream.answer_with(&mut vm, 204, &[("x-tidegate-ticket", "t")], "");
    stream.respond(&mut vm, "200", "application/json", ANSWER.as_bytes());
    let hit = reply(ask(&process, &mut vm, &[], BODY).1);
    assert_eq!(header(&hit, "x-gateway-cache-layer"), Some("l1"));
}

#[test]
fn below_an_operators_prefix_the_llm_api_is_known() {
    let process = Process::new();
    let mut direct = with_callout();
    direct.direct.prefixes = vec!["/vllm".into()];
    let mut vm = vm(&direct);
    let mut stream = stream(&process);
    stream.host.cluster = "upstream_vllm".to_owned();
    let headers = [(":method", "POST"), (":path", "/vllm/v1/chat/completions"), ("x-request-id", "r")];
    assert_eq!(stream.headers(&mut vm, &headers, false), Flow::Pause);
    let asked = call(stream.body(&mut vm, BODY.as_bytes(), true));
    let (head, _) = split::<LookupHead>(&asked.body).expect("both parts");
    assert_eq!((head.path.as_str(), head.cluster.as_str()), ("/vllm/v1/chat/completions", "upstream_vllm"));
    let broken = ask(&process, &mut vm, &[], "{ broken").1;
    let body: Value = serde_json::from_slice(&reply(broken).body).expect("JSON");
    assert_eq!(body["error"]["code"], "invalid_json");
}
