//! The exact cache, and answers that pass.

use tidegate_core::event::Counter;
use tidegate_core::policy::BucketPolicy;
use tidegate_core::policy::L1Admission;
use tidegate_filter::pipeline::Flow;
use tidegate_filter::vm::Vm;

use crate::fake::{CHAT, Process, Stream, chat, code, header, policy, reply, stream, vm};

const BODY: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
const ANSWER: &str = r#"{"choices":[{"message":{"content":"hello"}}]}"#;
const STREAM: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"你好\"}}]}\n\ndata: [DONE]\n\n";

fn is_hit(flow: &Flow) -> bool {
    matches!(flow, Flow::Reply(reply) if header(reply, "x-gateway-cache") == Some("hit"))
}

fn pass(stream: &mut Stream, vm: &mut Vm, headers: &[(&str, &str)], chunks: &[&[u8]]) {
    stream.response_headers(vm, headers);
    for (i, chunk) in chunks.iter().enumerate() {
        assert_eq!(stream.response_chunk(vm, chunk, i + 1 == chunks.len()), *chunk, "bodies pass unchanged");
    }
    stream.end(vm);
}

#[test]
fn an_answer_stored_by_one_vm_is_served_by_another_whatever_the_order_of_members() {
    let process = Process::new();
    let (mut one, mut two) = (vm(&policy()), vm(&policy()));
    let (mut stream, flow) = chat(&process, &mut one, BODY);
    assert_eq!(flow, Flow::Continue);
    let headers = [
        (":status", "200"),
        ("content-type", "application/json"),
        ("x-gateway-provider", "openai"),
        ("x-gateway-model", "m"),
    ];
    pass(&mut stream, &mut one, &headers, &[ANSWER.as_bytes()]);
    assert_eq!(stream.received("x-gateway-cache").as_deref(), Some("miss"));

    process.advance_ms(2500);
    let same = r#"{ "messages": [{"content":"hi", "role":"user"}], "model":"m" }"#;
    let hit = reply(chat(&process, &mut two, same).1);
    assert_eq!((hit.status, hit.body.as_slice()), (200, ANSWER.as_bytes()));
    for (name, value) in [
        ("x-gateway-cache", "hit"),
        ("x-gateway-cache-layer", "l1"),
        ("age", "2"),
        ("x-gateway-provider", "openai"),
        ("x-gateway-model", "m"),
        ("content-type", "application/json"),
        ("x-request-id", "req-1"),
    ] {
        assert_eq!(header(&hit, name), Some(value), "{name}");
    }
    process.advance_ms(60_000);
    assert_eq!(chat(&process, &mut two, BODY).1, Flow::Continue, "expired");
}

#[test]
fn upstreams_that_the_path_does_not_tell_apart_share_no_answers() {
    let process = Process::new();
    let mut vm = vm(&policy());
    let ask = |vm: &mut Vm, cluster: &str| {
        let mut stream = stream(&process);
        stream.host.cluster = cluster.to_owned();
        assert_eq!(stream.headers(vm, CHAT, false), Flow::Pause);
        let flow = stream.body(vm, BODY.as_bytes(), true);
        (stream, flow)
    };
    for routed_by_path in [false, true] {
        vm.config.routed_by_path = routed_by_path;
        let (mut first, _) = ask(&mut vm, "one");
        pass(
            &mut first,
            &mut vm,
            &[(":status", "200"), ("content-type", "application/json")],
            &[ANSWER.as_bytes()],
        );
        assert!(is_hit(&ask(&mut vm, "one").1));
        assert_eq!(is_hit(&ask(&mut vm, "other").1), routed_by_path, "routed by path: {routed_by_path}");
    }
}

#[test]
fn a_whole_stream_is_replayed_and_a_cut_or_failed_one_is_not_stored() {
    let process = Process::new();
    let mut vm = vm(&policy());
    let headers = [(":status", "200"), ("content-type", "text/event-stream; charset=utf-8")];
    let failed = STREAM.replace("data: [DONE]", "data: {\"error\":{\"message\":\"x\"}}\n\ndata: [DONE]");
    for bad in [&STREAM.as_bytes()[..40], STREAM.trim_end().as_bytes(), failed.as_bytes()] {
        let (mut stream, _) = chat(&process, &mut vm, BODY);
        pass(&mut stream, &mut vm, &headers, &[bad]);
        assert!(!is_hit(&chat(&process, &mut vm, BODY).1), "{}", String::from_utf8_lossy(bad));
    }
    let (mut stream, _) = chat(&process, &mut vm, BODY);
    let bytes: Vec<&[u8]> = STREAM.as_bytes().chunks(3).collect();
    pass(&mut stream, &mut vm, &headers, &bytes);
    let hit = reply(chat(&process, &mut vm, BODY).1);
    assert_eq!(hit.body, STREAM.as_bytes());
    assert_eq!(header(&hit, "content-type"), Some("text/event-stream"));
}

#[test]
fn only_complete_good_answers_are_stored() {
    let process = Process::new();
    let mut vm = vm(&policy());
    let json = ("content-type", "application/json");
    let cases: [(&[(&str, &str)], &str); 7] = [
        (&[(":status", "500"), json, ("x-tidegate-answered", "1")], ANSWER),
        (&[(":status", "201"), json], ANSWER),
        (&[(":status", "200"), json], &ANSWER[..20]),
        (&[(":status", "200"), json], r#"{"error":{"message":"no"}}"#),
        (&[(":status", "200"), json, ("cache-control", "no-store")], ANSWER),
        (&[(":status", "200"), json, ("content-encoding", "gzip")], ANSWER),
        (&[(":status", "200"), ("content-type", "text/html")], "<html>"),
    ];
    for (headers, body) in cases {
        let (mut stream, _) = chat(&process, &mut vm, BODY);
        pass(&mut stream, &mut vm, headers, &[body.as_bytes()]);
        assert!(!is_hit(&chat(&process, &mut vm, BODY).1), "{headers:?} {body}");
    }
    let (mut aborted, _) = chat(&process, &mut vm, BODY);
    aborted.response_headers(&mut vm, &[(":status", "200"), json]);
    aborted.response_chunk(&mut vm, ANSWER.as_bytes(), false);
    aborted.end(&mut vm);
    assert!(!is_hit(&chat(&process, &mut vm, BODY).1), "never said it was the end");
}

#[test]
fn a_stream_of_new_questions_does_not_push_young_answers_out_and_what_is_asked_again_is_stored() {
    let process = Process::new();
    let (mut one, mut two) = (vm(&policy()), vm(&policy()));
    let headers = [(":status", "200"), ("content-type", "application/json")];
    let body = |i: u32| BODY.replace("hi", &format!("question {i}"));
    let ask = |vm: &mut Vm, i: u32| {
        let (mut stream, flow) = chat(&process, vm, &body(i));
        let hit = is_hit(&flow);
        if !hit {
            pass(&mut stream, vm, &headers, &[ANSWER.as_bytes()]);
        }
        hit
    };
    // Four sets of 32 answers.
    assert_eq!((0..500).filter(|i| ask(&mut one, *i)).count(), 0);
    let stored = one.counts.get(Counter::L1Stored);
    assert!((100..=128).contains(&stored), "{stored} of 128 places are taken");
    assert_eq!(one.counts.get(Counter::L1Unadmitted), 500 - stored);
    assert!(ask(&mut one, 0), "the first are still there");

    assert!(!ask(&mut one, 499), "was not stored the first time");
    assert!(ask(&mut one, 499), "but the second");
    process.advance_ms(201);
    assert!(ask(&mut two, 499), "and every worker finds it");

    process.advance_ms(59_800);
    assert!(!ask(&mut two, 5000));
    assert!(ask(&mut two, 5000), "what has had its time gives way at once");
}

#[test]
fn the_clients_cache_control_is_obeyed() {
    let process = Process::new();
    let mut vm = vm(&policy());
    let ask = |vm: &mut Vm, control: &'static str| {
        let mut stream = stream(&process);
        let headers: Vec<_> = CHAT.iter().copied().chain([("cache-control", control)]).collect();
        assert_eq!(stream.headers(vm, &headers, false), Flow::Pause);
        let flow = stream.body(vm, BODY.as_bytes(), true);
        (stream, flow)
    };
    let (mut unstored, _) = ask(&mut vm, "no-store");
    unstored.respond(&mut vm, "200", "application/json", ANSWER.as_bytes());
    assert_eq!(unstored.received("x-gateway-cache").as_deref(), Some("bypass"));
    assert!(!is_hit(&ask(&mut vm, "max-age=60").1));

    let (mut fresh, flow) = ask(&mut vm, "no-cache");
    assert_eq!(flow, Flow::Continue);
    fresh.respond(&mut vm, "200", "application/json", ANSWER.as_bytes());
    assert!(is_hit(&ask(&mut vm, "max-age=60").1), "a fresh answer may be stored");
    assert!(!is_hit(&ask(&mut vm, "no-cache").1), "but is not served to one who wants a fresh one");
}

#[test]
fn tenants_pins_and_sampling_keep_answers_apart() {
    let process = Process::new();
    let (mut demo, mut other) = (vm(&policy()), {
        let mut other = policy();
        other.auth.anonymous_tenant = Some("other".into());
        vm(&other)
    });
    let (mut stream_one, _) = chat(&process, &mut demo, BODY);
    stream_one.respond(&mut demo, "200", "application/json", ANSWER.as_bytes());
    assert!(is_hit(&chat(&process, &mut demo, BODY).1));
    assert!(!is_hit(&chat(&process, &mut other, BODY).1), "another tenant");

    let mut pinned = stream(&process);
    let headers: Vec<_> = CHAT.iter().copied().chain([("x-gateway-provider", "p2")]).collect();
    pinned.headers(&mut demo, &headers, false);
    assert_eq!(pinned.body(&mut demo, BODY.as_bytes(), true), Flow::Continue, "another provider");

    for body in [r#"{"model":"m","temperature":1.5}"#, r#"{"model":"m","tools":[{}]}"#] {
        let (mut stream, _) = chat(&process, &mut demo, body);
        stream.respond(&mut demo, "200", "application/json", ANSWER.as_bytes());
        assert!(!is_hit(&chat(&process, &mut demo, body).1), "{body}");
    }
}

#[test]
fn the_configured_bound_holds_under_pressure() {
    let process = Process::new();
    let mut always = policy();
    always.l1.admission = L1Admission::Always;
    let mut vm = vm(&always);
    let bound = always.l1.bytes_max as usize;
    let filler = "x".repeat(40_000);
    for i in 0..200 {
        let (mut stream, _) = chat(&process, &mut vm, &format!(r#"{{"model":"m","n":{i}}}"#));
        stream.respond(&mut vm, "200", "application/json", format!(r#"{{"a":"{filler}"}}"#).as_bytes());
        assert!(process.bytes_under("tg1/d/") <= bound);
    }
    assert!(process.bytes_under("tg1/d/") > bound / 2, "the room there is, is used");
    assert!(is_hit(&chat(&process, &mut vm, r#"{"model":"m","n":199}"#).1));

    let (mut giant, _) = chat(&process, &mut vm, r#"{"model":"giant"}"#);
    giant.respond(
        &mut vm,
        "200",
        "application/json",
        format!(r#"{{"a":"{}"}}"#, "x".repeat(300_000)).as_bytes(),
    );
    assert!(!is_hit(&chat(&process, &mut vm, r#"{"model":"giant"}"#).1));
    assert_eq!(vm.counts.get(Counter::L1Unstorable), 1);
}

#[test]
fn envoys_own_503_becomes_one_in_the_callers_protocol() {
    let process = Process::new();
    let mut vm = vm(&policy());
    let (mut stream, _) = chat(&process, &mut vm, BODY);
    stream.response_headers(
        &mut vm,
        &[(":status", "503"), ("content-type", "text/plain"), ("content-length", "5")],
    );
    let body = stream.response_chunk(&mut vm, b"upstr", true);
    stream.end(&mut vm);
    assert_eq!(stream.received("retry-after").as_deref(), Some("1"));
    assert_eq!(stream.received("content-length"), Some(body.len().to_string()));
    let text = String::from_utf8(body).expect("utf-8");
    assert!(text.contains("\"sidecar_unavailable\""), "{text}");
    assert_eq!(vm.counts.get(Counter::BreakerOpened), 0);
}

#[test]
fn the_sidecars_own_errors_pass_and_its_mark_does_not() {
    let process = Process::new();
    let mut vm = vm(&policy());
    let (mut stream, _) = chat(&process, &mut vm, BODY);
    let headers = [(":status", "502"), ("content-type", "application/json"), ("x-tidegate-answered", "1")];
    pass(&mut stream, &mut vm, &headers, &[b"{\"error\":{}}"]);
    assert_eq!(stream.received("x-tidegate-answered"), None);
    assert_eq!(stream.received("retry-after"), None);
}

#[test]
fn hits_are_served_while_the_limit_holds_and_refused_beyond_it() {
    let process = Process::new();
    let mut limited = policy();
    limited.limits.rules[1].requests = Some(BucketPolicy { rate: 0.001, burst: 2 });
    let mut vm = vm(&limited);
    let (mut stream, _) = chat(&process, &mut vm, BODY);
    stream.respond(&mut vm, "200", "application/json", ANSWER.as_bytes());
    let hit = reply(chat(&process, &mut vm, BODY).1);
    assert_eq!(header(&hit, "x-ratelimit-remaining-requests"), Some("0"));
    let refusal = reply(chat(&process, &mut vm, BODY).1);
    assert_eq!(code(&refusal), "rate_limit_exceeded");
}
