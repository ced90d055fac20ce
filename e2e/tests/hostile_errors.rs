//! Errors that are huge, not text, in other languages or crafted, and a control plane that is gone:
//! what is true is understood, and nobody but their sender is hit.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};
use tidegate_e2e::emulator::{Emulator, Fault, FaultMatch};
use tidegate_e2e::harness::{Answer, Client, Gateway, chat, chat_with, eventually};

/// Requests that a policy lets pass in a row only when it has ended: a single one may be a canary.
const IN_A_ROW: usize = 20;
const DEADLINE: Duration = Duration::from_secs(60);
/// An error's body that is far more than anyone reads.
const HUGE_BYTES: usize = 10 << 20;
const CONFIG: &str = "\
server:
  upstreams:
    - {name: own, prefix: /own, address: '{{own}}'}
providers:
  - {{openai}}
    models: [gpt-4o, gpt-4o-mini]
auth:
  api_keys:
    - {name: mallory, key: sk-key-of-mallory-0123456789, tenant: mallory}
    - {name: beta, key: sk-key-of-beta-0123456789, tenant: beta}
    - {name: core, key: sk-key-of-core-0123456789, tenant: core}
";

/// A gateway whose own upstream is the emulator too: each path below `/own` is one of its faults.
async fn gateway(extra: &str) -> Gateway {
    let emulator = Emulator::start(0).await.unwrap();
    let own = emulator.base_url().replace("http://", "");
    let own = own.split_once('/').map_or(own.as_str(), |(address, _)| address).to_owned();
    let config = format!("{}{extra}", CONFIG.replace("{{own}}", &own));
    Gateway::builder().config_yaml(&config).workers(1).emulator(emulator).start().await.unwrap()
}

fn client(tenant: &str) -> Client {
    Client::new().with_key(&format!("sk-key-of-{tenant}-0123456789"))
}

fn fault(status: u16, body: Value, path: &str) -> Fault {
    let matches = FaultMatch { path: Some(path.to_owned()), ..FaultMatch::default() };
    Fault { status: Some(status), body: Some(body), matches, ..Fault::default() }
}

async fn clusters(gateway: &Gateway) -> Vec<Value> {
    let answer = gateway.admin().get(&gateway.url("/admin/clusters")).await.unwrap();
    answer.json()["data"].as_array().cloned().unwrap_or_default()
}

async fn policies(gateway: &Gateway) -> Vec<Value> {
    let answer = gateway.admin().get(&gateway.url("/admin/policies")).await.unwrap();
    answer.json()["data"].as_array().cloned().unwrap_or_default()
}

#[tokio::test]
async fn errors_of_every_size_language_and_encoding_pass_and_are_understood_as_far_as_they_can_be() {
    let gateway = gateway("").await;
    let huge = format!(
        "{{\"error\":{{\"message\":\"Internal server error\"}},\"x\":\"{}\"}}",
        "x".repeat(HUGE_BYTES)
    );
    let page = "<html><head><title>504 Gateway Time-out</title></head><body><h1>504 Gateway Time-out</h1></body></html>";
    let chinese = r#"{"error":{"code":"1113","message":"您的账户已欠费，请充值后重试"}}"#;
    let binary = "\u{0}\u{1}\u{2}\u{fffd}\u{7f}".repeat(100);
    let zipped = Fault {
        headers: BTreeMap::from([("content-encoding".to_owned(), "gzip".to_owned())]),
        ..fault(429, json!("not what it says it is"), "/zipped")
    };
    gateway.emulator.arm(zipped).unwrap();
    let sent = [
        ("/huge", 500, huge.as_str()),
        ("/page", 504, page),
        ("/chinese", 400, chinese),
        ("/binary", 502, &binary),
    ];
    for (path, status, body) in sent {
        gateway.emulator.arm(fault(status, json!(body), path)).unwrap();
    }
    let beta = client("beta");
    for (path, status, body) in sent {
        let answer = beta.get(&gateway.url(&format!("/own{path}"))).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.text().len()), (status, body.len()), "{path}");
    }
    assert_eq!(beta.get(&gateway.url("/own/zipped")).await.unwrap().status, 429);
    let kinds = ["upstream_bug", "timeout", "quota", "rate_limited"];
    eventually("all are understood", DEADLINE, || async {
        let clusters = clusters(&gateway).await;
        let members: u64 = clusters.iter().filter_map(|cluster| cluster["members"].as_u64()).sum();
        let has = |kind: &&str| clusters.iter().any(|cluster| cluster["kind"] == **kind);
        (members == 5 && kinds.iter().all(has)).then_some(())
    })
    .await
    .unwrap();
    let shown = serde_json::to_string(&clusters(&gateway).await).unwrap();
    assert!(!shown.contains(&"x".repeat(100)) && shown.contains("欠费"), "{shown}");
}

#[tokio::test]
async fn a_tenant_that_sends_failing_requests_on_purpose_is_the_only_one_hit() {
    let gateway = gateway("").await;
    let of_mallory = FaultMatch { contains: Some("tenant=mallory".to_owned()), ..FaultMatch::default() };
    let overloaded = json!({"error": {
        "message": "The engine is currently overloaded, please try again later", "type": "server_error", "code": "overloaded",
    }});
    let crafted =
        Fault { status: Some(503), body: Some(overloaded), matches: of_mallory, ..Fault::default() };
    gateway.emulator.arm(crafted).unwrap();
    let clients: BTreeMap<&str, Client> =
        ["mallory", "beta", "core"].map(|tenant| (tenant, client(tenant))).into();
    let (mut asked, end) = (0, Instant::now() + DEADLINE);
    let ask = async |tenant: &str, model: &str, number: u32| -> Answer {
        let body = chat_with(model, &format!("tenant={tenant} number {number}"));
        gateway.ask(&clients[tenant], body).await.unwrap()
    };
    // Ten times as many as the others send, over every model.
    loop {
        assert!(Instant::now() < end, "mallory is never refused: {:?}", policies(&gateway).await);
        let mut is_refused = false;
        for _ in 0..10 {
            asked += 1;
            let answer = ask("mallory", if asked % 2 == 0 { "gpt-4o" } else { "gpt-4o-mini" }, asked).await;
            is_refused |= answer.header("x-gateway-policy").is_some();
        }
        for (tenant, model) in [("beta", "gpt-4o"), ("core", "gpt-4o-mini"), ("beta", "gpt-4o-mini")] {
            asked += 1;
            let answer = ask(tenant, model, asked).await;
            assert_eq!(answer.status, 200, "a bystander, {tenant} {model}: {}", answer.text());
        }
        if is_refused {
            break;
        }
    }
    let policies = policies(&gateway).await;
    assert!(!policies.is_empty());
    for policy in policies {
        assert_eq!(policy["scope"]["tenant"], "mallory", "{policy}");
    }
}

#[tokio::test]
async fn a_policy_outlives_the_control_plane_by_its_time_to_live_and_no_longer() {
    let mut gateway = gateway("policy: {ttl: 10s}\n").await;
    let url = gateway.url("/admin/policies/maintenance");
    let edit = r#"{"scope": {"tenant": "beta"}, "action": "break", "ttl_ms": 10000}"#;
    let made = gateway.admin().send(&Method::PUT, &url, &[], edit).await.unwrap();
    assert_eq!(made.status, 200, "{}", made.text());
    let beta = client("beta");
    let asked = AtomicU32::new(0);
    let refused = async |gateway: &Gateway| {
        // Never asked before: answers that are stored are served all the while.
        let number = asked.fetch_add(1, Ordering::Relaxed);
        let answer = gateway.ask(&beta, chat(&format!("question {number}"))).await.ok()?;
        Some(answer.header("x-gateway-policy").is_some())
    };
    eventually("the policy is in force", DEADLINE, || async {
        refused(&gateway).await.filter(|refused| *refused)
    })
    .await
    .unwrap();
    gateway.kill_sidecar().unwrap();
    assert_eq!(refused(&gateway).await, Some(true), "it stands without the sidecar");
    eventually("the policy has ended", DEADLINE, || async {
        for _ in 0..IN_A_ROW {
            refused(&gateway).await.filter(|refused| !*refused)?;
        }
        Some(())
    })
    .await
    .unwrap();
}
