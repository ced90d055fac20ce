//! Issuers outside this gateway, by their published keys.
//!
//! Keys are kept for [`FRESH_FOR`] and then fetched again in the background; the old ones go on
//! meanwhile, for [`KEPT_FOR`] at most, so that an issuer that is down for an hour locks nobody
//! out. A key id that is not known makes a caller wait for a fetch, but at most one fetch starts
//! in [`FETCH_INTERVAL`], whatever tokens are sent.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use tidegate_core::wire::{Identity, Role, is_name};
use tokio::time::{Instant, timeout};

use super::Refused;
use super::claims::{Claims, Expected};
use super::jwks::KeySet;
use super::jws::{TokenError, Unverified, VerifyingKey};
use crate::config::jwt::{IssuerSettings, KeySource, TenantFrom};
use crate::keys::{Digest, random};
use crate::llm::connect::Transport;

/// Age at which keys are fetched again.
const FRESH_FOR: Duration = Duration::from_secs(600);
/// Age at which keys that could not be fetched again are dropped.
const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);
/// Least time between the starts of two fetches.
const FETCH_INTERVAL: Duration = Duration::from_secs(10);
/// Longest a fetch may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest that connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Largest key set, in bytes.
const SET_BYTES_MAX: usize = 256 << 10;
/// Bytes of the digest that stands for a subject in an identity.
const SUBJECT_BYTES: usize = 8;

/// One issuer and what is known of its keys.
#[derive(Debug)]
pub struct Issuer {
    settings: IssuerSettings,
    transport: Option<Transport>,
    known: RwLock<Known>,
    /// Start of the last fetch; held during one.
    last_fetch: tokio::sync::Mutex<Option<Instant>>,
}

#[derive(Debug, Clone, Default)]
struct Known {
    keys: Option<Arc<KeySet>>,
    at: Option<Instant>,
}

impl Known {
    fn is_within(&self, age: Duration) -> bool {
        self.at.is_some_and(|at| at.elapsed() < age)
    }
}

impl Issuer {
    /// An issuer whose keys are fetched when its first token comes.
    ///
    /// # Errors
    /// A sentence: an https URL, and no trusted root certificates on this machine.
    pub fn new(settings: IssuerSettings) -> Result<Self, String> {
        let transport = match &settings.keys {
            KeySource::Url(url) => {
                Some(Transport::new(url, CONNECT_TIMEOUT).map_err(|unusable| unusable.problem)?)
            }
            KeySource::Path(_) => None,
        };
        Ok(Self { settings, transport, known: RwLock::default(), last_fetch: tokio::sync::Mutex::default() })
    }

    /// `iss` of its tokens.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.settings.issuer
    }

    /// Who presents a token of this issuer, and for how many milliseconds it is good.
    ///
    /// # Errors
    /// The token is not good, or the issuer's keys could not be had.
    pub async fn verify(
        self: &Arc<Self>,
        token: &Unverified<'_>,
        now_ms: u64,
    ) -> Result<(Identity, u64), Refused> {
        let keys = self.keys_for(token.key_id.as_deref()).await?;
        let key = keys.find(token.key_id.as_deref()).ok_or(TokenError::UnknownKey)?;
        let claims = verified(token, key)?;
        let IssuerSettings { issuer, audience, leeway_ms, .. } = &self.settings;
        let left_ms = claims.check(Expected { issuer, audience, leeway_ms: *leeway_ms }, now_ms)?;
        Ok((self.identity(&claims)?, left_ms))
    }

    fn identity(&self, claims: &Claims) -> Result<Identity, TokenError> {
        let tenant = match &self.settings.tenant {
            TenantFrom::Fixed(tenant) => tenant,
            TenantFrom::Claim(claim) => claims.text(claim).ok_or(TokenError::Subject)?,
        };
        if !is_name(tenant) || claims.sub.is_empty() {
            return Err(TokenError::Subject);
        }
        let role = match &self.settings.role_claim {
            Some(claim) if claims.has(claim, "admin") => Role::Admin,
            Some(claim) if claims.has(claim, "operator") => Role::Operator,
            _ => Role::User,
        };
        // Subjects are any text and may be e-mail addresses; identities are logged.
        let digest = Digest::of(&format!("{}\n{}", claims.iss, claims.sub));
        let short = digest.bytes().get(..SUBJECT_BYTES).unwrap_or_default();
        let key = Some(format!("jwt_{}", random::hex(short)));
        Ok(Identity { tenant: tenant.to_owned(), key, role, scope: None })
    }

    async fn keys_for(self: &Arc<Self>, key_id: Option<&str>) -> Result<Arc<KeySet>, Refused> {
        let known = self.known();
        let usable = known.keys.as_ref().filter(|keys| keys.find(key_id).is_some());
        if let Some(keys) = usable.filter(|_| known.is_within(KEPT_FOR)) {
            if !known.is_within(FRESH_FOR) {
                self.start_fetch();
            }
            return Ok(keys.clone());
        }
        // A caller that gives up must not break the fetch off for the others.
        if self.start_fetch().await.is_err() {
            return Err(Refused::Unavailable);
        }
        let known = self.known();
        known.keys.filter(|_| known.at.is_some_and(|at| at.elapsed() < KEPT_FOR)).ok_or(Refused::Unavailable)
    }

    fn start_fetch(self: &Arc<Self>) -> tokio::task::JoinHandle<()> {
        let issuer = self.clone();
        tokio::spawn(async move { issuer.fetch_if_due().await })
    }

    async fn fetch_if_due(&self) {
        let mut last = self.last_fetch.lock().await;
        if last.is_some_and(|at| at.elapsed() < FETCH_INTERVAL) {
            return;
        }
        *last = Some(Instant::now());
        match self.fetch().await.and_then(|json| KeySet::read(&json)) {
            Ok(keys) => {
                let known = Known { keys: Some(Arc::new(keys)), at: Some(Instant::now()) };
                *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
                tracing::info!(issuer = %self.settings.issuer, "keys of the issuer fetched");
            }
            Err(why) => {
                tracing::warn!(issuer = %self.settings.issuer, %why, "keys of the issuer could not be fetched");
            }
        }
    }

    async fn fetch(&self) -> Result<Bytes, String> {
        match (&self.settings.keys, &self.transport) {
            (KeySource::Path(path), _) => {
                let whole = timeout(FETCH_TIMEOUT, tokio::fs::read(path)).await;
                let bytes = whole.map_err(|_| "took too long".to_owned())?.map_err(|e| e.to_string())?;
                if bytes.len() > SET_BYTES_MAX { Err(too_large()) } else { Ok(bytes.into()) }
            }
            (KeySource::Url(url), Some(transport)) => timeout(FETCH_TIMEOUT, get(transport, url))
                .await
                .unwrap_or_else(|_| Err("took too long".to_owned())),
            (KeySource::Url(_), None) => Err("has no transport".to_owned()),
        }
    }

    fn known(&self) -> Known {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn get(transport: &Transport, url: &Uri) -> Result<Bytes, String> {
    let request = Request::get(url.clone())
        .header("accept", "application/json")
        .body(Full::default())
        .map_err(|e| e.to_string())?;
    let response = transport.request(request).await.map_err(|e| e.to_string())?;
    // A redirect is not followed: it could lead anywhere.
    if response.status() != StatusCode::OK {
        return Err(format!("status {}", response.status().as_u16()));
    }
    let body = Limited::new(response.into_body(), SET_BYTES_MAX).collect().await;
    body.map(http_body_util::Collected::to_bytes).map_err(|error| error.to_string())
}

fn too_large() -> String {
    format!("is larger than {SET_BYTES_MAX} bytes")
}

fn verified(token: &Unverified<'_>, key: &VerifyingKey) -> Result<Claims, TokenError> {
    Claims::read(token.verify(key)?)
}
