//! Gateways that share keys, limits and the audit log in a real etcd of three members.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tidegate_e2e::harness::{Answer, Certificates, Client, EtcdCluster, Gateway, eventually, expect_error};

const DEADLINE: Duration = Duration::from_secs(30);
const MEMBERS: usize = 3;
const CLOSED: &str = "\
providers:
  - {{openai}}
    models: [gpt-4o]
";

fn store(etcd: &EtcdCluster) -> String {
    let secured = etcd.certificates().map_or_else(String::new, |files| {
        let Certificates { ca, cert, key } = files;
        format!(
            ", ca_path: '{}', cert_path: '{}', key_path: '{}'",
            ca.display(),
            cert.display(),
            key.display()
        )
    });
    format!("store: {{type: etcd}}\netcd: {{endpoints: {}, timeout: 10s{secured}}}\n", etcd.endpoints())
}

async fn gateway(etcd: &EtcdCluster) -> Gateway {
    Gateway::builder().config_yaml(&format!("{CLOSED}{}", store(etcd))).start().await.unwrap()
}

async fn create(gateway: &Gateway, name: &str) -> Answer {
    let wanted = json!({"name": name, "tenant": "acme", "role": "user"});
    gateway.admin().post_json(&gateway.url("/admin/keys"), wanted.to_string()).await.unwrap()
}

/// Makes a key at `gateway`; its id and its text.
async fn key(gateway: &Gateway, name: &str) -> (String, String) {
    let made = create(gateway, name).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&made.json()["id"]), text(&made.json()["key"]))
}

async fn revoke(gateway: &Gateway, id: &str) -> Answer {
    let url = gateway.url(&format!("/admin/keys/{id}"));
    gateway.admin().send(&Method::DELETE, &url, &[], "").await.unwrap()
}

async fn becomes(gateway: &Gateway, key: &str, status: u16) {
    let client = Client::new().with_key(key);
    eventually(&format!("the key's answer is {status}"), DEADLINE, || async {
        // A connection of its own each time, so that every worker is met.
        let answer = client.get(&gateway.url("/v1/models")).await.ok()?;
        (answer.status == status).then_some(())
    })
    .await
    .unwrap();
}

async fn store_is(gateway: &Gateway, state: &str) {
    eventually(&format!("the store is {state}"), DEADLINE, || async {
        let answer = gateway.admin().get(&gateway.url("/health/detailed")).await.ok()?;
        let store = &answer.json()["components"]["store"];
        (store["kind"] == "etcd" && store["state"] == state).then_some(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn what_one_gateway_changes_holds_at_the_others_whoever_leads() {
    let mut etcd = EtcdCluster::start(MEMBERS).await.unwrap();
    let (one, two) = (gateway(&etcd).await, gateway(&etcd).await);

    let (id, first) = key(&one, "first").await;
    becomes(&two, &first, 200).await;
    assert_eq!(revoke(&two, &id).await.status, 204);
    becomes(&one, &first, 401).await;

    let limits = json!({"default_rate": 7.0}).to_string();
    let changed = one.admin().send(&Method::PUT, &one.url("/admin/limits"), &[], limits).await.unwrap();
    assert_eq!(changed.status, 200, "{}", changed.text());
    eventually("the other gateway has the limit", DEADLINE, || async {
        two.admin().get(&two.url("/admin/limits")).await.ok()?.text().contains("7").then_some(())
    })
    .await
    .unwrap();

    // Both at once: one of them finds that the other was faster, and makes its change after it.
    let (a, b) = tokio::join!(key(&one, "left"), key(&two, "right"));
    becomes(&two, &a.1, 200).await;
    becomes(&one, &b.1, 200).await;

    let leader = etcd.leader().await.unwrap();
    etcd.kill(leader).unwrap();
    let (_, after) = key(&one, "after-the-leader").await;
    becomes(&two, &after, 200).await;
    etcd.restart(leader).unwrap();
    etcd.wait_until_healthy(leader).await.unwrap();

    the_audit_log_is_one_chain(&one, &two).await;
}

async fn the_audit_log_is_one_chain(one: &Gateway, two: &Gateway) {
    let entries = |gateway: &Gateway| {
        let (admin, url) = (gateway.admin(), gateway.url("/admin/audit"));
        async move { admin.get(&url).await.unwrap().json() }
    };
    let (left, right) = (entries(one).await, entries(two).await);
    assert_eq!(left, right);
    assert!(left.to_string().contains("first") || left.to_string().contains("key_created"), "{left}");
    let verified = one.admin().get(&one.url("/admin/audit/verify")).await.unwrap();
    assert_eq!(verified.json()["ok"], true, "{}", verified.text());
}

#[tokio::test]
async fn without_etcd_the_last_copy_serves_and_nothing_can_be_changed() {
    let mut etcd = EtcdCluster::start(MEMBERS).await.unwrap();
    let (mut one, two) = (gateway(&etcd).await, gateway(&etcd).await);
    let (_, before) = key(&one, "before").await;
    becomes(&two, &before, 200).await;

    (0..MEMBERS).for_each(|member| etcd.kill(member).unwrap());
    for gateway in [&one, &two] {
        store_is(gateway, "down").await;
        becomes(gateway, &before, 200).await;
    }
    let refused = create(&one, "during").await;
    expect_error(&refused, 503, "store_unavailable");
    assert!(refused.header("retry-after").is_some());

    one.kill_sidecar().unwrap();
    one.restart_sidecar().unwrap();
    one.wait_until_ready().await.unwrap();
    becomes(&one, &before, 200).await;

    (0..MEMBERS).for_each(|member| etcd.restart(member).unwrap());
    etcd.wait_until_healthy(0).await.unwrap();
    for gateway in [&one, &two] {
        store_is(gateway, "up").await;
    }
    let (_, later) = key(&two, "later").await;
    becomes(&one, &later, 200).await;
}

#[tokio::test]
async fn a_compaction_while_a_gateway_was_away_loses_nothing() {
    let etcd = EtcdCluster::start(1).await.unwrap();
    let (mut one, two) = (gateway(&etcd).await, gateway(&etcd).await);
    let (id, gone) = key(&one, "gone").await;
    becomes(&two, &gone, 200).await;
    one.kill_sidecar().unwrap();
    assert_eq!(revoke(&two, &id).await.status, 204);
    let (_, new) = key(&two, "new").await;
    let status = etcd.command(0, &["endpoint", "status", "-w", "json"]).await.unwrap();
    let status: Value = serde_json::from_str(&status).unwrap();
    let revision = status[0]["Status"]["header"]["revision"].to_string();
    etcd.command(0, &["compact", &revision]).await.unwrap();
    one.restart_sidecar().unwrap();
    one.wait_until_ready().await.unwrap();
    becomes(&one, &new, 200).await;
    becomes(&one, &gone, 401).await;
}

#[tokio::test]
async fn etcd_by_tls_with_a_user_and_certificates_on_both_sides() {
    let etcd = EtcdCluster::start_secured(1).await.unwrap();
    for command in [
        ["user", "add", "root:of-all-0123"].as_slice(),
        &["user", "add", "tidegate:sesame-0123"],
        &["role", "add", "gateway"],
        &["role", "grant-permission", "gateway", "--prefix=true", "readwrite", "/tidegate/"],
        &["user", "grant-role", "tidegate", "gateway"],
        &["user", "grant-role", "root", "root"],
        &["auth", "enable"],
    ] {
        etcd.command(0, command).await.unwrap();
    }
    let user = store(&etcd).replace("timeout", "username: tidegate, password: sesame-0123, timeout");
    let config = format!("{CLOSED}{user}");
    let one = Gateway::builder().config_yaml(&config).start().await.unwrap();
    let two = Gateway::builder().config_yaml(&config).start().await.unwrap();
    let (id, made) = key(&one, "secured").await;
    becomes(&two, &made, 200).await;
    assert_eq!(revoke(&two, &id).await.status, 204);
    becomes(&one, &made, 401).await;
}

#[tokio::test]
async fn moving_to_etcd_takes_along_what_there_was() {
    let mut one = Gateway::builder().config_yaml(CLOSED).start().await.unwrap();
    let (_, old) = key(&one, "old").await;
    let etcd = EtcdCluster::start(1).await.unwrap();
    one.reload_sidecar(&format!("{CLOSED}{}", store(&etcd))).unwrap();
    one.stop_sidecar_gracefully().await.unwrap();
    one.restart_sidecar().unwrap();
    one.wait_until_ready().await.unwrap();
    store_is(&one, "up").await;
    let two = gateway(&etcd).await;
    becomes(&two, &old, 200).await;
}
