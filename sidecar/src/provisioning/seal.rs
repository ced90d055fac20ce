//! Secrets at rest: AES-256-GCM, so that the store alone gives nobody a provider's key.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use sha2::{Digest as _, Sha256};

use crate::config::Env;
use crate::keys::random;
use crate::store::{TokenError, secret_key};

/// The key, in the environment.
const VARIABLE: &str = "GATEWAY_SECRET_KEY";
/// Fewest characters of a key in the environment: less can be guessed.
const CHARACTERS_MIN: usize = 32;

/// Why there is no key to seal with.
#[derive(Debug)]
pub enum SealError {
    /// The one in the environment cannot be used.
    Environment,
    /// The file.
    File(TokenError),
}

impl std::fmt::Display for SealError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Environment => {
                write!(
                    f,
                    "{VARIABLE} must have at least {CHARACTERS_MIN} characters; make one with `openssl rand -hex 32`"
                )
            }
            Self::File(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SealError {}

/// Seals and opens what is kept in the store.
pub struct Seal(LessSafeKey);

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal(***)")
    }
}

impl Seal {
    /// With the key of the environment (`GATEWAY_SECRET_KEY`), else that of a file in `folder`,
    /// which is made if it is absent, readable to this user alone.
    ///
    /// # Errors
    /// The key is too short, or the file cannot be read or made.
    pub fn open(folder: &Path, env: &Env) -> Result<Self, SealError> {
        let text = match env.get(VARIABLE).filter(|text| !text.is_empty()) {
            Some(text) if text.len() < CHARACTERS_MIN => return Err(SealError::Environment),
            Some(text) => text.clone(),
            None => secret_key(folder).map_err(SealError::File)?.expose().to_owned(),
        };
        Self::with(&text).ok_or(SealError::Environment)
    }

    /// Any text is brought to the length of a key by SHA-256; it is as hard to guess as the text.
    fn with(text: &str) -> Option<Self> {
        let key = UnboundKey::new(&AES_256_GCM, &Sha256::digest(text.as_bytes())).ok()?;
        Some(Self(LessSafeKey::new(key)))
    }

    /// Seals `text`; it opens only under the same `name`.
    ///
    /// # Errors
    /// The system gives no random bytes, or the text has many gigabytes.
    pub fn seal(&self, name: &str, text: &str) -> Result<String, String> {
        let nonce = random::bytes::<NONCE_LEN>().map_err(|error| error.to_string())?;
        let mut bytes = text.as_bytes().to_vec();
        let tag = self.0.seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(name.as_bytes()),
            &mut bytes,
        );
        let tag = tag.map_err(|_| "the provider's document is too long to be sealed".to_owned())?;
        Ok(STANDARD.encode([&nonce[..], &bytes, tag.as_ref()].concat()))
    }

    /// Opens what was sealed under `name`; `None` if it was not, or with another key.
    #[must_use]
    pub fn open_text(&self, name: &str, sealed: &str) -> Option<String> {
        let bytes = STANDARD.decode(sealed).ok()?;
        let (nonce, rest) = bytes.split_first_chunk::<NONCE_LEN>()?;
        let mut rest = rest.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let text = self.0.open_in_place(nonce, Aad::from(name.as_bytes()), &mut rest).ok()?;
        String::from_utf8(text.to_vec()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{"api_key":"sk-secret"}"#;

    #[test]
    fn what_is_sealed_opens_with_the_same_key_and_name_alone() {
        let folder = tempfile::tempdir().expect("folder");
        let seal = Seal::open(folder.path(), &Env::default()).expect("a key");
        let sealed = seal.seal("openai", TEXT).expect("sealed");
        assert!(!sealed.contains("secret") && !format!("{seal:?}").contains("secret"));
        assert_ne!(sealed, seal.seal("openai", TEXT).expect("sealed"), "never the same twice");
        let again = Seal::open(folder.path(), &Env::default()).expect("the same file");
        assert_eq!(again.open_text("openai", &sealed).as_deref(), Some(TEXT));
        assert_eq!(again.open_text("other", &sealed), None);
        let env = Env::from([(VARIABLE.to_owned(), "x".repeat(CHARACTERS_MIN))]);
        let other = Seal::open(folder.path(), &env).expect("another key");
        assert_eq!(other.open_text("openai", &sealed), None);
        for bad in ["", "AAAA", "not base64!"] {
            assert_eq!(seal.open_text("openai", bad), None);
        }
    }

    #[test]
    fn a_key_that_can_be_guessed_is_refused() {
        let folder = tempfile::tempdir().expect("folder");
        let env = Env::from([(VARIABLE.to_owned(), "hunter2".to_owned())]);
        let error = Seal::open(folder.path(), &env).expect_err("short").to_string();
        assert!(error.contains(VARIABLE) && !error.contains("hunter2"), "{error}");
    }
}
