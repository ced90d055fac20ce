//! `POST /v1/cache/lookup` and `/v1/cache/feedback`, for operators: what the semantic cache would
//! serve for a chat and why, and what it should not have served.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use tidegate_core::cache::control::RequestControl;
use tidegate_core::cache::replay::text;
use tidegate_core::reply::{Code, Reply};
use tidegate_core::route::{RouteClass, classify};
use tidegate_core::wire::Identity;
use tokio::time::Instant;

use super::request::LlmRequest;
use super::{Front, pinned};
use crate::body;
use crate::keys::unix_ms;
use crate::l2::{self, Asked, Hit, Looked, Name, Near};
use crate::refusal::{json, refuse_here};

/// Largest body, in bytes.
const BODY_BYTES_MAX: usize = 2 << 20;
/// Longest that a look-up waits for its embedding: who tunes can wait longer than who chats.
const DEADLINE: Duration = Duration::from_secs(5);
/// The path that a chat is taken for unless the query says so.
const PATH_DEFAULT: &str = "/v1/chat/completions";

/// The query of a look-up.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    tenant: Option<String>,
    path: Option<String>,
}

/// What a look-up found.
#[derive(Debug, Serialize)]
struct Found {
    /// Whether an answer would be served.
    hit: bool,
    /// From where.
    layer: Option<&'static str>,
    /// Of the prompt and the nearest stored one that may be served, else of the nearest.
    similarity: Option<f32>,
    threshold: Option<f32>,
    /// Why, or why not.
    reason: &'static str,
    /// What the guard has against the nearest stored prompt.
    guard: Option<&'static str>,
    tenant: Option<String>,
    entry: Option<String>,
    prompt: Option<String>,
    age_s: Option<u64>,
    answer: Option<String>,
}

impl Found {
    const fn nothing(reason: &'static str) -> Self {
        Self {
            hit: false,
            layer: None,
            similarity: None,
            threshold: None,
            reason,
            guard: None,
            tenant: None,
            entry: None,
            prompt: None,
            age_s: None,
            answer: None,
        }
    }

    fn of(asked: &Asked, looked: &Looked) -> Self {
        let threshold = Some(asked.terms.threshold);
        let tenant = Some(asked.tenant.clone());
        let about = |entry: &l2::Entry| Self {
            threshold,
            tenant: tenant.clone(),
            entry: Some(entry.name.to_string()),
            prompt: Some(entry.prompt.to_string()),
            age_s: Some(entry.age_s(unix_ms())),
            ..Self::nothing("")
        };
        match looked {
            Looked::Hit(Hit { layer, entry, similarity, .. }) => Self {
                hit: true,
                layer: Some(layer.label()),
                similarity: Some(*similarity),
                reason: layer.reason(),
                answer: text(entry.protocol, &entry.body),
                ..about(entry)
            },
            Looked::Miss { reason, near: Some(Near { entry, similarity, guard }) } => Self {
                similarity: Some(*similarity),
                reason,
                guard: guard.err().map(|mismatch| mismatch.label()),
                ..about(entry)
            },
            Looked::Miss { reason, near: None } => Self { threshold, tenant, ..Self::nothing(reason) },
        }
    }

    /// Hits before misses, and the nearer before the others.
    fn rank(&self) -> (bool, f32) {
        (self.hit, self.similarity.unwrap_or(-1.0))
    }
}

/// What would be served for the chat in the body, without serving, storing or learning.
pub async fn look_up(
    State(front): State<Arc<Front>>,
    Extension(identity): Extension<Identity>,
    wanted: Result<Query<Wanted>, QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let result = async {
        let Query(wanted) = wanted.map_err(|_| {
            let message = "the query may have ?tenant=<name> and &path=<path of the chat>, nothing else";
            Reply::new(Code::InvalidRequest, message)
        })?;
        let path = wanted.path.as_deref().unwrap_or(PATH_DEFAULT);
        let RouteClass::Llm(endpoint) = classify(path) else {
            let message = "path: must be one of the LLM API, such as /v1/chat/completions";
            return Err(Reply::new(Code::InvalidRequest, message).with_param("path"));
        };
        let request = LlmRequest::read(endpoint, body::read(body, BODY_BYTES_MAX).await?)?;
        let request = l2::Request {
            identity: &identity,
            path,
            pin: pinned(&headers)?.or(request.provider.as_deref()).unwrap_or_default(),
            protocol: endpoint.protocol(),
            control: RequestControl::FREE,
            body: &request.body,
        };
        Ok(front.best(request, wanted.tenant.as_deref()).await)
    };
    match result.await {
        Ok(found) => json(StatusCode::OK, &found),
        Err(reply) => refuse_here(&reply),
    }
}

impl Front {
    /// The best that the cache has for this chat, asked by `tenant`, or by anybody.
    async fn best(&self, request: l2::Request<'_>, tenant: Option<&str>) -> Found {
        let cache = &self.services.cache;
        let mut groups = cache.audiences();
        groups.retain(|(name, _)| tenant.is_none_or(|tenant| tenant == name));
        if groups.is_empty() {
            groups.push((tenant.unwrap_or(&request.identity.tenant).to_owned(), None));
        }
        let deadline = Instant::now() + DEADLINE;
        let mut best: Option<Found> = None;
        for (tenant, scope) in groups {
            let identity = Identity { tenant, scope, ..request.identity.clone() };
            let found = match cache.explain(l2::Request { identity: &identity, ..request }) {
                Ok(mut asked) => {
                    let looked = cache.judge(&mut asked, deadline).await;
                    Found::of(&asked, &looked)
                }
                Err(reason) => Found::nothing(reason),
            };
            if best.as_ref().is_none_or(|best| found.rank() > best.rank()) {
                best = Some(found);
            }
        }
        best.unwrap_or_else(|| Found::nothing("nothing_stored"))
    }
}

/// What an operator says about an answer that was served.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Feedback {
    /// `x-gateway-cache-entry` of the answer.
    entry: String,
}

#[derive(Debug, Serialize)]
struct Evicted {
    evicted: usize,
}

/// Takes back an answer that should not have been served.
pub async fn feedback(State(front): State<Arc<Front>>, body: Body) -> Response {
    let result = async {
        let Feedback { entry } = body::json(body, BODY_BYTES_MAX, Code::InvalidRequest).await?;
        let name = Name::parse(&entry);
        let evicted = match name {
            Some(name) => front.services.cache.take_back(name).await,
            None => false,
        };
        if !evicted {
            let message = "no stored answer has this name; it may have been evicted already";
            return Err(Reply::new(Code::NotFound, message).with_param("entry"));
        }
        Ok(json(StatusCode::OK, &Evicted { evicted: 1 }))
    };
    result.await.unwrap_or_else(|reply: Reply| refuse_here(&reply))
}
