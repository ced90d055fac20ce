//! The exact cache's key.

use sha2::{Digest, Sha256};

/// SHA-256 over tenant, the scope of callers with a model allow-list, endpoint, provider pin and canonical body, each with its length before
/// it, so that no two different tuples have the same text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CacheKey([u8; 32]);

impl CacheKey {
    /// The key of a request. `scope` is [`crate::wire::Identity::scope`]; `path` without query; `pin` is `x-gateway-provider` or empty.
    #[must_use]
    pub fn new(tenant: &str, scope: Option<&str>, path: &str, pin: &[u8], canonical_body: &[u8]) -> Self {
        let mut hash = Sha256::new();
        // No scope is an empty one.
        let scope = scope.unwrap_or_default();
        for part in [tenant.as_bytes(), scope.as_bytes(), path.as_bytes(), pin, canonical_body] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        Self(hash.finalize().into())
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

    /// The set this key falls into, of `sets`.
    #[must_use]
    pub fn set(&self, sets: u32) -> u32 {
        let [a, b, c, d, ..] = self.0;
        u32::from_le_bytes([a, b, c, d]) % sets.max(1)
    }

    /// 64 bits of the digest, independent of [`CacheKey::set`].
    #[must_use]
    pub const fn tag(&self) -> u64 {
        let [_, _, _, _, _, _, _, _, a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cannot_run_into_each_other() {
        let keys = [
            CacheKey::new("a", None, "/v1/x", b"", b"{}"),
            CacheKey::new("a", Some("s"), "/v1/x", b"", b"{}"),
            CacheKey::new("as", None, "/v1/x", b"", b"{}"),
            CacheKey::new("a/v1", None, "/x", b"", b"{}"),
            CacheKey::new("a", None, "/v1/x", b"{", b"}"),
            CacheKey::new("b", None, "/v1/x", b"", b"{}"),
        ];
        for (i, key) in keys.iter().enumerate() {
            assert!(keys.iter().skip(i + 1).all(|other| other != key));
        }
    }
}
