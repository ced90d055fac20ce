//! Tokens: reserved before a request leaves, settled by what it used.

use std::rc::Rc;

use proptest::prelude::*;
use tidegate_core::policy::{Rule, Snapshot};
use tidegate_filter::pipeline::Flow;
use tidegate_filter::vm::Vm;

use crate::fake::{Process, Stream, chat, code, header, policy, reply, vm};
use crate::limits::rule;

/// About 10 tokens of prompt, and a bound of 90 on the answer.
const BODY: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"max_tokens":90}"#;

fn limited(per_minute: u64) -> Snapshot {
    let mut snapshot = policy();
    snapshot.l1.enabled = false;
    let each = Rule { tokens_per_minute: Some(per_minute), ..rule(r#"{"tenant":"*","model":"*"}"#) };
    snapshot.limits.rules.push(each);
    snapshot.validate().expect("valid");
    snapshot
}

fn admitted(process: &Rc<Process>, vm: &mut Vm, body: &str) -> Stream {
    let (stream, flow) = chat(process, vm, body);
    assert_eq!(flow, Flow::Continue, "{body}");
    stream
}

fn left(stream: &Stream) -> u64 {
    let left = stream.received("x-ratelimit-remaining-tokens");
    left.and_then(|left| left.parse().ok()).expect("tokens left")
}

/// What is left, asked by a request that takes nothing in the end.
fn left_now(process: &Rc<Process>, vm: &mut Vm) -> u64 {
    let mut stream = admitted(process, vm, r#"{"model":"m","max_tokens":1}"#);
    stream.respond(vm, "500", "application/json", b"{}");
    left(&stream)
}

#[test]
fn what_is_not_used_comes_back_with_the_answer() {
    let (process, mut vm) = (Process::new(), vm(&limited(1000)));
    let mut stream = admitted(&process, &mut vm, BODY);
    let body = br#"{"choices":[],"usage":{"prompt_tokens":8,"completion_tokens":12,"total_tokens":20}}"#;
    stream.respond(&mut vm, "200", "application/json", body);
    assert!((890..=910).contains(&left(&stream)), "reserved: {}", left(&stream));
    assert_eq!(stream.received("x-ratelimit-limit-tokens").as_deref(), Some("1000"));
    assert_eq!(left_now(&process, &mut vm), 980);
}

#[test]
fn the_sidecar_s_word_settles_before_the_headers_leave_and_stays_inside() {
    let (process, mut vm) = (Process::new(), vm(&limited(1000)));
    let mut stream = admitted(&process, &mut vm, BODY);
    let headers = [(":status", "200"), ("content-type", "application/json"), ("x-tidegate-usage", "8,12")];
    stream.response_headers(&mut vm, &headers);
    assert_eq!(left(&stream), 980);
    assert_eq!(stream.received("x-tidegate-usage"), None);
    stream.response_chunk(&mut vm, b"{}", true);
    stream.end(&mut vm);
    assert_eq!(left_now(&process, &mut vm), 980);
}

#[test]
fn failures_refusals_and_hits_cost_nothing() {
    let (process, mut vm) = (Process::new(), vm(&limited(1000)));
    for status in ["400", "404", "429", "500", "503"] {
        admitted(&process, &mut vm, BODY).respond(&mut vm, status, "application/json", b"{}");
        assert_eq!(left_now(&process, &mut vm), 1000, "{status}");
    }
    let mut stream = admitted(&process, &mut vm, BODY);
    let hit = [(":status", "200"), ("content-type", "application/json"), ("x-gateway-cache", "hit")];
    stream.response_headers(&mut vm, &hit);
    stream.response_chunk(&mut vm, b"{}", true);
    stream.end(&mut vm);
    assert_eq!(left_now(&process, &mut vm), 1000);
}

#[test]
fn a_stream_is_settled_by_its_usage_or_by_what_was_seen_of_it() {
    let event = |text: &str| format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n");
    let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":8,\"completion_tokens\":2}}\n\n";
    let (process, mut vm) = (Process::new(), vm(&limited(1000)));
    let whole = format!("{}{}{usage}data: [DONE]\n\n", event("a"), event("b"));
    admitted(&process, &mut vm, BODY).respond(&mut vm, "200", "text/event-stream", whole.as_bytes());
    assert_eq!(left_now(&process, &mut vm), 990);

    let mut stream = admitted(&process, &mut vm, BODY);
    stream.response_headers(&mut vm, &[(":status", "200"), ("content-type", "text/event-stream")]);
    for _ in 0..30 {
        stream.response_chunk(&mut vm, event("a").as_bytes(), false);
    }
    stream.end(&mut vm);
    let used = 990 - left_now(&process, &mut vm);
    assert!((30..=45).contains(&used), "prompt and 30 events: {used}");
}

#[test]
fn a_caller_that_leaves_before_the_answer_has_used_its_prompt() {
    let (process, mut vm) = (Process::new(), vm(&limited(1000)));
    admitted(&process, &mut vm, BODY).end(&mut vm);
    let used = 1000 - left_now(&process, &mut vm);
    assert!((5..=15).contains(&used), "{used}");
}

#[test]
fn what_was_used_beyond_the_estimate_is_owed_and_the_wait_is_exact() {
    let (process, mut vm) = (Process::new(), vm(&limited(600)));
    let usage = br#"{"usage":{"prompt_tokens":600,"completion_tokens":100}}"#;
    admitted(&process, &mut vm, BODY).respond(&mut vm, "200", "application/json", usage);
    let refused = reply(chat(&process, &mut vm, BODY).1);
    assert_eq!((refused.status, code(&refused).as_str()), (429, "rate_limit_exceeded"));
    assert_eq!(header(&refused, "x-ratelimit-remaining-tokens"), Some("0"));
    assert_eq!(header(&refused, "x-ratelimit-remaining-requests"), Some("999"), "put back");
    let wait: u64 = header(&refused, "retry-after-ms").and_then(|ms| ms.parse().ok()).expect("a wait");
    process.advance_ms(wait - 1);
    assert!(matches!(chat(&process, &mut vm, BODY).1, Flow::Reply(_)));
    process.advance_ms(1);
    admitted(&process, &mut vm, BODY);
}

#[test]
fn a_prompt_larger_than_the_quota_is_told_so() {
    let (process, mut vm) = (Process::new(), vm(&limited(50)));
    let long =
        format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{}"}}]}}"#, "word ".repeat(400));
    let refused = reply(chat(&process, &mut vm, &long).1);
    assert_eq!((refused.status, code(&refused).as_str()), (413, "request_too_large"));
    assert!(String::from_utf8_lossy(&refused.body).contains("50 per minute that tenant:demo,model:m"));
    // One whose bound alone is larger waits for the whole quota, and gets in.
    admitted(&process, &mut vm, BODY);
    assert!(matches!(chat(&process, &mut vm, BODY).1, Flow::Reply(_)));
}

#[test]
fn answers_without_a_bound_are_foretold_from_earlier_ones() {
    let (process, mut vm) = (Process::new(), vm(&limited(1_000_000)));
    let body = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
    let reserved = |vm: &mut Vm| {
        let before = left_now(&process, vm);
        let mut stream = admitted(&process, vm, body);
        stream.response_headers(vm, &[(":status", "200"), ("content-type", "application/json")]);
        let reserved = before - left(&stream);
        stream.response_chunk(vm, br#"{"usage":{"prompt_tokens":8,"completion_tokens":20}}"#, true);
        stream.end(vm);
        reserved
    };
    assert!(reserved(&mut vm) > 256);
    for _ in 0..50 {
        reserved(&mut vm);
    }
    assert!(reserved(&mut vm) < 50);
}

#[test]
fn counting_tokens_uses_none() {
    let (process, mut vm) = (Process::new(), vm(&limited(50)));
    let mut stream = crate::fake::stream(&process);
    let headers = [(":method", "POST"), (":path", "/v1/messages/count_tokens")];
    assert_eq!(stream.headers(&mut vm, &headers, false), Flow::Pause);
    let long =
        format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{}"}}]}}"#, "word ".repeat(400));
    assert_eq!(stream.body(&mut vm, long.as_bytes(), true), Flow::Continue);
    stream.end(&mut vm);
    assert_eq!(left_now(&process, &mut vm), 50);
}

/// How a request ends, and what it is settled at.
#[derive(Debug, Clone, Copy)]
enum End {
    Whole(u64),
    Stream(u64),
    Error,
    Hit,
    Unreachable,
}

fn finish(vm: &mut Vm, mut stream: Stream, end: End) -> u64 {
    match end {
        End::Whole(tokens) => {
            let body = format!(r#"{{"usage":{{"prompt_tokens":8,"completion_tokens":{tokens}}}}}"#);
            stream.respond(vm, "200", "application/json", body.as_bytes());
            8 + tokens
        }
        End::Stream(tokens) => {
            let body = format!(
                "data: {{\"usage\":{{\"prompt_tokens\":8,\"completion_tokens\":{tokens}}}}}\n\ndata: [DONE]\n\n"
            );
            stream.respond(vm, "200", "text/event-stream", body.as_bytes());
            8 + tokens
        }
        End::Error => {
            stream.respond(vm, "502", "application/json", b"{}");
            0
        }
        End::Hit => {
            let hit = [(":status", "200"), ("content-type", "application/json"), ("x-gateway-cache", "hit")];
            stream.response_headers(vm, &hit);
            stream.response_chunk(vm, b"{}", true);
            stream.end(vm);
            0
        }
        End::Unreachable => {
            stream.host.flags.set(1 << 4);
            stream.end(vm);
            0
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However requests of several workers interleave and end, what is missing from the bucket is
    /// the sum of what the provider reported, and waiting as told gets in.
    #[test]
    fn the_bucket_is_short_of_exactly_what_was_used(
        steps in prop::collection::vec((0usize..3, 0u8..8, 0u64..200, any::<bool>()), 1..120)
    ) {
        let process = Process::new();
        let quota = 1_000_000;
        let mut vms: Vec<Vm> = (0..3).map(|_| vm(&limited(quota))).collect();
        let mut open: Vec<(usize, Stream)> = Vec::new();
        let mut used = 0;
        for (worker, end, tokens, starts) in steps {
            if starts || open.is_empty() {
                open.push((worker, admitted(&process, &mut vms[worker], BODY)));
                continue;
            }
            let (worker, stream) = open.swap_remove(tokens as usize % open.len());
            let end = match end {
                0..=2 => End::Whole(tokens),
                3 | 4 => End::Stream(tokens),
                5 => End::Error,
                6 => End::Hit,
                _ => End::Unreachable,
            };
            used += finish(&mut vms[worker], stream, end);
        }
        for (worker, stream) in open {
            used += finish(&mut vms[worker], stream, End::Whole(1));
        }
        let host = crate::fake::stream(&process).host;
        for vm in &mut vms {
            vm.slices.on_tick(&host, process.now_ns.get() + 1_000_000_000);
        }
        prop_assert_eq!(left_now(&process, &mut vms[0]), quota - used);
    }
}
