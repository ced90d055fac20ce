//! `GET /v1/models` and `GET /v1/models/{id}`.

use std::collections::BTreeMap;

use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use tidegate_core::reply::{Code, Reply};

use super::{Services, embeddings};
use crate::refusal::{json, refuse_here};

#[derive(Serialize)]
struct List<'a> {
    object: &'static str,
    data: Vec<Model<'a>>,
}

/// Who owns the operator's aliases.
const OWN: &str = "tidegate";

/// One model; `owned_by` is the first provider that has it.
#[derive(Serialize)]
struct Model<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    owned_by: &'a str,
}

/// Every model of an enabled provider that the caller may use, once, by name.
#[must_use]
pub fn list(services: &Services, created: u64, is_allowed: impl Fn(&str) -> bool) -> Response {
    let mut known = known(services);
    known.retain(|id, _| is_allowed(id));
    let model = |(id, owned_by)| Model { id, object: "model", created, owned_by };
    json(
        StatusCode::OK,
        &List { object: "list", data: known.iter().map(|(id, owner)| model((&**id, &**owner))).collect() },
    )
}

/// One model, or `model_not_found`.
#[must_use]
pub fn look_up(services: &Services, created: u64, id: &str, is_allowed: impl Fn(&str) -> bool) -> Response {
    match known(services).get(id).filter(|_| is_allowed(id)) {
        Some(owned_by) => json(StatusCode::OK, &Model { id, object: "model", created, owned_by }),
        None => {
            let reply = Reply::new(Code::ModelNotFound, "No enabled provider lists this model.");
            refuse_here(&reply.with_param("model"))
        }
    }
}

fn known(services: &Services) -> BTreeMap<Box<str>, Box<str>> {
    let table = services.providers.table();
    let mut known = BTreeMap::new();
    for provider in table.list.iter().filter(|p| !p.is_disabled()) {
        for id in provider.catalog.list() {
            known.entry(id).or_insert_with(|| provider.name.clone());
        }
    }
    if let Ok(model) = services.embedder.model() {
        known.entry(model.name.as_str().into()).or_insert_with(|| embeddings::LOCAL.into());
    }
    for alias in table.settings.models.keys() {
        known.entry(alias.as_str().into()).or_insert_with(|| OWN.into());
    }
    known
}
