//! Requests signed with an Alibaba Cloud access key: scheme `ACS3-HMAC-SHA256` ("V3 request
//! structure and signature method" of Alibaba Cloud's API documentation).
//!
//! A signature is good once and for one request, so what was decided about it is never remembered.

use serde::{Deserialize, Serialize};

use crate::reply::{Code, Reply};

/// The scheme in `authorization`.
pub const SCHEME: &str = "ACS3-HMAC-SHA256";
/// Header with the SHA-256 of the body, in hexadecimal.
pub const CONTENT_SHA256: &str = "x-acs-content-sha256";
/// Most headers that one signature may cover.
pub const SIGNED_HEADERS_MAX: usize = 64;
/// Most bytes that the signed headers' values may have together.
pub const SIGNED_BYTES_MAX: usize = 16 << 10;

/// What stands in `authorization`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorization<'a> {
    /// Id of the access key.
    pub access_key: &'a str,
    /// Names of the signed headers: lower case, sorted, none twice.
    pub signed_headers: Vec<&'a str>,
    /// The signature, in hexadecimal.
    pub signature: &'a str,
}

impl<'a> Authorization<'a> {
    /// Whether a value of `authorization` is of this scheme.
    #[must_use]
    pub fn is_meant(value: &[u8]) -> bool {
        value.split_at_checked(SCHEME.len()).is_some_and(|(scheme, rest)| {
            scheme.eq_ignore_ascii_case(SCHEME.as_bytes()) && rest.first().is_none_or(|b| *b == b' ')
        })
    }

    /// Reads `ACS3-HMAC-SHA256 Credential=..,SignedHeaders=a;b,Signature=..`; `None` for anything
    /// else.
    #[must_use]
    pub fn parse(value: &'a str) -> Option<Self> {
        let (scheme, parameters) = value.split_once(' ')?;
        if !Self::is_meant(scheme.as_bytes()) {
            return None;
        }
        let (mut access_key, mut names, mut signature) = (None, None, None);
        for parameter in parameters.split(',') {
            let (name, value) = parameter.trim().split_once('=')?;
            let place = match name {
                "Credential" => &mut access_key,
                "SignedHeaders" => &mut names,
                "Signature" => &mut signature,
                _ => return None,
            };
            if place.replace(value).is_some() {
                return None;
            }
        }
        let signed_headers: Vec<&str> = names?.split(';').take(SIGNED_HEADERS_MAX + 1).collect();
        let is_name = |name: &&str| {
            !name.is_empty()
                && name.bytes().all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase() && b != b':')
        };
        let is_list = signed_headers.len() <= SIGNED_HEADERS_MAX
            && signed_headers.is_sorted_by(|a, b| a < b)
            && signed_headers.iter().all(is_name);
        let authorization = Self { access_key: access_key?, signed_headers, signature: signature? };
        is_list.then_some(authorization)
    }
}

/// A signed request without its body: what the filter asks the sidecar to check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedRequest {
    /// The method, upper case.
    pub method: String,
    /// Path and query as received.
    pub target: String,
    /// Every value of the signed headers, by lower-case name, in the order received; `host` is
    /// what HTTP/2 calls `:authority`.
    pub headers: Vec<(String, String)>,
}

/// Why a signed request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SignatureFault {
    /// Unknown access key, a signature that does not fit, or headers that must be signed and are
    /// not.
    Invalid,
    /// `x-acs-date` is too far from the gateway's clock.
    Expired,
    /// This nonce was used before.
    Replayed,
    /// The body is not the one that was signed.
    Body,
}

impl SignatureFault {
    /// The refusal.
    #[must_use]
    pub fn reply(self) -> Reply {
        let (code, message) = match self {
            Self::Invalid => (
                Code::InvalidSignature,
                "the access key is unknown, the signature does not fit the request, or one of host, x-acs-date, \
                 x-acs-signature-nonce and x-acs-content-sha256 is missing from SignedHeaders",
            ),
            Self::Expired => (
                Code::SignatureExpired,
                "x-acs-date is too far from the gateway's clock; sign each request when it is sent, and set the \
                 clock",
            ),
            Self::Replayed => (
                Code::ReplayDetected,
                "a request with this x-acs-signature-nonce was received before; sign each request anew",
            ),
            Self::Body => {
                (Code::InvalidSignature, "the body does not have the SHA-256 that x-acs-content-sha256 says")
            }
        };
        Reply::new(code, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authorization_has_three_parameters() {
        let value = "ACS3-HMAC-SHA256 Credential=AK,SignedHeaders=host;x-acs-date, Signature=0a";
        let parsed = Authorization::parse(value).expect("well formed");
        assert_eq!((parsed.access_key, parsed.signature), ("AK", "0a"));
        assert_eq!(parsed.signed_headers, ["host", "x-acs-date"]);
    }

    #[test]
    fn anything_else_is_none() {
        let many = (0..=SIGNED_HEADERS_MAX).map(|n| format!("h{n:03}")).collect::<Vec<_>>().join(";");
        for rest in [
            "",
            "Credential=AK",
            "Credential=AK,SignedHeaders=a",
            "Credential=AK,SignedHeaders=a,Signature=0,Extra=1",
            "Credential=AK,SignedHeaders=a,Signature=0,Signature=1",
            "Credential=AK,SignedHeaders=b;a,Signature=0",
            "Credential=AK,SignedHeaders=a;a,Signature=0",
            "Credential=AK,SignedHeaders=A,Signature=0",
            "Credential=AK,SignedHeaders=,Signature=0",
            "Credential=AK,SignedHeaders=a:b,Signature=0",
            &format!("Credential=AK,SignedHeaders={many},Signature=0"),
        ] {
            assert_eq!(Authorization::parse(&format!("{SCHEME} {rest}")), None, "{rest}");
        }
        assert_eq!(Authorization::parse("ACS3-HMAC-SM3 Credential=AK,SignedHeaders=a,Signature=0"), None);
        assert!(
            Authorization::is_meant(b"acs3-hmac-sha256 x") && !Authorization::is_meant(b"ACS3-HMAC-SHA2567")
        );
    }
}
