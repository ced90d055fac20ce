//! Requests signed with Alibaba Cloud access keys (`ACS3-HMAC-SHA256`).
//!
//! The filter sends what was signed, except the body: of that it compares the SHA-256 with the
//! signed header `x-acs-content-sha256`, once the body is there. A signature is good once: its
//! nonce is spent here, and in Redis for the whole fleet where there is one.

mod canonical;
mod date;
mod nonces;
#[cfg(test)]
mod tests;

use std::sync::{Arc, PoisonError, RwLock};

use ring::hmac;
use tidegate_core::wire::Identity;
use tidegate_core::wire::signature::{Authorization, CONTENT_SHA256, SCHEME, SignatureFault, SignedRequest};

use self::nonces::{Nonces, SpendError};
use crate::config::ram::{AccessKey, RamSettings};
use crate::redis::Redis;

/// What a signature must cover beside method, path and query.
const MUST_BE_SIGNED: [&str; 4] = ["host", DATE, NONCE, CONTENT_SHA256];
const DATE: &str = "x-acs-date";
const NONCE: &str = "x-acs-signature-nonce";
/// Longest nonce, in bytes.
const NONCE_BYTES_MAX: usize = 128;

/// Why a signed request opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It is not good.
    Bad(SignatureFault),
    /// So many nonces are remembered that no more can be.
    Full,
}

impl From<SignatureFault> for Refused {
    fn from(fault: SignatureFault) -> Self {
        Self::Bad(fault)
    }
}

/// The access keys in force, and the nonces that were used.
#[derive(Debug)]
pub struct Signatures {
    settings: RwLock<Arc<RamSettings>>,
    nonces: Nonces,
}

impl Signatures {
    /// What the configuration says; no nonce is used yet.
    #[must_use]
    pub fn new(settings: RamSettings) -> Self {
        Self { settings: RwLock::new(Arc::new(settings)), nonces: Nonces::default() }
    }

    /// Puts other access keys in force; used nonces stay used.
    pub fn install(&self, settings: RamSettings) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }

    /// Who signed the request. Its nonce is used up by that.
    ///
    /// # Errors
    /// See [`Refused`].
    pub async fn verify(
        &self,
        authorization: &str,
        request: &SignedRequest,
        redis: Option<&Redis>,
        now_ms: u64,
    ) -> Result<Identity, Refused> {
        let settings = self.settings.read().unwrap_or_else(PoisonError::into_inner).clone();
        let signed = check(&settings, authorization, request, now_ms)?;
        let forget_at_ms = signed.signed_at_ms.saturating_add(settings.clock_window_ms).saturating_add(1);
        match self.nonces.spend(signed.key, signed.nonce, now_ms, forget_at_ms, redis).await {
            Ok(()) => {
                let (tenant, key) = (signed.key.tenant.clone(), Some(signed.key.id.clone()));
                Ok(Identity { tenant, key, role: signed.key.role, scope: None })
            }
            Err(SpendError::Spent) => Err(SignatureFault::Replayed.into()),
            Err(SpendError::Full) => Err(Refused::Full),
        }
    }
}

/// A request whose signature holds.
#[derive(Debug)]
struct Checked<'a> {
    key: &'a AccessKey,
    nonce: &'a str,
    signed_at_ms: u64,
}

fn check<'a>(
    settings: &'a RamSettings,
    authorization: &str,
    request: &'a SignedRequest,
    now_ms: u64,
) -> Result<Checked<'a>, SignatureFault> {
    let claimed = Authorization::parse(authorization).ok_or(SignatureFault::Invalid)?;
    let is_signed = |name: &&str| claimed.signed_headers.binary_search(name).is_ok();
    let key = settings.access_keys.iter().find(|key| key.id == claimed.access_key);
    let (Some(key), true) = (key, MUST_BE_SIGNED.iter().all(is_signed)) else {
        return Err(SignatureFault::Invalid);
    };
    let canonical = canonical::request(request, &claimed.signed_headers).ok_or(SignatureFault::Invalid)?;
    let secret = hmac::Key::new(hmac::HMAC_SHA256, key.secret.expose().as_bytes());
    let signature = canonical::from_hex(claimed.signature).ok_or(SignatureFault::Invalid)?;
    let string_to_sign = format!("{SCHEME}\n{}", canonical::sha256_hex(canonical.as_bytes()));
    // Compares in constant time.
    hmac::verify(&secret, string_to_sign.as_bytes(), &signature).map_err(|_| SignatureFault::Invalid)?;
    let signed_at_ms = only(request, DATE).and_then(date::unix_ms).ok_or(SignatureFault::Invalid)?;
    if signed_at_ms.abs_diff(now_ms) > settings.clock_window_ms {
        return Err(SignatureFault::Expired);
    }
    let nonce = only(request, NONCE).filter(|nonce| (1..=NONCE_BYTES_MAX).contains(&nonce.len()));
    Ok(Checked { key, nonce: nonce.ok_or(SignatureFault::Invalid)?, signed_at_ms })
}

/// The value of a header that is there once.
fn only<'a>(request: &'a SignedRequest, name: &str) -> Option<&'a str> {
    let mut values = request.headers.iter().filter(|(n, _)| n == name).map(|(_, value)| value.trim());
    let value = values.next()?;
    values.next().is_none().then_some(value)
}
