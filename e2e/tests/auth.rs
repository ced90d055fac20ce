//! Keys made and revoked while the gateway runs, and what operators can look at.

use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};
use tidegate_e2e::emulator::Fault;
use tidegate_e2e::harness::{ADMIN_KEY, Answer, Client, Gateway, chat, eventually, expect_error, stream};

const DEADLINE: Duration = Duration::from_secs(10);
const WORKERS: u32 = 4;
const CONNECTIONS: usize = 32;
const CLOSED: &str = "\
providers:
  - {{openai}}
    models: [gpt-4o]
";

async fn models(gateway: &Gateway, client: &Client) -> Answer {
    client.get(&gateway.url("/v1/models")).await.unwrap()
}

async fn create(gateway: &Gateway, by: &Client, wanted: Value) -> Answer {
    by.post_json(&gateway.url("/admin/keys"), wanted.to_string()).await.unwrap()
}

async fn revoke(gateway: &Gateway, id: &str) -> Answer {
    let url = gateway.url(&format!("/admin/keys/{id}"));
    gateway.admin().send(&Method::DELETE, &url, &[], "").await.unwrap()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn keys_work_at_once_are_shown_once_and_are_revoked_everywhere() {
    let mut gateway = Gateway::builder().config_yaml(CLOSED).workers(WORKERS).start().await.unwrap();
    let made =
        create(&gateway, &gateway.admin(), json!({"name": "ci", "tenant": "acme", "role": "user"})).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let (id, key) = (text(&made.json()["id"]), text(&made.json()["key"]));
    assert!(key.starts_with("tg-") && key.len() == 46, "{}", key.len());

    let users: Vec<Client> = (0..CONNECTIONS).map(|_| Client::new().with_key(&key)).collect();
    for user in &users {
        let answer = models(&gateway, user).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    only_admins_see_keys_and_nobody_sees_secrets(&gateway, &id, &key).await;
    a_key_outlives_the_sidecar(&mut gateway, &users[0]).await;

    let revoked = revoke(&gateway, &id).await;
    assert_eq!(revoked.status, 204, "{}", revoked.text());
    let start = Instant::now();
    for user in &users {
        let answer = eventually("every worker refuses the revoked key", DEADLINE, || async {
            let answer = models(&gateway, user).await;
            (answer.status != 200).then_some(answer)
        })
        .await
        .unwrap();
        expect_error(&answer, 401, "invalid_api_key");
    }
    println!("refused in every worker after {:?}", start.elapsed());
    assert_eq!(revoke(&gateway, &id).await.status, 404);
    wrong_wishes_name_the_field(&gateway).await;
    the_pages_of_operators_have_both_halves(&gateway).await;
    secrets_stay_out_of_the_logs(&gateway, &key);
}

async fn only_admins_see_keys_and_nobody_sees_secrets(gateway: &Gateway, id: &str, key: &str) {
    let list = gateway.admin().get(&gateway.url("/admin/keys")).await.unwrap();
    assert_eq!(list.status, 200, "{}", list.text());
    for secret in [key, ADMIN_KEY, "sha256"] {
        assert!(!list.text().contains(secret), "{}", list.text());
    }
    let ids: Vec<String> = list.json()["data"].as_array().unwrap().iter().map(|k| text(&k["id"])).collect();
    assert!(ids.contains(&id.to_owned()), "{ids:?}");

    let wanted = json!({"name": "ops", "tenant": "ops", "role": "operator"});
    let operator = create(gateway, &gateway.admin(), wanted).await;
    let operator = Client::new().with_key(&text(&operator.json()["key"]));
    let limits = operator.get(&gateway.url("/admin/limits")).await.unwrap();
    assert_eq!(limits.status, 200, "{}", limits.text());
    let keys = operator.get(&gateway.url("/admin/keys")).await.unwrap();
    expect_error(&keys, 403, "permission_denied");
    let more = create(gateway, &operator, json!({"name": "x", "tenant": "x", "role": "admin"})).await;
    expect_error(&more, 403, "permission_denied");
}

async fn a_key_outlives_the_sidecar(gateway: &mut Gateway, user: &Client) {
    gateway.kill_sidecar().unwrap();
    gateway.restart_sidecar().unwrap();
    gateway.wait_until_ready().await.unwrap();
    assert_eq!(models(gateway, user).await.status, 200);
}

async fn wrong_wishes_name_the_field(gateway: &Gateway) {
    let cases = [
        (json!({"name": "a b", "tenant": "acme"}), "name"),
        (json!({"name": "a", "tenant": ""}), "tenant"),
        (json!({"name": "a", "tenant": "acme", "role": "root"}), "role"),
        (json!({"name": "a", "tenant": "acme", "colour": 1}), "colour"),
        (json!({"tenant": "acme"}), "name"),
    ];
    for (wanted, field) in cases {
        let answer = create(gateway, &gateway.admin(), wanted.clone()).await;
        expect_error(&answer, 400, "invalid_request");
        assert!(answer.text().contains(field), "{wanted}: {}", answer.text());
    }
    let admin = revoke(gateway, "admin").await;
    assert!(admin.status.is_client_error(), "the admin's key cannot be revoked here: {}", admin.text());
    assert_eq!(gateway.admin().get(&gateway.url("/admin/keys")).await.unwrap().status, 200);
}

async fn the_pages_of_operators_have_both_halves(gateway: &Gateway) {
    let admin = gateway.admin();
    for _ in 0..2 {
        assert_eq!(gateway.ask(&admin, chat("count me")).await.unwrap().status, 200);
    }
    let wanted = [
        // The filter's.
        "gateway_requests_total{class=\"llm\",outcome=\"forwarded\"}",
        "gateway_requests_total{class=\"llm\",outcome=\"cache_hit\"}",
        "gateway_cache_requests_total{layer=\"l1\",result=\"hit\"}",
        "gateway_auth_total{result=\"denied\"}",
        "gateway_request_duration_seconds_count",
        // The sidecar's.
        "gateway_provider_requests_total{provider=\"openai\",outcome=\"ok\"}",
        "gen_ai_client_token_usage_count",
        "gen_ai_server_request_duration_count",
    ];
    let page = eventually("/metrics has counted the filter's requests", DEADLINE, || async {
        let page = admin.get(&gateway.url("/metrics")).await.ok()?.text();
        let counted = |name: &&str| {
            let lines = page.lines().filter(|line| line.starts_with(name));
            lines.filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok()).any(|value| value > 0.0)
        };
        wanted.iter().all(counted).then(|| page.clone())
    })
    .await
    .unwrap();
    assert!(page.ends_with("# EOF\n"));
    assert!(!page.contains("count me") && !page.contains("acme"), "labels are bounded sets");

    let status = eventually("every worker has reported", DEADLINE, || async {
        let status = admin.get(&gateway.url("/v1/admin/status")).await.ok()?.json();
        let revisions: Vec<String> =
            status["filters"].as_array()?.iter().map(|f| text(&f["revision"])).collect();
        let same = revisions.iter().all(|r| *r == text(&status["revision"]));
        (revisions.len() >= WORKERS as usize && same).then_some(status)
    });
    status.await.unwrap();
}

fn secrets_stay_out_of_the_logs(gateway: &Gateway, key: &str) {
    for log in [gateway.sidecar().log(), gateway.envoy.process.log()] {
        for secret in [key, ADMIN_KEY, "sk-emulated-0123456789", "count me"] {
            assert!(!log.contains(secret), "{secret} is in a log:\n{log}");
        }
    }
}

#[tokio::test]
async fn without_an_admin_key_one_is_made_shown_once_and_kept() {
    let mut gateway = Gateway::builder().config_yaml(CLOSED).without_admin_key().start().await.unwrap();
    let log = gateway.sidecar().log();
    let shown: Vec<&str> =
        log.split_ascii_whitespace().filter_map(|word| word.find("tg-").map(|at| &word[at..])).collect();
    assert_eq!(shown.len(), 1, "{log}");
    let key =
        shown[0].trim_end_matches(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_').to_owned();
    let admin = Client::new().with_key(&key);
    let answer = admin.get(&gateway.url("/admin/keys")).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());

    gateway.stop_sidecar_gracefully().await.unwrap();
    gateway.restart_sidecar().unwrap();
    gateway.wait_until_ready().await.unwrap();
    assert_eq!(gateway.sidecar().log().matches(&key).count(), 1, "it is not shown again");
    assert_eq!(admin.get(&gateway.url("/admin/keys")).await.unwrap().status, 200);
}

/// A stream was admitted when it began, and nobody cuts it in the middle of a sentence; what
/// comes after it is refused.
#[tokio::test]
async fn a_key_revoked_in_the_middle_of_a_stream_opens_nothing_more() {
    let gateway = Gateway::builder().workers(2).start().await.unwrap();
    let admin = gateway.admin();
    let made = admin
        .post_json(
            &gateway.url("/admin/keys"),
            r#"{"name": "short-lived", "tenant": "acme", "role": "user"}"#,
        )
        .await
        .unwrap()
        .json();
    let (id, key) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    let user = Client::new().with_key(key);
    let stall = Fault { stall_after_chunks: Some(2), ..Fault::default() };
    gateway.emulator.arm(stall).unwrap();
    let mut stream = gateway.open_chat(&user, stream("a long story")).await.unwrap();
    assert_eq!(stream.status(), 200);
    assert!(stream.next_chunk().await.unwrap().is_some());

    let revoked =
        admin.send(&Method::DELETE, &gateway.url(&format!("/admin/keys/{id}")), &[], "").await.unwrap();
    assert!(revoked.status.is_success(), "{}", revoked.text());
    let refused = eventually("the key is refused", DEADLINE, || async {
        let answer = user.get(&gateway.url("/v1/models")).await.ok()?;
        (answer.status == 401).then_some(answer)
    });
    expect_error(&refused.await.unwrap(), 401, "invalid_api_key");
    gateway.emulator.disarm_all();
    gateway.emulator.release_stalled();
    let rest = stream.finish().await.unwrap();
    assert_eq!(rest.events().last().map(String::as_str), Some("[DONE]"), "{}", rest.text());
}
