//! Providers and routing that operators change while the gateway runs. What they sent is kept in
//! the store, sealed, and laid on the configuration file: field by field for a provider that the
//! file has too, as a whole for one that it has not. A provider that was removed stays away until
//! it is set again.

mod address;
mod document;
mod seal;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

pub use address::is_forbidden;
pub use document::Document;
pub use seal::{Seal, SealError};

use crate::audit::{self, Act, Action, Actor};
use crate::config::{Config, Env, Problems, routing};
use crate::keys::unix_ms;
use crate::llm::routing::RoutingSettings;
use crate::llm::{ProviderKind, ProviderSettings, Providers, StartError};
use crate::store::{Store, StoreError};

const PROVIDERS: &str = "providers";
const ROUTING: &str = "routing";
/// Most providers, those of the file included.
const PROVIDERS_MAX: usize = 64;

/// Why a change was refused; whatever was in force stays.
#[derive(Debug)]
pub enum ProvisionError {
    /// The values are wrong, each with its path.
    Invalid(Problems),
    /// There is one of that name.
    Exists,
    /// There is none of that name.
    Unknown,
    /// There are too many.
    Full,
    /// It cannot be started.
    Start(StartError),
    /// It cannot be kept.
    Store(StoreError),
    /// It cannot be sealed.
    Seal(String),
}

impl std::fmt::Display for ProvisionError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Invalid(problems) => problems.fmt(f),
            Self::Exists => f.write_str("a provider of this name exists; change it with PUT"),
            Self::Unknown => f.write_str("no provider has this name"),
            Self::Full => write!(f, "there are {PROVIDERS_MAX} providers already; remove one first"),
            Self::Start(error) => error.fmt(f),
            Self::Store(error) => error.fmt(f),
            Self::Seal(cause) => f.write_str(cause),
        }
    }
}

impl std::error::Error for ProvisionError {}

impl From<StoreError> for ProvisionError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// One provider of the store.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    name: String,
    /// What was sent, sealed; `None` when it was removed.
    sealed: Option<String>,
}

/// Where a provider comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The configuration file.
    File,
    /// The file, with fields changed at run time.
    FileChanged,
    /// Run time alone.
    Runtime,
}

#[derive(Debug, Clone)]
struct State {
    file: Vec<(Document, ProviderSettings)>,
    file_routing: Map<String, Value>,
    /// What was sent, by provider; `None` when it was removed.
    sent: BTreeMap<String, Option<Document>>,
    /// What was sent, but was sealed with another key; kept as it is until it is set again.
    closed: BTreeMap<String, String>,
    routing: Option<Map<String, Value>>,
}

/// What is in force, and the one place that changes it. Its calls block on the disk: from async
/// code they go through `spawn_blocking`.
#[derive(Debug)]
pub struct Provisioning {
    providers: Arc<Providers>,
    store: Arc<Store>,
    seal: Seal,
    env: Env,
    state: Mutex<State>,
}

impl Provisioning {
    /// Starts the providers of the configuration, with what was changed at run time laid on it.
    /// What of it no longer fits is passed by, and named in the log.
    ///
    /// # Errors
    /// A provider of the file cannot be started, or the store cannot be read.
    pub fn start(
        config: &Config,
        store: Arc<Store>,
        seal: Seal,
        env: Env,
        registry: &mut Registry,
    ) -> Result<Self, ProvisionError> {
        let mut state = State::of(config);
        state.read(&store, &seal)?;
        state.drop_what_no_longer_fits(&env);
        let (settings, routing) = state.in_force(&env).map_err(ProvisionError::Invalid)?;
        let providers = Providers::start(settings, routing, registry).map_err(ProvisionError::Start)?;
        Ok(Self { providers, store, seal, env, state: Mutex::new(state) })
    }

    /// Who answers LLM requests.
    #[must_use]
    pub const fn providers(&self) -> &Arc<Providers> {
        &self.providers
    }

    /// Where the provider of this name comes from.
    #[must_use]
    pub fn origin(&self, name: &str) -> Origin {
        let state = self.lock();
        match (state.in_file(name), state.sent.get(name)) {
            (None, _) => Origin::Runtime,
            (Some(_), Some(Some(_))) => Origin::FileChanged,
            (Some(_), _) => Origin::File,
        }
    }

    /// Puts another configuration file in force.
    ///
    /// # Errors
    /// A provider cannot be started; what was in force stays.
    pub fn reload(&self, config: &Config) -> Result<(), ProvisionError> {
        let mut state = self.lock();
        let mut next =
            State { sent: state.sent.clone(), routing: state.routing.clone(), ..State::of(config) };
        next.drop_what_no_longer_fits(&self.env);
        self.apply(&next)?;
        *state = next;
        Ok(())
    }

    /// Puts what another gateway has changed in force.
    ///
    /// # Errors
    /// The store cannot be read, or a provider cannot be started; what was in force stays.
    pub fn take_over(&self) -> Result<(), ProvisionError> {
        let mut state = self.lock();
        let mut next = state.clone();
        next.read(&self.store, &self.seal)?;
        next.drop_what_no_longer_fits(&self.env);
        self.apply(&next)?;
        *state = next;
        Ok(())
    }

    /// The settings that a provider would have with `sent` laid on what it has; nothing changes.
    ///
    /// # Errors
    /// What is wrong with it; the name exists although it must not.
    pub fn draft(
        &self,
        name: &str,
        sent: &Document,
        must_be_new: bool,
    ) -> Result<ProviderSettings, ProvisionError> {
        let state = self.lock();
        if must_be_new && state.has(name) {
            return Err(ProvisionError::Exists);
        }
        let document = state.document(name).map_or_else(|| sent.clone(), |before| before.with(sent));
        let settings = document.validate("", &self.env).map_err(ProvisionError::Invalid)?;
        state.check_keys_stay_home(name, sent, &settings, &self.env).map_err(ProvisionError::Invalid)?;
        Ok(settings)
    }

    /// Sets a provider, or fields of one.
    ///
    /// # Errors
    /// See [`Self::draft`]; it cannot be started or kept. What was in force stays.
    pub fn set(
        &self,
        name: &str,
        sent: &Document,
        must_be_new: bool,
        by: &Actor,
    ) -> Result<(), ProvisionError> {
        self.draft(name, sent, must_be_new)?;
        let mut state = self.lock();
        if must_be_new && state.has(name) {
            return Err(ProvisionError::Exists);
        }
        let mut next = state.clone();
        let before = next.sent.get(name).cloned().flatten();
        let kept = before.map_or_else(|| sent.clone(), |before| before.with(sent));
        next.sent.insert(name.to_owned(), Some(kept));
        if next.count() > PROVIDERS_MAX {
            return Err(ProvisionError::Full);
        }
        let action = if state.has(name) { Action::ProviderChanged } else { Action::ProviderAdded };
        self.commit(&mut state, next, by, action, name)
    }

    /// Takes a provider out; what it has in hand it finishes.
    ///
    /// # Errors
    /// There is none of that name, or the change cannot be kept.
    pub fn remove(&self, name: &str, by: &Actor) -> Result<(), ProvisionError> {
        let mut state = self.lock();
        if !state.has(name) {
            return Err(ProvisionError::Unknown);
        }
        let mut next = state.clone();
        if next.in_file(name).is_some() {
            next.sent.insert(name.to_owned(), None);
        } else {
            next.sent.remove(name);
        }
        self.commit(&mut state, next, by, Action::ProviderRemoved, name)
    }

    /// Lays fields on the routing in force; `None` goes back to the file's.
    ///
    /// # Errors
    /// What is wrong with them, or the change cannot be kept.
    pub fn set_routing(&self, fields: Option<Map<String, Value>>, by: &Actor) -> Result<(), ProvisionError> {
        let mut state = self.lock();
        let mut next = state.clone();
        next.routing = fields.map(|fields| {
            let mut all = next.routing.take().unwrap_or_default();
            all.extend(fields);
            all
        });
        self.commit(&mut state, next, by, Action::RoutingChanged, ROUTING)
    }

    /// Checks, keeps and puts in force, in this order.
    fn commit(
        &self,
        state: &mut State,
        next: State,
        by: &Actor,
        action: Action,
        target: &str,
    ) -> Result<(), ProvisionError> {
        let (before, after) = (self.shown(state, target), self.shown(&next, target));
        next.in_force(&self.env).map_err(ProvisionError::Invalid)?;
        let records = self.records(&next)?;
        self.apply(&next)?;
        let act =
            Act { actor: by.clone(), action, target: target.to_owned(), before, after, at_ms: unix_ms() };
        let kept = self.store.write(|writer| {
            writer.put(PROVIDERS, &records)?;
            match &next.routing {
                Some(routing) => writer.put(ROUTING, routing)?,
                None => writer.remove(ROUTING)?,
            }
            audit::append(writer, &act)
        });
        if let Err(error) = kept {
            // What could not be kept must not be in force either.
            self.apply(state)?;
            return Err(error.into());
        }
        *state = next;
        Ok(())
    }

    fn apply(&self, state: &State) -> Result<(), ProvisionError> {
        let (settings, routing) = state.in_force(&self.env).map_err(ProvisionError::Invalid)?;
        self.providers.apply(settings, routing).map_err(ProvisionError::Start)
    }

    fn records(&self, state: &State) -> Result<Vec<Record>, ProvisionError> {
        let sealed = |(name, document): (&String, &Option<Document>)| {
            let sealed = document.as_ref().map(|document| self.seal.seal(name, &document.text()));
            let sealed = sealed.transpose().map_err(ProvisionError::Seal)?;
            Ok(Record { name: name.clone(), sealed })
        };
        let closed = state.closed.iter().filter(|(name, _)| !state.sent.contains_key(*name));
        let closed = closed.map(|(name, sealed)| Record { name: name.clone(), sealed: Some(sealed.clone()) });
        let mut records: Vec<Record> =
            state.sent.iter().map(sealed).collect::<Result<_, ProvisionError>>()?;
        records.extend(closed);
        Ok(records)
    }

    /// As the audit log shows it: without secrets and addresses' user information.
    fn shown(&self, state: &State, target: &str) -> Value {
        if target == ROUTING {
            return json!(state.routing);
        }
        let document = state.document(target);
        match document.map(|document| document.validate("", &self.env)) {
            Some(Ok(settings)) => describe(&settings),
            _ => Value::Null,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn of(config: &Config) -> Self {
        let documents = config.provider_documents.iter().cloned();
        Self {
            file: documents.zip(config.providers.iter().cloned()).collect(),
            file_routing: config.routing_document.clone(),
            sent: BTreeMap::new(),
            closed: BTreeMap::new(),
            routing: None,
        }
    }

    /// Reads what was sent from the store.
    fn read(&mut self, store: &Store, seal: &Seal) -> Result<(), StoreError> {
        self.routing = store.get(ROUTING)?;
        (self.sent, self.closed) = (BTreeMap::new(), BTreeMap::new());
        for Record { name, sealed } in store.get::<Vec<Record>>(PROVIDERS)?.unwrap_or_default() {
            let Some(sealed) = sealed else {
                self.sent.insert(name, None);
                continue;
            };
            match seal.open_text(&name, &sealed).and_then(|text| Document::parse(&text)) {
                Some(document) => drop(self.sent.insert(name, Some(document))),
                None => {
                    let what = "a provider set at run time cannot be opened with this GATEWAY_SECRET_KEY; set it again";
                    tracing::error!(provider = name, what);
                    self.closed.insert(name, sealed);
                }
            }
        }
        Ok(())
    }

    fn in_file(&self, name: &str) -> Option<&Document> {
        self.file.iter().find(|(_, settings)| settings.name == name).map(|(document, _)| document)
    }

    fn has(&self, name: &str) -> bool {
        self.document(name).is_some()
    }

    fn count(&self) -> usize {
        let removed = self.sent.values().filter(|sent| sent.is_none()).count();
        let added = self.sent.keys().filter(|name| self.in_file(name).is_none()).count();
        (self.file.len() + added).saturating_sub(removed)
    }

    /// A provider's document as it is in force.
    fn document(&self, name: &str) -> Option<Document> {
        match (self.in_file(name), self.sent.get(name)) {
            (_, Some(None)) | (None, None) => None,
            (Some(file), Some(Some(sent))) => Some(file.with(sent)),
            (Some(file), None) => Some(file.clone()),
            (None, Some(Some(sent))) => Some(sent.clone()),
        }
    }

    /// Everything as it is to be in force: the file's providers in their order, then the others
    /// by name.
    fn in_force(&self, env: &Env) -> Result<(Vec<ProviderSettings>, RoutingSettings), Problems> {
        let names = self.file.iter().map(|(_, settings)| settings.name.as_str());
        let others = self.sent.keys().map(String::as_str).filter(|name| self.in_file(name).is_none());
        let mut list = Vec::new();
        for name in names.chain(others) {
            if let Some(document) = self.document(name) {
                list.push(document.validate("", env)?);
            }
        }
        Ok((list, self.routing()?))
    }

    fn routing(&self) -> Result<RoutingSettings, Problems> {
        let mut fields = self.file_routing.clone();
        fields.extend(self.routing.clone().unwrap_or_default());
        fields.retain(|_, value| !value.is_null());
        let mut problems = Problems::default();
        match serde_path_to_error::deserialize::<_, routing::Document>(Value::Object(fields)) {
            Ok(document) => {
                let settings = routing::validate("", document, &mut problems);
                if problems.is_empty() { Ok(settings) } else { Err(problems) }
            }
            Err(error) => {
                problems.add(error.path().to_string(), error.inner().to_string());
                Err(problems)
            }
        }
    }

    /// What was right once may not fit another file or version: it must not keep the gateway
    /// from starting.
    fn drop_what_no_longer_fits(&mut self, env: &Env) {
        let names: Vec<String> = self.sent.keys().cloned().collect();
        for name in names {
            if let Some(Err(problems)) = self.document(&name).map(|document| document.validate("", env)) {
                tracing::error!(provider = name, %problems, "a provider set at run time no longer fits; set it again");
                self.sent.remove(&name);
            }
        }
        if let Err(problems) = self.routing() {
            tracing::error!(%problems, "routing set at run time no longer fits; the file's is in force");
            self.routing = None;
        }
    }

    /// A key goes only where it was meant for: another host needs the key to be sent with it.
    fn check_keys_stay_home(
        &self,
        name: &str,
        sent: &Document,
        next: &ProviderSettings,
        env: &Env,
    ) -> Result<(), Problems> {
        let Some(before) = self.document(name) else { return Ok(()) };
        let was = before.validate("", env).ok();
        let stays = match (was.as_ref().map(|settings| &settings.kind), &next.kind) {
            (Some(ProviderKind::Remote(was)), ProviderKind::Remote(next)) => {
                (was.base_url.scheme(), was.base_url.authority())
                    == (next.base_url.scheme(), next.base_url.authority())
            }
            _ => false,
        };
        if stays || !before.keeps_secrets_under(sent) {
            return Ok(());
        }
        let mut problems = Problems::default();
        problems.add(
            "api_key",
            "must be sent again with another base_url; a key is never passed on to another host",
        );
        Err(problems)
    }
}

/// A provider's settings without its secrets.
#[must_use]
pub fn describe(settings: &ProviderSettings) -> Value {
    let ProviderSettings { name, kind, models, weight, enabled, timeout, connect_timeout, price } = settings;
    let mut shown = json!({
        "name": name,
        "type": kind.label(),
        "weight": weight,
        "enabled": enabled,
        "models": models,
        "timeout": format!("{}ms", timeout.as_millis()),
        "connect_timeout": format!("{}ms", connect_timeout.as_millis()),
        "price": price,
    });
    if let (ProviderKind::Remote(remote), Some(fields)) = (kind, shown.as_object_mut()) {
        let key = if remote.api_keys.is_empty() { Value::Null } else { json!(document::HIDDEN) };
        fields.insert("base_url".to_owned(), json!(remote.base_url.to_string().trim_end_matches('/')));
        fields.insert("api_key".to_owned(), key);
        fields.insert("keys".to_owned(), json!(remote.api_keys.len()));
        fields.insert("lenient".to_owned(), json!(remote.lenient));
        fields.insert("stream_usage".to_owned(), json!(remote.stream_usage));
    }
    shown
}

#[cfg(test)]
mod tests;
