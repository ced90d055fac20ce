//! Trying messages and looking at clusters, over real sockets.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::common::{Answer, Sidecar};

async fn classify(sidecar: &Sidecar, body: &Value) -> Answer {
    sidecar.admin(Method::POST, "/admin/clusters/classify", &body.to_string()).await
}

#[tokio::test]
async fn a_message_is_answered_with_its_kind_and_a_list_with_a_list() {
    let folder = tempfile::tempdir().expect("folder");
    let sidecar = Sidecar::start(folder.path(), "").await;
    let one = json!({"provider": "anthropic", "status": 400, "message": "Your credit balance is too low"});
    let answer = classify(&sidecar, &one).await;
    assert_eq!(answer.status, StatusCode::OK);
    let verdict = answer.json();
    assert_eq!((&verdict["kind"], &verdict["cluster_id"]), (&json!("quota"), &Value::Null), "{verdict}");
    assert_eq!(verdict["template"], "Your credit balance is too low");
    assert!(verdict["score"].as_f64().is_some_and(|score| score > 0.3 && score <= 1.0), "{verdict}");

    let list = json!([
        {"message": "请求过于频繁，请稍后再试", "status": null, "provider": null, "learn": true},
        {"message": "connect ECONNREFUSED 127.0.0.1:11434", "learn": true},
        {"message": "connect ECONNREFUSED 10.0.0.7:8000"},
    ]);
    let verdicts = classify(&sidecar, &list).await.json();
    let kinds: Vec<_> = (0..3).map(|at| verdicts[at]["kind"].clone()).collect();
    assert_eq!(kinds, ["rate_limited", "network", "network"]);
    assert_eq!(verdicts[1]["cluster_id"], verdicts[2]["cluster_id"]);
    assert!(sidecar.end().await);
}

#[tokio::test]
async fn what_was_learnt_is_listed_kept_and_on_the_metrics_page() {
    let folder = tempfile::tempdir().expect("folder");
    let sidecar = Sidecar::start(folder.path(), "").await;
    let one = json!({"provider": "openai", "message": "The server had an error", "learn": true});
    let id = classify(&sidecar, &one).await.json()["cluster_id"].as_str().expect("an id").to_owned();
    let stats = format!("/admin/stats?cluster_id={id}");
    let shown = sidecar.admin(Method::GET, &stats, "").await.json();
    assert_eq!(
        (&shown["clusters"], &shown["cluster"]["kind"]),
        (&json!(1), &json!("upstream_bug")),
        "{shown}"
    );
    let page = sidecar.admin(Method::GET, "/metrics", "").await;
    let series = format!("gateway_cluster_size{{cluster=\"{id}\",kind=\"upstream_bug\"}} 1");
    assert!(page.text().contains(&series));
    assert!(sidecar.end().await);

    let sidecar = Sidecar::start(folder.path(), "").await;
    let list = sidecar.admin(Method::GET, "/admin/clusters", "").await.json();
    assert_eq!(list["data"][0]["id"], json!(id));
    assert_eq!(list["data"][0]["providers"], json!(["openai"]));
    assert_eq!(sidecar.admin(Method::GET, &format!("/admin/clusters/{id}"), "").await.status, StatusCode::OK);
    assert!(sidecar.end().await);
}

#[tokio::test]
async fn bad_questions_are_told_what_is_wrong() {
    let folder = tempfile::tempdir().expect("folder");
    let sidecar = Sidecar::start(folder.path(), "").await;
    for (body, code) in [
        ("{", "invalid_json"),
        ("7", "invalid_request"),
        ("{}", "invalid_request"),
        (r#"{"message": ""}"#, "invalid_request"),
        (r#"[{"message": "x"}, {"message": "y", "status": "429"}]"#, "invalid_request"),
    ] {
        let answer = sidecar.admin(Method::POST, "/admin/clusters/classify", body).await;
        assert_eq!((answer.status, answer.code().as_str()), (StatusCode::BAD_REQUEST, code), "{body}");
    }
    assert_eq!(sidecar.admin(Method::GET, "/admin/stats?cluster_id=cl_0", "").await.code(), "not_found");
    assert_eq!(sidecar.admin(Method::GET, "/admin/stats?cluster=x", "").await.code(), "invalid_request");
    let stranger = sidecar.send(Method::GET, "/admin/clusters", &[], "").await;
    assert_eq!(stranger.code(), "missing_api_key");
    assert!(sidecar.end().await);
}
