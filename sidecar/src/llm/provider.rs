//! One provider, ready for requests.

use std::sync::Arc;

use http::HeaderValue;
use tidegate_core::route::Endpoint;
use tidegate_core::usage::Price;
use tokio::task::JoinHandle;

use super::catalog::Catalog;
use super::local::LocalModel;
use super::metrics::{LlmMetrics, ProviderMetrics};
use super::routing::{Clock, ProviderState, RoutingSettings};
use super::settings::{ProviderKind, ProviderSettings};
use super::translate::Target;
use super::upstream::Upstream;

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
    pub engine: Arc<Engine>,
    /// Its models.
    pub catalog: Arc<Catalog>,
    /// Its counters.
    pub metrics: Arc<ProviderMetrics>,
    /// How it does.
    pub state: Arc<ProviderState>,
    /// What it was made from.
    pub settings: ProviderSettings,
    discovery: Option<JoinHandle<()>>,
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

/// What providers are started with.
#[derive(Debug, Clone, Copy)]
pub struct Start<'a> {
    /// The counters of all.
    pub metrics: &'a LlmMetrics,
    /// The clock of all.
    pub clock: Clock,
    /// How their health is judged.
    pub routing: &'a RoutingSettings,
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

impl Provider {
    /// Starts a provider; what of `before`, the provider of that name until now, is the same is
    /// kept: its connections or loaded model, and what is known of it.
    ///
    /// # Errors
    /// The field that cannot work, and why.
    pub fn start(
        settings: ProviderSettings,
        before: Option<&Self>,
        with: Start<'_>,
    ) -> Result<Self, (&'static str, String)> {
        let name = &settings.name;
        let is_kept = |before: &&Self| {
            let (old, new) = (&before.settings, &settings);
            (&old.kind, old.enabled, old.timeout, old.connect_timeout)
                == (&new.kind, new.enabled, new.timeout, new.connect_timeout)
        };
        let engine = match before.filter(is_kept) {
            Some(before) => before.engine.clone(),
            None => Arc::new(engine(&settings)?),
        };
        let own_name = [name.clone()];
        let configured = match &settings.kind {
            ProviderKind::Local { .. } if settings.models.is_empty() => &own_name[..],
            _ => &settings.models,
        };
        let known = before.filter(|before| before.settings.kind == settings.kind);
        let fresh = || Arc::new(ProviderState::new(with.clock, keys(&settings.kind), with.routing));
        let state = known.map_or_else(fresh, |before| before.state.clone());
        let catalog = Arc::new(Catalog::new(configured));
        Ok(Self {
            name_header: HeaderValue::from_str(name)
                .map_err(|_| ("name", "must be 1 to 64 of A-Z a-z 0-9 . _ -".to_owned()))?,
            metrics: with.metrics.of_provider(&settings, catalog.clone()),
            discovery: discover(&engine, &catalog),
            catalog,
            name: name.as_str().into(),
            engine,
            state,
            settings,
        })
    }

    /// Its share of the traffic.
    #[must_use]
    pub const fn weight(&self) -> u32 {
        self.settings.weight
    }

    /// What its tokens cost; `None` when the operator has not said.
    #[must_use]
    pub fn price(&self) -> Option<Price> {
        let said = self.settings.price != Price::default()
            || matches!(self.settings.kind, ProviderKind::Local { .. });
        said.then_some(self.settings.price)
    }

    /// What a request of these prompt and answer tokens is expected to cost, in nanodollars.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "only compared")]
    pub fn expected_cost(&self, (prompt, answer): (u64, u64)) -> Option<f64> {
        self.price().map(|price| price.cost_nano_usd(prompt, 0, answer) as f64)
    }

    /// Whether requests cannot reach it at all.
    #[must_use]
    pub fn is_disabled(&self) -> bool {
        matches!(*self.engine, Engine::Disabled)
    }

    /// Whether a path may use it.
    #[must_use]
    pub fn in_scope(&self, scope: Scope) -> bool {
        match scope {
            Scope::Any => true,
            Scope::Local => matches!(*self.engine, Engine::Local(_)),
        }
    }

    /// Whether it could answer such a request.
    #[must_use]
    pub fn may_serve(&self, endpoint: Endpoint, scope: Scope, model: &str) -> bool {
        let able = match &*self.engine {
            Engine::Remote(upstream) => upstream.serves(endpoint),
            Engine::Local(_) => !matches!(endpoint, Endpoint::Embeddings | Endpoint::Models),
            Engine::Disabled => false,
        };
        able && self.in_scope(scope) && self.catalog.find(model).is_some()
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        if let Some(task) = &self.discovery {
            task.abort();
        }
    }
}

fn engine(settings: &ProviderSettings) -> Result<Engine, (&'static str, String)> {
    match (&settings.kind, settings.enabled) {
        (_, false) => Ok(Engine::Disabled),
        (ProviderKind::Remote(remote), true) => {
            let upstream = Upstream::new(&settings.name, remote, settings.timeout, settings.connect_timeout);
            Ok(Engine::Remote(Arc::new(upstream.map_err(|e| (e.field, e.problem))?)))
        }
        (ProviderKind::Local { model_path }, true) => {
            let model = LocalModel::start(&settings.name, model_path, settings.timeout);
            Ok(Engine::Local(model.map_err(|problem| ("model_path", problem))?))
        }
    }
}

const fn keys(kind: &ProviderKind) -> usize {
    match kind {
        ProviderKind::Remote(remote) => remote.api_keys.len(),
        ProviderKind::Local { .. } => 1,
    }
}

/// Starts reading the model list of a provider whose models are not configured.
fn discover(engine: &Engine, catalog: &Arc<Catalog>) -> Option<JoinHandle<()>> {
    let Engine::Remote(upstream) = engine else { return None };
    if !catalog.list().is_empty() || !upstream.lists_models() {
        return None;
    }
    let (upstream, catalog) = (Arc::clone(upstream), Arc::clone(catalog));
    Some(tokio::spawn(async move { upstream.keep_discovering(|models| catalog.learn(models)).await }))
}
