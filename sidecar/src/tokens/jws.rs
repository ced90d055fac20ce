//! JSON Web Signatures in compact form (RFC 7515), on `ring`.
//!
//! The algorithm belongs to the key, never to the token: a token whose header names another one
//! than its key's is refused before anything is computed, so that neither `none` nor an RSA
//! public key used as an HMAC secret gets anywhere.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    self, EcdsaKeyPair, Ed25519KeyPair, RsaKeyPair, RsaPublicKeyComponents, UnparsedPublicKey,
};
use ring::{hmac, signature::KeyPair as _};
use serde::Deserialize;

/// Longest token looked at, in bytes; the filter lets nothing longer through either.
pub const TOKEN_BYTES_MAX: usize = 8 << 10;
/// Longest key id, in bytes.
pub const KEY_ID_BYTES_MAX: usize = 256;

/// How tokens are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Algorithm {
    /// HMAC with SHA-256 and a shared secret.
    #[serde(rename = "HS256")]
    Hs256,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    #[serde(rename = "RS256")]
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    #[serde(rename = "ES256")]
    Es256,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

impl Algorithm {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }
}

/// Why a token is not good. The caller learns only that it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenError {
    /// Not a compact JWS, or too long.
    Malformed,
    /// The header asks for extensions that must be understood.
    Critical,
    /// The header's algorithm is not the key's.
    Algorithm,
    /// The signature does not fit.
    Signature,
    /// Claims are missing or of the wrong type.
    Claims,
    /// Another issuer's.
    Issuer,
    /// For another audience.
    Audience,
    /// Past its end.
    Expired,
    /// Before its beginning.
    NotYetValid,
    /// Nobody known, or a session that has ended.
    Subject,
    /// No key of this id.
    UnknownKey,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<serde_json::Value>,
}

/// A token that is well formed and not believed yet.
#[derive(Debug)]
pub struct Unverified<'t> {
    algorithm: String,
    /// Which key it claims to be signed with.
    pub key_id: Option<String>,
    signed: &'t str,
    signature: Vec<u8>,
    payload: Vec<u8>,
}

/// Whether a credential has the shape of a token rather than of an API key.
#[must_use]
pub fn looks_like_token(credential: &str) -> bool {
    credential.bytes().filter(|byte| *byte == b'.').count() == 2
}

impl<'t> Unverified<'t> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// It is not one, or its header asks for what is not understood here.
    pub fn parse(token: &'t str) -> Result<Self, TokenError> {
        if token.len() > TOKEN_BYTES_MAX || !looks_like_token(token) {
            return Err(TokenError::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed);
        let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| TokenError::Malformed)?;
        if header.crit.is_some() {
            return Err(TokenError::Critical);
        }
        if header.kid.as_ref().is_some_and(|kid| kid.len() > KEY_ID_BYTES_MAX) {
            return Err(TokenError::Malformed);
        }
        Ok(Self {
            algorithm: header.alg,
            key_id: header.kid,
            signed,
            signature: decode(signature)?,
            payload: decode(payload)?,
        })
    }

    /// The payload before the signature was checked: good for choosing a key, nothing else.
    #[must_use]
    pub fn unverified_payload(&self) -> &[u8] {
        &self.payload
    }

    /// The payload, if `key` signed it.
    ///
    /// # Errors
    /// The algorithm is not the key's, or the signature does not fit.
    pub fn verify(&self, key: &VerifyingKey) -> Result<&[u8], TokenError> {
        if self.algorithm != key.algorithm().as_str() {
            return Err(TokenError::Algorithm);
        }
        let fits = match key {
            VerifyingKey::Hs256(key) => hmac::verify(key, self.signed.as_bytes(), &self.signature),
            VerifyingKey::Rs256(key) => {
                key.verify(&signature::RSA_PKCS1_2048_8192_SHA256, self.signed.as_bytes(), &self.signature)
            }
            VerifyingKey::Es256(key) => UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, key)
                .verify(self.signed.as_bytes(), &self.signature),
            VerifyingKey::EdDsa(key) => UnparsedPublicKey::new(&signature::ED25519, key)
                .verify(self.signed.as_bytes(), &self.signature),
        };
        fits.map(|()| self.payload.as_slice()).map_err(|_| TokenError::Signature)
    }
}

/// A key that checks signatures, bound to its algorithm.
#[derive(Clone)]
pub enum VerifyingKey {
    /// The secret itself.
    Hs256(hmac::Key),
    /// Modulus and exponent, big-endian without leading zeros.
    Rs256(RsaPublicKeyComponents<Vec<u8>>),
    /// A point, uncompressed: 65 bytes (SEC 1, 2.3.3).
    Es256(Vec<u8>),
    /// 32 bytes.
    EdDsa(Vec<u8>),
}

impl VerifyingKey {
    const fn algorithm(&self) -> Algorithm {
        match self {
            Self::Hs256(_) => Algorithm::Hs256,
            Self::Rs256(_) => Algorithm::Rs256,
            Self::Es256(_) => Algorithm::Es256,
            Self::EdDsa(_) => Algorithm::EdDsa,
        }
    }
}

impl std::fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "VerifyingKey({})", self.algorithm().as_str())
    }
}

/// A key that signs.
pub enum SigningKey {
    /// A shared secret.
    Hs256(hmac::Key),
    /// An RSA key of at least 2048 bits.
    Rs256(Box<RsaKeyPair>),
    /// A key on P-256.
    Es256(Box<EcdsaKeyPair>),
    /// An Ed25519 key.
    EdDsa(Box<Ed25519KeyPair>),
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey(***)")
    }
}

impl SigningKey {
    /// A key of a shared secret.
    #[must_use]
    pub fn of_secret(secret: &[u8]) -> Self {
        Self::Hs256(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// Reads a private key in PEM.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it; never its content.
    pub fn of_pem(algorithm: Algorithm, pem: &[u8]) -> Result<Self, String> {
        use rustls_pki_types::PrivateKeyDer;
        use rustls_pki_types::pem::PemObject as _;
        let der = PrivateKeyDer::from_pem_slice(pem)
            .map_err(|_| "is not a private key in PEM without a passphrase".to_owned())?;
        match (algorithm, &der) {
            (Algorithm::Rs256, PrivateKeyDer::Pkcs8(key)) => {
                rsa(RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()))
            }
            (Algorithm::Rs256, PrivateKeyDer::Pkcs1(key)) => {
                rsa(RsaKeyPair::from_der(key.secret_pkcs1_der()))
            }
            (Algorithm::Es256, PrivateKeyDer::Pkcs8(key)) => {
                let (curve, random) = (&signature::ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
                let pair = EcdsaKeyPair::from_pkcs8(curve, key.secret_pkcs8_der(), &random);
                pair.map(|pair| Self::Es256(Box::new(pair))).map_err(|e| {
                    format!(
                        "is no P-256 key ({e}); make one with \
                         `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`"
                    )
                })
            }
            (Algorithm::EdDsa, PrivateKeyDer::Pkcs8(key)) => {
                let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(key.secret_pkcs8_der());
                pair.map(|pair| Self::EdDsa(Box::new(pair))).map_err(|e| {
                    format!("is no Ed25519 key ({e}); make one with `openssl genpkey -algorithm ed25519`")
                })
            }
            _ => Err(format!("is of a kind that {} cannot use", algorithm.as_str())),
        }
    }

    /// The key that checks what this one signs.
    #[must_use]
    pub fn verifying(&self) -> VerifyingKey {
        match self {
            Self::Hs256(key) => VerifyingKey::Hs256(key.clone()),
            Self::Rs256(pair) => {
                let public = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
                VerifyingKey::Rs256(public)
            }
            Self::Es256(pair) => VerifyingKey::Es256(pair.public_key().as_ref().to_vec()),
            Self::EdDsa(pair) => VerifyingKey::EdDsa(pair.public_key().as_ref().to_vec()),
        }
    }

    /// Signs `payload`; `None` if the system gives no random bytes.
    #[must_use]
    pub fn sign(&self, payload: &[u8]) -> Option<String> {
        let algorithm = self.verifying().algorithm().as_str();
        let header = format!(r#"{{"alg":"{algorithm}","typ":"JWT"}}"#);
        let mut token = URL_SAFE_NO_PAD.encode(header);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(payload, &mut token);
        let signature = match self {
            Self::Hs256(key) => hmac::sign(key, token.as_bytes()).as_ref().to_vec(),
            Self::Rs256(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                let random = SystemRandom::new();
                pair.sign(&signature::RSA_PKCS1_SHA256, &random, token.as_bytes(), &mut signature).ok()?;
                signature
            }
            Self::Es256(pair) => pair.sign(&SystemRandom::new(), token.as_bytes()).ok()?.as_ref().to_vec(),
            Self::EdDsa(pair) => pair.sign(token.as_bytes()).as_ref().to_vec(),
        };
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Some(token)
    }
}

fn rsa(pair: Result<RsaKeyPair, ring::error::KeyRejected>) -> Result<SigningKey, String> {
    pair.map(|pair| SigningKey::Rs256(Box::new(pair)))
        .map_err(|e| format!("is no usable RSA key ({e}); it must have 2048 to 4096 bits"))
}
