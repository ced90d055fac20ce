//! A request on its way through the semantic cache.

use std::sync::Arc;

use tidegate_core::cache::control::RequestControl;
use tidegate_core::cache::question::{Audience, Question};
use tidegate_core::cache::semantic::Evidence;
use tidegate_core::cache::semantic::guard::Features;
use tidegate_core::route::Protocol;
use tidegate_core::wire::Identity;

use super::entry::{Entry, Name};
use super::settings::{Settings, Terms};
use crate::embedding::Embedding;

/// Tenants of a public rule share answers under this name, which no tenant can have.
pub const EVERYBODY: &str = "*";

/// What is known of a request when its fate is decided.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Who asks.
    pub identity: &'a Identity,
    /// Its path, without query.
    pub path: &'a str,
    /// The provider it is pinned to, or empty.
    pub pin: &'a str,
    /// The protocol of the path.
    pub protocol: Protocol,
    /// What its `cache-control` allows.
    pub control: RequestControl,
    /// Its body.
    pub body: &'a [u8],
}

/// A chat that the cache may know something about.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The chat.
    pub question: Question,
    /// Whose it is.
    pub tenant: String,
    /// Who asked: tenant and scope.
    pub caller: (String, Option<String>),
    /// Which stored answers it is compared with.
    pub partition: [u8; 32],
    /// What its answer is called: the same for requests that differ in delivery alone.
    pub name: Name,
    /// The same for requests that one answer, delivered once, does for.
    pub identity: [u8; 32],
    /// The protocol of the answer.
    pub protocol: Protocol,
    /// What its `cache-control` allows, and whether it may be stored at all.
    pub control: RequestControl,
    /// What holds for it.
    pub terms: Terms,
    /// What the guard sees of its prompt.
    pub features: Features,
    /// Its prompt's vector, once it is known.
    pub vector: Option<Embedding>,
    /// A stored answer that was not served, to be compared with the fresh one.
    pub trial: Option<Trial>,
}

/// A stored answer that might have been served.
#[derive(Debug, Clone)]
pub struct Trial {
    /// Which one.
    pub entry: Arc<Entry>,
    /// What spoke for it.
    pub evidence: Evidence,
    /// Whether it would have been served, and is asked for again to see whether that is right.
    pub is_audit: bool,
}

impl Asked {
    /// Takes a request apart.
    ///
    /// # Errors
    /// Why the cache has nothing to do with it.
    pub fn new(settings: &Settings, request: Request<'_>) -> Result<Self, &'static str> {
        let Request { identity, path, pin, protocol, mut control, body } = request;
        if !(settings.enabled || settings.shared) {
            return Err("disabled");
        }
        if !(control.may_serve || control.may_store) {
            return Err("cache_control");
        }
        let question = Question::read(path, pin, body).map_err(|why| why.as_str())?;
        let terms = settings.terms(&identity.tenant, &question.model, path);
        if !terms.enabled {
            return Err("rule");
        }
        if question.temperature.is_some_and(|t| t > settings.temperature_max) {
            return Err("temperature");
        }
        if question.has_tools && !settings.allow_tools {
            return Err("tools");
        }
        control.may_store &= !std::str::from_utf8(body).is_ok_and(|body| settings.forbids(body));
        let tenant = if terms.public { EVERYBODY } else { &identity.tenant };
        let audience = Audience { tenant, scope: identity.scope.as_deref() };
        Ok(Self {
            partition: question.partition(audience),
            name: Name::of(&question.sameness(audience)),
            identity: question.identity(audience),
            features: Features::of(&question.prompt),
            tenant: tenant.to_owned(),
            caller: (identity.tenant.clone(), identity.scope.clone()),
            question,
            protocol,
            control,
            terms,
            vector: None,
            trial: None,
        })
    }
}
