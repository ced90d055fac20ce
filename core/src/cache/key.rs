//! The exact cache's key.

use sha2::{Digest, Sha256};

/// SHA-256 over the cache's generation, tenant, the scope of callers with a model allow-list, endpoint,
/// upstream, provider pin, each with its length before it, and the canonical body, so that no two different
/// tuples have the same text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CacheKey([u8; 32]);

impl CacheKey {
    /// Starts the text of a key in `text`, to which the canonical body is then appended; one piece of
    /// memory is hashed faster than five. `generation` is [`crate::policy::L1Policy::generation`]; `scope`
    /// is [`crate::wire::Identity::scope`]; `path` without query; `upstream` is Envoy's cluster where the path
    /// does not say it; `pin` is `x-gateway-provider` or empty.
    pub fn begin(
        text: &mut Vec<u8>,
        generation: u64,
        tenant: &str,
        scope: Option<&str>,
        (path, upstream): (&str, &str),
        pin: &[u8],
    ) {
        text.clear();
        text.extend_from_slice(&generation.to_le_bytes());
        // No scope is an empty one.
        let scope = scope.unwrap_or_default();
        for part in [tenant.as_bytes(), scope.as_bytes(), path.as_bytes(), upstream.as_bytes(), pin] {
            text.extend_from_slice(&(part.len() as u64).to_le_bytes());
            text.extend_from_slice(part);
        }
    }

    /// The key of a whole text.
    #[must_use]
    pub fn of(text: &[u8]) -> Self {
        Self(Sha256::digest(text).into())
    }

    /// The digest.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// From a digest read back from a slot.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cannot_run_into_each_other() {
        let key = |tenant, scope, to: (&str, &str), pin, body: &[u8]| {
            let mut text = b"left over".to_vec();
            CacheKey::begin(&mut text, 0, tenant, scope, to, pin);
            text.extend_from_slice(body);
            CacheKey::of(&text)
        };
        let keys = [
            key("a", None, ("/v1/x", ""), b"", b"{}"),
            key("a", Some("s"), ("/v1/x", ""), b"", b"{}"),
            key("a", None, ("/v1/x", "one"), b"", b"{}"),
            key("a", None, ("/v1/x", "other"), b"", b"{}"),
            key("as", None, ("/v1/x", ""), b"", b"{}"),
            key("a/v1", None, ("/x", ""), b"", b"{}"),
            key("a", None, ("/v1/x", ""), b"{", b"}"),
            key("b", None, ("/v1/x", ""), b"", b"{}"),
        ];
        for (i, key) in keys.iter().enumerate() {
            assert!(keys.iter().skip(i + 1).all(|other| other != key));
        }
    }

    #[test]
    fn another_generation_has_other_keys() {
        let key = |generation| {
            let mut text = Vec::new();
            CacheKey::begin(&mut text, generation, "t", None, ("/v1/x", ""), b"");
            CacheKey::of(&text)
        };
        assert_ne!(key(1), key(2));
    }
}
