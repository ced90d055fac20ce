//! `/internal/v1`: what the filter asks and tells. The secret was checked before the router.

mod semantic;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::{get, post};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde::Deserialize;
use tidegate_core::event::Report;
use tidegate_core::reply::{Code, Reply};
use tidegate_core::wire::leases::LeaseRequest;
use tidegate_core::wire::signature::SignedRequest;
use tidegate_core::wire::{
    AuthenticateRequest, LimitAnswers, LimitQuestions, SNAPSHOT_WAIT_MS_MAX, Verdict, path,
};

use crate::attempts::Place;
use crate::body;
use crate::bus::{Envelope, EventBus as _, Full};
use crate::gateway::Gateway;
use crate::identity::unavailable;
use crate::keys::unix_ms;
use crate::leases::Malformed;
use crate::metrics::ReportError;
use crate::ram;
use crate::refusal::{empty, json, refuse_here};
use crate::tokens::{Refused, looks_like_token};

/// Largest body of an authentication question, in bytes.
const QUESTION_BYTES_MAX: usize = 64 << 10;
/// Largest body of answers about buckets, in bytes.
const ANSWERS_BYTES_MAX: usize = 1 << 20;
/// Largest report, in bytes.
const REPORT_BYTES_MAX: usize = 2 << 20;
/// When a batch that found the bus full is to come again, in milliseconds.
const BUS_RETRY_MS: u64 = 200;
/// How long a batch may take to be safe on the bus before it is to come again; filters give a report up
/// after two seconds.
const BUS_PATIENCE: Duration = Duration::from_millis(1_500);
/// How long a filter may rely on a good key, in milliseconds. A revocation does not wait for it.
const GRANTED_TTL_MS: u64 = 300_000;
/// How long a filter may go on refusing a bad key without asking, in milliseconds.
const DENIED_TTL_MS: u64 = 60_000;
/// The same for a bad token, which may become good: its time may come, or its issuer's new key.
const DENIED_TOKEN_TTL_MS: u64 = 1_000;

/// The routes.
pub fn router() -> Router<Arc<Gateway>> {
    Router::new()
        .route(path::SNAPSHOT, get(snapshot))
        .route(path::AUTHENTICATE, post(authenticate))
        .route(path::EVENTS, post(events))
        .route(path::LEASES, post(leases))
        .route(path::LIMITS, post(limits))
        .route(path::LOOKUP, post(semantic::look_up))
        .route(path::STORE, post(semantic::store))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Poll {
    have: String,
    wait_ms: u64,
}

/// The policy in force, as soon as it is another than the one the filter has.
async fn snapshot(
    State(gateway): State<Arc<Gateway>>,
    poll: Result<Query<Poll>, QueryRejection>,
) -> Response {
    let Ok(Query(Poll { have, wait_ms })) = poll else {
        let message = "the query must be ?have=<revision>&wait_ms=<milliseconds>";
        return refuse_here(&Reply::new(Code::InvalidRequest, message));
    };
    let wait = Duration::from_millis(wait_ms.min(SNAPSHOT_WAIT_MS_MAX));
    let newer = gateway.control.publisher().newer(&have, wait, gateway.draining.clone()).await;
    let Some(published) = newer else { return empty(StatusCode::NOT_MODIFIED) };
    let mut response = Response::new(Body::from(published.json.clone()));
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

/// Whether a credential is good.
async fn authenticate(State(gateway): State<Arc<Gateway>>, body: Body) -> Response {
    let question = body::json::<AuthenticateRequest>(body, QUESTION_BYTES_MAX, Code::InvalidRequest).await;
    let AuthenticateRequest { credential, source, signed } = match question {
        Ok(question) => question,
        // The message would name a field, never the credential.
        Err(reply) => return refuse_here(&reply),
    };
    // Without an address there is nobody to hold it against but everybody.
    let place = source.map_or(Place::Unknown, |source| Place::of(&source));
    let is_known = place != Place::Unknown;
    if is_known && let Err(retry_after_ms) = gateway.guesses.take(place, unix_ms()) {
        return json(StatusCode::OK, &Verdict::Limited { retry_after_ms });
    }
    // Before the look-up: a verdict must never claim a newer generation than it was made under.
    let generation = gateway.control.keys().generation();
    if let Some(request) = signed {
        let outcome = signature(&gateway, &credential, &request, generation).await;
        if is_known && !matches!(outcome, Ok(Verdict::Unsigned { .. })) {
            gateway.guesses.give_back(place, unix_ms());
        }
        return outcome.map_or_else(|reply| refuse_here(&reply), |verdict| json(StatusCode::OK, &verdict));
    }
    let decided = gateway.control.authenticate(&credential).await;
    if is_known && !matches!(decided, Err(Refused::Bad(_))) {
        gateway.guesses.give_back(place, unix_ms());
    }
    match decided {
        Ok((identity, left_ms)) => {
            let ttl_ms = left_ms.min(GRANTED_TTL_MS);
            json(StatusCode::OK, &Verdict::Granted { identity, ttl_ms, generation })
        }
        Err(Refused::Bad(why)) => {
            tracing::debug!(?why, "credential refused");
            let ttl_ms = if looks_like_token(&credential) { DENIED_TOKEN_TTL_MS } else { DENIED_TTL_MS };
            json(StatusCode::OK, &Verdict::Denied { ttl_ms, generation })
        }
        Err(Refused::Unavailable) => refuse_here(&unavailable()),
    }
}

/// A signature is good for one request, so its verdict is for at once.
async fn signature(
    gateway: &Gateway,
    authorization: &str,
    request: &SignedRequest,
    generation: u64,
) -> Result<Verdict, Reply> {
    let redis = gateway.redis.as_ref();
    match gateway.control.signatures().verify(authorization, request, redis, unix_ms()).await {
        Ok(identity) => Ok(Verdict::Granted { identity, ttl_ms: 0, generation }),
        Err(ram::Refused::Bad(fault)) => {
            tracing::debug!(?fault, "signature refused");
            Ok(Verdict::Unsigned { fault })
        }
        Err(ram::Refused::Full) => Err(unavailable()),
    }
}

/// Answers about buckets come in, questions go out.
async fn limits(State(gateway): State<Arc<Gateway>>, body: Body) -> Response {
    match body::json::<LimitAnswers>(body, ANSWERS_BYTES_MAX, Code::InvalidRequest).await {
        Ok(LimitAnswers { answers }) => {
            let wait = Duration::from_millis(SNAPSHOT_WAIT_MS_MAX);
            let questions = gateway.probe.exchange(answers, wait, gateway.draining.clone()).await;
            json(StatusCode::OK, &LimitQuestions { questions })
        }
        Err(reply) => refuse_here(&reply),
    }
}

/// What a filter has counted.
async fn events(State(gateway): State<Arc<Gateway>>, body: Body) -> Response {
    let mut report = match body::json::<Report>(body, REPORT_BYTES_MAX, Code::InvalidRequest).await {
        Ok(report) => report,
        Err(reply) => return refuse_here(&reply),
    };
    let observed = report.batch.take().map(|batch| Envelope { vm: report.vm.clone(), batch });
    match gateway.filters.record(report, Instant::now()) {
        Ok(()) => match put_on_bus(&gateway, observed).await {
            true => empty(StatusCode::NO_CONTENT),
            false => {
                let message = "the bus takes no more for now; the batch is to be sent again";
                refuse_here(&Reply::new(Code::BusFull, message).retry_after_ms(BUS_RETRY_MS))
            }
        },
        Err(error) => {
            let message = match error {
                ReportError::Name => "vm, revision and routes must be 1 to 64 of A-Z a-z 0-9 . _ -",
                ReportError::TooLarge => "the report has too many counters or breakers",
                ReportError::Shape => "duration_buckets or a breaker's state is not of this version",
            };
            refuse_here(&Reply::new(Code::InvalidRequest, message))
        }
    }
}

/// Whether a batch is where no process can lose it any more.
async fn put_on_bus(gateway: &Gateway, observed: Option<Envelope>) -> bool {
    let Some(envelope) = observed else { return true };
    match gateway.bus.publish(envelope) {
        Ok(delivery) => delivery.arrives(BUS_PATIENCE).await,
        Err(Full) => false,
    }
}

/// Tokens of limits that the fleet shares.
async fn leases(State(gateway): State<Arc<Gateway>>, body: Body) -> Response {
    let request = match body::json::<LeaseRequest>(body, REPORT_BYTES_MAX, Code::InvalidRequest).await {
        Ok(request) => request,
        Err(reply) => return refuse_here(&reply),
    };
    match gateway.leases.exchange(&request, unix_ms().saturating_mul(1_000_000)).await {
        Ok(answer) => json(StatusCode::OK, &answer),
        Err(Malformed) => {
            let message = "asks must be at most 512, of different pools, with numbers in range";
            refuse_here(&Reply::new(Code::InvalidRequest, message))
        }
    }
}
