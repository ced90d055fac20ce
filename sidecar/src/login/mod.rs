//! `/auth`: users log in with a password and get tokens.

mod passwords;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use axum::{Extension, Router};
use http::header::CACHE_CONTROL;
use http::{HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use tidegate_core::reply::{Code, Reply};

use crate::attempts::{Allowance, Attempts};
use crate::body;
use crate::control::Control;
use crate::gateway::Gateway;
use crate::keys::unix_ms;
use crate::refusal::{json, refuse_here};
use crate::secret::Secret;
use crate::sessions::{Opened, SessionError};
use crate::source::Source;
use crate::tokens::Tokens;

pub use passwords::{Passwords, hash};

/// Largest body, in bytes.
const BODY_BYTES_MAX: usize = 8 << 10;
/// When to come back if too many passwords are being checked, in milliseconds.
const BUSY_RETRY_MS: u64 = 1000;
/// Bad logins from one place: ten at once, then one in five seconds.
const BAD_LOGINS: Allowance = Allowance { burst: 10, interval_ms: 5000 };
/// Longest name that is compared with those of users, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// What logging in needs beside the configuration.
#[derive(Debug)]
pub struct Login {
    passwords: Passwords,
    attempts: Attempts,
}

impl Default for Login {
    fn default() -> Self {
        Self { passwords: Passwords::default(), attempts: Attempts::new(BAD_LOGINS) }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Credentials {
    username: String,
    password: Secret,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Refresh {
    refresh_token: Secret,
}

/// RFC 6749, 5.1.
#[derive(Serialize)]
struct Granted {
    access_token: String,
    token_type: &'static str,
    /// Seconds.
    expires_in: u64,
    refresh_token: String,
}

/// The routes.
pub fn router() -> Router<Arc<Gateway>> {
    Router::new().route("/auth/login", post(login)).route("/auth/refresh", post(refresh))
}

async fn login(
    State(gateway): State<Arc<Gateway>>,
    Extension(source): Extension<Source>,
    body: Body,
) -> Response {
    log_in(&gateway, &source, body).await.unwrap_or_else(|reply| refuse_here(&reply))
}

async fn refresh(
    State(gateway): State<Arc<Gateway>>,
    Extension(source): Extension<Source>,
    body: Body,
) -> Response {
    exchange(&gateway, source, body).await.unwrap_or_else(|reply| refuse_here(&reply))
}

async fn log_in(gateway: &Gateway, source: &Source, body: Body) -> Result<Response, Reply> {
    let tokens = tokens(&gateway.control)?;
    let Credentials { username, password } = body::json(body, BODY_BYTES_MAX, Code::InvalidRequest).await?;
    if password.expose().len() > passwords::PASSWORD_BYTES_MAX || username.len() > NAME_BYTES_MAX {
        return Err(wrong());
    }
    let Login { passwords, attempts } = &gateway.login;
    attempts.take(source.place(), unix_ms()).map_err(too_many)?;
    let user = tokens.user(&username);
    // Somebody's hash is computed even for nobody, so that the time does not tell who exists.
    let hash = user.or_else(|| tokens.users().first()).ok_or_else(wrong)?.password_hash.clone();
    let checked = passwords.check(password, hash).await;
    if checked.is_none() {
        attempts.give_back(source.place(), unix_ms());
        let message = "too many logins are being checked; try again in a moment";
        return Err(Reply::new(Code::TooManyAttempts, message).retry_after_ms(BUSY_RETRY_MS));
    }
    let Some(user) = user.filter(|_| checked == Some(true)) else {
        tracing::warn!(from = %source, user = user.map_or("-", |u| u.name.as_str()), "login refused");
        return Err(wrong());
    };
    attempts.give_back(source.place(), unix_ms());
    let (control, name) = (gateway.control.clone(), user.name.clone());
    let opened = blocking(move || control.begin_session(&name)).await?.map_err(|error| unkept(&error))?;
    tracing::info!(user = %user.name, from = %source, "logged in");
    granted(&tokens, opened)
}

async fn exchange(gateway: &Gateway, source: Source, body: Body) -> Result<Response, Reply> {
    let tokens = tokens(&gateway.control)?;
    let Refresh { refresh_token } = body::json(body, BODY_BYTES_MAX, Code::InvalidRequest).await?;
    let (attempts, place) = (&gateway.login.attempts, source.place());
    attempts.take(place, unix_ms()).map_err(too_many)?;
    let control = gateway.control.clone();
    let refreshed =
        blocking(move || control.refresh_session(refresh_token.expose(), &source.to_string())).await?;
    let opened = refreshed.map_err(|error| unkept(&error))?;
    attempts.give_back(place, unix_ms());
    granted(&tokens, opened)
}

fn tokens(control: &Control) -> Result<Arc<Tokens>, Reply> {
    let tokens = control.tokens();
    if tokens.own().is_some() {
        return Ok(tokens);
    }
    Err(Reply::new(Code::NotFound, "nobody can log in here: the configuration has no auth.users"))
}

fn granted(tokens: &Tokens, opened: Opened) -> Result<Response, Reply> {
    let Opened { sid, user, refresh_token } = opened;
    // The user may have been removed in the meantime.
    let user = tokens.user(&user).ok_or_else(unknown_token)?;
    let issued = tokens
        .issue(user, &sid, unix_ms())
        .ok_or_else(|| Reply::new(Code::InternalError, "the token could not be signed"))?;
    let granted = Granted {
        access_token: issued.token,
        token_type: "Bearer",
        expires_in: issued.expires_in_s,
        refresh_token,
    };
    let mut response = json(StatusCode::OK, &granted);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Reply> {
    let finished = tokio::task::spawn_blocking(work).await;
    finished.map_err(|_| Reply::new(Code::InternalError, "the login was not finished; look at the log"))
}

fn wrong() -> Reply {
    Reply::new(Code::InvalidCredentials, "the user name or the password is wrong")
}

fn unknown_token() -> Reply {
    let message = "the refresh token is unknown, expired, or was used before; log in again";
    Reply::new(Code::InvalidRefreshToken, message)
}

fn too_many(retry_after_ms: u64) -> Reply {
    let message = "too many bad logins came from this address; wait as `retry-after` says";
    Reply::new(Code::TooManyAttempts, message).retry_after_ms(retry_after_ms)
}

fn unkept(error: &SessionError) -> Reply {
    match error {
        SessionError::Unknown | SessionError::Reused => unknown_token(),
        SessionError::NoRandomness(error) => failed(error),
        SessionError::Store(error) => failed(error),
    }
}

fn failed(error: &dyn std::fmt::Display) -> Reply {
    tracing::error!(%error, "a session could not be kept");
    Reply::new(Code::InternalError, "the session could not be kept; look at the log")
}
