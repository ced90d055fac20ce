//! Tenants that share a limit: what each gets when there is too little for all, over two workers.

use std::rc::Rc;

use tidegate_core::limit::{BucketState, Kind};
use tidegate_core::policy::{BucketPolicy, Rule, Selector, Snapshot};
use tidegate_core::wire::{LimitAnswers, LimitQuestion, LimitQuestions};
use tidegate_filter::pipeline::Flow;
use tidegate_filter::vm::Vm;

use crate::fake::{CHAT, Process, Worker, header, policy, reply, stream, vm};

const MODELS: [(&str, &str); 2] = [(":method", "GET"), (":path", "/v1/models")];
const BODY: &[u8] = br#"{"model":"m","max_tokens":100,"messages":[]}"#;
const MS: u64 = 1_000_000;

/// Everybody together: so many requests a second, as many at once, and tokens a minute.
fn shared(rate: Option<f64>, tokens_per_minute: Option<u64>) -> Snapshot {
    let mut snapshot = policy();
    snapshot.l1.enabled = false;
    let requests = rate.map(|rate| BucketPolicy { rate, burst: rate as u64 });
    let rule = Rule::of_requests(Selector::default(), BucketPolicy { rate: 1.0, burst: 1 });
    snapshot.limits.rules = vec![Rule { requests, tokens_per_minute, ..rule }];
    snapshot.limits.weights = [("b".to_owned(), 2), ("*".to_owned(), 1)].into();
    snapshot.validate().expect("valid");
    snapshot
}

fn key(
    vm: &mut Vm,
    process: &Rc<Process>,
    tenant: &str,
    headers: &[(&str, &str)],
    body: Option<&[u8]>,
) -> Flow {
    let mut stream = stream(process);
    let headers: Vec<_> = headers.iter().copied().chain([("x-api-key", tenant)]).collect();
    let mut flow = stream.headers(vm, &headers, body.is_none());
    if let Flow::Ask(_) = flow {
        let identity = format!(r#"{{"tenant":"{tenant}","key":"{tenant}","role":"user"}}"#);
        let verdict =
            format!(r#"{{"verdict":"granted","identity":{identity},"ttl_ms":600000,"generation":1}}"#);
        flow = stream.answer(vm, Some(&verdict));
    }
    match body {
        Some(body) if flow == Flow::Pause => stream.body(vm, body, true),
        _ => flow,
    }
}

/// Requests that were admitted, of each tenant: `every_ms` by tenant, in turn at two workers.
fn run(snapshot: &Snapshot, every_ms: [u64; 3], from_ms: u64, until_ms: u64) -> [u64; 3] {
    let process = Process::new();
    let mut vms = [vm(snapshot), vm(snapshot)];
    let mut admitted = [0; 3];
    for ms in 1..until_ms {
        process.now_ns.set(process.now_ns.get() + MS);
        for (index, tenant) in ["greedy", "a", "b"].into_iter().enumerate() {
            if ms % every_ms[index] == index as u64 % every_ms[index] {
                let vm = &mut vms[(ms / every_ms[index] % 2) as usize];
                let is_in = key(vm, &process, tenant, &MODELS, None) == Flow::Continue;
                admitted[index] += u64::from(is_in && ms >= from_ms);
            }
        }
    }
    admitted
}

#[test]
fn a_greedy_tenant_takes_only_what_the_others_leave() {
    // 100 a second: the greedy one asks for 1000, the others for 20 each.
    let [greedy, a, b] = run(&shared(Some(100.0), None), [1, 50, 50], 2_000, 12_000);
    assert!(a >= 198 && b >= 198, "{a} and {b} of 200");
    assert!((570..=605).contains(&greedy), "{greedy} of the 600 that were left");
}

#[test]
fn all_greedy_tenants_get_their_weights_and_fast_buckets_too() {
    let [greedy, a, b] = run(&shared(Some(1_000.0), None), [1, 1, 1], 2_000, 6_000);
    assert!(greedy.abs_diff(1_000) <= 30 && a.abs_diff(1_000) <= 30, "{greedy}, {a}");
    assert!(b.abs_diff(2_000) <= 60, "{b}");
}

#[test]
fn a_refusal_says_whose_share_is_used_up_and_waiting_as_told_gets_in() {
    let process = Process::new();
    let mut vm = vm(&shared(Some(10.0), None));
    assert_eq!(key(&mut vm, &process, "a", &MODELS, None), Flow::Continue);
    while key(&mut vm, &process, "greedy", &MODELS, None) == Flow::Continue {}
    assert!(matches!(key(&mut vm, &process, "a", &MODELS, None), Flow::Reply(_)), "nothing is left");
    process.advance_ms(200);
    let refused = reply({
        while key(&mut vm, &process, "greedy", &MODELS, None) == Flow::Continue {}
        key(&mut vm, &process, "greedy", &MODELS, None)
    });
    let text = String::from_utf8_lossy(&refused.body).into_owned();
    assert!(
        text.contains("the share of tenant greedy in the limit on requests per second of global"),
        "{text}"
    );
    assert_eq!(header(&refused, "x-ratelimit-remaining-requests"), Some("0"));
    assert_eq!(key(&mut vm, &process, "a", &MODELS, None), Flow::Continue, "what was kept for it");
    let told: u64 = header(&refused, "retry-after-ms").and_then(|ms| ms.parse().ok()).expect("a number");
    process.advance_ms(told);
    assert_eq!(key(&mut vm, &process, "greedy", &MODELS, None), Flow::Continue);
}

#[test]
fn tokens_are_shared_as_they_were_used() {
    // Each request reserves some 100 tokens; without an answer the reservation comes back whole.
    let process = Process::new();
    let mut vm = vm(&shared(None, Some(1_000)));
    let mut ask = |tenant: &str| key(&mut vm, &process, tenant, CHAT, Some(BODY));
    while ask("greedy") == Flow::Continue {}
    process.advance_ms(100);
    assert!(matches!(ask("a"), Flow::Reply(_)));
    process.advance_ms(15_000);
    // Of 250 tokens that came back both have a right to half.
    assert_eq!(ask("greedy"), Flow::Continue);
    assert!(matches!(ask("greedy"), Flow::Reply(_)));
    assert_eq!(ask("a"), Flow::Continue);
}

#[test]
fn alone_a_tenant_has_all_and_nothing_more_is_looked_at_while_there_is_plenty() {
    let process = Process::new();
    let mut vm = vm(&shared(Some(10.0), None));
    for _ in 0..5 {
        assert_eq!(key(&mut vm, &process, "a", &MODELS, None), Flow::Continue);
    }
    assert_eq!(process.bytes_under("tg1/h/"), 0, "half of the bucket is left");
    for _ in 0..5 {
        assert_eq!(key(&mut vm, &process, "a", &MODELS, None), Flow::Continue);
    }
    assert!(matches!(key(&mut vm, &process, "a", &MODELS, None), Flow::Reply(_)));
}

#[test]
fn operators_see_what_is_left_for_a_tenant() {
    let process = Process::new();
    let mut worker = Worker::new(&process);
    worker.tick();
    let document = serde_json::to_vec(&shared(Some(10.0), None)).expect("serialises");
    worker.answer("/internal/v1/snapshot", Some(200), &document);
    for tenant in ["a", "greedy"] {
        while key(&mut worker.vm, &process, tenant, &MODELS, None) == Flow::Continue {}
    }
    process.advance_ms(400);
    while key(&mut worker.vm, &process, "greedy", &MODELS, None) == Flow::Continue {}
    let mut states = |tenant: &str| -> Vec<BucketState> {
        worker.tick();
        let request = serde_json::json!({"tenant": tenant, "route": "models"});
        let request = serde_json::from_value(request).expect("a request");
        let questions = LimitQuestions { questions: vec![LimitQuestion { id: 1, request }] };
        let questions = serde_json::to_vec(&questions).expect("serialises");
        worker.answer("/internal/v1/limits", Some(200), &questions);
        worker.tick();
        let call = worker.open("/internal/v1/limits").expect("the answers are brought");
        let answers: LimitAnswers = serde_json::from_slice(&call.body).expect("answers");
        answers.answers[0].states.clone()
    };
    let (a, greedy) = (states("a").remove(0), states("greedy").remove(0));
    assert_eq!((a.limit.as_str(), a.remaining), (Kind::Requests.label(), 2));
    assert!(a.share_remaining >= Some(1), "{a:?}");
    assert_eq!((greedy.remaining, greedy.share_remaining), (2, Some(0)));
    assert!(greedy.wait_ms > 0 && a.wait_ms == 0, "{greedy:?} {a:?}");
}
