//! What a request carries of the account that pays for it, where a key is not enough.

use std::time::{Duration, SystemTime};

use http::header::{AUTHORIZATION, HeaderName};
use http::{HeaderValue, Request, Uri};
use tidegate_core::reply::{Code, Reply};
use tokio::time::Instant;

use super::access::AccessTokens;
use super::connect::Unusable;
use super::sigv4::{self, ToSign};
use crate::llm::settings::{Account, AwsKeys, Remote};
use crate::secret::Secret;

const AMZ_DATE: HeaderName = HeaderName::from_static("x-amz-date");
const AMZ_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
/// The name under which requests to Bedrock are signed.
const AWS_SERVICE: &str = "bedrock";

/// How a provider's requests are made ready.
#[derive(Debug)]
pub enum Signer {
    /// They are.
    None,
    /// Amazon: signed.
    Aws(AwsKeys),
    /// Google: with an access token as bearer.
    Bearer(AccessTokens),
    /// Baidu: with an access token in the address.
    Query(AccessTokens),
}

impl Signer {
    /// The signer of an account; tokens are fetched at the first request.
    ///
    /// # Errors
    /// A key that is none, or no trusted root certificates.
    pub fn new(remote: &Remote, wait: Duration) -> Result<Self, Unusable> {
        Ok(match &remote.account {
            Account::None => Self::None,
            Account::Aws(keys) => Self::Aws(keys.clone()),
            Account::Google(account) => Self::Bearer(AccessTokens::google(account, wait)?),
            Account::Baidu { api_key, secret_key } => {
                Self::Query(AccessTokens::baidu(&remote.base_url, api_key, secret_key, wait)?)
            }
        })
    }

    /// Makes a request ready that has its address and its `host` header.
    ///
    /// # Errors
    /// No access token was given.
    pub async fn sign<B>(
        &self,
        provider: &str,
        request: &mut Request<B>,
        body: &[u8],
        deadline: Instant,
    ) -> Result<(), Reply> {
        let unusable =
            || Reply::new(Code::InternalError, "The provider's account cannot be sent as headers.");
        match self {
            Self::None => Ok(()),
            Self::Aws(keys) => sign_aws(keys, request, body).ok_or_else(unusable),
            Self::Bearer(tokens) => {
                let token = tokens.get(provider, deadline).await?;
                let value = secret_value(&format!("Bearer {}", token.expose())).ok_or_else(unusable)?;
                request.headers_mut().insert(AUTHORIZATION, value);
                Ok(())
            }
            Self::Query(tokens) => {
                let token = tokens.get(provider, deadline).await?;
                *request.uri_mut() = with_token(request.uri(), &token).ok_or_else(unusable)?;
                Ok(())
            }
        }
    }

    /// Hears that a request was refused for who asked.
    pub async fn refused(&self) {
        if let Self::Bearer(tokens) | Self::Query(tokens) = self {
            tokens.forget().await;
        }
    }
}

fn sign_aws<B>(keys: &AwsKeys, request: &mut Request<B>, body: &[u8]) -> Option<()> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let host = request.headers().get(http::header::HOST)?.to_str().ok()?;
    let to_sign =
        ToSign { method: request.method().as_str(), path: request.uri().path(), host, service: AWS_SERVICE };
    let signature = sigv4::sign(keys, &to_sign, body, now);
    let headers = request.headers_mut();
    headers.insert(AMZ_DATE, HeaderValue::from_str(&signature.date).ok()?);
    if let Some(token) = &keys.session_token {
        headers.insert(AMZ_TOKEN, secret_value(token.expose())?);
    }
    headers.insert(AUTHORIZATION, secret_value(&signature.authorization)?);
    Some(())
}

fn secret_value(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn with_token(uri: &Uri, token: &Secret) -> Option<Uri> {
    let mut parts = uri.clone().into_parts();
    let token = super::address::segment(token.expose());
    parts.path_and_query = Some(format!("{}?access_token={token}", uri.path()).parse().ok()?);
    Uri::from_parts(parts).ok()
}
