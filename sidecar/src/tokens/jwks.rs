//! JSON Web Key Sets (RFC 7517): which of their keys can be used here.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::RsaPublicKeyComponents;
use serde::Deserialize;

use super::jws::{KEY_ID_BYTES_MAX, VerifyingKey};

/// Most keys of one set.
const KEYS_MAX: usize = 64;
/// Length of an Ed25519 public key, in bytes.
const ED25519_BYTES: usize = 32;
/// Length of a coordinate on P-256, in bytes.
const P256_BYTES: usize = 32;
/// First byte of an uncompressed point (SEC 1, 2.3.3).
const UNCOMPRESSED: u8 = 4;
/// Sizes of an RSA modulus, in bytes: 2048 to 8192 bits.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

#[derive(Deserialize)]
struct Set {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    r#use: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// Keys of an issuer that sign RS256, ES256 or EdDSA.
#[derive(Debug, Default)]
pub struct KeySet(Vec<(Option<String>, VerifyingKey)>);

impl KeySet {
    /// Reads a set; keys of other kinds or for other uses are passed over, as RFC 7517 (5) asks.
    ///
    /// # Errors
    /// A sentence: not a set, too many keys, or none that can be used.
    pub fn read(json: &[u8]) -> Result<Self, String> {
        let set: Set = serde_json::from_slice(json).map_err(|e| format!("is not a JWK set: {e}"))?;
        if set.keys.len() > KEYS_MAX {
            return Err(format!("has {} keys; at most {KEYS_MAX} are looked at", set.keys.len()));
        }
        let keys: Vec<_> = set
            .keys
            .into_iter()
            .filter_map(|value| serde_json::from_value::<Jwk>(value).ok())
            .filter_map(usable)
            .collect();
        if keys.is_empty() {
            return Err("has no RSA, P-256 or Ed25519 key for signatures (RS256, ES256, EdDSA)".to_owned());
        }
        Ok(Self(keys))
    }

    /// The key of this id; without an id, the only key.
    #[must_use]
    pub fn find(&self, id: Option<&str>) -> Option<&VerifyingKey> {
        match (id, self.0.as_slice()) {
            (Some(id), keys) => keys.iter().find(|(kid, _)| kid.as_deref() == Some(id)).map(|(_, key)| key),
            (None, [(_, only)]) => Some(only),
            (None, _) => None,
        }
    }
}

/// Symmetric keys (`oct`) are never taken: a published secret is none.
fn usable(jwk: Jwk) -> Option<(Option<String>, VerifyingKey)> {
    let Jwk { kty, kid, r#use, key_ops, alg, crv, n, e, x, y } = jwk;
    let for_signatures = r#use.is_none_or(|u| u == "sig")
        && key_ops.is_none_or(|ops| ops.iter().any(|op| op == "verify"))
        && kid.as_ref().is_none_or(|kid| kid.len() <= KEY_ID_BYTES_MAX);
    if !for_signatures {
        return None;
    }
    let decode = |text: Option<String>| URL_SAFE_NO_PAD.decode(text?).ok();
    let key = match (kty.as_str(), alg.as_deref(), crv.as_deref()) {
        ("RSA", None | Some("RS256"), _) => {
            let (n, e) = (unsigned(decode(n)?), unsigned(decode(e)?));
            (RSA_BYTES.contains(&n.len()) && !e.is_empty())
                .then_some(VerifyingKey::Rs256(RsaPublicKeyComponents { n, e }))?
        }
        ("EC", None | Some("ES256"), Some("P-256")) => VerifyingKey::Es256(point(&decode(x)?, &decode(y)?)?),
        ("OKP", None | Some("EdDSA" | "Ed25519"), Some("Ed25519")) => {
            let x = decode(x)?;
            (x.len() == ED25519_BYTES).then_some(VerifyingKey::EdDsa(x))?
        }
        _ => return None,
    };
    Some((kid, key))
}

/// An uncompressed point; coordinates have their full length (RFC 7518, 6.2.1.2).
fn point(x: &[u8], y: &[u8]) -> Option<Vec<u8>> {
    (x.len() == P256_BYTES && y.len() == P256_BYTES).then(|| [&[UNCOMPRESSED], x, y].concat())
}

/// Without leading zeros, which some issuers send and the verifier refuses.
fn unsigned(bytes: Vec<u8>) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.get(zeros..).unwrap_or_default().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_keys_that_can_be_used_are_taken() {
        let x = URL_SAFE_NO_PAD.encode([7; 32]);
        let n = URL_SAFE_NO_PAD.encode([[0; 1].as_slice(), &[9; 256]].concat());
        let short = URL_SAFE_NO_PAD.encode([9; 128]);
        let json = format!(
            r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"ed","x":"{x}"}},
            {{"kty":"RSA","kid":"rsa","alg":"RS256","use":"sig","n":"{n}","e":"AQAB"}},
            {{"kty":"RSA","kid":"enc","use":"enc","n":"{n}","e":"AQAB"}},
            {{"kty":"RSA","kid":"ps","alg":"PS256","n":"{n}","e":"AQAB"}},
            {{"kty":"RSA","kid":"short","n":"{short}","e":"AQAB"}},
            {{"kty":"oct","kid":"oct","k":"{x}"}},
            {{"kty":"EC","kid":"ec","crv":"P-256","x":"{x}","y":"{x}"}},
            {{"kty":"EC","kid":"k1","crv":"secp256k1","x":"{x}","y":"{x}"}},
            {{"kty":"EC","kid":"half","crv":"P-256","x":"{x}"}},
            {{"kid":"nothing"}}, 7]}}"#
        );
        let set = KeySet::read(json.as_bytes()).expect("usable");
        assert!(matches!(set.find(Some("ed")), Some(VerifyingKey::EdDsa(_))));
        assert!(matches!(set.find(Some("rsa")), Some(VerifyingKey::Rs256(key)) if key.n.len() == 256));
        assert!(matches!(set.find(Some("ec")), Some(VerifyingKey::Es256(point)) if point.len() == 65));
        for id in
            [Some("enc"), Some("ps"), Some("short"), Some("oct"), Some("k1"), Some("half"), Some("x"), None]
        {
            assert!(set.find(id).is_none(), "{id:?}");
        }
    }

    #[test]
    fn what_is_no_set_is_refused() {
        for bad in ["", "[]", "{}", r#"{"keys":[]}"#, r#"{"keys":[{"kty":"oct","k":"AA"}]}"#] {
            assert!(KeySet::read(bad.as_bytes()).is_err(), "{bad}");
        }
        let many = format!(r#"{{"keys":[{}]}}"#, vec!["{}"; KEYS_MAX + 1].join(","));
        assert!(KeySet::read(many.as_bytes()).expect_err("too many").contains("64"));
    }
}
