//! Who gets in: headers, credentials, roles, limits, bodies.

use crate::fake::{CHAT, Process, SECOND_NS, bare_vm, chat, code, header, policy, reply, stream, vm};
use tidegate_core::event::Counter;
use tidegate_core::policy::BucketPolicy;
use tidegate_filter::pipeline::Flow;

const BODY: &str = r#"{"model":"m","messages":[]}"#;
const GRANTED: &str = r#"{"verdict":"granted","identity":{"tenant":"acme","key":"k1","role":"user"},"ttl_ms":60000,"generation":1}"#;
const ADMIN: &str = r#"{"verdict":"granted","identity":{"tenant":"ops","key":"k2","role":"admin"},"ttl_ms":60000,"generation":1}"#;
const LIMITED: &str = r#"{"verdict":"limited","retry_after_ms":1500}"#;
const DENIED: &str = r#"{"verdict":"denied","ttl_ms":1000,"generation":1}"#;

fn with(extra: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    CHAT.iter().chain(extra).copied().collect()
}

#[test]
fn an_anonymous_request_passes_with_its_identity_and_without_forged_headers() {
    let (process, mut vm) = (Process::new(), vm(&policy()));
    let mut stream = stream(&process);
    let headers = with(&[
        ("x-tidegate-identity", "root;k;admin"),
        ("x-tidegate-internal", "guess"),
        ("x-other", "stays"),
    ]);
    assert_eq!(stream.headers(&mut vm, &headers, false), Flow::Pause);
    assert_eq!(stream.body(&mut vm, BODY.as_bytes(), true), Flow::Continue);
    assert_eq!(stream.sent("x-tidegate-identity").as_deref(), Some("demo;;user"));
    assert_eq!(stream.sent("x-tidegate-internal"), None);
    assert_eq!(stream.sent("x-other").as_deref(), Some("stays"));
    stream.respond(&mut vm, "200", "application/json", b"{}");
    assert_eq!(stream.received("x-request-id").as_deref(), Some("req-1"));
    assert_eq!(stream.received("x-ratelimit-limit-requests").as_deref(), Some("1000"));
    assert_eq!(stream.received("x-ratelimit-remaining-requests").as_deref(), Some("999"));
}

#[test]
fn an_unfit_request_id_is_replaced_and_the_echo_left_to_envoy_where_it_has_one() {
    let (process, mut vm) = (Process::new(), vm(&policy()));
    vm.config.request_id_echoed = true;
    for (id, is_fit) in [("fine.1", true), ("two words", false), ("", false)] {
        let mut stream = stream(&process);
        let path = (":path", "/v1/chat/completions");
        let headers = [(":method", "POST"), path, ("x-request-id", id), ("cache-control", "no-store")];
        assert_eq!(stream.headers(&mut vm, &headers, false), Flow::Pause);
        assert_eq!(stream.body(&mut vm, BODY.as_bytes(), true), Flow::Continue);
        let sent = stream.sent("x-request-id").unwrap_or_default();
        assert_eq!((sent == id, sent.starts_with("tg-")), (is_fit, !is_fit), "{id}");
        stream.respond(&mut vm, "200", "application/json", b"{}");
        assert_eq!(stream.received("x-request-id"), None, "Envoy's to set");
    }
}

#[test]
fn headers_of_ours_that_the_upstream_sent_too_are_replaced() {
    let (process, mut vm) = (Process::new(), vm(&policy()));
    let mut stream = stream(&process);
    assert_eq!(stream.headers(&mut vm, CHAT, false), Flow::Pause);
    assert_eq!(stream.body(&mut vm, BODY.as_bytes(), true), Flow::Continue);
    stream.response_headers(&mut vm, &[(":status", "200"), ("x-ratelimit-limit-requests", "7")]);
    assert_eq!(stream.received("x-ratelimit-limit-requests").as_deref(), Some("1000"));
    assert_eq!(stream.received("x-gateway-cache").as_deref(), Some("miss"));
}

#[test]
fn a_credential_is_asked_for_once_and_known_to_every_vm() {
    let process = Process::new();
    let (mut one, mut two) = (vm(&policy()), vm(&policy()));
    let headers = with(&[("authorization", "Bearer secret-key")]);
    let mut first = stream(&process);
    let Flow::Ask(call) = first.headers(&mut one, &headers, false) else { panic!("asks the sidecar") };
    assert_eq!(call.path, "/internal/v1/authenticate");
    assert_eq!(first.body(&mut one, BODY.as_bytes(), true), Flow::Pause, "the body waits for the verdict");
    assert_eq!(first.answer(&mut one, Some(GRANTED)), Flow::Continue);
    assert_eq!(first.sent("x-tidegate-identity").as_deref(), Some("acme;k1;user"));

    for (vm, counter) in [(&mut one, Counter::AuthLocal), (&mut two, Counter::AuthShared)] {
        assert_eq!(stream(&process).headers(vm, &headers, false), Flow::Pause);
        assert_eq!(vm.counts.get(counter), 1);
    }
    assert_eq!(stream(&process).headers(&mut two, &headers, false), Flow::Pause);
    assert_eq!(two.counts.get(Counter::AuthLocal), 1, "the shared verdict became a local one");
}

#[test]
fn a_guesser_is_told_to_wait_and_nothing_is_remembered_of_it() {
    let (process, mut vm) = (Process::new(), vm(&policy()));
    let headers = with(&[("x-api-key", "guess"), ("x-forwarded-for", "10.9.9.9, 192.0.2.7")]);
    for _ in 0..2 {
        let mut stream = stream(&process);
        let Flow::Ask(call) = stream.headers(&mut vm, &headers, false) else { panic!("asks the sidecar") };
        let question: serde_json::Value = serde_json::from_slice(&call.body).expect("JSON");
        assert_eq!(question["source"], "192.0.2.7");
        let refused = reply(stream.answer(&mut vm, Some(LIMITED)));
        assert_eq!((refused.status, code(&refused).as_str()), (429, "too_many_attempts"));
        assert_eq!(header(&refused, "retry-after-ms"), Some("1500"));
    }
}

#[test]
fn the_verdict_may_come_before_the_body() {
    let (process, mut vm) = (Process::new(), vm(&policy()));
    let mut stream = stream(&process);
    assert!(matches!(stream.headers(&mut vm, &with(&[("x-api-key", "k")]), false), Flow::Ask(_)));
    assert_eq!(stream.answer(&mut vm, Some(GRANTED)), Flow::Pause);
    assert_eq!(stream.body(&mut vm, &BODY.as_bytes()[..5], false), Flow::Pause);
    assert_eq!(stream.body(&mut vm, &BODY.as_bytes()[5..], true), Flow::Continue);
}

#[test]
fn trailers_end_a_body() {
    let (process, mut vm) = (Process::new(), vm(&policy()));
    let mut stream = stream(&process);
    assert_eq!(stream.headers(&mut vm, CHAT, false), Flow::Pause);
    assert_eq!(stream.body(&mut vm, BODY.as_bytes(), false), Flow::Pause);
    assert_eq!(stream.trailers(&mut vm), Flow::Continue);
}

#[test]
fn a_new_auth_generation_forgets_every_verdict() {
    let (process, mut vm_one) = (Process::new(), vm(&policy()));
    let headers = with(&[("api-key", "k")]);
    let mut first = stream(&process);
    assert!(matches!(first.headers(&mut vm_one, &headers, false), Flow::Ask(_)));
    assert_eq!(first.answer(&mut vm_one, Some(GRANTED)), Flow::Pause);
    let mut next = policy();
    next.auth.generation = 2;
    let mut vm_one = vm(&next);
    let mut second = stream(&process);
    assert!(matches!(second.headers(&mut vm_one, &headers, false), Flow::Ask(_)));
    let stale = reply(second.answer(&mut vm_one, Some(GRANTED)));
    assert_eq!((stale.status, code(&stale).as_str()), (503, "authentication_unavailable"));
}

#[test]
fn refused_credentials_are_401_and_remembered_and_no_answer_is_503_and_is_not() {
    let (process, mut vm) = (Process::new(), vm(&policy()));
    let headers = with(&[("x-goog-api-key", "bad")]);
    let mut first = stream(&process);
    assert!(matches!(first.headers(&mut vm, &headers, false), Flow::Ask(_)));
    let refusal = reply(first.answer(&mut vm, None));
    assert_eq!((refusal.status, header(&refusal, "retry-after")), (503, Some("1")));

    let mut second = stream(&process);
    assert!(matches!(second.headers(&mut vm, &headers, false), Flow::Ask(_)));
    assert_eq!(reply(second.answer(&mut vm, Some(DENIED))).status, 401);
    let third = reply(stream(&process).headers(&mut vm, &headers, false));
    assert_eq!((third.status, code(&third).as_str()), (401, "invalid_api_key"));
    process.advance_ms(1000);
    assert!(matches!(stream(&process).headers(&mut vm, &headers, false), Flow::Ask(_)));
}

#[test]
fn missing_several_and_malformed_credentials_are_told_apart() {
    let process = Process::new();
    let mut closed = policy();
    closed.auth.anonymous_tenant = None;
    let mut vm = vm(&closed);
    let mut refusal = |extra: &[(&'static str, &'static str)]| {
        let refusal = reply(stream(&process).headers(&mut vm, &with(extra), false));
        (refusal.status, code(&refusal))
    };
    assert_eq!(refusal(&[]), (401, "missing_api_key".into()));
    assert_eq!(
        refusal(&[("x-api-key", "a"), ("authorization", "Bearer a")]),
        (400, "duplicate_credential".into())
    );
    assert_eq!(refusal(&[("x-api-key", "a"), ("x-api-key", "b")]), (400, "duplicate_credential".into()));
    assert_eq!(refusal(&[("authorization", "Basic YTpi")]), (401, "invalid_api_key".into()));
    assert_eq!(refusal(&[("x-api-key", " ")]), (401, "invalid_api_key".into()));
}

#[test]
fn admin_paths_ask_for_a_role_and_internal_ones_do_not_exist() {
    let (process, mut vm) = (Process::new(), vm(&policy()));
    let get = |path: &'static str| vec![(":method", "GET"), (":path", path)];
    assert_eq!(reply(stream(&process).headers(&mut vm, &get("/admin/keys"), true)).status, 401);
    assert_eq!(reply(stream(&process).headers(&mut vm, &get("/internal/v1/snapshot"), true)).status, 404);
    for (verdict, key, status) in [(GRANTED, "user", Some(403)), (ADMIN, "admin", None)] {
        let mut headers = get("/metrics");
        headers.push(("x-api-key", key));
        let mut stream = stream(&process);
        assert!(matches!(stream.headers(&mut vm, &headers, true), Flow::Ask(_)));
        match (stream.answer(&mut vm, Some(verdict)), status) {
            (Flow::Reply(reply), Some(status)) => assert_eq!(reply.status, status),
            (flow, None) => assert_eq!(flow, Flow::Continue),
            (flow, _) => panic!("{flow:?}"),
        }
    }
}

#[test]
fn before_the_first_policy_only_liveness_passes() {
    let (process, mut vm) = (Process::new(), bare_vm());
    let mut get =
        |path: &'static str| stream(&process).headers(&mut vm, &[(":method", "GET"), (":path", path)], true);
    assert_eq!(get("/health"), Flow::Continue);
    for path in ["/ready", "/v1/models", "/admin/keys", "/shop"] {
        let refusal = reply(get(path));
        assert_eq!((refusal.status, code(&refusal).as_str()), (503, "gateway_starting"), "{path}");
        assert_eq!(header(&refusal, "retry-after-ms"), Some("1000"));
    }
}

#[test]
fn bad_bodies_are_refused_in_the_callers_protocol() {
    let (process, mut vm) = (Process::new(), vm(&policy()));
    for (body, wanted) in
        [("", "empty"), ("{\"model\":", "unexpected end"), ("[]", "object"), ("\"x\"", "object")]
    {
        let refusal = reply(chat(&process, &mut vm, body).1);
        assert_eq!((refusal.status, code(&refusal).as_str()), (400, "invalid_json"));
        assert!(String::from_utf8_lossy(&refusal.body).contains(wanted), "{body}");
        assert_eq!(header(&refusal, "x-request-id"), Some("req-1"));
    }
    let mut stream = stream(&process);
    assert_eq!(
        stream.headers(&mut vm, &[(":method", "POST"), (":path", "/v1/messages")], false),
        Flow::Pause
    );
    let refusal = reply(stream.body(&mut vm, b"{\"a\":\"\xff\"}", true));
    let body: serde_json::Value = serde_json::from_slice(&refusal.body).expect("JSON");
    assert_eq!(
        (body["type"].as_str(), body["error"]["type"].as_str()),
        (Some("error"), Some("invalid_request_error"))
    );
}

#[test]
fn large_bodies_are_refused_by_their_announcement_or_as_they_come() {
    let (process, mut vm) = (Process::new(), vm(&policy()));
    let announced = reply(stream(&process).headers(&mut vm, &with(&[("content-length", "4097")]), false));
    assert_eq!((announced.status, code(&announced).as_str()), (413, "request_too_large"));
    let mut stream = stream(&process);
    assert_eq!(stream.headers(&mut vm, CHAT, false), Flow::Pause);
    assert_eq!(stream.body(&mut vm, &[b' '; 4096], false), Flow::Pause);
    assert_eq!(reply(stream.body(&mut vm, b" ", false)).status, 413);
}

#[test]
fn four_vms_admit_exactly_what_one_bucket_holds() {
    let process = Process::new();
    let mut limited = policy();
    limited.limits.rules[1].requests = Some(BucketPolicy { rate: 100.0, burst: 100 });
    let mut vms: Vec<_> = (0..4).map(|_| vm(&limited)).collect();
    let (mut admitted, mut refused) = (0, 0);
    let end_ns = process.now_ns.get() + 10 * SECOND_NS;
    while process.now_ns.get() < end_ns {
        for vm in &mut vms {
            match chat(&process, vm, BODY).1 {
                Flow::Reply(reply) => {
                    assert_eq!((reply.status, code(&reply).as_str()), (429, "rate_limit_exceeded"));
                    assert!(header(&reply, "retry-after").is_some());
                    assert_eq!(header(&reply, "x-ratelimit-remaining-requests"), Some("0"));
                    refused += 1;
                }
                _ => admitted += 1,
            }
        }
        process.advance_ms(1);
    }
    assert_eq!(admitted, 100 + 999);
    assert!(refused > 30_000);
}

#[test]
fn fast_buckets_are_taken_in_slices_and_never_overdrawn() {
    let process = Process::new();
    let mut limited = policy();
    limited.limits.rules[1].requests = Some(BucketPolicy { rate: 10_000.0, burst: 10_000 });
    limited.limits.rules[0].requests = Some(BucketPolicy { rate: 1e6, burst: 1_000_000 });
    let mut vms: Vec<_> = (0..4).map(|_| vm(&limited)).collect();
    let mut admitted = 0;
    for _ in 0..1000 {
        for vm in &mut vms {
            for _ in 0..8 {
                admitted += u32::from(chat(&process, vm, BODY).1 == Flow::Continue);
            }
        }
        process.advance_ms(1);
    }
    let held = 4 * 20;
    assert!((20_000 - 10 - held..=20_000).contains(&admitted), "{admitted}");

    process.advance_ms(100);
    let host = stream(&process).host;
    for vm in &mut vms {
        vm.slices.on_tick(&host, process.now_ns.get());
    }
    process.advance_ms(1000);
    let full = (0..10_001).filter(|_| chat(&process, &mut vms[0], BODY).1 == Flow::Continue).count();
    assert_eq!(full, 10_000, "what was held came back");
}

#[test]
fn a_caller_that_waits_as_told_gets_in() {
    let process = Process::new();
    let mut limited = policy();
    limited.limits.rules[1].requests = Some(BucketPolicy { rate: 3.0, burst: 1 });
    let mut vm = vm(&limited);
    assert_eq!(chat(&process, &mut vm, BODY).1, Flow::Continue);
    let refusal = reply(chat(&process, &mut vm, BODY).1);
    let wait: u64 = header(&refusal, "retry-after-ms").and_then(|ms| ms.parse().ok()).expect("a wait");
    process.advance_ms(wait - 1);
    assert!(matches!(chat(&process, &mut vm, BODY).1, Flow::Reply(_)));
    process.advance_ms(1);
    assert_eq!(chat(&process, &mut vm, BODY).1, Flow::Continue);
}

#[test]
fn a_refusal_by_the_global_bucket_takes_nothing_from_the_tenant() {
    let process = Process::new();
    let mut limited = policy();
    limited.limits.rules[0].requests = Some(BucketPolicy { rate: 1.0, burst: 1 });
    limited.limits.rules[1].requests = Some(BucketPolicy { rate: 0.001, burst: 2 });
    let mut vm = vm(&limited);
    assert_eq!(chat(&process, &mut vm, BODY).1, Flow::Continue);
    for _ in 0..5 {
        assert_eq!(reply(chat(&process, &mut vm, BODY).1).status, 429);
    }
    assert_eq!(vm.counts.get(Counter::LimitGlobal), 5);
    process.advance_ms(1000);
    assert_eq!(chat(&process, &mut vm, BODY).1, Flow::Continue, "the tenant's second");
}

#[test]
fn a_contended_cell_is_retried_and_then_admits() {
    let (process, mut vm) = (Process::new(), vm(&policy()));
    process.interfere.set(7);
    assert_eq!(chat(&process, &mut vm, BODY).1, Flow::Continue);
    assert_eq!(vm.counts.get(Counter::LimitContended), 0);
    process.advance_ms(1000);
    process.interfere.set(8);
    assert_eq!(chat(&process, &mut vm, BODY).1, Flow::Continue);
    assert_eq!(vm.counts.get(Counter::LimitContended), 1);
}

#[test]
fn a_flood_of_invented_keys_costs_no_memory() {
    let (process, mut vm) = (Process::new(), vm(&policy()));
    let mut cells_after_half = 0;
    for i in 0..20_000 {
        let key = format!("invented-{i}");
        let mut stream = stream(&process);
        let headers: Vec<_> = CHAT.iter().copied().chain([("x-api-key", key.as_str())]).collect();
        assert!(matches!(stream.headers(&mut vm, &headers, false), Flow::Ask(_)));
        assert_eq!(reply(stream.answer(&mut vm, Some(DENIED))).status, 401);
        if i == 10_000 {
            cells_after_half = process.cell_count();
        }
    }
    assert!(process.cell_count() <= 4096);
    assert!(process.cell_count() - cells_after_half < 500, "the slots were nearly all in use by then");
}
