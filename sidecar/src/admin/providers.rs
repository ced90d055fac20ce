//! `/v1/providers`: who answers LLM requests, changed while the gateway runs.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use http::StatusCode;
use serde_json::{Map, Value, json};
use tidegate_core::reply::{Code, Reply};

use super::{BODY_BYTES_MAX, failed, respond, store_failed};
use crate::audit::Actor;
use crate::body;
use crate::config::Problems;
use crate::gateway::Gateway;
use crate::llm::{ProviderKind, ProviderSettings, report};
use crate::provisioning::{Document, ProvisionError, describe, is_forbidden};
use crate::refusal::{empty, json};

/// Longest wait of a test call.
const TEST_CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a change was not made, as an answer.
pub(super) fn explain(error: &ProvisionError) -> Reply {
    match error {
        ProvisionError::Invalid(problems) => invalid(problems),
        ProvisionError::Exists | ProvisionError::Full => Reply::new(Code::Conflict, error.to_string()),
        ProvisionError::Unknown => Reply::new(Code::NotFound, error.to_string()),
        ProvisionError::Start(error) => {
            let field = error.field.rsplit('.').next().unwrap_or_default();
            Reply::new(Code::InvalidConfig, format!("{field}: {}", error.problem)).with_param(field)
        }
        ProvisionError::Store(error) => store_failed(error),
        ProvisionError::Seal(cause) => failed(cause),
    }
}

fn invalid(problems: &Problems) -> Reply {
    let text: Vec<String> = problems.list().iter().map(ToString::to_string).collect();
    let reply = Reply::new(Code::InvalidConfig, text.join("; "));
    match problems.list().first() {
        Some(problem) => reply.with_param(problem.path.clone()),
        None => reply,
    }
}

/// Runs a change, which waits for the disk, off the async threads.
pub(super) async fn provision<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ProvisionError> + Send + 'static,
) -> Result<T, Reply> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| explain(&error)),
        Err(_) => Err(Reply::new(Code::InternalError, "the change was not finished; look at the log")),
    }
}

fn unknown() -> Reply {
    explain(&ProvisionError::Unknown)
}

/// A provider as it is shown: its configuration, and how it does.
fn shown(gateway: &Gateway, name: &str) -> Option<Value> {
    let table = gateway.providers.table();
    let provider = table.find(name)?;
    let mut shown = describe(&provider.settings);
    if let Some(fields) = shown.as_object_mut() {
        fields.insert("origin".to_owned(), json!(gateway.provisioning.origin(name)));
        fields.insert("health".to_owned(), report::health(provider));
        fields.insert("rate_limit".to_owned(), report::rate_limit(provider));
    }
    Some(shown)
}

/// All providers, in the order in which they stand.
pub async fn list(State(gateway): State<Arc<Gateway>>) -> Response {
    let table = gateway.providers.table();
    let data: Vec<Value> = table.list.iter().filter_map(|p| shown(&gateway, &p.name)).collect();
    json(StatusCode::OK, &json!({"object": "list", "data": data}))
}

/// One provider, with the models that it has.
pub async fn show(State(gateway): State<Arc<Gateway>>, Path(name): Path<String>) -> Response {
    respond(shown(&gateway, &name).map(|shown| json(StatusCode::OK, &shown)).ok_or_else(unknown))
}

/// The models of one provider.
pub async fn models(State(gateway): State<Arc<Gateway>>, Path(name): Path<String>) -> Response {
    let table = gateway.providers.table();
    respond(table.find(&name).map(|p| json(StatusCode::OK, &report::models(p))).ok_or_else(unknown))
}

/// Looks at one provider now.
pub async fn health(State(gateway): State<Arc<Gateway>>, Path(name): Path<String>) -> Response {
    let table = gateway.providers.table();
    let Some(provider) = table.find(&name) else { return respond(Err(unknown())) };
    let timeout = table.settings.health_check.map_or(TEST_CALL_TIMEOUT, |check| check.timeout);
    json(StatusCode::OK, &report::look(provider, timeout).await)
}

/// What a request would cost there.
pub async fn estimate(State(gateway): State<Arc<Gateway>>, Path(name): Path<String>, body: Body) -> Response {
    let result = async {
        let table = gateway.providers.table();
        let provider = table.find(&name).ok_or_else(unknown)?;
        let body = body::read(body, BODY_BYTES_MAX).await?;
        Ok(json(StatusCode::OK, &report::estimate(provider, &body)?))
    };
    respond(result.await)
}

/// Adds a provider.
pub async fn create(
    State(gateway): State<Arc<Gateway>>,
    by: Actor,
    RawQuery(query): RawQuery,
    body: Body,
) -> Response {
    let result = async {
        let document = read(body).await?;
        let Some(name) = document.name().map(str::to_owned) else {
            let message = "name: is missing; add it, for example \"name\": \"openai-prod\"";
            return Err(Reply::new(Code::InvalidConfig, message).with_param("name"));
        };
        set(&gateway, name, document, true, query.as_deref(), by).await
    };
    respond(result.await)
}

/// Changes a provider's fields, or adds it.
pub async fn replace(
    State(gateway): State<Arc<Gateway>>,
    by: Actor,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    body: Body,
) -> Response {
    let result = async {
        let mut document = read(body).await?;
        document.name_it(&name);
        if document.name() != Some(name.as_str()) {
            let message = "name: is another one than in the path; a provider cannot be renamed";
            return Err(Reply::new(Code::InvalidConfig, message).with_param("name"));
        }
        set(&gateway, name, document, false, query.as_deref(), by).await
    };
    respond(result.await)
}

/// Takes a provider out.
pub async fn remove(State(gateway): State<Arc<Gateway>>, by: Actor, Path(name): Path<String>) -> Response {
    let provisioning = gateway.provisioning.clone();
    let removed = provision(move || provisioning.remove(&name, &by)).await;
    respond(removed.map(|()| empty(StatusCode::NO_CONTENT)))
}

async fn read(body: Body) -> Result<Document, Reply> {
    let fields: Map<String, Value> = body::json(body, BODY_BYTES_MAX, Code::InvalidConfig).await?;
    Document::sent(fields).map_err(|problems| invalid(&problems))
}

async fn set(
    gateway: &Arc<Gateway>,
    name: String,
    document: Document,
    must_be_new: bool,
    query: Option<&str>,
    by: Actor,
) -> Result<Response, Reply> {
    let is_new = gateway.providers.table().find(&name).is_none();
    let settings = gateway.provisioning.draft(&name, &document, must_be_new).map_err(|e| explain(&e))?;
    check_address(gateway, &settings, &document).await?;
    if wants_test_call(query) {
        let tested = report::test_call(&settings, TEST_CALL_TIMEOUT).await;
        tested.map_err(|problem| {
            let message = format!("the provider did not pass its test call: {problem}; nothing was changed");
            Reply::new(Code::InvalidConfig, message)
        })?;
    }
    let (provisioning, target) = (gateway.provisioning.clone(), name.clone());
    provision(move || provisioning.set(&target, &document, must_be_new, &by)).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok(json(status, &shown(gateway, &name)))
}

fn wants_test_call(query: Option<&str>) -> bool {
    query.is_some_and(|query| {
        query.split('&').any(|pair| matches!(pair, "validate=true" | "validate=1" | "validate"))
    })
}

async fn check_address(gateway: &Gateway, settings: &ProviderSettings, sent: &Document) -> Result<(), Reply> {
    let table = gateway.providers.table();
    let before = table.find(&settings.name).map(|provider| &provider.settings.kind);
    let was_local = matches!(before, Some(ProviderKind::Local { .. }));
    match &settings.kind {
        ProviderKind::Local { .. } if sent.has("model_path") || !was_local => {
            let message =
                "type: local models are set in the configuration file, because they are files of its machine";
            Err(Reply::new(Code::InvalidConfig, message).with_param("type"))
        }
        ProviderKind::Remote(remote)
            if !gateway.providers.table().settings.allow_link_local
                && is_forbidden(&remote.base_url).await =>
        {
            let message = "base_url: leads to a link-local or metadata address; set routing.allow_link_local in the configuration file if that is meant";
            Err(Reply::new(Code::InvalidConfig, message).with_param("base_url"))
        }
        _ => Ok(()),
    }
}
