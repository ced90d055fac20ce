//! Who could answer one request, in the order in which they are asked.

use std::sync::Arc;

use tidegate_core::hash::hash;
use tidegate_core::reply::{Code, Reply};
use tidegate_core::route::Endpoint;
use tidegate_core::routing::FaultKind;

use super::settings::Target;
use super::steering::Stance;
use crate::llm::providers::{Provider, Scope, Table};

/// What "no provider can be used now" asks the caller to wait, in milliseconds.
const NO_PROVIDER_RETRY_MS: u64 = 2000;

/// What is known of a request before anybody is asked.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The operation.
    pub endpoint: Endpoint,
    /// Which providers its path may use.
    pub scope: Scope,
    /// The model asked for.
    pub model: &'a str,
    /// The provider that the caller named.
    pub pinned: Option<&'a str>,
    /// Whether a stream is asked for.
    pub stream: bool,
    /// Hash of what it has in common with others of its session.
    pub session: Option<u64>,
    /// Estimated tokens of the prompt and the answer.
    pub tokens: (u64, u64),
}

/// One provider with the model that it would answer with.
#[derive(Debug, Clone)]
pub struct Route {
    /// The provider.
    pub provider: Arc<Provider>,
    /// The model, by the provider's name for it.
    pub model: Arc<str>,
    /// Hash of the model's name.
    pub model_hash: u64,
    /// Whether it has failed for this request.
    pub tried: bool,
}

/// The routes of one request. Those of a tier are equals; a later tier is asked when all of the
/// earlier ones have failed.
#[derive(Debug)]
pub struct Plan {
    /// The providers and settings that it was made from, whatever changes meanwhile.
    pub table: Arc<Table>,
    /// The routes.
    pub tiers: Vec<Vec<Route>>,
    /// The route to take first, if it can be: the same provider with another key.
    pub preferred: Option<(usize, usize)>,
    /// Whether a stream is asked for.
    pub stream: bool,
    /// What the request has in common with others of its session.
    pub session: Option<u64>,
    /// Estimated tokens of the prompt and the answer.
    pub tokens: (u64, u64),
    /// What policies on providers say about it.
    pub stance: Stance,
    model: Box<str>,
    pinned: Option<Box<str>>,
    endpoint: Endpoint,
    scope: Scope,
    fallen_back: Vec<bool>,
}

impl Plan {
    /// Finds everybody who could answer.
    ///
    /// # Errors
    /// `model_not_found`, or `no_provider_available` when only providers that are switched off
    /// have it; `invalid_request` for a pinned provider that does not exist.
    pub fn new(table: Arc<Table>, asked: &Asked<'_>) -> Result<Self, Reply> {
        let Asked { endpoint, scope, model, pinned, stream, session, tokens } = *asked;
        if let Some(name) = pinned
            && table.find(name).is_none()
        {
            let message = "The provider asked for does not exist; leave it out to let the gateway choose.";
            return Err(Reply::new(Code::InvalidRequest, message).with_param("provider"));
        }
        let mut plan = Self {
            fallen_back: vec![false; table.settings.fallbacks.len()],
            model: model.into(),
            pinned: pinned.map(Into::into),
            tiers: Vec::new(),
            preferred: None,
            table: table.clone(),
            stream,
            session,
            tokens,
            stance: Stance::default(),
            endpoint,
            scope,
        };
        match table.settings.models.get(model) {
            Some(chain) => chain.iter().for_each(|target| plan.add(target)),
            None => plan.add_tier(pinned, model),
        }
        if plan.tiers.is_empty()
            && pinned.is_none()
            && let (Some(provider), Some(model)) =
                Target(model.to_owned()).resolve(|name| table.find(name).is_some())
        {
            plan.add_tier(Some(provider), model);
        }
        if plan.tiers.is_empty() {
            plan.fall_back_on(FaultKind::Connection, true);
        }
        if plan.tiers.is_empty() {
            return Err(nobody(&table, asked));
        }
        if !table.settings.enabled {
            plan.tiers.truncate(1);
            plan.tiers.iter_mut().for_each(|tier| tier.truncate(1));
        }
        Ok(plan)
    }

    /// Everybody who could be asked, tried or not.
    pub fn routes(&self) -> impl Iterator<Item = &Route> {
        self.tiers.iter().flatten()
    }

    /// Adds those who are to be asked after a failure of this kind. One that another provider
    /// would answer in the same way leaves nobody else.
    pub fn fall_back(&mut self, kind: FaultKind) {
        if !kind.may_succeed_elsewhere() {
            self.tiers.iter_mut().flatten().for_each(|route| route.tried = true);
        }
        self.fall_back_on(kind, false);
    }

    /// `named`: only by rules that name the model. A name that nobody knows is a mistake, which
    /// must not be answered by whoever answers for everybody.
    fn fall_back_on(&mut self, kind: FaultKind, named: bool) {
        let table = self.table.clone();
        if !table.settings.enabled {
            return;
        }
        for (rule, done) in table.settings.fallbacks.iter().zip(0..) {
            let concerned = rule.model.as_deref().map_or(!named, |model| model == &*self.model);
            let fresh = self.fallen_back.get(done) == Some(&false);
            if concerned && fresh && rule.on.contains(&kind) {
                if let Some(done) = self.fallen_back.get_mut(done) {
                    *done = true;
                }
                rule.to.iter().for_each(|target| self.add(target));
            }
        }
    }

    /// A provider that the caller named is not replaced by another.
    fn add(&mut self, target: &Target) {
        let (table, pinned) = (self.table.clone(), self.pinned.clone());
        let (provider, model) = target.resolve(|name| table.find(name).is_some());
        if let (Some(wanted), Some(named)) = (pinned.as_deref(), provider)
            && wanted != named
        {
            return;
        }
        let model = model.map_or_else(|| self.model.clone(), Into::into);
        self.add_tier(provider.or(pinned.as_deref()), &model);
    }

    fn add_tier(&mut self, provider: Option<&str>, model: &str) {
        let model: Arc<str> = model.into();
        let model_hash = hash(&[model.as_bytes()]);
        let is_new = |p: &Provider| !self.routes().any(|r| r.provider.name == p.name && r.model == model);
        let able = self.table.list.iter().filter(|p| {
            provider.is_none_or(|name| &*p.name == name)
                && p.may_serve(self.endpoint, self.scope, &model)
                && is_new(p)
        });
        let route =
            |p: &Arc<Provider>| Route { provider: p.clone(), model: model.clone(), model_hash, tried: false };
        let tier: Vec<Route> = able.map(route).collect();
        if !tier.is_empty() {
            self.tiers.push(tier);
        }
    }
}

fn nobody(table: &Table, asked: &Asked<'_>) -> Reply {
    let Asked { scope, model, pinned, .. } = *asked;
    let mut in_scope =
        table.list.iter().filter(|p| p.in_scope(scope) && pinned.is_none_or(|name| &*p.name == name));
    let switched_off = in_scope.clone().any(|p| p.is_disabled() && p.catalog.find(model).is_some());
    if switched_off || in_scope.all(|p| p.is_disabled()) {
        let message = "No provider that could answer this is enabled now.";
        return Reply::new(Code::NoProviderAvailable, message).retry_after_ms(NO_PROVIDER_RETRY_MS);
    }
    let message = "No provider has the model asked for; GET /v1/models lists those there are.";
    Reply::new(Code::ModelNotFound, message).with_param("model")
}
