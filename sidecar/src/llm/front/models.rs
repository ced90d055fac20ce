//! `GET /v1/models` and `GET /v1/models/{id}`.

use std::collections::BTreeMap;

use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use tidegate_core::reply::{Code, Reply};
use tidegate_core::route::Protocol;

use super::{Services, embeddings};
use crate::llm::routing::Target;
use crate::llm::upstream::rfc3339;
use crate::refusal::{json, refuse};

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

/// The list as Anthropic writes it; all of it is on one page.
#[derive(Serialize)]
struct AnthropicList<'a> {
    data: Vec<AnthropicModel<'a>>,
    has_more: bool,
    first_id: Option<&'a str>,
    last_id: Option<&'a str>,
}

#[derive(Serialize)]
struct AnthropicModel<'a> {
    r#type: &'static str,
    id: &'a str,
    display_name: &'a str,
    created_at: String,
}

/// Who asks for models, and what may be shown.
pub struct Asking<F> {
    /// Since when there are models, in Unix seconds.
    pub created: u64,
    /// In whose words.
    pub protocol: Protocol,
    /// Which of them.
    pub is_allowed: F,
}

impl<F: Fn(&str) -> bool> Asking<F> {
    /// Every model of an enabled provider that the caller may use, once, by name.
    #[must_use]
    pub fn list(&self, services: &Services) -> Response {
        let mut known = known(services);
        known.retain(|id, _| (self.is_allowed)(id));
        let models = known.iter();
        match self.protocol {
            Protocol::OpenAi => {
                let data = models.map(|(id, owner)| self.openais(id, owner)).collect();
                json(StatusCode::OK, &List { object: "list", data })
            }
            Protocol::Anthropic => {
                let data: Vec<_> = models.map(|(id, _)| self.anthropics(id)).collect();
                let (first_id, last_id) = (data.first().map(|m| m.id), data.last().map(|m| m.id));
                json(StatusCode::OK, &AnthropicList { data, has_more: false, first_id, last_id })
            }
        }
    }

    /// One model, by its name or as `provider/model`, or `model_not_found`.
    #[must_use]
    pub fn look_up(&self, services: &Services, id: &str) -> Response {
        let known = known(services);
        let owner = match known.get(id).filter(|_| (self.is_allowed)(id)) {
            Some(owner) => Some(owner.clone()),
            None => self.owner_of_target(services, id),
        };
        match (owner, self.protocol) {
            (Some(owner), Protocol::OpenAi) => json(StatusCode::OK, &self.openais(id, &owner)),
            (Some(_), Protocol::Anthropic) => json(StatusCode::OK, &self.anthropics(id)),
            (None, protocol) => {
                let reply = Reply::new(Code::ModelNotFound, "No enabled provider lists this model.");
                refuse(&reply.with_param("model"), protocol, "")
            }
        }
    }

    /// The provider that a request for this target would go to.
    fn owner_of_target(&self, services: &Services, id: &str) -> Option<Box<str>> {
        let table = services.providers.table();
        let target = Target(id.to_owned());
        let (name, model) = target.resolve(|name| table.find(name).is_some());
        let (provider, model) = (table.find(name?)?, model?);
        let lists = provider.catalog.list().iter().any(|listed| **listed == *model);
        let shown = lists && !provider.is_disabled() && (self.is_allowed)(model);
        shown.then(|| provider.name.clone())
    }

    fn openais<'a>(&self, id: &'a str, owned_by: &'a str) -> Model<'a> {
        Model { id, object: "model", created: self.created, owned_by }
    }

    fn anthropics<'a>(&self, id: &'a str) -> AnthropicModel<'a> {
        AnthropicModel { r#type: "model", id, display_name: id, created_at: rfc3339(self.created) }
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
    if services.embedder.is_local()
        && let Ok(model) = services.embedder.model()
    {
        known.entry(model.name.as_str().into()).or_insert_with(|| embeddings::LOCAL.into());
    }
    for alias in table.settings.models.keys() {
        known.entry(alias.as_str().into()).or_insert_with(|| OWN.into());
    }
    known
}
