//! `/admin/clusters` and `/admin/stats`: what fails, and what it means.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidegate_core::reply::{Code, Reply};

use super::respond;
use crate::body;
use crate::clusters::{ClusterView, TRIED_MAX, Totals, Tried, now_ms};
use crate::gateway::Gateway;
use crate::policies::{Moment, What};
use crate::refusal::json;

/// Largest body of messages to try, in bytes.
const TRIED_BYTES_MAX: usize = 8 << 20;

#[derive(Debug, Serialize)]
struct List {
    data: Vec<ClusterView>,
}

/// All clusters, the worst first.
pub async fn list(State(gateway): State<Arc<Gateway>>) -> Response {
    respond(all(&gateway).await.map(|data| json(StatusCode::OK, &List { data })))
}

async fn all(gateway: &Gateway) -> Result<Vec<ClusterView>, Reply> {
    let clusters = gateway.clusters.clone();
    match tokio::task::spawn_blocking(move || clusters.list_fleet(now_ms())).await {
        Ok(Ok(views)) => Ok(views),
        Ok(Err(error)) => {
            tracing::error!(%error, "clusters of other sidecars cannot be read");
            Err(Reply::new(Code::InternalError, "clusters cannot be read; look at the log"))
        }
        Err(_) => Err(Reply::new(Code::InternalError, "clusters cannot be read; look at the log")),
    }
}

/// One cluster.
pub async fn show(State(gateway): State<Arc<Gateway>>, Path(id): Path<String>) -> Response {
    respond(one(&gateway, &id).await.map(|view| json(StatusCode::OK, &view)))
}

#[derive(Debug, Serialize)]
struct Timeline {
    cluster_id: String,
    title: String,
    data: Vec<Moment>,
}

/// A cluster's incident as a story: first seen, grown, attributed, what was done, how it ended.
pub async fn timeline(State(gateway): State<Arc<Gateway>>, Path(id): Path<String>) -> Response {
    respond(one(&gateway, &id).await.map(|view| {
        let seen = |at_ms, event, text: &str| Moment { at_ms, event, text: text.to_owned(), policy_id: None };
        let mut data = vec![
            seen(view.first_seen_ms, What::FirstSeen, &view.title),
            seen(view.last_seen_ms, What::LastSeen, view.trend.as_str()),
        ];
        data.extend(gateway.control.timeline(&id));
        data.sort_by_key(|moment| moment.at_ms);
        json(StatusCode::OK, &Timeline { cluster_id: id, title: view.title, data })
    }))
}

async fn one(gateway: &Gateway, id: &str) -> Result<ClusterView, Reply> {
    all(gateway).await?.into_iter().find(|view| view.id.as_str() == id).ok_or_else(|| {
        let message = "there is no such cluster, or it has ended; GET /admin/clusters lists them";
        Reply::new(Code::NotFound, message).with_param("cluster_id")
    })
}

/// The query of `/admin/stats`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    cluster_id: Option<String>,
}

#[derive(Debug, Serialize)]
struct Stats {
    #[serde(flatten)]
    totals: Totals,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<ClusterView>,
}

/// All clusters together, and one of them if it is named.
pub async fn stats(
    State(gateway): State<Arc<Gateway>>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Response {
    let stats = async {
        let Ok(Query(Wanted { cluster_id })) = wanted else {
            return Err(Reply::new(Code::InvalidRequest, "the query must be ?cluster_id=<id>, or none"));
        };
        let cluster = match cluster_id {
            Some(id) => Some(one(&gateway, &id).await?),
            None => None,
        };
        Ok(json(StatusCode::OK, &Stats { totals: gateway.clusters.totals(now_ms()), cluster }))
    };
    respond(stats.await)
}

/// What messages mean; one answer for one message, a list for a list.
pub async fn classify(State(gateway): State<Arc<Gateway>>, body: Body) -> Response {
    let result = async {
        let bytes = body::read(body, TRIED_BYTES_MAX).await?;
        let value: Value = serde_json::from_slice(&bytes)
            .map_err(|error| Reply::new(Code::InvalidJson, format!("the body is not valid JSON: {error}")))?;
        let is_list = value.is_array();
        let tried = read(value)?;
        let clusters = gateway.clusters.clone();
        let verdicts = clusters.classify(tried, now_ms()).await;
        if verdicts.is_empty() && !is_list {
            return Err(Reply::new(Code::InternalError, "the message was not judged; look at the log"));
        }
        Ok(match verdicts.first() {
            Some(verdict) if !is_list => json(StatusCode::OK, verdict),
            _ => json(StatusCode::OK, &verdicts),
        })
    };
    respond(result.await)
}

fn read(value: Value) -> Result<Vec<Tried>, Reply> {
    let items = match value {
        Value::Array(items) => items,
        one @ Value::Object(_) => return Ok(vec![tried(one, "")?]),
        _ => {
            let message = r#"send {"message": "...", "provider": "...", "status": 429} or a list of them"#;
            return Err(Reply::new(Code::InvalidRequest, message));
        }
    };
    if items.len() > TRIED_MAX {
        let message = format!("the list has {} messages; at most {TRIED_MAX} are allowed", items.len());
        return Err(Reply::new(Code::InvalidRequest, message));
    }
    items.into_iter().enumerate().map(|(at, item)| tried(item, &format!("[{at}]"))).collect()
}

fn tried(item: Value, at: &str) -> Result<Tried, Reply> {
    if !item.is_object() {
        return Err(Reply::new(Code::InvalidRequest, format!("{at}: must be an object with a `message`")));
    }
    let tried: Tried = serde_path_to_error::deserialize(item).map_err(|error| {
        let path = format!("{at}.{}", error.path()).trim_start_matches('.').trim_end_matches('.').to_owned();
        Reply::new(
            Code::InvalidRequest,
            format!("{path}: {}", error.inner()).trim_start_matches(": ").to_owned(),
        )
        .with_param(path)
    })?;
    if tried.message.trim().is_empty() {
        let path = format!("{at}.message").trim_start_matches('.').to_owned();
        let message = format!("{path}: is empty; send the error's body or its text");
        return Err(Reply::new(Code::InvalidRequest, message).with_param(path));
    }
    Ok(tried)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_mistake_is_named_with_its_place() {
        for (body, says) in [
            (json!("text"), "send {\"message\""),
            (json!({}), "missing field `message`"),
            (json!({"message": "  "}), "message: is empty"),
            (json!({"message": "x", "status": "429"}), "status: invalid type: string \"429\""),
            (json!([{"message": "x"}, {"message": 5}]), "[1].message: invalid type: integer `5`"),
            (json!([{"message": "x"}, 7]), "[1]: must be an object"),
            (json!(vec![json!({"message": "x"}); TRIED_MAX + 1]), "at most 10000"),
        ] {
            let refused = read(body).expect_err(says);
            assert!(refused.message.contains(says), "{}", refused.message);
        }
        let good = json!({"message": "x", "status": null, "provider": null, "learn": true, "id": 7});
        assert!(read(good).expect("good").iter().all(|tried| tried.learn && tried.status.is_none()));
        assert!(read(json!([])).expect("an empty list").is_empty());
    }
}
