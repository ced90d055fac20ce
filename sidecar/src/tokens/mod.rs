//! JSON Web Tokens: the gateway's own, given out at login, and those of other issuers.
//!
//! A token's `iss` chooses who checks it; nothing else of a token counts before its signature
//! does. The gateway's own tokens name a user of the configuration and a session, and both are
//! looked up again each time: a user that is removed, gets another password, tenant or role, or
//! whose session was revoked, is what the configuration says now and not what the token said.

mod claims;
mod issuers;
mod jwks;
mod jws;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidegate_core::wire::Identity;

use self::claims::{Claims, Expected};
use self::issuers::Issuer;
use self::jws::Unverified;
use crate::config::auth::Auth;
use crate::config::jwt::{OwnTokens, User};
use crate::sessions::Sessions;

pub use jws::{Algorithm, SigningKey, TOKEN_BYTES_MAX, TokenError, looks_like_token};

/// Why a token opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It is not good.
    Bad(TokenError),
    /// Its issuer's keys could not be had, so nothing is known of it.
    Unavailable,
}

impl From<TokenError> for Refused {
    fn from(error: TokenError) -> Self {
        Self::Bad(error)
    }
}

/// The claims of the gateway's own tokens.
#[derive(Serialize)]
struct OwnClaims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    iat: u64,
    nbf: u64,
    exp: u64,
    /// The session, which can be revoked.
    sid: &'a str,
}

/// An access token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// The token.
    pub token: String,
    /// How long it is good, in seconds.
    pub expires_in_s: u64,
}

/// Who issues tokens that are believed here.
#[derive(Debug)]
pub struct Tokens {
    own: Option<OwnTokens>,
    users: Vec<User>,
    issuers: Vec<Arc<Issuer>>,
}

/// Only the issuer, to choose who checks the token.
#[derive(Deserialize)]
struct Chooser {
    iss: String,
}

impl Tokens {
    /// What the configuration says.
    ///
    /// # Errors
    /// A sentence that names the issuer whose keys cannot be fetched from this machine.
    pub fn new(auth: &Auth) -> Result<Self, String> {
        let issuers = auth.jwt.issuers.iter().map(|settings| {
            let named = |problem| format!("auth.jwt.issuers, {}: {problem}", settings.issuer);
            Issuer::new(settings.clone()).map(Arc::new).map_err(named)
        });
        let issuers = issuers.collect::<Result<_, _>>()?;
        Ok(Self { own: auth.jwt.own.clone(), users: auth.users.clone(), issuers })
    }

    /// How own tokens are made, if there are users to make them for.
    #[must_use]
    pub fn own(&self) -> Option<&OwnTokens> {
        self.own.as_ref().filter(|_| !self.users.is_empty())
    }

    /// The users who may log in.
    #[must_use]
    pub fn users(&self) -> &[User] {
        &self.users
    }

    /// The user of this name.
    #[must_use]
    pub fn user(&self, name: &str) -> Option<&User> {
        self.users.iter().find(|user| user.name == name)
    }

    /// An access token for `user` in the session `sid`; `None` without a signing key or random
    /// bytes.
    #[must_use]
    pub fn issue(&self, user: &User, sid: &str, now_ms: u64) -> Option<Issued> {
        let own = self.own.as_ref()?;
        let (now, expires_in_s) = (now_ms / 1000, own.access_ttl_ms / 1000);
        let claims = OwnClaims {
            iss: &own.issuer,
            sub: &user.name,
            aud: &own.audience,
            iat: now,
            nbf: now,
            exp: now.saturating_add(expires_in_s),
            sid,
        };
        let token = own.key.sign(&serde_json::to_vec(&claims).ok()?)?;
        Some(Issued { token, expires_in_s })
    }

    /// Who presents `token`, and for how many more milliseconds it is good.
    ///
    /// # Errors
    /// It is not good, or it could not be checked.
    pub async fn verify(
        &self,
        token: &str,
        sessions: &Sessions,
        now_ms: u64,
    ) -> Result<(Identity, u64), Refused> {
        let token = Unverified::parse(token)?;
        let chooser = serde_json::from_slice::<Chooser>(token.unverified_payload());
        let Chooser { iss } = chooser.map_err(|_| TokenError::Claims)?;
        if let Some(own) = self.own.as_ref().filter(|own| own.issuer == iss) {
            return Ok(self.verify_own(own, &token, sessions, now_ms)?);
        }
        let issuer = self.issuers.iter().find(|issuer| issuer.name() == iss);
        issuer.ok_or(TokenError::Issuer)?.verify(&token, now_ms).await
    }

    fn verify_own(
        &self,
        own: &OwnTokens,
        token: &Unverified<'_>,
        sessions: &Sessions,
        now_ms: u64,
    ) -> Result<(Identity, u64), TokenError> {
        let claims = Claims::read(token.verify(&own.key.verifying())?)?;
        let OwnTokens { issuer, audience, leeway_ms, .. } = own;
        let left_ms = claims.check(Expected { issuer, audience, leeway_ms: *leeway_ms }, now_ms)?;
        let user = self.user(&claims.sub).ok_or(TokenError::Subject)?;
        let sid = claims.text("sid").ok_or(TokenError::Claims)?;
        if !sessions.is_open(sid, &user.name, &user.stamp(), now_ms) {
            return Err(TokenError::Subject);
        }
        Ok((user.identity(), left_ms))
    }
}
