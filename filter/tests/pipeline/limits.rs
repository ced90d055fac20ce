//! Levels: which of them a request meets, what a refusal takes, and how much memory callers can
//! make them use.

use std::rc::Rc;

use tidegate_core::address::ClientAddress;
use tidegate_core::event::Counter;
use tidegate_core::limit::fair::Sharer;
use tidegate_core::limit::lease::OnLoss;
use tidegate_core::limit::{Kind, Subject};
use tidegate_core::policy::{BucketPolicy, Rule, Scope, Selector, Snapshot};
use tidegate_filter::fleet::Heard;
use tidegate_filter::pipeline::Flow;
use tidegate_filter::place::{Account, Place};
use tidegate_filter::vm::Vm;

use crate::fake::{CHAT, Process, SECOND_NS, Stream, chat, header, policy, reply, stream, vm};

const BODY: &str = r#"{"model":"m","messages":[]}"#;

/// A rule on the attributes in `selector`, written as in JSON.
pub fn rule(selector: &str) -> Rule {
    let select: Selector = serde_json::from_str(selector).expect("a selector");
    Rule { requests: None, ..Rule::of_requests(select, BucketPolicy { rate: 1.0, burst: 1 }) }
}

fn rate(selector: &str, rate: f64, burst: u64) -> Rule {
    Rule { requests: Some(BucketPolicy { rate, burst }), ..rule(selector) }
}

fn with(rules: impl IntoIterator<Item = Rule>) -> Snapshot {
    let mut snapshot = policy();
    snapshot.l1.enabled = false;
    snapshot.limits.rules.extend(rules);
    snapshot.validate().expect("valid");
    snapshot
}

/// A chat request of `key`, known to the VM, from `ip`.
fn ask(process: &Rc<Process>, vm: &mut Vm, key: &str, ip: &str, body: &str) -> (Stream, Flow) {
    let mut stream = stream(process);
    let headers: Vec<_> = CHAT.iter().copied().chain([("x-api-key", key), ("x-forwarded-for", ip)]).collect();
    let mut flow = stream.headers(vm, &headers, false);
    if let Flow::Ask(_) = flow {
        let identity = format!(r#"{{"tenant":"acme","key":"{key}","role":"user"}}"#);
        let verdict =
            format!(r#"{{"verdict":"granted","identity":{identity},"ttl_ms":600000,"generation":1}}"#);
        flow = stream.answer(vm, Some(&verdict));
    }
    if flow == Flow::Pause {
        flow = stream.body(vm, body.as_bytes(), true);
    }
    (stream, flow)
}

fn passes(process: &Rc<Process>, vm: &mut Vm, key: &str, ip: &str, body: &str) -> bool {
    ask(process, vm, key, ip, body).1 == Flow::Continue
}

#[test]
fn each_level_has_a_bucket_for_each_of_its_values() {
    for (selector, counter, other) in [
        (r#"{"key":"*"}"#, Counter::LimitKey, ("k2", "192.0.2.1", BODY)),
        (r#"{"ip":"*"}"#, Counter::LimitIp, ("k1", "192.0.2.2", BODY)),
        (r#"{"model":"*"}"#, Counter::LimitModel, ("k1", "192.0.2.1", r#"{"model":"n","messages":[]}"#)),
        (r#"{"tenant":"acme","model":"m"}"#, Counter::LimitModel, ("k1", "192.0.2.1", r#"{"model":"n"}"#)),
    ] {
        let (process, mut vm) = (Process::new(), vm(&with([rate(selector, 0.1, 2)])));
        for _ in 0..2 {
            assert!(passes(&process, &mut vm, "k1", "192.0.2.1", BODY), "{selector}");
        }
        let refused = reply(ask(&process, &mut vm, "k1", "192.0.2.1", BODY).1);
        assert_eq!(refused.status, 429, "{selector}");
        assert_eq!(header(&refused, "x-ratelimit-limit-requests"), Some("2"));
        assert_eq!(vm.counts.get(counter), 1, "{selector}");
        let (key, ip, body) = other;
        assert!(passes(&process, &mut vm, key, ip, body), "{selector}");
    }
}

#[test]
fn a_route_is_an_operation_or_the_name_of_an_upstream() {
    let rules = [rate(r#"{"route":"chat_completions"}"#, 0.1, 1), rate(r#"{"route":"shop"}"#, 0.1, 2)];
    let (process, mut vm) = (Process::new(), vm(&with(rules)));
    assert_eq!(chat(&process, &mut vm, BODY).1, Flow::Continue);
    assert_eq!(reply(chat(&process, &mut vm, BODY).1).status, 429);
    let mut shop = || {
        let mut stream = stream(&process);
        stream.host.route = "upstream_shop".to_owned();
        stream.headers(&mut vm, &[(":method", "GET"), (":path", "/shop/1")], true)
    };
    assert_eq!((shop(), shop()), (Flow::Continue, Flow::Continue));
    assert!(matches!(shop(), Flow::Reply(_)));
}

#[test]
fn an_ipv6_customer_has_one_bucket_and_a_forged_address_none() {
    let mut snapshot = with([rate(r#"{"ip":"*"}"#, 0.1, 1)]);
    snapshot.limits.trusted_proxies = vec!["10.0.0.0/8".parse().expect("a network")];
    let (process, mut vm) = (Process::new(), vm(&snapshot));
    let mut from = |address: &str| passes(&process, &mut vm, "k1", address, BODY);
    assert!(from("2001:db8:1:2::1"));
    assert!(!from("2001:db8:1:2::ffff"));
    assert!(from("2001:db8:1:3::1"));
    assert!(from("192.0.2.1"));
    assert!(!from("203.0.113.5, 192.0.2.1"), "what the client wrote stands to the left");
    assert!(from("203.0.113.5, 10.0.0.9"), "a trusted proxy's word counts");
    assert!(!from("203.0.113.5, 10.0.0.8"));
}

/// What is left of the tightest bucket of requests, as the next answer says.
fn remaining(process: &Rc<Process>, vm: &mut Vm) -> u64 {
    let (mut stream, flow) = ask(process, vm, "k1", "192.0.2.1", r#"{"model":"free"}"#);
    assert_eq!(flow, Flow::Continue);
    stream.respond(vm, "200", "application/json", b"{}");
    stream.received("x-ratelimit-remaining-requests").and_then(|n| n.parse().ok()).expect("a number")
}

#[test]
fn a_refusal_by_the_last_level_takes_nothing_from_the_others() {
    let rules = [rate(r#"{"key":"*"}"#, 0.001, 10), rate(r#"{"model":"m"}"#, 0.001, 1)];
    let (process, mut vm) = (Process::new(), vm(&with(rules)));
    assert_eq!(remaining(&process, &mut vm), 9);
    assert!(passes(&process, &mut vm, "k1", "192.0.2.1", BODY));
    for _ in 0..5 {
        assert!(!passes(&process, &mut vm, "k1", "192.0.2.1", BODY));
    }
    assert_eq!(remaining(&process, &mut vm), 7);
}

#[test]
fn a_wait_is_long_enough_for_every_level() {
    let rules = [rate(r#"{"key":"*"}"#, 10.0, 1), rate(r#"{"ip":"*"}"#, 0.5, 1)];
    let (process, mut vm) = (Process::new(), vm(&with(rules)));
    assert!(passes(&process, &mut vm, "k1", "192.0.2.1", BODY));
    let refused = reply(ask(&process, &mut vm, "k1", "192.0.2.1", BODY).1);
    assert_eq!(header(&refused, "retry-after-ms"), Some("2000"));
    process.advance_ms(1999);
    assert!(!passes(&process, &mut vm, "k1", "192.0.2.1", BODY));
    process.advance_ms(1);
    assert!(passes(&process, &mut vm, "k1", "192.0.2.1", BODY));
}

#[test]
fn requests_at_a_time_are_counted_over_all_workers_until_their_end() {
    let mut snapshot = policy();
    snapshot.l1.enabled = false;
    snapshot.limits.rules[1].concurrency = Some(2);
    snapshot.limits.rules[1].requests = Some(BucketPolicy { rate: 0.001, burst: 1000 });
    let process = Process::new();
    let (mut one, mut two) = (vm(&snapshot), vm(&snapshot));
    let (mut first, flow) = chat(&process, &mut one, BODY);
    assert_eq!(flow, Flow::Continue);
    let (mut second, flow) = chat(&process, &mut two, BODY);
    assert_eq!(flow, Flow::Continue);
    for vm in [&mut one, &mut two] {
        let refused = reply(chat(&process, vm, BODY).1);
        assert_eq!((refused.status, header(&refused, "retry-after-ms")), (429, Some("1000")));
        assert!(String::from_utf8_lossy(&refused.body).contains("requests at a time of tenant:demo"));
        assert_eq!(header(&refused, "x-ratelimit-remaining-requests"), Some("998"), "put back");
    }
    first.respond(&mut one, "200", "application/json", b"{}");
    let (mut third, flow) = chat(&process, &mut two, BODY);
    assert_eq!(flow, Flow::Continue);
    second.end(&mut two);
    third.end(&mut two);
    assert_eq!(chat(&process, &mut one, BODY).1, Flow::Continue);
    assert_eq!(chat(&process, &mut one, BODY).1, Flow::Continue);
    assert!(matches!(chat(&process, &mut one, BODY).1, Flow::Reply(_)));
    // The worker dies with two requests in flight.
    drop(one);
    process.advance_ms(5_000);
    assert_eq!(chat(&process, &mut two, BODY).1, Flow::Continue);
}

#[test]
fn of_a_fleets_requests_at_a_time_each_gateway_admits_an_equal_part() {
    let mut snapshot = policy();
    snapshot.l1.enabled = false;
    snapshot.limits.rules.push(Rule {
        requests: None,
        concurrency: Some(7),
        scope: Scope::Fleet,
        ..rule(r#"{"model":"m"}"#)
    });
    let (process, mut vm) = (Process::new(), vm(&snapshot));
    let hears = |vm: &mut Vm, gateways| {
        let host = stream(&process).host;
        Heard { gateway: 1, at_ns: 0, gateways }.write(&host);
        vm.slices.fleet.on_tick(&host, process.now_ns.get(), OnLoss::Closed);
    };
    hears(&mut vm, 3);
    let mut first = chat(&process, &mut vm, BODY);
    assert_eq!((first.1, chat(&process, &mut vm, BODY).1), (Flow::Continue, Flow::Continue));
    let refused = reply(chat(&process, &mut vm, BODY).1);
    assert!(String::from_utf8_lossy(&refused.body).contains("requests at a time of model:m"));
    // Another one has come: what is in flight goes on, and counts.
    hears(&mut vm, 4);
    first.0.end(&mut vm);
    assert!(matches!(chat(&process, &mut vm, BODY).1, Flow::Reply(_)), "one of one is in flight");
    // All others are gone.
    hears(&mut vm, 1);
    let admitted = (0..10).filter(|_| chat(&process, &mut vm, BODY).1 == Flow::Continue).count();
    assert_eq!(admitted, 6);
}

#[test]
fn a_million_keys_and_addresses_stay_within_the_bound() {
    let rules = [rate(r#"{"key":"*"}"#, 1.0, 10), rate(r#"{"ip":"*"}"#, 1.0, 10)];
    let (process, mut vm) = (Process::new(), vm(&with(rules)));
    let host = stream(&process).host;
    let levels = &vm.policy.clone().expect("a policy").levels;
    for i in 0..1_000_000_u32 {
        let ip = Some(ClientAddress::V4(i.wrapping_mul(2_654_435_761)));
        let key = format!("key-{i}");
        let subject = Subject { tenant: "acme", key: Some(&key), ip, route: "models", model: None };
        for level in &*levels.of_caller(&subject) {
            let rate = level.requests.expect("a rate").rate;
            let place = Place::of(level, Kind::Requests, ip);
            let account = Account { place, rate, sharer: Sharer { tag: 1, weight: 1 } };
            vm.slices.take(&host, account, 1, process.now_ns.get());
        }
        process.now_ns.set(process.now_ns.get() + SECOND_NS / 100_000);
    }
    let bytes = process.bytes_under("tg1/b/");
    assert!((4000 * 65..=(1 + 4096 + 4096) * 65).contains(&bytes), "{bytes}");
}

#[test]
fn a_caller_without_key_or_address_meets_the_other_levels() {
    let rules = [rate(r#"{"key":"*"}"#, 0.1, 1), rate(r#"{"ip":"*"}"#, 0.1, 1)];
    let (process, mut vm) = (Process::new(), vm(&with(rules)));
    for _ in 0..5 {
        assert_eq!(chat(&process, &mut vm, BODY).1, Flow::Continue);
    }
}
