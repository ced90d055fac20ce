//! Everything that can change while the gateway runs: keys, limits and the configuration file.
//! Each change is checked, kept, and published to the filters as one new document.

mod policies;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use serde_json::{Value, json};
use tidegate_core::policy::{AuthPolicy, DirectPolicy, Invalid, L1Policy, Limits};
use tidegate_core::wire::Identity;

use crate::audit::{self, Act, Action, Actor};
use crate::config::limiter::{Limiter, Rates};
use crate::config::{self, Config, Env, Problems};
use crate::keys::{KeyError, KeyRecord, Keys, NewKey, unix_ms};
use crate::limits::Budgets;
use crate::metrics::ControlMetrics;
use crate::policies::{Book, BookError};
use crate::ram::Signatures;
use crate::sessions::{Opened, SessionError, Sessions};
use crate::snapshot::{Parts, Publisher};
use crate::store::{Store, StoreError, Table};
use crate::tokens::{Refused, TokenError, Tokens, looks_like_token};

const RATES: &str = "limits";
/// The generation of the exact cache inside Envoy: when it was emptied last, in milliseconds since 1970.
const L1_GENERATION: &str = "l1_generation";

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
    /// An issuer of tokens cannot be used on this machine.
    Issuer(String),
    /// It is about a policy.
    Policy(BookError),
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
            Self::Issuer(problem) => f.write_str(problem),
            Self::Policy(error) => error.fmt(f),
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
    l1_generation: u64,
    changed: Rates,
    book: Book,
}

/// Where the configuration came from, to read it again.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The file.
    pub path: PathBuf,
    /// The environment at start.
    pub env: Env,
}

/// What a document has of the configuration that is read at the start alone.
#[derive(Debug)]
struct Fixed {
    body_bytes_max: u64,
    direct: DirectPolicy,
}

/// The one place that changes what is in force. Its calls block on the disk: from async code
/// they go through `spawn_blocking`.
#[derive(Debug)]
pub struct Control {
    state: Mutex<State>,
    origin: Origin,
    fixed: Fixed,
    store: Arc<Store>,
    keys: Arc<Keys>,
    sessions: Sessions,
    tokens: RwLock<Arc<Tokens>>,
    signatures: Signatures,
    publisher: Publisher,
    budgets: RwLock<Arc<Budgets>>,
    metrics: ControlMetrics,
}

impl Control {
    /// Puts the configuration, with what was changed at run time laid on it, in force.
    ///
    /// # Errors
    /// The store cannot be read, an issuer cannot be used, or filters would refuse the document.
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
        let sessions = Sessions::start(store.clone())?;
        let tokens = Tokens::new(&config.auth).map_err(ChangeError::Issuer)?;
        let tokens = RwLock::new(Arc::new(tokens));
        let signatures = Signatures::new(config.auth.ram.clone());
        let fixed = Fixed { body_bytes_max: config.server.body_bytes_max, direct: config.direct() };
        let book = Book::new(store.all(Table::Policies)?);
        let l1_generation = store.get::<u64>(L1_GENERATION)?.unwrap_or(0);
        let state = State { config, l1_generation, changed, book };
        let publisher = Publisher::start(parts(&state, &keys, &fixed).map_err(ChangeError::Invalid)?)?;
        metrics.published.inc();
        let budgets = RwLock::new(Arc::new(budgets(&state)));
        let state = Mutex::new(state);
        Ok(Self {
            state,
            budgets,
            origin,
            fixed,
            store,
            keys,
            sessions,
            tokens,
            signatures,
            publisher,
            metrics,
        })
    }

    /// The documents in force.
    #[must_use]
    pub const fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    /// The budgets in force.
    #[must_use]
    pub fn budgets(&self) -> Arc<Budgets> {
        self.budgets.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts the budgets in force that the state says.
    fn install_budgets(&self, state: &State) {
        let budgets = Arc::new(budgets(state));
        *self.budgets.write().unwrap_or_else(PoisonError::into_inner) = budgets;
    }

    /// The keys in force.
    #[must_use]
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> Config {
        self.lock().config.clone()
    }

    /// What is kept over a restart.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The tokens in force.
    #[must_use]
    pub fn tokens(&self) -> Arc<Tokens> {
        self.tokens.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The access keys in force.
    #[must_use]
    pub const fn signatures(&self) -> &Signatures {
        &self.signatures
    }

    /// Who presents `credential`, an API key or a token, and for how many more milliseconds it
    /// is good. The one place where that is decided.
    ///
    /// # Errors
    /// It is not good, or it could not be checked.
    pub async fn authenticate(&self, credential: &str) -> Result<(Identity, u64), Refused> {
        let now_ms = unix_ms();
        if let Some(known) = self.keys.authenticate(credential, now_ms) {
            return Ok(known);
        }
        if !looks_like_token(credential) {
            return Err(TokenError::Malformed.into());
        }
        self.tokens().verify(credential, &self.sessions, now_ms).await
    }

    /// Begins a session of a user who has just shown the password.
    ///
    /// # Errors
    /// See [`Sessions::begin`]; the user may have been removed in the meantime.
    pub fn begin_session(&self, user: &str) -> Result<Opened, SessionError> {
        let tokens = self.tokens();
        let (Some(own), Some(user)) = (tokens.own(), tokens.user(user)) else {
            return Err(SessionError::Unknown);
        };
        self.sessions.begin(&user.name, &user.stamp(), own.refresh_ttl_ms, unix_ms())
    }

    /// Exchanges a refresh token for the next one. A second use of one ends its session, and
    /// with it the session's access tokens, in every worker.
    ///
    /// # Errors
    /// See [`Sessions::refresh`].
    pub fn refresh_session(&self, token: &str, from: &str) -> Result<Opened, SessionError> {
        let now_ms = unix_ms();
        let opened = match self.sessions.refresh(token, from, now_ms) {
            Err(SessionError::Reused) => {
                tracing::warn!(%from, "a refresh token was used twice; its session was ended");
                self.forget_verdicts();
                return Err(SessionError::Reused);
            }
            other => other?,
        };
        let tokens = self.tokens();
        let user = tokens.user(&opened.user);
        let goes_on = user.is_some_and(|u| self.sessions.is_open(&opened.sid, &u.name, &u.stamp(), now_ms));
        if goes_on { Ok(opened) } else { Err(SessionError::Unknown) }
    }

    /// The session has ended already; if filters cannot be told, they notice within minutes.
    fn forget_verdicts(&self) {
        let state = self.lock();
        let told =
            self.keys.raise_generation().map_err(ChangeError::from).and_then(|()| self.publish(&state));
        if let Err(error) = told {
            tracing::error!(%error, "filters could not be told that a session was ended");
        }
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
    pub fn change_limits(&self, rates: Option<Rates>, by: &Actor) -> Result<LimitsInForce, ChangeError> {
        let mut state = self.lock();
        let action = if rates.is_some() { Action::LimitsChanged } else { Action::LimitsReset };
        let changed = rates.map_or_else(Rates::default, |rates| rates.over(state.changed.clone()));
        let limits = limits(&state.config.limiter, &changed).map_err(ChangeError::Invalid)?;
        let kept = (changed != Rates::default()).then_some(&changed);
        let act = act(by, action, RATES, json!(state.changed), json!(changed));
        self.store.write(|writer| {
            match kept {
                Some(changed) => writer.put(RATES, changed)?,
                None => writer.remove(RATES)?,
            }
            audit::append(writer, &act)
        })?;
        state.changed = changed.clone();
        self.install_budgets(&state);
        self.publish(&state)?;
        Ok(LimitsInForce { limits, changed })
    }

    /// Makes a key and puts it in force; the text is the only copy of it.
    ///
    /// # Errors
    /// See [`Keys::create`].
    pub fn create_key(&self, new: NewKey, by: &Actor) -> Result<(KeyRecord, String), ChangeError> {
        Ok(self.keys.create(new, by)?)
    }

    /// Gives a key a new secret; the text is the only copy of it.
    ///
    /// # Errors
    /// See [`Keys::rotate`].
    pub fn rotate_key(
        &self,
        id: &str,
        grace_ms: u64,
        by: &Actor,
    ) -> Result<(KeyRecord, String), ChangeError> {
        let state = self.lock();
        let rotated = self.keys.rotate(id, grace_ms, by)?;
        self.publish(&state)?;
        Ok(rotated)
    }

    /// Takes a key out of force.
    ///
    /// # Errors
    /// See [`Keys::revoke`].
    pub fn revoke_key(&self, id: &str, by: &Actor) -> Result<(), ChangeError> {
        let state = self.lock();
        self.keys.revoke(id, by)?;
        self.publish(&state)
    }

    /// Reads the configuration file again and puts its sections limiter, breaker, cache and
    /// auth in force; providers and routing are put in force by whoever has them, and the others
    /// need a restart.
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
        let tokens = Arc::new(Tokens::new(&next.auth).map_err(ChangeError::Issuer)?);
        *self.tokens.write().unwrap_or_else(PoisonError::into_inner) = tokens;
        self.signatures.install(next.auth.ram.clone());
        self.keys.install(&next.auth)?;
        let waiting = state.config.restart_needed_for(&next);
        if !waiting.is_empty() {
            tracing::warn!(
                sections = waiting.join(","),
                "these sections have changed and wait for a restart"
            );
        }
        state.config = next;
        self.install_budgets(&state);
        let before = self.publisher.latest().revision.clone();
        self.publish(&state)?;
        let after = self.publisher.latest().revision.clone();
        let (before, after) = (json!({"revision": before}), json!({"revision": after}));
        let act = act(&Actor::system("SIGHUP"), Action::ConfigReloaded, "config", before, after);
        Ok(self.store.write(|writer| audit::append(writer, &act))?)
    }

    /// Puts what another gateway has changed in the store in force here too.
    ///
    /// # Errors
    /// The store failed, or what is there does not fit this gateway's configuration.
    pub fn take_over(&self) -> Result<(), ChangeError> {
        let mut state = self.lock();
        let changed = self.store.get::<Rates>(RATES)?.unwrap_or_default();
        limits(&state.config.limiter, &changed).map_err(ChangeError::Invalid)?;
        state.changed = changed;
        state.book.take_over(self.store.all(Table::Policies)?);
        let raised = self.keys.install(&state.config.auth)?;
        if self.sessions.reload()? && !raised {
            self.keys.raise_generation()?;
        }
        self.publish(&state)
    }

    /// Empties the exact caches inside Envoy of what was stored until `until_ms`, unless that was done
    /// already: keys of the next generation find nothing of this one.
    ///
    /// # Errors
    /// The store failed; nothing has changed then.
    pub fn forget_answers(&self, until_ms: u64) -> Result<(), ChangeError> {
        let mut state = self.lock();
        if until_ms <= state.l1_generation {
            return Ok(());
        }
        self.store.write(|writer| writer.put(L1_GENERATION, &until_ms))?;
        state.l1_generation = until_ms;
        self.publish(&state)
    }

    fn publish(&self, state: &State) -> Result<(), ChangeError> {
        let parts = parts(state, &self.keys, &self.fixed).map_err(ChangeError::Invalid)?;
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

fn act(by: &Actor, action: Action, target: &str, before: Value, after: Value) -> Act {
    Act { actor: by.clone(), action, target: target.to_owned(), before, after, at_ms: unix_ms() }
}

fn limits(limiter: &Limiter, changed: &Rates) -> Result<Limits, Problems> {
    let mut problems = Problems::default();
    let rules = changed.clone().over(limiter.rates.clone()).validate("", &mut problems);
    changed.budgets("", &mut problems);
    let weights = changed.clone().over(limiter.rates.clone()).weights("", &mut problems);
    if problems.is_empty() { Ok(Limits { rules, weights, ..limiter.limits.clone() }) } else { Err(problems) }
}

/// Checked before they became part of the state.
fn budgets(state: &State) -> Budgets {
    let limiter = &state.config.limiter;
    state.changed.clone().over(limiter.rates.clone()).budgets("", &mut Problems::default())
}

fn parts(state: &State, keys: &Keys, fixed: &Fixed) -> Result<Parts, Problems> {
    let auth = &state.config.auth;
    Ok(Parts {
        auth: AuthPolicy {
            generation: keys.generation(),
            anonymous_tenant: auth.anonymous_tenant.clone(),
            protect_other_routes: auth.protect_other_routes,
        },
        limits: limits(&state.config.limiter, &state.changed)?,
        breaker: state.config.breaker,
        l1: L1Policy { generation: state.l1_generation, ..state.config.l1 },
        direct: fixed.direct.clone(),
        body_bytes_max: fixed.body_bytes_max,
        sampler: state.config.sampler.clone(),
        slices: state.book.slices(),
    })
}
