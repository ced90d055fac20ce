//! Everything that can change while the gateway runs: keys, limits and the configuration file.
//! Each change is checked, kept, and published to the filters as one new document.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidegate_core::policy::{AuthPolicy, Invalid, Limits};

use crate::config::limiter::{Limiter, Rates};
use crate::config::{self, Config, Env, Problems};
use crate::keys::{KeyError, KeyRecord, Keys, NewKey};
use crate::metrics::ControlMetrics;
use crate::snapshot::{Parts, Publisher};
use crate::store::{Store, StoreError};

const RATES: &str = "limits";

/// Why a change was refused; whatever was in force stays.
#[derive(Debug)]
pub enum ChangeError {
    /// The values are wrong, each with its path.
    Invalid(Problems),
    /// The document made of them would be refused by filters.
    Document(Invalid),
    /// It cannot be kept over a restart.
    Store(StoreError),
    /// It is about a key.
    Key(KeyError),
}

impl From<StoreError> for ChangeError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<KeyError> for ChangeError {
    fn from(error: KeyError) -> Self {
        Self::Key(error)
    }
}

impl From<Invalid> for ChangeError {
    fn from(error: Invalid) -> Self {
        Self::Document(error)
    }
}

impl std::fmt::Display for ChangeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Invalid(problems) => problems.fmt(f),
            Self::Document(invalid) => invalid.fmt(f),
            Self::Store(error) => error.fmt(f),
            Self::Key(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ChangeError {}

/// The limits in force, and where they come from.
#[derive(Debug, Clone)]
pub struct LimitsInForce {
    /// What is in force.
    pub limits: Limits,
    /// What was changed at run time; the rest is the configuration's.
    pub changed: Rates,
}

#[derive(Debug)]
struct State {
    config: Config,
    changed: Rates,
}

/// Where the configuration came from, to read it again.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The file.
    pub path: PathBuf,
    /// The environment at start.
    pub env: Env,
}

/// The one place that changes what is in force. Its calls block on the disk: from async code
/// they go through `spawn_blocking`.
#[derive(Debug)]
pub struct Control {
    state: Mutex<State>,
    origin: Origin,
    body_bytes_max: u64,
    store: Arc<Store>,
    keys: Arc<Keys>,
    publisher: Publisher,
    metrics: ControlMetrics,
}

impl Control {
    /// Puts the configuration, with what was changed at run time laid on it, in force.
    ///
    /// # Errors
    /// The store cannot be read, or filters would refuse the document.
    pub fn start(
        config: Config,
        origin: Origin,
        store: Arc<Store>,
        keys: Arc<Keys>,
        metrics: ControlMetrics,
    ) -> Result<Self, ChangeError> {
        let changed = store.get::<Rates>(RATES)?.unwrap_or_default();
        let changed = match limits(&config.limiter, &changed) {
            Ok(_) => changed,
            Err(problems) => {
                tracing::warn!(%problems, "limits changed at run time no longer fit the configuration; dropped");
                Rates::default()
            }
        };
        let body_bytes_max = config.server.body_bytes_max;
        let state = State { config, changed };
        let publisher =
            Publisher::start(parts(&state, &keys, body_bytes_max).map_err(ChangeError::Invalid)?)?;
        metrics.published.inc();
        Ok(Self { state: Mutex::new(state), origin, body_bytes_max, store, keys, publisher, metrics })
    }

    /// The documents in force.
    #[must_use]
    pub const fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    /// The keys in force.
    #[must_use]
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The limits in force.
    #[must_use]
    pub fn limits(&self) -> LimitsInForce {
        let state = self.lock();
        let changed = state.changed.clone();
        let limits =
            limits(&state.config.limiter, &changed).unwrap_or_else(|_| state.config.limiter.limits.clone());
        LimitsInForce { limits, changed }
    }

    /// Lays `rates` on what is in force; `None` goes back to the configuration's.
    ///
    /// # Errors
    /// Values out of range, or the store failed; nothing has changed then.
    pub fn change_limits(&self, rates: Option<Rates>) -> Result<LimitsInForce, ChangeError> {
        let mut state = self.lock();
        let changed = rates.map_or_else(Rates::default, |rates| rates.over(state.changed.clone()));
        let limits = limits(&state.config.limiter, &changed).map_err(ChangeError::Invalid)?;
        let kept = (changed != Rates::default()).then_some(&changed);
        self.store.put(RATES, kept)?;
        state.changed = changed.clone();
        self.publish(&state)?;
        Ok(LimitsInForce { limits, changed })
    }

    /// Makes a key and puts it in force; the text is the only copy of it.
    ///
    /// # Errors
    /// See [`Keys::create`].
    pub fn create_key(&self, new: NewKey) -> Result<(KeyRecord, String), ChangeError> {
        let state = self.lock();
        let made = self.keys.create(&state.config.auth.api_keys, new)?;
        self.publish(&state)?;
        Ok(made)
    }

    /// Takes a key out of force.
    ///
    /// # Errors
    /// See [`Keys::revoke`].
    pub fn revoke_key(&self, id: &str) -> Result<(), ChangeError> {
        let state = self.lock();
        self.keys.revoke(&state.config.auth.api_keys, id)?;
        self.publish(&state)
    }

    /// Reads the configuration file again and puts its sections limiter, breaker, cache and
    /// auth in force; the others need a restart.
    ///
    /// # Errors
    /// Everything that is wrong with it; the last good one stays in force.
    pub fn reload(&self) -> Result<(), ChangeError> {
        let outcome = self.try_reload();
        match outcome {
            Ok(()) => self.metrics.reloaded.inc(),
            Err(_) => self.metrics.reload_refused.inc(),
        };
        outcome
    }

    fn try_reload(&self) -> Result<(), ChangeError> {
        let next = config::load(&self.origin.path, &self.origin.env).map_err(ChangeError::Invalid)?;
        let mut state = self.lock();
        limits(&next.limiter, &state.changed).map_err(ChangeError::Invalid)?;
        self.keys.install(&next.auth.api_keys)?;
        let waiting = state.config.restart_needed_for(&next);
        if !waiting.is_empty() {
            tracing::warn!(
                sections = waiting.join(","),
                "these sections have changed and wait for a restart"
            );
        }
        state.config = next;
        self.publish(&state)
    }

    fn publish(&self, state: &State) -> Result<(), ChangeError> {
        let parts = parts(state, &self.keys, self.body_bytes_max).map_err(ChangeError::Invalid)?;
        match self.publisher.publish(parts) {
            Ok(true) => {
                self.metrics.published.inc();
                tracing::info!(revision = %self.publisher.latest().revision, "new policy in force");
                Ok(())
            }
            Ok(false) => Ok(()),
            Err(invalid) => {
                self.metrics.publish_refused.inc();
                Err(invalid.into())
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn limits(limiter: &Limiter, changed: &Rates) -> Result<Limits, Problems> {
    let mut problems = Problems::default();
    let limits = changed.clone().over(limiter.rates.clone()).validate("", &mut problems);
    if problems.is_empty() { Ok(limits) } else { Err(problems) }
}

fn parts(state: &State, keys: &Keys, body_bytes_max: u64) -> Result<Parts, Problems> {
    let auth = &state.config.auth;
    Ok(Parts {
        auth: AuthPolicy {
            generation: keys.generation(),
            anonymous_tenant: auth.anonymous_tenant.clone(),
            protect_other_routes: auth.protect_other_routes,
        },
        limits: limits(&state.config.limiter, &state.changed)?,
        breaker: state.config.breaker,
        l1: state.config.l1,
        body_bytes_max,
    })
}
