//! Who is calling: asked once, before the router, for every request.
//!
//! Through Envoy the filter has answered already; its word (`x-tidegate-identity`) counts only
//! beside the secret that Envoy's route adds, since anybody can reach a port and write headers.
//! Everyone else is asked for a credential here.

use http::{HeaderMap, HeaderName};
use subtle::ConstantTimeEq as _;
use tidegate_core::reply::{Code, Reply};
use tidegate_core::route::RouteClass;
use tidegate_core::wire::signature::Authorization;
use tidegate_core::wire::{CREDENTIAL_HEADERS, Identity, several_credentials};

use crate::control::Control;
use crate::headers::{IDENTITY, INTERNAL, PROXIED};
use crate::secret::Secret;
use crate::tokens::Refused;

/// When to try again if an issuer's keys could not be had, in milliseconds.
const UNAVAILABLE_RETRY_MS: u64 = 1000;

/// Decides whether a request of `class` may go on, and as whom; nobody is asked on public paths.
///
/// # Errors
/// The refusal: 401 without a good credential, 400 with several, 403 where the role or the
/// internal secret is missing.
pub async fn admit(
    control: &Control,
    token: &Secret,
    class: RouteClass,
    headers: &HeaderMap,
) -> Result<Option<Identity>, Reply> {
    match class {
        RouteClass::Public | RouteClass::Other => Ok(None),
        RouteClass::Internal if carries(headers, &INTERNAL, token) => Ok(None),
        RouteClass::Internal => Err(Reply::new(
            Code::PermissionDenied,
            "this path is for the filter, and x-tidegate-internal is missing or wrong; render envoy.yaml again \
             with `tidegate envoy` if Envoy should have it",
        )),
        RouteClass::Llm(_) => who(control, token, headers, true).await.map(Some),
        RouteClass::Admin => {
            let identity = who(control, token, headers, false).await?;
            if !identity.role.may_administer() {
                let message = "this path needs a key with role operator or admin";
                return Err(Reply::new(Code::PermissionDenied, message));
            }
            Ok(Some(identity))
        }
    }
}

async fn who(
    control: &Control,
    token: &Secret,
    headers: &HeaderMap,
    anonymous: bool,
) -> Result<Identity, Reply> {
    if carries(headers, &PROXIED, token)
        && let Some(identity) = told(headers)
    {
        return Ok(identity);
    }
    if let Some(credential) = credential(headers)? {
        return match control.authenticate(credential).await {
            Ok((identity, _)) => Ok(identity),
            Err(Refused::Bad(_)) => Err(invalid()),
            Err(Refused::Unavailable) => Err(unavailable()),
        };
    }
    let policy = control.publisher().latest();
    let tenant = policy.snapshot.auth.anonymous_tenant.as_deref().filter(|_| anonymous);
    tenant.map(Identity::anonymous).ok_or_else(|| {
        let message = "no API key was sent; send one as `authorization: Bearer <key>`";
        Reply::new(Code::MissingApiKey, message)
    })
}

fn invalid() -> Reply {
    Reply::new(Code::InvalidApiKey, "the API key or token is unknown, revoked or expired")
}

/// The keys of a token's issuer could not be had.
#[must_use]
pub fn unavailable() -> Reply {
    let message = "the token could not be checked, because its issuer's keys could not be fetched";
    Reply::new(Code::AuthUnavailable, message).retry_after_ms(UNAVAILABLE_RETRY_MS)
}

/// Whether the header `name` is the shared secret.
#[must_use]
pub fn carries(headers: &HeaderMap, name: &HeaderName, token: &Secret) -> bool {
    headers.get(name).is_some_and(|value| value.as_bytes().ct_eq(token.expose().as_bytes()).into())
}

/// What the filter found out.
fn told(headers: &HeaderMap) -> Option<Identity> {
    headers.get(IDENTITY)?.to_str().ok().and_then(Identity::from_header)
}

/// The one credential of a request, without its scheme.
fn credential(headers: &HeaderMap) -> Result<Option<&str>, Reply> {
    let mut found = CREDENTIAL_HEADERS
        .iter()
        .flat_map(|name| headers.get_all(*name).into_iter().map(move |value| (*name, value)));
    let Some((name, value)) = found.next() else { return Ok(None) };
    if found.next().is_some() {
        return Err(several_credentials());
    }
    let text = value.to_str().map_err(|_| invalid())?;
    if name != "authorization" {
        return Ok(Some(text.trim()));
    }
    match text.split_once(' ') {
        Some((scheme, key)) if scheme.eq_ignore_ascii_case("bearer") => Ok(Some(key.trim())),
        _ if Authorization::is_meant(text.as_bytes()) => {
            let message = "signed requests are checked on the gateway's port; send this one there";
            Err(Reply::new(Code::InvalidSignature, message))
        }
        _ => Err(invalid()),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use tidegate_core::wire::header;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).expect("value"));
        }
        headers
    }

    #[test]
    fn one_credential_is_taken_from_wherever_it_stands() {
        for (name, value) in [
            ("authorization", "Bearer k"),
            ("authorization", "bEARER  k "),
            ("x-api-key", "k"),
            ("api-key", " k"),
            ("x-goog-api-key", "k"),
        ] {
            assert_eq!(credential(&headers(&[(name, value)])), Ok(Some("k")), "{name}: {value}");
        }
        assert_eq!(credential(&HeaderMap::new()), Ok(None));
    }

    #[test]
    fn several_or_unknown_kinds_are_refused() {
        let code =
            |pairs: &[(&'static str, &str)]| credential(&headers(pairs)).map(|_| ()).map_err(|r| r.code);
        assert_eq!(code(&[("x-api-key", "a"), ("x-api-key", "a")]), Err(Code::DuplicateCredential));
        assert_eq!(
            code(&[("x-api-key", "a"), ("authorization", "Bearer a")]),
            Err(Code::DuplicateCredential)
        );
        assert_eq!(code(&[("authorization", "Basic abc")]), Err(Code::InvalidApiKey));
        assert_eq!(code(&[("authorization", "k")]), Err(Code::InvalidApiKey));
        assert_eq!(code(&[("authorization", "ACS3-HMAC-SHA256 x")]), Err(Code::InvalidSignature));
    }

    #[test]
    fn a_secret_counts_only_whole() {
        let token = Secret::new("0123456789abcdef");
        let with = |value: &str| carries(&headers(&[(header::PROXIED, value)]), &PROXIED, &token);
        assert!(with("0123456789abcdef"));
        assert!(!with("0123456789abcde") && !with("0123456789abcdeg") && !with(""));
    }
}
