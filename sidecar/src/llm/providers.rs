//! All providers, and which of them answers a request.

use std::fmt;
use std::sync::Arc;

use http::HeaderValue;
use prometheus_client::registry::Registry;
use tidegate_core::reply::{Code, Reply};
use tidegate_core::route::Endpoint;
use tidegate_core::usage::Price;
use tokio::task::JoinHandle;

use super::balance::Balance;
use super::catalog::Catalog;
use super::local::LocalModel;
use super::metrics::{LlmMetrics, ProviderMetrics};
use super::settings::{ProviderKind, ProviderSettings};
use super::translate::Target;
use super::upstream::Upstream;

/// What "no provider can be used now" asks the caller to wait, in milliseconds.
const NO_PROVIDER_RETRY_MS: u64 = 2000;

/// Why the providers could not be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartError {
    /// Path in the configuration, as in `providers[0].model_path`.
    pub field: String,
    /// What is wrong and how to put it right.
    pub problem: String,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.problem)
    }
}

impl std::error::Error for StartError {}

/// Which providers a path may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// `/v1`: all.
    Any,
    /// `/local`: models inside this process.
    Local,
}

/// One provider, ready for requests.
#[derive(Debug)]
pub struct Provider {
    /// Its configured name.
    pub name: Box<str>,
    /// The `x-gateway-provider` value.
    pub name_header: HeaderValue,
    /// What answers.
    pub engine: Engine,
    /// Its models.
    pub catalog: Arc<Catalog>,
    /// Its counters.
    pub metrics: Arc<ProviderMetrics>,
    /// What its tokens cost.
    pub price: Price,
    weight: u32,
}

/// What answers a provider's requests.
#[derive(Debug)]
pub enum Engine {
    /// A server elsewhere.
    Remote(Arc<Upstream>),
    /// A model in this process.
    Local(LocalModel),
    /// Nothing: the operator switched it off.
    Disabled,
}

impl Engine {
    /// How requests for it are written.
    #[must_use]
    pub fn target(&self) -> Target {
        match self {
            Self::Remote(upstream) => upstream.target(),
            Self::Local(_) | Self::Disabled => Target::LOCAL,
        }
    }
}

/// A provider and the model it will answer with.
#[derive(Debug)]
pub struct Picked<'a> {
    /// The provider.
    pub provider: &'a Provider,
    /// The `x-gateway-model` value.
    pub model_header: HeaderValue,
}

/// All configured providers.
#[derive(Debug)]
pub struct Providers {
    list: Vec<Provider>,
    balance: Balance,
    discovery: Vec<JoinHandle<()>>,
}

impl Providers {
    /// Starts every enabled provider: connectors are made, model files are checked and begin
    /// to load, model lists begin to be read. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// The first provider that cannot work, by the path of the setting at fault.
    pub fn start(settings: Vec<ProviderSettings>, registry: &mut Registry) -> Result<Arc<Self>, StartError> {
        let metrics = LlmMetrics::register(registry);
        let mut list = Vec::with_capacity(settings.len());
        let mut discovery = Vec::new();
        for (index, settings) in settings.into_iter().enumerate() {
            let provider = Provider::start(settings, &metrics).map_err(|(field, problem)| StartError {
                field: format!("providers[{index}].{field}"),
                problem,
            })?;
            discovery.extend(provider.discover());
            list.push(provider);
        }
        Ok(Arc::new(Self { balance: Balance::new(list.len()), list, discovery }))
    }

    /// Whether every local model is loaded. Servers elsewhere are not waited for: they may
    /// come and go while the gateway serves.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.not_ready().is_empty()
    }

    /// One sentence for each provider that is not ready; no paths and no addresses.
    #[must_use]
    pub fn not_ready(&self) -> Vec<String> {
        let waiting = self.list.iter().filter_map(|provider| match &provider.engine {
            Engine::Local(model) => model.not_ready().map(|why| format!("provider {}: {why}", provider.name)),
            Engine::Remote(_) | Engine::Disabled => None,
        });
        waiting.collect()
    }

    /// The providers in the order of the configuration.
    #[must_use]
    pub fn all(&self) -> &[Provider] {
        &self.list
    }

    /// Chooses who answers a request for `model`: the provider that the caller `pinned`, else
    /// by weight among all that have the model.
    ///
    /// # Errors
    /// `model_not_found`, or `no_provider_available` when only providers that are switched off
    /// have it; `invalid_request` for a pinned provider that does not exist.
    pub fn pick(
        &self,
        endpoint: Endpoint,
        scope: Scope,
        model: &str,
        pinned: Option<&str>,
    ) -> Result<Picked<'_>, Reply> {
        if let Some(name) = pinned
            && self.list.iter().all(|p| &*p.name != name)
        {
            let message = "The provider asked for does not exist; leave it out to let the gateway choose.";
            return Err(Reply::new(Code::InvalidRequest, message).with_param("provider"));
        }
        let able = |(index, provider): (usize, &Provider)| {
            let wanted = pinned.is_none_or(|name| &*provider.name == name);
            (wanted && provider.may_serve(endpoint, scope, model)).then_some((index, provider.weight))
        };
        let chosen = self.balance.pick(self.list.iter().enumerate().filter_map(able));
        let picked = chosen.and_then(|index| {
            let provider = self.list.get(index)?;
            Some(Picked { provider, model_header: provider.catalog.find(model)? })
        });
        picked.ok_or_else(|| self.nobody(scope, model, pinned))
    }

    fn nobody(&self, scope: Scope, model: &str, pinned: Option<&str>) -> Reply {
        let mut in_scope =
            self.list.iter().filter(|p| p.in_scope(scope) && pinned.is_none_or(|name| &*p.name == name));
        let switched_off = in_scope.clone().any(|p| p.is_disabled() && p.catalog.find(model).is_some());
        if switched_off || in_scope.all(Provider::is_disabled) {
            return Reply::new(
                Code::NoProviderAvailable,
                "No provider that could answer this is enabled now.",
            )
            .retry_after_ms(NO_PROVIDER_RETRY_MS);
        }
        let message = "No provider has the model asked for; GET /v1/models lists those there are.";
        Reply::new(Code::ModelNotFound, message).with_param("model")
    }
}

impl Drop for Providers {
    fn drop(&mut self) {
        for task in &self.discovery {
            task.abort();
        }
    }
}

impl Provider {
    fn start(settings: ProviderSettings, metrics: &LlmMetrics) -> Result<Self, (&'static str, String)> {
        let ProviderSettings { name, kind, models, weight, enabled, timeout, connect_timeout, price } =
            settings;
        let engine = match (&kind, enabled) {
            (_, false) => Engine::Disabled,
            (ProviderKind::Remote(remote), true) => {
                let upstream = Upstream::new(&name, remote, timeout, connect_timeout);
                Engine::Remote(Arc::new(upstream.map_err(|e| (e.field, e.problem))?))
            }
            (ProviderKind::Local { model_path }, true) => {
                let model = LocalModel::start(&name, model_path, timeout);
                Engine::Local(model.map_err(|problem| ("model_path", problem))?)
            }
        };
        let own_name = [name.clone()];
        let configured = match &kind {
            ProviderKind::Local { .. } if models.is_empty() => &own_name[..],
            ProviderKind::Local { .. } | ProviderKind::Remote(_) => &models,
        };
        Ok(Self {
            name_header: HeaderValue::from_str(&name)
                .map_err(|_| ("name", "must be 1 to 64 of A-Z a-z 0-9 . _ -".to_owned()))?,
            metrics: metrics.of_provider(&name),
            catalog: Arc::new(Catalog::new(configured)),
            name: name.into(),
            engine,
            price,
            weight,
        })
    }

    /// Starts reading the model list of a provider whose models are not configured.
    fn discover(&self) -> Option<JoinHandle<()>> {
        let Engine::Remote(upstream) = &self.engine else { return None };
        if !self.catalog.list().is_empty() || !upstream.lists_models() {
            return None;
        }
        let (upstream, catalog) = (Arc::clone(upstream), Arc::clone(&self.catalog));
        Some(tokio::spawn(async move { upstream.keep_discovering(|models| catalog.learn(models)).await }))
    }

    /// Whether requests can reach it at all.
    #[must_use]
    pub const fn is_disabled(&self) -> bool {
        matches!(self.engine, Engine::Disabled)
    }

    const fn in_scope(&self, scope: Scope) -> bool {
        match scope {
            Scope::Any => true,
            Scope::Local => matches!(self.engine, Engine::Local(_)),
        }
    }

    fn may_serve(&self, endpoint: Endpoint, scope: Scope, model: &str) -> bool {
        let able = match &self.engine {
            Engine::Remote(upstream) => upstream.serves(endpoint),
            Engine::Local(_) => {
                matches!(endpoint, Endpoint::ChatCompletions | Endpoint::Completions | Endpoint::Messages)
            }
            Engine::Disabled => false,
        };
        able && self.in_scope(scope) && self.catalog.find(model).is_some()
    }
}
