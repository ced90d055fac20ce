//! How a provider is reached: its addresses, its keys and its pool of connections.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Uri};
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, ResponseFuture};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tidegate_core::provider::Credential;

use crate::secret::Secret;

/// Idle connections kept to one provider.
const IDLE_CONNECTIONS_MAX: usize = 256;
/// How long an idle connection is kept.
const IDLE_CONNECTION_TTL: Duration = Duration::from_secs(30);
/// Interval of TCP keep-alive probes, which find out about providers that vanished.
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);

/// Why an upstream cannot be made from its settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusable {
    /// Field of the provider's settings.
    pub field: &'static str,
    /// What is wrong and what would be right.
    pub problem: String,
}

/// A field of the provider's settings, and what is wrong with it.
pub fn unusable(field: &'static str, problem: impl Into<String>) -> Unusable {
    Unusable { field, problem: problem.into() }
}

/// Connections to one provider. Plain HTTP goes without the TLS layer, which also means that a
/// machine without root certificates can use providers that need none.
#[derive(Debug)]
pub enum Transport {
    /// `http://`
    Plain(Client<HttpConnector, Full<Bytes>>),
    /// `https://`
    Tls(Client<HttpsConnector<HttpConnector>, Full<Bytes>>),
}

impl Transport {
    /// Makes a pool that connects at the first request.
    ///
    /// # Errors
    /// No trusted root certificates on this machine for an `https` URL.
    pub fn new(base_url: &Uri, connect_timeout: Duration) -> Result<Self, Unusable> {
        let mut http = HttpConnector::new();
        http.set_nodelay(true);
        http.set_keepalive(Some(TCP_KEEPALIVE));
        http.set_connect_timeout(Some(connect_timeout));
        let mut client = Client::builder(TokioExecutor::new());
        client.pool_idle_timeout(IDLE_CONNECTION_TTL).pool_max_idle_per_host(IDLE_CONNECTIONS_MAX);
        client.pool_timer(TokioTimer::new());
        if base_url.scheme_str() != Some("https") {
            return Ok(Self::Plain(client.build(http)));
        }
        http.enforce_http(false);
        let roots = HttpsConnectorBuilder::new().with_native_roots().map_err(|e| {
            let fix = "install ca-certificates or set SSL_CERT_FILE";
            unusable(
                "base_url",
                format!("is https, but no trusted root certificates were found ({e}); {fix}"),
            )
        })?;
        Ok(Self::Tls(client.build(roots.https_only().enable_http1().wrap_connector(http))))
    }

    /// Sends a request over a pooled connection.
    pub fn request(&self, request: Request<Full<Bytes>>) -> ResponseFuture {
        match self {
            Self::Plain(client) => client.request(request),
            Self::Tls(client) => client.request(request),
        }
    }
}

/// The header value of the key at `index`.
///
/// # Errors
/// A key with characters that a header cannot carry.
pub fn credential(credential: Credential, (index, key): (usize, &Secret)) -> Result<HeaderValue, Unusable> {
    let text = match credential {
        Credential::Bearer => format!("Bearer {}", key.expose()),
        Credential::Header(_) => key.expose().to_owned(),
    };
    let mut value = HeaderValue::from_str(&text).map_err(|_| {
        unusable(
            "api_keys",
            format!("key {index} has characters that a header cannot carry; check it for line breaks"),
        )
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// `base_url` with `path` below it.
///
/// # Errors
/// Anything but an absolute HTTP URL.
pub fn endpoint(base_url: &Uri, path: &str) -> Result<Uri, Unusable> {
    let (Some("http" | "https"), Some(authority)) = (base_url.scheme_str(), base_url.authority()) else {
        return Err(unusable("base_url", "must be an http or https URL such as https://api.openai.com/v1"));
    };
    Uri::builder()
        .scheme(base_url.scheme_str().unwrap_or_default())
        .authority(authority.as_str())
        .path_and_query(format!("{}/{path}", base_url.path().trim_end_matches('/')))
        .build()
        .map_err(|e| unusable("base_url", format!("does not make a valid URL: {e}")))
}

/// The `host` header of a URL: its authority without user information.
///
/// # Errors
/// A host that cannot be a header.
pub fn host(base_url: &Uri) -> Result<HeaderValue, Unusable> {
    let authority = base_url.authority().map_or("", |a| a.as_str());
    let host = authority.rsplit('@').next().unwrap_or_default();
    HeaderValue::from_str(host)
        .map_err(|_| unusable("base_url", "has a host that cannot be sent as a header"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(base: &'static str) -> Result<String, Unusable> {
        endpoint(&Uri::from_static(base), "chat/completions").map(|u| u.to_string())
    }

    #[test]
    fn paths_are_put_below_the_base() {
        assert_eq!(at("http://h:1").as_deref(), Ok("http://h:1/chat/completions"));
        assert_eq!(at("https://h/v1/").as_deref(), Ok("https://h/v1/chat/completions"));
        assert_eq!(at("/v1").expect_err("relative").field, "base_url");
        assert_eq!(at("ftp://h/").expect_err("ftp").field, "base_url");
    }

    #[test]
    fn a_key_that_cannot_be_sent_is_named_by_its_place_and_not_shown() {
        let error = credential(Credential::Bearer, (1, &Secret::new("sk-secret\n"))).expect_err("line break");
        assert!(error.problem.contains("key 1") && !error.problem.contains("sk-secret"));
        let good = credential(Credential::Bearer, (0, &Secret::new("sk-secret"))).expect("good");
        assert!(good.is_sensitive() && !format!("{good:?}").contains("secret"));
    }
}
