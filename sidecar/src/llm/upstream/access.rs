//! Access tokens: what Baidu and Google give for an account, for a while.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use serde::{Deserialize, Serialize};
use tidegate_core::reply::{Code, Reply};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::address::segment;
use super::connect::{self, Transport, Unusable};
use super::{JSON, fault};
use crate::llm::settings::ServiceAccount;
use crate::secret::Secret;
use crate::tokens::{Algorithm, SigningKey};

/// How long before its end a token is not used any more.
const SPARE: Duration = Duration::from_secs(60);
/// Shortest use of a token, whatever its giver says.
const USE_MIN: Duration = Duration::from_secs(5);
/// Longest use of a token.
const USE_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// Longest answer of a token's giver, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// How long a signed request for a token is good for, in seconds; Google takes an hour at most.
const ASSERTION_SECONDS: u64 = 3600;
const GOOGLE_SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");

/// A token that is fetched when it is needed and kept while it is good; callers wait for one
/// fetch together.
#[derive(Debug)]
pub struct AccessTokens {
    transport: Transport,
    uri: Uri,
    host: HeaderValue,
    giver: Giver,
    held: Mutex<Option<Held>>,
}

#[derive(Debug)]
enum Giver {
    /// The address says everything.
    Baidu,
    Google {
        account: Box<ServiceAccount>,
        key: SigningKey,
    },
}

#[derive(Debug)]
struct Held {
    token: Secret,
    until: Instant,
}

#[derive(Deserialize)]
struct Given {
    access_token: Option<Secret>,
    expires_in: Option<u64>,
}

/// Claims of a service account's request (RFC 7523).
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    scope: &'static str,
    aud: String,
    iat: u64,
    exp: u64,
}

impl AccessTokens {
    /// Tokens for Baidu's API key and secret key, from the host of `base_url`.
    ///
    /// # Errors
    /// As [`Transport::new`].
    pub fn baidu(base_url: &Uri, key: &Secret, secret: &Secret, wait: Duration) -> Result<Self, Unusable> {
        let (id, secret) = (segment(key.expose()), segment(secret.expose()));
        let path =
            format!("oauth/2.0/token?grant_type=client_credentials&client_id={id}&client_secret={secret}");
        Self::new(connect::endpoint(base_url, &path)?, Giver::Baidu, wait)
    }

    /// Tokens for a service account of Google's.
    ///
    /// # Errors
    /// A private key that is none, or as [`Transport::new`].
    pub fn google(account: &ServiceAccount, wait: Duration) -> Result<Self, Unusable> {
        let key = SigningKey::of_pem(Algorithm::Rs256, account.private_key.expose().as_bytes());
        let key = key
            .map_err(|what| connect::unusable("service_account", format!("has a private key that {what}")))?;
        Self::new(account.token_uri.clone(), Giver::Google { account: Box::new(account.clone()), key }, wait)
    }

    fn new(uri: Uri, giver: Giver, wait: Duration) -> Result<Self, Unusable> {
        Ok(Self {
            transport: Transport::new(&uri, wait)?,
            host: connect::host(&uri)?,
            uri,
            giver,
            held: Mutex::new(None),
        })
    }

    /// A token that is good now.
    ///
    /// # Errors
    /// `upstream_error` or `upstream_timeout` when none was given.
    pub async fn get(&self, provider: &str, deadline: Instant) -> Result<Secret, Reply> {
        let mut held = self.held.lock().await;
        if let Some(held) = held.as_ref().filter(|held| Instant::now() < held.until) {
            return Ok(held.token.clone());
        }
        let fetched = tokio::time::timeout_at(deadline, self.fetch()).await;
        let (token, good_for) =
            fetched.unwrap_or_else(|_| Err("no answer in time".to_owned())).map_err(|cause| {
                tracing::warn!(provider, cause, "no access token");
                Reply::new(
                    Code::UpstreamError,
                    format!("Provider {provider} gave the gateway no access token."),
                )
            })?;
        *held = Some(Held { token: token.clone(), until: Instant::now() + good_for });
        Ok(token)
    }

    /// Drops a token that was refused.
    pub async fn forget(&self) {
        *self.held.lock().await = None;
    }

    async fn fetch(&self) -> Result<(Secret, Duration), String> {
        let body = match &self.giver {
            Giver::Baidu => String::new(),
            Giver::Google { account, key } => {
                let grant = "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer";
                format!("grant_type={grant}&assertion={}", assertion(account, key, &self.uri)?)
            }
        };
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        headers.insert(HOST, self.host.clone());
        headers.insert(ACCEPT, JSON);
        headers.insert(CONTENT_TYPE, FORM);
        let response = self.transport.request(request).await.map_err(|e| fault::chain(&e))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|e| fault::chain(&*e))?.to_bytes();
        let given: Given =
            serde_json::from_slice(&body).map_err(|_| format!("answered {status} without JSON"))?;
        let token = given.access_token.ok_or_else(|| format!("answered {status} without a token"))?;
        let good_for = Duration::from_secs(given.expires_in.unwrap_or(0)).min(USE_MAX);
        Ok((token, good_for.saturating_sub(SPARE).max(USE_MIN)))
    }
}

/// A signed request for a token (RFC 7523, as Google's "OAuth 2.0 for server to server" has it).
fn assertion(account: &ServiceAccount, key: &SigningKey, uri: &Uri) -> Result<String, String> {
    let iat = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let claims = Claims {
        iss: &account.client_email,
        scope: GOOGLE_SCOPE,
        aud: uri.to_string(),
        iat,
        exp: iat + ASSERTION_SECONDS,
    };
    let payload = serde_json::to_vec(&claims).map_err(|e| e.to_string())?;
    key.sign(&payload).ok_or_else(|| "the system gives no random bytes".to_owned())
}
