//! All providers, which change while requests are under way: a request keeps the table that it
//! began with, so a provider that is taken out finishes what it has in hand.

use std::fmt;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::{Arc, PoisonError, RwLock};

use prometheus_client::registry::Registry;
use tidegate_core::reply::Reply;

use super::hidden::HiddenFailures;
use super::metrics::LlmMetrics;
use super::provider::Start;
pub use super::provider::{Engine, Provider, Scope};
use super::routing::{self, Asked, Plan, Router, RoutingMetrics, RoutingSettings};
use super::settings::ProviderSettings;

/// Why a provider cannot be started.
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

/// The providers and the routing in force at one moment.
#[derive(Debug)]
pub struct Table {
    /// In the order of the configuration.
    pub list: Vec<Arc<Provider>>,
    /// How requests find them.
    pub settings: RoutingSettings,
}

impl Table {
    /// The provider of that name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Arc<Provider>> {
        self.list.iter().find(|p| &*p.name == name)
    }
}

/// All providers.
#[derive(Debug)]
pub struct Providers {
    /// What choices are made with.
    pub router: Router,
    /// What routing did.
    pub routing_metrics: RoutingMetrics,
    /// Failures that callers do not see.
    pub hidden: HiddenFailures,
    metrics: LlmMetrics,
    table: RwLock<Arc<Table>>,
}

impl Providers {
    /// Starts every enabled provider: connectors are made, model files are checked and begin
    /// to load, model lists begin to be read, health checks begin. Must be called inside a tokio
    /// runtime.
    ///
    /// # Errors
    /// The first provider that cannot work, by the path of the setting at fault.
    pub fn start(
        settings: Vec<ProviderSettings>,
        routing: RoutingSettings,
        registry: &mut Registry,
    ) -> Result<Arc<Self>, StartError> {
        let empty = Table { list: Vec::new(), settings: routing.clone() };
        let providers = Arc::new(Self {
            router: Router::new(&routing, RandomState::new().build_hasher().finish()),
            routing_metrics: RoutingMetrics::register(registry),
            hidden: HiddenFailures::default(),
            metrics: LlmMetrics::register(registry),
            table: RwLock::new(Arc::new(empty)),
        });
        providers.apply(settings, routing)?;
        tokio::spawn(routing::watch(Arc::downgrade(&providers)));
        Ok(providers)
    }

    /// Puts other providers and another routing in force. Providers whose settings have not
    /// changed stay as they are.
    ///
    /// # Errors
    /// As for [`Self::start`]; what was in force stays.
    pub fn apply(&self, settings: Vec<ProviderSettings>, routing: RoutingSettings) -> Result<(), StartError> {
        let before = self.table();
        let with = Start { metrics: &self.metrics, clock: self.router.clock, routing: &routing };
        let mut list = Vec::with_capacity(settings.len());
        for (index, settings) in settings.into_iter().enumerate() {
            let old = before.find(&settings.name);
            if let Some(old) = old.filter(|old| old.settings == settings) {
                list.push(old.clone());
                continue;
            }
            let provider = Provider::start(settings, old.map(|old| &**old), with);
            list.push(Arc::new(provider.map_err(|(field, problem)| StartError {
                field: format!("providers[{index}].{field}"),
                problem,
            })?));
        }
        if before.settings != routing {
            self.router.reset_budgets(&routing);
            list.iter().for_each(|provider| provider.state.judge_by(&routing));
        }
        *self.table.write().unwrap_or_else(PoisonError::into_inner) =
            Arc::new(Table { list, settings: routing });
        Ok(())
    }

    /// What is in force now.
    #[must_use]
    pub fn table(&self) -> Arc<Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).clone()
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
        let table = self.table();
        let waiting = table.list.iter().filter_map(|provider| match &*provider.engine {
            Engine::Local(model) => model.not_ready().map(|why| format!("provider {}: {why}", provider.name)),
            Engine::Remote(_) | Engine::Disabled => None,
        });
        waiting.collect()
    }

    /// The models that only the provider called `name` has: without it nobody answers them.
    #[must_use]
    pub fn only_models_of(&self, name: &str) -> Vec<String> {
        let table = self.table();
        let Some(provider) = table.find(name) else { return Vec::new() };
        let others = || table.list.iter().filter(|p| &*p.name != name && !p.is_disabled());
        let models = provider.catalog.list();
        let alone = models.iter().filter(|model| others().all(|p| p.catalog.find(model).is_none()));
        alone.map(ToString::to_string).collect()
    }

    /// Who could answer a request, in the order in which they are to be asked.
    ///
    /// # Errors
    /// See [`Plan::new`].
    pub fn plan(&self, asked: &Asked<'_>) -> Result<Plan, Reply> {
        Plan::new(self.table(), asked)
    }
}
