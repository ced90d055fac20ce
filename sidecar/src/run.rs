//! `tidegate run`: puts the parts together, serves, and stops without losing a request.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus_client::registry::Registry;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use crate::attempts::{Allowance, Attempts};
use crate::bus::{self, Source};
use crate::certificates;
use crate::clusters::{self, Engine};
use crate::config::{self, Config, auth};
use crate::control::{ChangeError, Control, Origin};
use crate::embedding::Embedder;
use crate::envoy_config::Secrets;
use crate::gateway::Gateway;
use crate::keys::random::{self, NoRandomness};
use crate::keys::{Digest, KeyError, Keys, unix_ms};
use crate::l2::{self, SemanticCache};
use crate::learn;
use crate::leases::Leases;
use crate::limits::{self, Ledger, Probe};
use crate::login::Login;
use crate::metrics::{self, ControlMetrics, FilterStats, Standing};
use crate::provisioning::{ProvisionError, Provisioning, Seal, SealError};
use crate::redis::Redis;
use crate::server::{self, Entry, ListenError, Listener};
use crate::store::{Store, StoreError, TokenError, internal_token};
use crate::trace::{Exporter, Tracer, Unusable};

/// How long the collector may take for the last spans.
const LAST_SPANS_TIMEOUT: Duration = Duration::from_secs(2);
/// Bad credentials from one place: a hundred at once, then five a second. API keys cannot be
/// guessed at any rate; this keeps guessers from keeping the sidecar busy.
const BAD_CREDENTIALS: Allowance = Allowance { burst: 100, interval_ms: 200 };
/// The operator's key, from the environment.
const ADMIN_KEY: &str = "GATEWAY_ADMIN_KEY";
/// Under which the store keeps this gateway's id.
const GATEWAY_ID: &str = "gateway_id";

/// Why the gateway did not start.
#[derive(Debug)]
pub enum StartError {
    /// `GATEWAY_ADMIN_KEY` cannot be a key.
    AdminKey(String),
    /// The internal token.
    Token(TokenError),
    /// The store.
    Store(StoreError),
    /// The keys.
    Keys(KeyError),
    /// A provider.
    Provider(ProvisionError),
    /// The key for secrets in the store.
    Seal(SealError),
    /// The clusters of errors.
    Clusters(clusters::StartError),
    /// The bus.
    Bus(rdkafka::error::KafkaError),
    /// The policy.
    Policy(ChangeError),
    /// A listener.
    Listen(ListenError),
    /// The system gives no signals.
    Signals(std::io::Error),
    /// The system gives no random bytes.
    Randomness(NoRandomness),
    /// The collector of spans.
    Tracing(Unusable),
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AdminKey(what) => write!(f, "{ADMIN_KEY} {what}"),
            Self::Token(error) => error.fmt(f),
            Self::Store(error) => error.fmt(f),
            Self::Keys(error) => error.fmt(f),
            Self::Provider(error) => error.fmt(f),
            Self::Clusters(error) => error.fmt(f),
            Self::Seal(error) => error.fmt(f),
            Self::Bus(error) => write!(f, "kafka: {error}"),
            Self::Policy(error) => error.fmt(f),
            Self::Listen(error) => error.fmt(f),
            Self::Randomness(error) => error.fmt(f),
            Self::Tracing(error) => error.fmt(f),
            Self::Signals(error) => write!(f, "cannot wait for signals: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// A gateway that is put together, with its listeners bound, but not serving yet.
#[derive(Debug)]
pub struct Ready {
    gateway: Arc<Gateway>,
    config: Config,
    drain: watch::Sender<bool>,
    observed: Source,
    listeners: Vec<Listener>,
    metrics_listener: Option<Listener>,
    exporter: Option<Exporter>,
    /// The operator's key, if one had to be made: shown once, by whoever started this.
    pub admin_key: Option<String>,
}

/// Puts everything together. Nothing is served before all of it works.
///
/// # Errors
/// The first part that does not work, and how to mend it.
pub async fn start(config: Config, origin: Origin) -> Result<Ready, StartError> {
    let started = Instant::now();
    let from_environment = admin_key(&origin)?;
    let token = internal_token(config.store.folder()).map_err(StartError::Token)?;
    let store = Arc::new(open(config.store.clone()).await.map_err(StartError::Store)?);
    let (listeners, metrics_listener) = bind(&config).await.map_err(StartError::Listen)?;

    let mut registry = Registry::default();
    metrics::register_process(&mut registry);
    let filters = Arc::new(FilterStats::new(config.limiter.cleanup_interval));
    registry.register_collector(Box::new(filters.clone()));
    let control_metrics = ControlMetrics::register(&mut registry);
    let redis = config.redis.clone().map(|settings| Redis::start(settings, &mut registry));
    let leases = Leases::start(redis.clone(), store.clone(), &mut registry).map_err(StartError::Store)?;
    let embedder = Arc::new(Embedder::start(config.embedding.clone(), &mut registry));
    let cache = SemanticCache::new(config.l2.clone(), embedder.clone(), &config.embedding, &mut registry);
    let cache = cache.recall(&store).map_err(StartError::Store)?;
    let read_before = SemanticCache::read_before(&store).map_err(StartError::Store)?;
    let cache = match redis.clone().filter(|_| config.l2.shared) {
        Some(redis) => {
            cache.share(redis, read_before.as_deref(), &mut registry).map_err(StartError::Randomness)?
        }
        None => Arc::new(cache),
    };
    let clusters = Engine::start(config.clustering.clone(), embedder.clone(), store.clone(), &mut registry)
        .map_err(StartError::Clusters)?;
    let seal = Seal::open(config.store.folder(), &origin.env).map_err(StartError::Seal)?;
    let provisioning = Provisioning::start(&config, store.clone(), seal, origin.env.clone(), &mut registry)
        .map_err(StartError::Provider)?;

    let (tracer, exporter) = match &config.tracing {
        Some(tracing) => {
            let (tracer, exporter) =
                Tracer::new(&tracing.settings, &mut registry).map_err(StartError::Tracing)?;
            (Some(tracer), Some(exporter))
        }
        None => (None, None),
    };
    let ledger = Ledger::start(store.clone()).map_err(StartError::Store)?;
    let ledger = match &redis {
        Some(_) => ledger.shared(gateway_id(&store)?, unix_ms()),
        None => ledger,
    };
    let ledger = Arc::new(ledger);

    // Late, because a key that is made here can be shown only if the start succeeds.
    let (keys, admin_key) =
        Keys::start(store.clone(), &config.auth, from_environment).map_err(StartError::Keys)?;
    let control = Control::start(config.clone(), origin, store, Arc::new(keys), control_metrics)
        .map_err(StartError::Policy)?;
    let (drain, draining) = watch::channel(false);
    let control = Arc::new(control);
    let provisioning = Arc::new(provisioning);
    follow_fleet(&control, &provisioning);
    let (providers, shown) = (provisioning.providers().clone(), control.clone());
    registry.register_collector(Box::new(Standing { providers, ledger: ledger.clone(), control: shown }));
    let guesses = Attempts::new(BAD_CREDENTIALS);
    let login = Login::default();
    let (bus, observed) = bus::open(&config.bus, &mut registry).map_err(StartError::Bus)?;
    let gateway = Gateway {
        bus,
        control,
        redis,
        leases,
        providers: provisioning.providers().clone(),
        provisioning,
        clusters,
        embedder,
        cache,
        filters,
        registry,
        token,
        started,
        draining,
        login,
        guesses,
        ledger,
        probe: Probe::default(),
        tracer,
    };
    let gateway = Arc::new(gateway);
    Ok(Ready { gateway, config, drain, observed, listeners, metrics_listener, exporter, admin_key })
}

/// What this gateway is called among others, for as long as its store is kept.
fn gateway_id(store: &Store) -> Result<String, StartError> {
    if let Some(id) = store.get(GATEWAY_ID).map_err(StartError::Store)? {
        return Ok(id);
    }
    let id = random::name().map_err(StartError::Randomness)?;
    store.write(|writer| writer.put(GATEWAY_ID, &id)).map_err(StartError::Store)?;
    Ok(id)
}

/// Opening blocks, on the disk and on etcd.
async fn open(settings: config::store::Store) -> Result<Store, StoreError> {
    let opened = tokio::task::spawn_blocking(move || match settings.etcd {
        Some(etcd) => Store::open_shared(&settings.path, etcd),
        None => Store::open(&settings.path),
    });
    opened.await.unwrap_or_else(|error| Err(StoreError::Unreachable(error.to_string())))
}

/// Puts what other gateways change in force, as long as there are others.
fn follow_fleet(control: &Arc<Control>, provisioning: &Arc<Provisioning>) {
    let Some(mut changes) = control.store().changes() else { return };
    let (control, provisioning) = (control.clone(), provisioning.clone());
    tokio::spawn(async move {
        while changes.next().await {
            let (control, provisioning) = (control.clone(), provisioning.clone());
            let taken_over = tokio::task::spawn_blocking(move || {
                let providers = provisioning.take_over().map_err(|error| error.to_string());
                control.take_over().map_err(|error| error.to_string()).and(providers)
            });
            match taken_over.await {
                Ok(Ok(())) => tracing::info!("a change made by another gateway is in force"),
                Ok(Err(error)) => tracing::error!(%error, "a change made by another gateway was refused"),
                Err(error) => tracing::error!(%error, "a change made by another gateway was not finished"),
            }
        }
    });
}

fn admin_key(origin: &Origin) -> Result<Option<Digest>, StartError> {
    let Some(key) = origin.env.get(ADMIN_KEY).filter(|key| !key.is_empty()) else { return Ok(None) };
    auth::usable(key).map_err(StartError::AdminKey)?;
    Ok(Some(Digest::of(key)))
}

async fn bind(config: &Config) -> Result<(Vec<Listener>, Option<Listener>), ListenError> {
    let server = &config.server;
    let mut listeners = vec![Listener::tcp((server.sidecar_host, server.sidecar_port).into()).await?];
    if let Some(path) = &server.sidecar_socket {
        listeners.push(Listener::unix(path)?);
    }
    let metrics = match config.metrics.listener.filter(|_| config.metrics.enabled) {
        Some(address) => Some(Listener::tcp(address).await?),
        None => None,
    };
    Ok((listeners, metrics))
}

impl Ready {
    /// What the handlers share.
    #[must_use]
    pub const fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }

    /// The TCP address of the sidecar's listener.
    #[must_use]
    pub fn address(&self) -> Option<std::net::SocketAddr> {
        self.listeners.first().and_then(Listener::address)
    }

    /// Serves until `stop` is done, then drains. Returns whether everything in flight finished
    /// within the drain timeout.
    pub async fn serve(self, stop: impl Future<Output = ()>) -> bool {
        let Self { gateway, config, drain, observed, listeners, metrics_listener, exporter, admin_key: _ } =
            self;
        let timeout = config.server.drain_timeout;
        let tending = tokio::spawn(gateway.clusters.clone().tend());
        let remembering = tokio::spawn(l2::tend(gateway.cache.clone(), gateway.control.clone()));
        let accounting = tokio::spawn(limits::keep(gateway.ledger.clone(), gateway.draining.clone()));
        if let Some(redis) = gateway.redis.clone() {
            tokio::spawn(limits::share(gateway.ledger.clone(), redis, gateway.draining.clone()));
        }
        if let Some(tls) = config.security.tls.clone() {
            let secrets = Secrets::beside(config.store.folder());
            tokio::spawn(certificates::watch(tls, secrets));
        }
        let (served, is_served) = oneshot::channel::<()>();
        let exporting = exporter.map(|exporter| tokio::spawn(exporter.run(async { drop(is_served.await) })));
        let mut serving = JoinSet::new();
        let (control, providers) = (gateway.control.clone(), gateway.providers.clone());
        let clusters = gateway.clusters.clone();
        let unseen = (gateway.providers.clone(), gateway.bus.clone(), gateway.draining.clone());
        tokio::spawn(learn::tell_hidden(unseen.0, unseen.1, unseen.2));
        let learning =
            tokio::spawn(learn::run(clusters, observed, control, providers, gateway.draining.clone()));
        let llm = server::llm(&gateway, &config);
        let router = server::router(gateway.clone(), &llm, &config);
        let entry = Entry::new(gateway.clone(), llm, router);
        for listener in listeners {
            let entry = entry.clone();
            let answer = move |request| entry.clone().answer(request);
            serving.spawn(server::serve(listener, answer, gateway.draining.clone(), timeout));
        }
        if let Some(listener) = metrics_listener {
            let router = server::metrics_router(gateway.clone(), &config.metrics.path);
            let answer = move |request| tower_service::Service::call(&mut router.clone(), request);
            serving.spawn(server::serve(listener, answer, gateway.draining.clone(), timeout));
        }
        stop.await;
        drain.send_replace(true);
        let finished = serving.join_all().await.into_iter().all(|finished| finished);
        drop(served);
        if let Some(exporting) = exporting {
            // What a collector that hangs has not taken by then is lost: the ledger has yet to be written.
            drop(tokio::time::timeout(LAST_SPANS_TIMEOUT, exporting).await);
        }
        if let Err(error) = learning.await {
            tracing::error!(%error, "the learning loop broke down");
        }
        for task in [tending, accounting, remembering] {
            task.abort();
            // Until it has ended, it holds the store open.
            drop(task.await);
        }
        if let Some(redis) = &gateway.redis {
            limits::tell(&gateway.ledger, redis).await;
        }
        let ledger = gateway.ledger.clone();
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || ledger.write()).await {
            tracing::error!(%error, "usage could not be written");
        }
        let (cache, control) = (gateway.cache.clone(), gateway.control.clone());
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || cache.keep(control.store())).await {
            tracing::error!(%error, "what the cache learned could not be kept");
        }
        let clusters = gateway.clusters.clone();
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || clusters.checkpoint()).await {
            tracing::error!(%error, "clusters could not be kept");
        }
        finished
    }
}

/// Reacts to the process's signals: SIGHUP reloads the configuration; the returned future is
/// done at the first SIGTERM or SIGINT.
///
/// # Errors
/// The system gives no signals.
pub fn signals(gateway: &Arc<Gateway>) -> Result<impl Future<Output = ()> + use<>, StartError> {
    let on = |kind| signal(kind).map_err(StartError::Signals);
    let mut hangup = on(SignalKind::hangup())?;
    let gateway = gateway.clone();
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            let gateway = gateway.clone();
            if let Err(error) = tokio::task::spawn_blocking(move || reload(&gateway)).await {
                tracing::error!(%error, "reload was not finished");
            }
        }
    });
    let (terminate, interrupt) = (on(SignalKind::terminate())?, on(SignalKind::interrupt())?);
    Ok(first(terminate, interrupt))
}

async fn first(mut terminate: Signal, mut interrupt: Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

fn reload(gateway: &Gateway) {
    if let Err(error) = gateway.control.reload() {
        tracing::error!(%error, "configuration refused; the last good one stays in force");
        return;
    }
    match gateway.provisioning.reload(&gateway.control.config()) {
        Ok(()) => tracing::info!(
            "configuration reloaded; limiter, breaker, cache, auth, providers and routing are in force"
        ),
        Err(error) => tracing::error!(%error, "providers and routing stay as they were"),
    }
}
